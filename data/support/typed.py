"""JSON values as typed records: one checker for whatever a stranger may have written, with plain sentences.

A record is a `msgspec.Struct`: its fields, types and limits are stated once, in its class. msgspec checks them in C, takes no whole
number for a truth value and no text for a number, and refuses fields that the class does not have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from ..errors import LabelSetError

T = TypeVar("T")
_PLACE = re.compile(r" - at (`key` in )?`\$(.*)`$", re.DOTALL)
_WORDS = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "a text",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "an object",
    "`object | null`": "an object",
}


def typed(value: Any, record: type[T], what: str, patterns: Mapping[str, str] | None = None) -> T:
    """The value as this type. `what` names it in errors; `patterns` gives each regular expression of the type in words.

    Raises LabelSetError, which names the field, what it is and what was wanted.
    """
    try:
        return msgspec.convert(value, record)
    except msgspec.ValidationError as error:
        raise LabelSetError(f"{what} is damaged: {_sentence(str(error), value, patterns or {})}") from None


def as_json(record: Any) -> Any:
    """A record as dictionaries, sequences, texts and numbers, as it stands in a JSON file."""
    return msgspec.to_builtins(record)


def as_bytes(record: Any) -> bytes:
    """A record as a JSON file, in ASCII; the same record gives the same bytes."""
    return json.dumps(as_json(record), indent=1).encode()


def fields_of(record: msgspec.Struct) -> dict[str, Any]:
    """The fields of a record by name; those that are records stay what they are."""
    return msgspec.structs.asdict(record)


def shown(value: Any) -> str:
    """A value in a sentence: short, and without anything that a terminal would act on."""
    text = ascii(value) if not isinstance(value, dict | list) else f"a JSON {type(value).__name__}"
    return text if len(text) < 80 else f"{text[:76]}..."


def _sentence(message: str, value: Any, patterns: Mapping[str, str]) -> str:
    """What msgspec says of a value, in plain words: `Expected `int`, got `str` - at `$.counts.n_atoms``."""
    place = _PLACE.search(message)
    path = "" if place is None else place[2].lstrip(".")
    reason = message if place is None else message[: place.start()]
    inside = path or "its outermost object"
    if missing := re.match(r"Object missing required field `(.*)`", reason):
        return f"it lacks {path}{'.' if path else ''}{missing[1]}; restore it from its origin."
    if unknown := re.match(r"Object contains unknown field `(.*)`", reason, re.DOTALL):
        return (
            f"{inside} has a field {shown(unknown[1])}, which this version does not have; restore it from its origin."
        )
    wanted = re.sub(r", got .*$", "", reason.removeprefix("Expected "), flags=re.DOTALL)
    if pattern := re.match(r"`str` matching regex (.*)$", wanted, re.DOTALL):
        wanted = next((words for key, words in patterns.items() if repr(key) == pattern[1]), "another text")
    elif wanted.startswith("Invalid enum value"):
        wanted = "another word"
    else:
        wanted = re.sub(r"^(`[^`]*`) (>=|<=) ", r"\1 of \2 ", wanted)
        wanted = re.sub(r"^`[^`]*`", lambda match: _WORDS.get(match[0], match[0]), wanted)
    if place is not None and place[1]:
        return f"a key of {inside} is wrong, {wanted} was wanted; restore it from its origin."
    return f"{inside} is {_at(value, path)}, {wanted} was wanted; restore it from its origin."


def _at(value: Any, path: str) -> str:
    """What stands at a path such as shards[0].name, to be shown."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+|\.\.\.)\]", path):
        try:
            value = value[int(index)] if index else value[name]
        except (LookupError, TypeError, ValueError):
            return "of another kind"
    return shown(value)
