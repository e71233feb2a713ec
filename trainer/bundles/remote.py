"""Bundles at an address: hf://OWNER/NAME, s3://, gs://, https://, whatever the store of label sets reaches, or a folder.

A stranger's bytes are hashed before they get a name, and a folder gets its name when all of them have theirs. Nothing in it is run:
whoever uses it builds machine code from the weights.

CACHE/bundles/<sha256 of bundle.json>/   what was fetched to be used, whole; remove what you like
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hdistill.data.errors import InputError
from hdistill.data.sharing.cache import default_folder
from hdistill.data.sharing.failures import Damaged, Missing
from hdistill.data.sharing.store import Store, store
from hdistill.data.support.publish import publish

from .index import BUNDLE, digest_of, licence_of, parsed, require_whole_bundle

MOST_INDEX_BYTES = 1 << 20
MOST_BYTES = 256 << 20  # of one file


@dataclass(frozen=True)
class Copied:
    """A bundle that was pushed or pulled; digest: sha256 of its index; bytes: those that were moved."""

    address: str
    folder: Path
    digest: str
    license: str
    n_files: int
    n_moved: int
    bytes: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"folder": os.fspath(self.folder)}


def pull_bundle(source: str, folder: Path) -> Copied:
    """Copy a bundle from an address into a new folder, which appears when every file of it was found right.

    Raises InputError (no bundle, another one is in the folder, a file is not what its index says), RemoteError, OSError.
    """
    place = bundle_store(source)
    index = _index_at(place)
    digest = hashlib.sha256(index).hexdigest()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        if not (folder / BUNDLE).is_file() or digest_of(folder) != digest:
            raise InputError(f"{folder} is in use, and not by this bundle; pull into another folder.")
        require_whole_bundle(folder)
        return copied(place, folder, 0, 0)
    n_bytes = _fetch(place, index, folder)
    return copied(place, folder, len(parsed(index, BUNDLE)), n_bytes)


def fetched(address: str) -> Path:
    """The folder of a bundle at an address, in the cache: the index is read there each time, what it names only where it is not here."""
    place = bundle_store(address)
    index = _index_at(place)
    folder = cache_folder() / hashlib.sha256(index).hexdigest()
    try:
        if (folder / BUNDLE).is_file():
            require_whole_bundle(folder)
            return folder
    except InputError:
        shutil.rmtree(folder)  # somebody changed what is here
    _fetch(place, index, folder)
    licence = licence_of(folder)
    print(f"{place.address} was fetched: bundle {folder.name[:12]}, licence {licence.id}.", file=sys.stderr, flush=True)
    return folder


def cache_folder() -> Path:
    shards = default_folder()
    return shards / "bundles" if "HDISTILL_CACHE" in os.environ else shards.with_name("bundles")


def bundle_store(address: str) -> Store:
    return store(address, hub="model")


def copied(place: Store, folder: Path, n_moved: int, n_bytes: int) -> Copied:
    n_files = len(parsed((folder / BUNDLE).read_bytes(), BUNDLE))
    return Copied(place.address, folder, digest_of(folder), licence_of(folder).id, n_files, n_moved, n_bytes)


def _index_at(place: Store) -> bytes:
    try:
        index = place.read(BUNDLE, MOST_INDEX_BYTES)
    except Missing as error:
        raise InputError(f"{place.address} is not a bundle: it has no {BUNDLE}.") from error
    parsed(index, f"{place.address}/{BUNDLE}")
    return index


def _fetch(place: Store, index: bytes, folder: Path) -> int:
    """All files of an index into a new folder; bytes that were moved."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    n_bytes = 0
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent) as scratch:
        made = Path(scratch) / "bundle"
        for name, sha256 in parsed(index, f"{place.address}/{BUNDLE}").items():
            data = _right(place, name, sha256)
            publish(made / name, data)
            n_bytes += len(data)
        publish(made / BUNDLE, index)
        try:
            os.rename(made, folder)
        except OSError:
            if not (folder / BUNDLE).is_file() or digest_of(folder) != digest_of(
                made
            ):  # else another process was first
                raise
    return n_bytes


def _right(place: Store, name: str, sha256: str) -> bytes:
    """A file's bytes, once more where they are not those of its index: it may have happened on the way."""
    for _ in range(2):
        try:
            data = place.read(name, MOST_BYTES)
        except (Damaged, Missing) as error:
            raise InputError(f"{error} The bundle is damaged or being replaced; tell its publisher.") from error
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    raise InputError(
        f"{place.address}/{name} is not what {BUNDLE} says it is; the bundle is damaged or being replaced: tell its publisher."
    )
