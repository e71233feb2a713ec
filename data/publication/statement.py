"""What the publisher of a label set states, beside what its manifest knows.

DIR/publication.json   title, authors, address, date, licences that the manifest does not know
DIR/permission.json    only where a set was pushed by somebody who claimed to have permission (push_pull.py)
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import InputError, LabelSetError
from ..support.strict_json import read_object
from .licences import require_known

PUBLICATION = "publication.json"
PERMISSION = "permission.json"
MAX_STATED_BYTES = 1 << 20


@dataclass(frozen=True)
class Publication:
    """What a publisher may state. structures_license, weights_license: SPDX ids, where the manifest says 'unknown'."""

    title: str = ""
    authors: tuple[str, ...] = ()
    url: str = ""
    date: str = ""  # of publication, YYYY-MM-DD
    release: str = "1.0.0"
    structures_license: str = ""
    weights_license: str = ""

    @property
    def stated_licenses(self) -> dict[str, str]:
        stated = {"structures": self.structures_license, "weights": self.weights_license}
        return {name: license for name, license in stated.items() if license}


@dataclass(frozen=True)
class Permission:
    """Who said, and when, that a set may be shared though its licences do not say so; `label_set` is the digest of its
    shards, of a student's bundle that of its index."""

    by: str
    on: str
    label_set: str
    license_class: str


def read_publication(folder: Path) -> Publication:
    """What the publisher stated, or nothing. Raises LabelSetError where publication.json is damaged."""
    file = folder / PUBLICATION
    return parse_publication(_read(file), str(file)) if file.exists() else Publication()


def read_permission(folder: Path) -> Permission | None:
    """The permission that the set was pushed with, or None. Raises LabelSetError where permission.json is damaged."""
    file = folder / PERMISSION
    return parse_permission(_read(file), str(file)) if file.exists() else None


def parse_publication(data: bytes, name: str) -> Publication:
    """Raises LabelSetError."""
    content = read_object(data, name)
    try:
        content["authors"] = tuple(content.get("authors", ()))
        return checked(Publication(**content))
    except (TypeError, InputError) as error:
        raise LabelSetError(
            f"{name} is damaged ({error}); remove it, or state it again: `hdistill labels card`."
        ) from error


def parse_permission(data: bytes, name: str) -> Permission:
    """Raises LabelSetError."""
    content = read_object(data, name)
    try:
        permission = Permission(**content)
    except TypeError as error:
        raise LabelSetError(f"{name} is damaged ({error}); remove it.") from error
    if not all(isinstance(value, str) for value in asdict(permission).values()):
        raise LabelSetError(f"{name} is damaged (texts were wanted); remove it.")
    return permission


def as_bytes(stated: Publication | Permission) -> bytes:
    return (json.dumps(asdict(stated), indent=1, ensure_ascii=False) + "\n").encode()


def checked(publication: Publication) -> Publication:
    """Types, a date, licences that are known. Raises InputError."""
    values = asdict(publication)
    authors = values.pop("authors")
    if not all(isinstance(value, str) for value in (*values.values(), *authors)):
        raise InputError("title, authors, url, date, release and licences are texts.")
    if publication.date:
        try:
            datetime.date.fromisoformat(publication.date)
        except ValueError as error:
            raise InputError(f"The date '{publication.date}' is none; write it as 2026-11-22.") from error
    if publication.url and not re.fullmatch(r"https?://[^\s<>\"]+", publication.url):
        raise InputError(f"The address '{publication.url}' is none; write it as https://...")
    structures, weights = publication.structures_license, publication.weights_license
    return replace(
        publication,
        structures_license=structures and require_known(structures),
        weights_license=weights and require_known(weights),
    )


def _read(file: Path) -> bytes:
    if file.stat().st_size > MAX_STATED_BYTES:
        raise LabelSetError(f"{file} is larger than such a file can be; it was refused.")
    return file.read_bytes()
