"""manifest.json as a stranger may have written it: every field has the type that its readers expect, or it is refused."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import LabelSetError
from ..support.strict_json import MAX_BYTES, read_object
from .schema import FORMAT, SPLITS, VERSION

MANIFEST = "manifest.json"
SHARDS = "shards"
MAX_MANIFEST_BYTES = MAX_BYTES
MAX_SHARD_FILE_BYTES = 4 << 30
_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.h5")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a label set, after checking format, version and the type of every field. Raises LabelSetError."""
    file = folder / MANIFEST
    found = _status(file)
    if found is None:
        if (folder / "plan.json").exists():
            raise LabelSetError(f"{folder} is not finished; run the `hdistill label` command that began it again.")
        raise LabelSetError(f"{folder} is no label set: it has no {MANIFEST}. Make one with `hdistill label`.")
    if not stat.S_ISREG(found.st_mode):
        raise LabelSetError(f"{file} is no regular file; it was refused.")
    if found.st_size > MAX_MANIFEST_BYTES:
        raise LabelSetError(f"{file} is larger than a manifest can be; it was refused.")
    return parse_manifest(file.read_bytes(), str(file))


def parse_manifest(data: bytes, what: str) -> dict[str, Any]:
    """A manifest in memory, checked like one on disk; `what` names it in errors. Raises LabelSetError."""
    manifest = read_object(data, what)
    found, version = manifest.get("format"), manifest.get("version")
    if found != FORMAT:
        raise LabelSetError(f"{what} says its format is {_shown(found)}; '{FORMAT}' was wanted.")
    if type(version) is not int or version != VERSION:
        raise LabelSetError(
            f"{what} is a label set of version {_shown(version)}; this hdistill reads version {VERSION}. "
            "Install the hdistill that wrote it."
        )
    for path, (wanted, fits) in FIELDS.items():
        _check_field(manifest, path, wanted, fits, what)
    _check_shards(manifest["shards"], what)
    return manifest


def _status(file: Path) -> Any:
    try:
        return file.stat()
    except (OSError, ValueError):
        return None


def _check_field(manifest: dict[str, Any], path: str, wanted: str, fits: Callable[[Any], bool], what: str) -> None:
    value: Any = manifest
    for key in path.split("."):
        if not isinstance(value, dict):
            raise LabelSetError(f"{what} is damaged: what holds {path} is no object; restore it from its origin.")
        if key not in value:
            if path in REQUIRED:
                raise LabelSetError(f"{what} is damaged: it lacks {path}; restore it from its origin.")
            return
        value = value[key]
    if not fits(value):
        raise LabelSetError(f"{what} is damaged: {path} is {_shown(value)}, {wanted} was wanted; restore it.")


def _check_shards(rows: list[dict[str, Any]], what: str) -> None:
    names = set()
    for row in rows:
        for key, (wanted, fits) in SHARD_FIELDS.items():
            if key not in row or not fits(row[key]):
                if key == "name" and isinstance(row.get(key), str):
                    raise LabelSetError(
                        f"{what} names a shard {_shown(row[key])}, outside its folder or no name of one; it was refused."
                    )
                raise LabelSetError(
                    f"{what} is damaged: a shard's {key} is {_shown(row.get(key))}, {wanted} was wanted."
                )
        if row["name"] in names:
            raise LabelSetError(f"{what} is damaged: it names the shard {row['name']} twice.")
        names.add(row["name"])


def _shown(value: Any) -> str:
    text = ascii(value) if not isinstance(value, dict | list) else f"a JSON {type(value).__name__}"
    return text if len(text) < 80 else f"{text[:76]}..."


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _elements(value: Any) -> bool:
    return isinstance(value, dict) and all(z in _ATOMIC_NUMBERS and _count(n) for z, n in value.items())


def _splits(value: Any) -> bool:
    return isinstance(value, dict) and set(value) <= set(SPLITS) and all(map(_count, value.values()))


def _quarantine(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict) and all(_text(row.get(key)) for key in ("id", "reason", "text")) for row in value
    )


_ATOMIC_NUMBERS = {str(z) for z in range(1, 119)}
_COUNT = ("a whole number of 0 or more", _count)
_TEXT = ("a text", _text)
_OBJECT = ("an object", _object)
_NUMBER = ("a number", _number)
REQUIRED = {"counts.n_structures", "counts.elements", "shards"}
FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "counts.n_structures": _COUNT,
    "counts.n_atoms": _COUNT,
    "counts.n_groups": _COUNT,
    "counts.n_quarantined": _COUNT,
    "counts.elements": ("an object of atomic numbers and counts", _elements),
    "splits": _OBJECT,
    "splits.n_structures": ("an object of train, val, test and counts", _splits),
    "hessian": _OBJECT,
    "hessian.kind": _TEXT,
    "hessian.codec": _TEXT,
    "hessian.n_products": _COUNT,
    "hessian.n_elements": _COUNT,
    "hessian.bytes": _COUNT,
    "hessian.codec_error_mean": _NUMBER,
    "hessian.codec_error_max": _NUMBER,
    "teacher": _OBJECT,
    "preflight": _OBJECT,
    "subset": _OBJECT,
    "licenses": _OBJECT,
    "plan": _TEXT,
    "quarantine": ("a list of objects with id, reason and text", _quarantine),
    "shards": ("a list of objects", lambda value: isinstance(value, list) and all(map(_object, value))),
}
SHARD_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a file name that ends in .h5", lambda value: _text(value) and bool(_SHARD_NAME.fullmatch(value))),
    "sha256": ("64 hexadecimal digits", lambda value: _text(value) and bool(_SHA256.fullmatch(value))),
    "bytes": ("a number of bytes", lambda value: _count(value) and value <= MAX_SHARD_FILE_BYTES),
    "n_structures": _COUNT,
    "n_atoms": _COUNT,
    "n_products": _COUNT,
}
