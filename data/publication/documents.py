"""What lies beside a manifest for people and for other programs, made from the manifest and what its publisher stated.

DIR/README.md          the card (card.py)
DIR/croissant.json     the same for programs (croissant.py)

Both are a pure function of the manifest and the statement: the same manifest gives the same bytes. They are never read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..format.manifest import MANIFEST, parse_manifest, read_manifest
from ..support.publish import publish
from .card import card, digest
from .croissant import croissant
from .statement import (
    PUBLICATION,
    Permission,
    Publication,
    as_bytes,
    checked,
    read_permission,
    read_publication,
)

CARD = "README.md"
CROISSANT = "croissant.json"


def documents(
    manifest: bytes, publication: Publication | None = None, permission: Permission | None = None
) -> dict[str, bytes]:
    """README.md and croissant.json of a label set, from the bytes of its manifest.json; same arguments, same bytes.

    A permission that was given for other labels than these is not mentioned.

    Raises LabelSetError for what is not a manifest.
    """
    stated = publication or Publication()
    content = parse_manifest(manifest, MANIFEST)
    given = permission if permission is not None and permission.label_set == digest(content) else None
    return {CARD: card(content, stated, given), CROISSANT: croissant(manifest, content, stated)}


def write_documents(folder: Path, manifest: bytes) -> None:
    """Publish README.md and croissant.json of a set in a folder, with what its publisher stated there before."""
    for name, data in documents(manifest, read_publication(folder), read_permission(folder)).items():
        publish(folder / name, data, replace=True)


def state(folder: Path, **stated: Any) -> Publication:
    """Add to what the publisher states in publication.json, and write the card again. Raises InputError, LabelSetError."""
    read_manifest(folder)
    publication = checked(replace(read_publication(folder), **{k: v for k, v in stated.items() if v}))
    if publication != Publication():
        publish(folder / PUBLICATION, as_bytes(publication), replace=True)
    write_documents(folder, (folder / MANIFEST).read_bytes())
    return publication
