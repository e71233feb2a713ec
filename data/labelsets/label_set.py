"""A label set on disk: manifest.json, published last, and the immutable shards it names.

DIR/manifest.json           names, sizes and sha256 of the shards, counts, splits, provenance, licences
DIR/shards/00007-<sha8>.h5  see schema.py and docs/format.md
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import LabelSetError
from ..format.manifest import (
    MANIFEST as MANIFEST,
    MAX_MANIFEST_BYTES as MAX_MANIFEST_BYTES,
    SHARDS as SHARDS,
    read_manifest as read_manifest,
)
from ..format.records import Manifest
from ..format.schema import SPLITS
from ..format.shard_file import OpenShard, open_shard
from ..support.publish import sha256_of
from ..support.typed import as_json, fields_of

FETCHES = 20  # of one shard, for one reading: other processes may evict it in between
T = TypeVar("T")


@dataclass(frozen=True)
class ShardEntry:
    """One shard as the manifest states it. Of a remote label set, `fetch` brings it to `path`, where it may be evicted again."""

    path: Path
    bytes: int
    sha256: str
    n_structures: int
    n_atoms_total: int
    n_products: int
    fetch: Callable[[], Path] | None = None

    def use(self, read: Callable[[Path], T]) -> T:
        """read(path) of the shard, which is fetched first where it is not at hand. Raises what `read` and `fetch` raise."""
        if self.fetch is None:
            return read(self.path)
        for attempt in range(1, FETCHES + 1):
            path = self.fetch()
            try:
                result = read(path)
                if "split" not in self.__dict__:  # asked for by all: keep it while the shard is here
                    self.__dict__["split"] = _split_of(path)
                return result
            except LabelSetError:
                # Another process may have evicted it before it was opened, and fetched it again since: that it is there says nothing.
                if attempt == FETCHES:
                    raise
        raise AssertionError("unreachable")

    @cached_property
    def n_atoms(self) -> NDArray[np.int64]:
        """Atoms of each structure, (S,)."""
        return self.use(_n_atoms_of)

    @cached_property
    def split(self) -> NDArray[np.uint8]:
        """Index into SPLITS of each structure, (S,)."""
        return self.use(_split_of)


@dataclass(frozen=True)
class LabelSet:
    """An opened label set. `address` says where it is, if that is not `path`."""

    path: Path
    manifest: Manifest
    shards: tuple[ShardEntry, ...]
    address: str = ""

    @property
    def name(self) -> str:
        """How to call it in a sentence."""
        return self.address or str(self.path)

    @cached_property
    def digest(self) -> str:
        """Identifies the contents: sha256 over the shards' sha256, in order."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that occur, ascending."""
        return sorted(int(z) for z in self.manifest.counts.elements)


def _n_atoms_of(path: Path) -> NDArray[np.int64]:
    with open_shard(path) as file:
        offsets: NDArray[np.int64] = file["atom_offsets"][:]
    return offsets[1:] - offsets[:-1]


def _split_of(path: Path) -> NDArray[np.uint8]:
    with open_shard(path) as file:
        return np.asarray(file["split"][:])


def open_label_set(path: Path, check: bool = True) -> LabelSet:
    """The label set in a directory, or in the parent of its shards/; with check, every byte is verified against the manifest.

    Raises LabelSetError: not a label set, labelling unfinished, another version, a missing, changed or damaged shard.
    """
    folder = path.parent if path.name == SHARDS and (path.parent / MANIFEST).exists() else path
    labels = label_set_of(read_manifest(folder), folder)
    for shard in labels.shards if check else ():
        verify_shard(shard)
    return labels


def label_set_of(manifest: Manifest, folder: Path) -> LabelSet:
    """The label set that a manifest, checked already, describes, with its shards in a folder; nothing is read."""
    shards = tuple(
        ShardEntry(
            path=folder / SHARDS / row.name,
            bytes=row.bytes,
            sha256=row.sha256,
            n_structures=row.n_structures,
            n_atoms_total=row.n_atoms,
            n_products=row.n_products,
        )
        for row in manifest.shards
    )
    return LabelSet(folder, manifest, shards)


def verify_shard(shard: ShardEntry) -> None:
    """Size, then sha256, then schema, so that nothing of a changed file is interpreted. Raises LabelSetError.

    A symbolic link is followed (caches and data managers lay out files so), to a regular file of that size and sha256 only.
    """
    try:
        status = shard.path.stat()
    except (OSError, ValueError):
        raise LabelSetError(f"The shard {shard.path} is missing; restore it from its origin.") from None
    if not stat.S_ISREG(status.st_mode):
        raise LabelSetError(f"{shard.path} is not a regular file; it was refused.")
    if status.st_size != shard.bytes:
        raise LabelSetError(
            f"{shard.path} has {status.st_size} bytes, {shard.bytes} were wanted; restore it from its origin."
        )
    if sha256_of(shard.path) != shard.sha256:
        raise LabelSetError(f"{shard.path} has changed: its sha256 is not the manifest's; restore it from its origin.")
    with open_shard(shard.path) as file:
        _check_entry(shard, file)


def _check_entry(shard: ShardEntry, file: OpenShard) -> None:
    """The manifest's row of a shard against the shard: readers plan with the row alone."""
    for name, stated, counted in (
        ("structures", shard.n_structures, len(file["id"])),
        ("atoms", shard.n_atoms_total, len(file["numbers"])),
        ("Hessian products", shard.n_products, int(file["product_offsets"][-1])),
    ):
        if stated != counted:
            raise LabelSetError(f"{shard.path} has {counted} {name}, the manifest says {stated}.")


def verify(path: Path, advance: Callable[[], None] = lambda: None) -> LabelSet:
    """Check every byte, every value, every structure's id and every count of the manifest.

    Raises LabelSetError at the first thing that is wrong.
    """
    from .recount import Recount

    labels, recount = open_label_set(path, check=False), Recount()
    for shard in labels.shards:
        verify_shard(shard)
        with open_shard(shard.path) as file:
            recount.add(file, shard.path)
        advance()
    recount.check(labels.manifest, str(labels.path / MANIFEST))
    return labels


def info(path: Path) -> dict[str, Any]:
    """What `hdistill labels info` shows: counts, teacher, Hessian labels and bytes of a label set. Raises LabelSetError."""
    manifest = read_manifest(path.parent if path.name == SHARDS else path)
    counts = manifest.counts
    return {
        "n_structures": counts.n_structures,
        "n_atoms": counts.n_atoms,
        "n_quarantined": counts.n_quarantined,
        "n_groups": counts.n_groups,
        "elements": counts.elements,
        "splits": {name: manifest.splits.n_structures[name] for name in SPLITS},
        "hessian": as_json(manifest.hessian),
        "teacher": as_json(manifest.teacher),
        "preflight": fields_of(manifest.preflight),
        "subset": as_json(manifest.subset),
        "licenses": as_json(manifest.licenses),
        "history": as_json(manifest.history) if manifest.history is not None else {},
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "n_shards": len(manifest.shards),
        "plan": manifest.plan,
    }
