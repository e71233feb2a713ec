"""What lies beside a manifest for people and for other programs, made from the manifest and what its publisher stated.

DIR/publication.json   title, authors, address, date, licences that the manifest does not know: what the publisher stated, if anything
DIR/permission.json    only where a set was pushed by somebody who said to have permission (remote.py)
DIR/README.md          the card (card.py)
DIR/croissant.json     the same for programs (croissant.py)

The last two are a pure function of the others: the same manifest gives the same bytes. They are never read.
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .errors import InputError, LabelSetError
from .licences import require_known
from .publish import publish
from .strict_json import read_object

PUBLICATION = "publication.json"
PERMISSION = "permission.json"
CARD = "README.md"
CROISSANT = "croissant.json"
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
    """Who said, and when, that a set may be shared though its licences do not say so; `label_set` is the digest of its shards."""

    by: str
    on: str
    label_set: str
    license_class: str


def documents(
    manifest: bytes, publication: Publication | None = None, permission: Permission | None = None
) -> dict[str, bytes]:
    """README.md and croissant.json of a label set, from the bytes of its manifest.json; same arguments, same bytes.

    A permission that was given for other labels than these is not mentioned.

    Raises LabelSetError for a manifest that lacks what a card must say.
    """
    from .card import card, digest
    from .croissant import croissant

    stated = publication or Publication()
    try:
        content = json.loads(manifest)
        given = permission if permission is not None and permission.label_set == digest(content) else None
        return {CARD: card(content, stated, given), CROISSANT: croissant(manifest, content, stated)}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LabelSetError(
            f"The manifest does not say what a card must say ({error!r}); was it made by hand?"
        ) from error


def write_documents(folder: Path, manifest: bytes) -> None:
    """Publish README.md and croissant.json of a set in a folder, with what its publisher stated there before."""
    for name, data in documents(manifest, read_publication(folder), read_permission(folder)).items():
        publish(folder / name, data, replace=True)


def state(folder: Path, **stated: Any) -> Publication:
    """Add to what the publisher states in publication.json, and write the card again. Raises InputError, LabelSetError."""
    from .manifest import MANIFEST, read_manifest

    read_manifest(folder)
    publication = _checked(replace(read_publication(folder), **{k: v for k, v in stated.items() if v}))
    if publication != Publication():
        publish(folder / PUBLICATION, as_bytes(publication), replace=True)
    write_documents(folder, (folder / MANIFEST).read_bytes())
    return publication


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
        return _checked(Publication(**content))
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


def _checked(publication: Publication) -> Publication:
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
