"""The selected structures on disk, so that a worker reads the ones of its chunk and nothing else.

    spool/structures.bin   one wire message per structure, as the source gave them
    spool/index.npy        start, length, n_atoms, n_edges (about), split of each, in the order of the plan

The order is by a hash of (seed, structure id): shuffled, so that neighbours in a shard are not neighbours in the source, and the
same whatever the order of the input files. Memory while writing: id, group and index of each structure, about 250 bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdistill.data.publish import publish, sha256_of
from hdistill.data.schema import SPLITS
from hdistill.data.split import Assignment
from hdistill.data.structure import Structure
from hdistill.data.subset import order_key

from . import wire
from .batching import about_edges

RECORD = np.dtype([("start", "<i8"), ("length", "<i8"), ("n_atoms", "<i4"), ("n_edges", "<i8"), ("split", "u1")])


@dataclass(frozen=True)
class Spool:
    """What was written: counts, and the hash of the structures file, by which a plan knows its own spool."""

    n_structures: int
    n_atoms: int
    elements: dict[int, int]  # structures that have each element
    n_groups: int
    splits: dict[str, int]  # structures in each split
    split_by: str  # group, or structure where there are too few groups
    warnings: list[str]  # of the splitting
    sha256: str


Assign = Callable[[Sequence[str], Sequence[str]], Assignment]  # (groups, ids) -> splits


def write(structures: Iterable[Structure], folder: Path, seed: int, assign: Assign) -> tuple[Spool, NDArray[Any]]:
    """Write a stream of distinct structures; returns the summary and the index. Safe to run twice at once."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".structures.{uuid.uuid4().hex}.tmp"
    digest = hashlib.sha256()
    ids: list[str] = []
    groups: list[str] = []
    places: list[tuple[int, int, int, int]] = []
    elements: Counter[int] = Counter()
    position = 0
    try:
        with open(temporary, "xb") as stream:
            for structure in structures:
                record = wire.encode(*wire.pack_structures([structure]))
                stream.write(record)
                digest.update(record)
                ids.append(structure.id)
                groups.append(sys.intern(structure.group))
                places.append((position, len(record), structure.n_atoms, about_edges(structure)))
                position += len(record)
                elements.update(set(structure.numbers.tolist()))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, folder / "structures.bin")
    finally:
        temporary.unlink(missing_ok=True)
    assignment = assign(groups, ids)
    index = np.zeros(len(ids), RECORD)
    for column, name in enumerate(("start", "length", "n_atoms", "n_edges")):
        index[name] = [place[column] for place in places]
    index["split"] = [SPLITS.index(split) for split in assignment.splits]
    keys = np.array([order_key(seed, structure_id) for structure_id in ids], np.uint64)
    index = index[np.argsort(keys, kind="stable")]
    image = io.BytesIO()
    np.save(image, index)
    publish(folder / "index.npy", image.getvalue(), replace=True)
    spool = Spool(
        n_structures=len(index),
        n_atoms=int(index["n_atoms"].sum()),
        elements={int(z): int(n) for z, n in sorted(elements.items())},
        n_groups=len(set(groups)),
        splits=assignment.counts(),
        split_by=assignment.unit,
        warnings=list(assignment.warnings),
        sha256=digest.hexdigest(),
    )
    return spool, index


def read(folder: Path, start: int, stop: int) -> list[tuple[Structure, str]]:
    """Structures start:stop in the order of the plan, each with its split."""
    index = np.load(folder / "index.npy", mmap_mode="r")[start:stop]
    found: list[tuple[Structure, str]] = []
    with open(folder / "structures.bin", "rb") as stream:
        for row in index:
            stream.seek(int(row["start"]))
            found.append((wire.unpack_structures(*wire.decode(stream.read))[0], SPLITS[row["split"]]))
    return found


def is_intact(folder: Path, sha256: str) -> bool:
    """Whether the spool is there and holds what the plan says."""
    return (
        (folder / "index.npy").exists()
        and (folder / "structures.bin").exists()
        and sha256_of(folder / "structures.bin") == sha256
    )
