"""The selected structures on disk, so that a worker reads the ones of its chunk and nothing else.

    spool/structures-<sha16>.bin    one wire message per structure, as the source gave them, in the order of the plan;
                                    then the index, a RECORD for each of them

The order is by a hash of (seed, structure id): shuffled, so that neighbours in a shard are not neighbours in the source, and the
same whatever the order of the input, as are all bytes. A chunk is one piece of the file. The name says what is in it: two
labelers with different wishes never take one another's file for their own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hdistill.data.errors import LabelSetError
from hdistill.data.format.schema import SPLITS
from hdistill.data.labelsets.split import Fractions, Splitter
from hdistill.data.structure import Structure
from hdistill.data.support.publish import sha256_of

from ..process import wire
from .spool_sort import HEAD, distribute

RECORD = np.dtype(
    [("id", "V16"), ("start", "<i8"), ("length", "<i8"), ("n_atoms", "<i4"), ("n_pairs", "<i8"), ("split", "u1")]
)
STALE_S = (
    600.0  # a temporary that was not written for so long, and that nobody has locked, is of a labeler that was killed
)


@dataclass(frozen=True)
class Spool:
    """What was written: counts, and the hash of the file, by which a plan knows its own spool."""

    n_structures: int
    n_atoms: int
    elements: dict[int, int]  # structures that have each element
    n_groups: int
    splits: dict[str, int]  # structures in each split
    split_by: str  # group, or structure where there are too few groups
    warnings: list[str]  # of the splitting
    sha256: str


def write(
    structures: Iterable[Structure], folder: Path, seed: int, fractions: Fractions, limit: int | None = None
) -> tuple[Spool, NDArray[np.int64]]:
    """Write a stream of distinct structures, or the first `limit` of them in the order of the plan.

    Returns the summary and about how many pairs each structure has, (S,) in the order of the plan. Safe to run twice at once.
    Raises OSError; a process that is killed leaves nothing behind, or in the last minutes a temporary that the next one removes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    with tempfile.TemporaryFile(dir=folder) as sorting, tempfile.TemporaryFile(dir=folder) as heads:
        buckets = distribute(structures, sorting, seed, limit)
        splitter = Splitter(fractions)
        with _temporary(folder) as (name, target):
            digest = hashlib.sha256()
            n_pairs = []
            left = limit
            for bucket in buckets:
                known, records = bucket.sorted(sorting, left)
                for record in records:
                    target.write(record)
                    digest.update(record)
                heads.write(known.tobytes())
                splitter.add(_rows(known["group"]), known["group_position"], known["own_position"])
                n_pairs.append(known["n_pairs"].astype(np.int64))  # a view would keep all that is known
                left = None if left is None else left - len(known)
            spool = _write_index(heads, target, digest, splitter)
            target.flush()
            os.fsync(target.fileno())
            if not is_intact(folder, spool):
                os.replace(name, path_of(folder, spool))
    return spool, np.concatenate(n_pairs)


def read(folder: Path, spool: Spool, start: int, stop: int) -> list[tuple[Structure, str]]:
    """Structures start:stop in the order of the plan, each with its split. Raises LabelSetError where the spool is damaged."""
    path = path_of(folder, spool)
    with open(path, "rb") as stream:
        index = _index(stream, spool, start, stop)
        if len(index) == 0:
            return []
        try:
            stream.seek(int(index["start"][0]))
            structures = [wire.unpack_structures(*wire.decode(stream.read))[0] for _ in index]
            splits = [SPLITS[row["split"]] for row in index]
            if [s.id for s in structures] != [row["id"].tobytes().hex() for row in index]:
                raise ValueError("a structure does not hash to its id")
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            OverflowError,
            MemoryError,
            RecursionError,
        ) as error:
            raise LabelSetError(
                f"{path} is damaged ({error}); run the same command again, which makes it anew."
            ) from error
    return list(zip(structures, splits, strict=True))


def read_ids(folder: Path, spool: Spool, start: int, stop: int) -> list[str]:
    """The ids of structures start:stop. Raises LabelSetError where the spool is shorter than it should be."""
    with open(path_of(folder, spool), "rb") as stream:
        return [row["id"].tobytes().hex() for row in _index(stream, spool, start, stop)]


def _index(stream: IO[bytes], spool: Spool, start: int, stop: int) -> NDArray[Any]:
    """RECORDs start:stop of a spool."""
    try:
        stream.seek((start - spool.n_structures) * RECORD.itemsize, os.SEEK_END)
        return np.frombuffer(stream.read((stop - start) * RECORD.itemsize), RECORD)
    except (OSError, ValueError) as error:
        raise LabelSetError(
            f"{stream.name} is damaged ({error}); run the same command again, which makes it anew."
        ) from error


def is_intact(folder: Path, spool: Spool) -> bool:
    """Whether the spool is there and holds what the plan says."""
    path = path_of(folder, spool)
    return path.exists() and sha256_of(path) == spool.sha256


def path_of(folder: Path, spool: Spool) -> Path:
    return folder / f"structures-{spool.sha256[:16]}.bin"


def _write_index(heads: IO[bytes], target: IO[bytes], digest: Any, splitter: Splitter) -> Spool:
    """The index behind the records; heads are those of all structures, in the order of the plan."""
    decision = splitter.decide()
    splits = np.zeros(len(SPLITS), np.int64)
    elements = np.zeros(128, np.int64)
    n_structures = n_atoms = end = 0
    heads.seek(0)
    while block := heads.read(HEAD.itemsize << 12):
        known = np.frombuffer(block, HEAD)
        index = np.zeros(len(known), RECORD)
        ends = end + np.cumsum(known["length"], dtype=np.int64)
        index["start"], end = ends - known["length"], int(ends[-1])
        for name in ("id", "length", "n_atoms", "n_pairs"):
            index[name] = known[name]
        index["split"] = decision.splits(known["group_position"], known["own_position"])
        target.write(index.tobytes())
        digest.update(index.tobytes())
        n_structures += len(index)
        n_atoms += int(index["n_atoms"].sum(dtype=np.int64))
        splits += np.bincount(index["split"], minlength=len(SPLITS))
        elements += np.unpackbits(known["elements"], axis=1, bitorder="little").sum(axis=0, dtype=np.int64)
    return Spool(
        n_structures=n_structures,
        n_atoms=n_atoms,
        elements={z: n for z, n in enumerate(elements.tolist()) if n},
        n_groups=decision.n_groups,
        splits=dict(zip(SPLITS, splits.tolist(), strict=True)),
        split_by=decision.unit,
        warnings=list(decision.warnings),
        sha256=digest.hexdigest(),
    )


def _rows(keys: NDArray[Any]) -> list[bytes]:
    """Each of some keys of 16 bytes."""
    data = keys.tobytes()
    return [data[at : at + 16] for at in range(0, len(data), 16)]


@contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new hidden file, locked while it is written; removed at the end unless it was given another name."""
    name = folder / f".structures.{uuid.uuid4().hex}.tmp"
    try:
        with open(name, "xb") as stream:
            _lock(stream, fcntl.LOCK_EX)
            yield name, stream
    finally:
        name.unlink(missing_ok=True)


def _remove_stale(folder: Path) -> None:
    """Remove temporaries of labelers that were killed, and no others.

    The lock of a dead process is gone, but a file system may not show locks to other machines; so the file must be old, too, by
    the clock of the file system, for the clocks of two machines differ. One that is written is never old.
    """
    with tempfile.TemporaryFile(dir=folder) as fresh:
        now = os.fstat(fresh.fileno()).st_mtime
    for path in folder.glob(".structures.*.tmp"):
        try:
            with open(path, "rb") as stream:
                if now - os.fstat(stream.fileno()).st_mtime > STALE_S and _lock(stream, fcntl.LOCK_SH):
                    path.unlink(missing_ok=True)
        except OSError:  # gone meanwhile, or somebody else's: it does no harm
            continue


def _lock(stream: IO[bytes], how: int) -> bool:
    """Lock a file; False if somebody else has. A file system without locks has none to respect."""
    try:
        fcntl.flock(stream, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
