"""Structures in whatever order they come, into the order of the plan, on disk.

A distribution sort: the stream goes, structure by structure, into N_BUCKETS parts of a file without a name, by the
first bits of the hash; then one part after the other is sorted in memory. That costs the disk twice the spool for a while, and
memory for one part, for the ids and for the groups: some 40 bytes for each structure, whatever its size.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hdistill.data.labelsets.split import group_key, position
from hdistill.data.sources.select import order_key
from hdistill.data.structure import Structure

from ..process import wire
from ..process.batching import about_n_pairs

N_BUCKETS = 256
BLOCK = 128 << 10  # bytes of a bucket that are written at a time

# What is known of a structure while it is sorted; `elements` has bit Z set where the structure has the element Z.
HEAD = np.dtype(
    [
        ("key", "<u8"),
        ("id", "V16"),
        ("group", "V16"),
        ("group_position", "<f8"),
        ("own_position", "<f8"),
        ("length", "<i4"),
        ("n_atoms", "<i4"),
        ("n_pairs", "<i8"),
        ("elements", "u1", (16,)),
    ]
)
_PACKED = struct.Struct("<Q16s16sddiiq16s")


class Bucket:
    """A part of the structures: blocks of bytes in the file that all buckets share, and what is not written there yet."""

    def __init__(self) -> None:
        self.waiting = bytearray()
        self.blocks: list[tuple[int, int]] = []

    def add(self, data: bytes, file: IO[bytes]) -> None:
        self.waiting += data
        if len(self.waiting) >= BLOCK:
            self.blocks.append((file.tell(), len(self.waiting)))
            file.write(self.waiting)
            self.waiting = bytearray()

    def sorted(self, file: IO[bytes], limit: int | None) -> tuple[NDArray[Any], Iterator[memoryview]]:
        """What is known of the bucket's structures, (S,) HEAD, and the record of each, in the order of the plan."""
        data = bytearray()
        for start, length in self.blocks:
            file.seek(start)
            data += file.read(length)
        data += self.waiting
        self.blocks, self.waiting = [], bytearray()
        places, at = [], 0
        while at < len(data):
            places.append(at)
            at += HEAD.itemsize + int.from_bytes(data[at + _LENGTH : at + _LENGTH + 4], "little")
        known = np.frombuffer(b"".join([data[p : p + HEAD.itemsize] for p in places]), HEAD)
        # The id decides where two hashes are equal; as bytes, for numpy would drop its trailing zeros.
        ids = np.frombuffer(known["id"].tobytes(), ">u8").reshape(-1, 2)
        order = np.lexsort((ids[:, 1], ids[:, 0], known["key"]))[:limit]
        known, view = known[order], memoryview(data)
        begins = np.array(places, np.int64)[order] + HEAD.itemsize
        ends = begins + known["length"]
        return known, (view[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True))


_LENGTH = HEAD.fields["length"][1]  # type: ignore[index]  # where the length is in a head


def distribute(structures: Iterable[Structure], file: IO[bytes], seed: int, limit: int | None) -> list[Bucket]:
    """Every structure into its bucket, in ascending order of their keys; with a limit, those that may be within it."""
    buckets = [Bucket() for _ in range(N_BUCKETS)]
    is_wanted = _smallest(limit)
    for structure in structures:
        key = order_key(seed, structure.id)
        if not is_wanted(key):
            continue
        record = wire.encode(*wire.pack_structures([structure]))
        head = _PACKED.pack(
            key,
            bytes.fromhex(structure.id),
            group_key(structure.group),
            position(structure.group, seed),
            position(structure.id, seed),
            len(record),
            structure.n_atoms,
            about_n_pairs(structure),
            _elements(structure),
        )
        buckets[key * N_BUCKETS >> 64].add(head + record, file)
    return buckets


def _smallest(limit: int | None) -> Callable[[int], bool]:
    """Tells of each key whether it may be among the `limit` smallest of all; holds up to twice as many keys."""
    if limit is None:
        return lambda key: True
    kept = array("Q")
    largest = 2**64

    def is_wanted(key: int) -> bool:
        nonlocal kept, largest
        if key > largest:
            return False
        kept.append(key)
        if len(kept) == 2 * limit:
            smallest = np.partition(np.frombuffer(kept, np.uint64), limit - 1)[:limit]
            kept, largest = array("Q", smallest.tobytes()), int(smallest[-1])
        return True

    return is_wanted


def _elements(structure: Structure) -> bytes:
    bits = 0
    for number in set(structure.numbers.tolist()):
        bits |= 1 << number
    return bits.to_bytes(16, "little")
