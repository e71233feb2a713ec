"""Label sets that lie elsewhere: pushed, pulled, and opened for reading through a cache. Wherever they lie, they look the same:

ADDRESS/manifest.json     published last: what it names is there
ADDRESS/shards/*.h5       named by their contents
ADDRESS/README.md, croissant.json, publication.json, permission.json    publication.py

Both directions may be killed anywhere; the same command again moves what is missing. A stranger's bytes are hashed before they
are read as HDF5, and the manifest is checked as that of any label set.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import LabelSetError
from ..format.manifest import MANIFEST, SHARDS
from ..format.records import History, Manifest, Parent
from ..labelsets.label_set import LabelSet, ShardEntry, open_label_set, verify_shard
from ..publication.documents import documents
from ..publication.licences import Licence, of_manifest, require_may_be_pushed
from ..publication.statement import (
    MAX_STATED_BYTES,
    PERMISSION,
    PUBLICATION,
    Permission,
    Publication,
    as_bytes,
    parse_permission,
    parse_publication,
    read_publication,
)
from ..support.progress import progress as progress_bar
from ..support.publish import publish, remove_temporaries
from .failures import Missing, Refused
from .remote import fetch_shard, open_at
from .store import Store, require_writable, store

LEFT_AFTER_S = 3600.0


@dataclass(frozen=True)
class Moved:
    """What a push or a pull did. label_set: digest of the shards; bytes: those that were moved, of all of `total_bytes`."""

    address: str
    folder: Path
    label_set: str
    license: str
    n_shards: int
    n_moved: int
    bytes: int
    total_bytes: int


def push(folder: Path, destination: str, permission_by: str | None = None, progress: bool = True) -> Moved:
    """Copy a label set to a folder or an address, its manifest last; what is there already is not sent again.

    permission_by: who says to have permission, where the licences do not give it; it is recorded beside the set. Raises
    LicenceError where they do not and nobody says so, RemoteError, LabelSetError (damaged, or another set is there).
    """
    labels = open_label_set(folder)
    stated = read_publication(labels.path)
    licence = of_manifest(labels.manifest, stated.stated_licenses)
    if permission_by is None:
        card = f"`hdistill labels card {folder} --structures-license ID` (or --weights-license ID)"
        require_may_be_pushed(
            licence, folder, "its labels are", f"if you know it, state it with {card}; else push with"
        )
    place = store(destination)
    require_writable(place)
    manifest = (labels.path / MANIFEST).read_bytes()
    _require_same_or_older(place, labels)
    permission = None if permission_by is None else permission_for(place, permission_by, labels.digest, licence)
    n_moved = moved_bytes = 0
    with _bar(labels, "push", progress) as advance:
        for shard in labels.shards:
            name = f"{SHARDS}/{shard.path.name}"
            if not place.has(name, shard.path, shard.sha256):
                place.put(name, shard.path)
                n_moved += 1
                moved_bytes += shard.bytes
            advance(shard.bytes)
    for name, data in _documents(manifest, stated, permission).items():
        place.write(name, data)
    place.write(MANIFEST, manifest)
    return _moved(place, labels, licence, n_moved, moved_bytes)


def pull(source: str, folder: Path, progress: bool = True) -> Moved:
    """Copy a label set from an address into a folder, its manifest last. Every shard is hashed before it gets its name.

    Raises RemoteError, LabelSetError (not a label set, damaged, or the folder holds another one), OSError (disk full).
    """
    place = store(source)
    manifest, labels = open_at(place, folder)
    _require_place(folder, labels)
    for place_of_files in (folder, folder / SHARDS):  # those of the last hour may be of a pull that is going on
        remove_temporaries(place_of_files, LEFT_AFTER_S)
    n_moved = moved_bytes = 0
    with _bar(labels, "pull", progress) as advance:
        for shard in labels.shards:
            if _is_whole(shard):
                advance(shard.bytes)
            else:
                fetch_shard(place, shard, shard.path.name, shard.path, advance)
                n_moved += 1
                moved_bytes += shard.bytes
    stated, permission = _stated(place)
    for name, data in _documents(manifest, stated, permission).items():
        publish(folder / name, data, replace=True)
    publish(folder / MANIFEST, manifest, replace=True)
    return _moved(place, labels, of_manifest(labels.manifest, stated.stated_licenses), n_moved, moved_bytes)


def _is_whole(shard: ShardEntry) -> bool:
    """Whether a shard lies in its folder already."""
    try:
        verify_shard(shard)
    except LabelSetError:
        return False
    return True


def _require_same_or_older(place: Store, labels: LabelSet) -> None:
    """Raise LabelSetError where the place holds a label set that this one does not continue."""
    try:
        _, there = open_at(place, labels.path)
    except LabelSetError as error:
        if isinstance(error.__cause__, Missing):
            return
        raise
    if not _continues(labels.manifest, there.manifest):
        raise LabelSetError(
            f"{place.address} holds another label set ({there.digest[:12]}, of {there.manifest.counts.n_structures} structures) "
            "that this one is not a later pass of; push to another place, or remove its manifest.json first."
        )


def _require_place(folder: Path, labels: LabelSet) -> None:
    """Raise LabelSetError where the folder holds something that the label set does not continue."""
    if folder.exists() and not folder.is_dir():
        raise LabelSetError(f"{folder} is a file; a directory was wanted.")
    if (folder / MANIFEST).exists():
        here = open_label_set(folder, check=False)
        if not _continues(labels.manifest, here.manifest):
            raise LabelSetError(f"{folder} holds another label set ({here.digest[:12]}); pull into another directory.")
    elif (folder / "plan.json").exists():
        raise LabelSetError(f"{folder} holds a labelling that is not finished; pull into another directory.")


def _continues(new: Manifest, old: Manifest) -> bool:
    """Whether a manifest is of the same plan as another with no pass less, or was merged from that."""
    plan, passes = next(_lineage(old))
    return any(plan == other and passes == more[: len(passes)] for other, more in _lineage(new))


def _lineage(made: Manifest | Parent) -> Iterator[tuple[str, list[str]]]:
    """Plan and names of the later passes of a set, then of what went into it whole: what it was cut out of did not."""
    history = made.history or History()
    yield made.plan, [done.name for done in history.passes]
    for parent in history.parents if history.made_by != "subset" else ():
        yield from _lineage(parent)


def permission_for(place: Store, by: str, digest: str, licence: Licence) -> Permission:
    """The permission to record: the one that is there, if it is for these labels, so that a push that is repeated changes nothing."""
    try:
        there = parse_permission(place.read(PERMISSION, MAX_STATED_BYTES), PERMISSION)
        if (there.by, there.label_set) == (by, digest):
            return there
    except (Missing, Refused, LabelSetError):
        pass
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Permission(by, today, digest, licence.license_class)


def _stated(place: Store) -> tuple[Publication, Permission | None]:
    """What the publisher stated at a place."""
    texts = []
    for name in (PUBLICATION, PERMISSION):
        try:
            texts.append(place.read(name, MAX_STATED_BYTES))
        except (Missing, Refused):
            texts.append(b"")
    stated = parse_publication(texts[0], f"{place.address}/{PUBLICATION}") if texts[0] else Publication()
    permission = parse_permission(texts[1], f"{place.address}/{PERMISSION}") if texts[1] else None
    return stated, permission


def _documents(manifest: bytes, stated: Publication, permission: Permission | None) -> dict[str, bytes]:
    """All that lies beside a manifest, made from what is known and not copied: a stranger's text is not passed on unread."""
    files = documents(manifest, stated, permission)
    if stated != Publication():
        files[PUBLICATION] = as_bytes(stated)
    if permission is not None:
        files[PERMISSION] = as_bytes(permission)
    return files


class _Bytes:
    """A bar in kB or MB that is told of bytes."""

    def __init__(self, bar: Any, unit: int):
        self._bar, self._unit = bar, unit
        self._bytes = self._shown = 0

    def __call__(self, n_bytes: int) -> None:
        self._bytes += n_bytes
        whole = self._bytes // self._unit
        self._bar.advance(whole - self._shown)
        self._shown = whole


@contextmanager
def _bar(labels: LabelSet, what: str, enabled: bool) -> Iterator[_Bytes]:
    total = sum(shard.bytes for shard in labels.shards)
    unit, name = (10**6, "MB") if total >= 10**7 else (10**3, "kB")
    with progress_bar(total // unit, name, what, enabled) as bar:
        yield _Bytes(bar, unit)


def _moved(place: Store, labels: LabelSet, licence: Licence, n_moved: int, moved_bytes: int) -> Moved:
    total = sum(shard.bytes for shard in labels.shards)
    return Moved(place.address, labels.path, labels.digest, licence.id, len(labels.shards), n_moved, moved_bytes, total)


def as_json(moved: Moved) -> dict[str, Any]:
    return asdict(moved) | {"folder": os.fspath(moved.folder)}
