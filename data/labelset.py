"""A label set on disk: manifest.json, published last, and the immutable shards it names.

DIR/manifest.json           names, sizes and sha256 of the shards, counts, splits, provenance, licences
DIR/shards/00007-<sha8>.h5  see schema.py and docs/format.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import LabelSetError
from .publish import sha256_of
from .schema import FORMAT, SPLITS, VERSION
from .shard_file import open_shard

MANIFEST = "manifest.json"
SHARDS = "shards"
MAX_MANIFEST_BYTES = 256 << 20


@dataclass(frozen=True)
class ShardEntry:
    """One shard as the manifest states it."""

    path: Path
    bytes: int
    sha256: str
    n_structures: int
    n_atoms_total: int
    n_products: int

    @cached_property
    def n_atoms(self) -> NDArray[np.int64]:
        """Atoms of each structure, (S,)."""
        with open_shard(self.path) as file:
            offsets: NDArray[np.int64] = file["atom_offsets"][:]
        return offsets[1:] - offsets[:-1]

    @cached_property
    def split(self) -> NDArray[np.uint8]:
        """Index into SPLITS of each structure, (S,)."""
        with open_shard(self.path) as file:
            return np.asarray(file["split"][:])


@dataclass(frozen=True)
class LabelSet:
    """An opened label set."""

    path: Path
    manifest: dict[str, Any]
    shards: tuple[ShardEntry, ...]

    @cached_property
    def digest(self) -> str:
        """Identifies the contents: sha256 over the shards' sha256, in order."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that occur, ascending."""
        return sorted(int(z) for z in self.manifest["counts"]["elements"])


def open_label_set(path: Path, check: bool = True) -> LabelSet:
    """The label set in a directory, or in the parent of its shards/; with check, every byte is verified against the manifest.

    Raises LabelSetError: not a label set, labelling unfinished, another version, a missing, changed or damaged shard.
    """
    folder = path.parent if path.name == SHARDS and (path.parent / MANIFEST).exists() else path
    manifest = read_manifest(folder)
    shards = []
    for row in manifest["shards"]:
        if Path(row["name"]).name != row["name"] or row["name"].startswith("."):
            raise LabelSetError(
                f"{folder / MANIFEST} names a shard outside its folder ({row['name']!r}); it was refused."
            )
        file = folder / SHARDS / row["name"]
        shards.append(
            ShardEntry(file, row["bytes"], row["sha256"], row["n_structures"], row["n_atoms"], row["n_products"])
        )
    labels = LabelSet(folder, manifest, tuple(shards))
    for shard in labels.shards if check else ():
        verify_shard(shard)
    return labels


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a label set, after checking format and version. Raises LabelSetError."""
    file = folder / MANIFEST
    if not file.exists():
        if (folder / "plan.json").exists():
            raise LabelSetError(f"{folder} is not finished; run the `hdistill label` command that began it again.")
        raise LabelSetError(f"{folder} is no label set: it has no {MANIFEST}. Make one with `hdistill label`.")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise LabelSetError(f"{file} is larger than a manifest can be; it was refused.")
    try:
        manifest: dict[str, Any] = json.loads(file.read_bytes())
        found, version = manifest["format"], manifest["version"]
        if found == FORMAT and version == VERSION:
            for row in manifest["shards"]:
                str(row["name"]), str(row["sha256"]), int(row["bytes"]), int(row["n_structures"])
    except (ValueError, KeyError, TypeError) as error:
        raise LabelSetError(f"{file} is damaged ({error!r}); restore it from its origin.") from error
    if found != FORMAT:
        raise LabelSetError(f"{file} says its format is {found!r}; '{FORMAT}' was wanted.")
    if version != VERSION:
        raise LabelSetError(
            f"{folder} is a label set of version {version}; this hdistill reads version {VERSION}. "
            "Install the hdistill that wrote it."
        )
    return manifest


def verify_shard(shard: ShardEntry) -> None:
    """Size, then sha256, then schema, so that nothing of a changed file is interpreted. Raises LabelSetError."""
    if not shard.path.exists():
        raise LabelSetError(f"The shard {shard.path} is missing; restore it from its origin.")
    size = shard.path.stat().st_size
    if size != shard.bytes:
        raise LabelSetError(f"{shard.path} has {size} bytes, {shard.bytes} were wanted; restore it from its origin.")
    if sha256_of(shard.path) != shard.sha256:
        raise LabelSetError(f"{shard.path} has changed: its sha256 is not the manifest's; restore it from its origin.")
    with open_shard(shard.path) as file:
        if len(file["id"]) != shard.n_structures:
            raise LabelSetError(
                f"{shard.path} has {len(file['id'])} structures, the manifest says {shard.n_structures}."
            )


def verify(path: Path, advance: Callable[[], None] = lambda: None) -> LabelSet:
    """Check every byte, every schema rule and every structure's id. Raises LabelSetError at the first thing that is wrong."""
    from .shard import read_samples

    labels = open_label_set(path, check=False)
    for shard in labels.shards:
        verify_shard(shard)
        with open_shard(shard.path) as file:
            ids = [row.tobytes().hex() for row in file["id"][:]]
        for stored, sample in zip(ids, read_samples(shard.path), strict=True):
            if stored != sample.structure.id:
                raise LabelSetError(f"{shard.path}: structure {stored} does not hash to its own id; restore the shard.")
        advance()
    counted = sum(shard.n_structures for shard in labels.shards)
    if counted != labels.manifest["counts"]["n_structures"]:
        raise LabelSetError(f"{path}: the shards hold {counted} structures, the manifest says otherwise.")
    return labels


def info(path: Path) -> dict[str, Any]:
    """What `hdistill labels info` shows: counts, teacher, Hessian labels and bytes of a label set."""
    manifest = read_manifest(path.parent if path.name == SHARDS else path)
    counts = manifest["counts"]
    return {
        "n_structures": counts["n_structures"],
        "n_atoms": counts["n_atoms"],
        "n_quarantined": counts["n_quarantined"],
        "n_groups": counts["n_groups"],
        "elements": counts["elements"],
        "splits": {name: manifest["splits"]["n_structures"][name] for name in SPLITS},
        "hessian": manifest["hessian"],
        "teacher": manifest["teacher"],
        "preflight": manifest["preflight"],
        "subset": manifest["subset"],
        "licenses": manifest["licenses"],
        "bytes": sum(shard["bytes"] for shard in manifest["shards"]),
        "n_shards": len(manifest["shards"]),
        "plan": manifest["plan"],
    }
