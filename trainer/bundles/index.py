"""bundle.json: format, version, and the sha256 of every other file of a bundle. Written last; what it does not list is no part of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hdistill.data.errors import InputError
from hdistill.data.publication.licences import Licence, of_licenses
from hdistill.data.support.publish import publish, sha256_of
from hdistill.data.support.strict_json import loads

BUNDLE = "bundle.json"
STUDENT = "student.safetensors"
DOMAIN = "domain.safetensors"
CARD = "student.json"
FORMAT, VERSION = "hdistill bundle", 1
MOST_FILES = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def write_index(folder: Path, names: Iterable[str]) -> None:
    """Say that these files are the bundle."""
    index = {"format": FORMAT, "version": VERSION, "files": {name: sha256_of(folder / name) for name in names}}
    publish(folder / BUNDLE, (json.dumps(index, indent=1) + "\n").encode(), replace=True)


def parsed(data: bytes, name: str) -> dict[str, str]:
    """sha256 by file name, of an index's bytes. Raises InputError for what is no index of today, or names files elsewhere."""
    try:
        index = loads(data)
        files: dict[str, Any] = dict(index["files"])
        known = index["format"] == FORMAT and index["version"] == VERSION
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{name} is damaged ({error}); fetch the bundle again.") from error
    if not known:
        raise InputError(f"{name} is not of a {FORMAT} of version {VERSION}.")
    if STUDENT not in files:
        raise InputError(f"{name} does not list {STUDENT}; fetch the bundle again.")
    for file, sha256 in files.items():
        if not _NAME.fullmatch(file) or file == BUNDLE or not _SHA256.fullmatch(str(sha256)) or len(files) > MOST_FILES:
            raise InputError(f"{name} lists {file!r:.80}, which no file of a bundle is called; it was refused.")
    return files


def require_whole_bundle(folder: Path) -> None:
    """Where a folder is a bundle, its files must be those that were published. Raises InputError that names the first that is not."""
    index = folder / BUNDLE
    if not index.exists():
        return
    try:
        files = parsed(index.read_bytes(), str(index))
    except OSError as error:
        raise InputError(f"{index} cannot be read ({error.strerror}); fetch the bundle again.") from error
    if (folder / DOMAIN).exists() and DOMAIN not in files:
        raise InputError(f"{folder / DOMAIN} is not a file of this bundle; remove it.")
    for name, sha256 in files.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != sha256:
            raise InputError(f"{name!r:.80} in {folder} is missing or not what was published; fetch the bundle again.")


def digest_of(folder: Path) -> str:
    """What identifies a bundle: the sha256 of its index, which has that of every file."""
    return hashlib.sha256((folder / BUNDLE).read_bytes()).hexdigest()


def licence_of(folder: Path) -> Licence:
    """The licence of a bundle, worked out anew from what its card says of structures and weights."""
    try:
        return of_licenses(dict(loads((folder / CARD).read_bytes())["licenses"] or {}))
    except (OSError, ValueError, LookupError, TypeError):
        return of_licenses({})
