"""JSON from strangers: one object, within limits of size and depth, without what parsers disagree about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import LabelSetError

MAX_DEPTH = 32
MAX_NESTING = 500  # of any JSON that is read
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
BLOCK_BYTES = 1 << 20
_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1
_SURROGATE = re.compile("[\ud800-\udfff]")  # searched for, not encoded: that would take a text's memory once more
MAX_BYTES = 16 << 20
MAX_WIDE_BYTES = (
    1 << 20
)  # with characters beyond ASCII, which json.dumps escapes: one of them makes a text four times as large
MAX_VALUES = 1 << 20  # about 100 bytes of memory each; a quarantine of 10^5 structures has as many


def loads(data: bytes | str, **options: Any) -> Any:
    """json.loads, but what is nested too deeply is a ValueError whatever the interpreter's limit of recursion: packages raise that for
    the whole process (symfc to 100,000), and then the parser runs out of stack, which ends the process."""
    _require_shallow(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    return json.loads(data, **options)


def _require_shallow(raw: bytes) -> None:
    if len(raw) <= MAX_NESTING:  # what a structure says of itself, mostly
        return
    if _depth(raw) > MAX_NESTING and _depth(_STRINGS.sub(b"", raw)) > MAX_NESTING:
        raise ValueError(f"nested more than {MAX_NESTING} deep")


def _depth(raw: bytes) -> int:
    """Of brackets, those inside strings counted, too; a megabyte at a time."""
    deepest = level = 0
    for start in range(0, len(raw), BLOCK_BYTES):
        steps = _STEPS[np.frombuffer(raw, np.uint8, min(BLOCK_BYTES, len(raw) - start), start)]
        levels = np.cumsum(steps, dtype=np.int32)
        deepest = max(deepest, level + int(levels.max()))
        level += int(levels[-1])
    return deepest


def read_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in these bytes.

    Raises LabelSetError: no JSON object in UTF-8, too large, too deep, a key twice, NaN or infinity, a number or text that
    cannot be stored.
    """
    too_large = len(data) > MAX_BYTES or (len(data) > MAX_WIDE_BYTES and not data.isascii())
    if too_large or (len(data) > MAX_VALUES and _n_separators(data) > MAX_VALUES):
        raise LabelSetError(f"{what} is larger than it can be; it was refused.")
    try:
        _require_shallow(data)  # the bytes as they are: encoding the text again would double its memory
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        if not isinstance(value, dict):
            raise ValueError("no object")
        for leaf in _leaves(value):
            _check_leaf(leaf)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        reason = ascii(str(error))[1:-1]
        raise LabelSetError(f"{what} is damaged ({reason[:200]}); restore it from its origin.") from error
    return value


def read_info(data: bytes) -> dict[str, Any]:
    """What the source said of one structure; NaN is allowed, as sources say it. Raises LabelSetError."""
    try:
        _require_shallow(data)
        value = json.loads(data.decode()) if data else {}
    except (ValueError, RecursionError) as error:
        raise LabelSetError(f"A shard's info_text is not JSON ({error}); restore the shard from its origin.") from error
    if not isinstance(value, dict):
        raise LabelSetError("A shard's info_text holds what is not a JSON object; restore the shard from its origin.")
    return value


def _n_separators(data: bytes) -> int:
    """How many values there are at most, without building any."""
    return sum(map(data.count, (b"[", b"{", b",", b":")))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key is there twice")
    return content


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _leaves(value: dict[str, Any]) -> Iterator[Any]:
    """Keys, and values that are not containers, at any depth."""
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        container, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if isinstance(container, dict):
            yield from container
            container = container.values()
        for item in container:
            if isinstance(item, dict | list):
                waiting.append((item, depth + 1))
            else:
                yield item


def _check_leaf(leaf: Any) -> None:
    if isinstance(leaf, str):
        if not leaf.isascii() and _SURROGATE.search(leaf):  # half of a pair cannot be written anywhere
            raise ValueError("a text holds half a character: surrogates are not allowed")
    elif isinstance(leaf, float) and leaf - leaf != 0:
        raise ValueError("a number is too large")
    elif isinstance(leaf, int) and abs(leaf) >= 1 << 63:
        raise ValueError("a whole number is too large")
