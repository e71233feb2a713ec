"""Where an array lies in a shard, and how it is read: one `pread`, checksum, inflate, unshuffle.

HDF5 is asked only where the pieces are (shard_guard.py); it never reads them. Its inflate has no limit, so a chunk of a megabyte
can fill the memory, and a stream that ends too early leaves what happened to be in memory in the array, without an error
(HDF5 2.0). `pread` keeps no position, so a descriptor may be shared by processes and threads; zlib lets other threads run.
"""

from __future__ import annotations

import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LabelSetError

SHUFFLE, DEFLATE, FLETCHER32 = 2, 1, 3  # HDF5's own numbers; all three are built in
PIPELINE = (SHUFFLE, DEFLATE, FLETCHER32)  # the order in which a writer applies them
MAX_CHUNK_BYTES = 1 << 18
KEPT_CHUNKS = 256  # decoded, usually of 64 kB: neighbours are read again soon
_kept: OrderedDict[tuple[object, str, int], NDArray[Any]] = OrderedDict()


@dataclass(frozen=True, eq=False)
class Stored:
    """One array in a file: `rows` of its first dimension lie in each piece; pieces are at `places` with `sizes`, in bytes."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: int
    filters: tuple[int, ...]
    places: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def piece_bytes(self) -> int:
        """Bytes of a piece once it is decoded; the last one is as long as the others, as HDF5 has it."""
        return self.rows * self.row_bytes

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize


class StoredArray:
    """An array of an open shard: shape, dtype, len and slices along the first dimension, as of an h5py dataset.

    Raises LabelSetError where a piece is damaged.
    """

    def __init__(self, stored: Stored, descriptor: int, where: str, identity: object = None):
        """identity: what the file is known by, where decoded pieces may be kept; None where it may still change."""
        self.stored, self._descriptor, self._where, self._identity = stored, descriptor, where, identity
        self.shape, self.dtype = stored.shape, stored.dtype

    @property
    def stored_bytes(self) -> int:
        """Bytes on disk."""
        return int(self.stored.sizes.sum())

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | tuple[()] | int) -> NDArray[Any]:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            read = self._read(start, max(start, stop) if step > 0 else start)
            return read if step == 1 else self._read(0, len(self))[key]
        if key == ():
            return self._read(0, len(self))
        assert isinstance(key, int), "an array of a shard takes slices along its first dimension"
        row = range(len(self))[key]
        return np.asarray(self._read(row, row + 1)[0])

    def pieces(self) -> Iterator[NDArray[Any]]:
        """The whole array, a piece at a time: what a check of every value needs in memory."""
        step = max(1, self.stored.rows)
        for start in range(0, len(self), step):
            yield self._read(start, min(start + step, len(self)))

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        rows, tail = self.stored.rows, self.shape[1:]
        if stop <= start or self.stored.row_bytes == 0:
            return np.zeros((max(0, stop - start), *tail), self.dtype)
        first, last = start // rows, (stop - 1) // rows
        if first == last:
            return self._piece(first)[start - first * rows : stop - first * rows].copy()
        parts = [self._piece(k)[max(start - k * rows, 0) : stop - k * rows] for k in range(first, last + 1)]
        return np.concatenate(parts)

    def _piece(self, k: int) -> NDArray[Any]:
        """Rows k*rows:(k+1)*rows, decoded; the most recent ones are kept."""
        if self._identity is None or not self.stored.filters:
            return self._decoded(k)
        key = (self._identity, self.stored.name, k)
        # Every step is one operation of the dictionary, so that threads cannot come between.
        piece = _kept.pop(key, None)
        if piece is None:
            piece = self._decoded(k)
        _kept[key] = piece
        while len(_kept) > KEPT_CHUNKS:
            _kept.popitem(last=False)
        return piece

    def _decoded(self, k: int) -> NDArray[Any]:
        try:
            raw = _pread(self._descriptor, int(self.stored.sizes[k]), int(self.stored.places[k]))
            data = _unfiltered(raw, self.stored)
        except (ValueError, OSError, zlib.error) as error:
            raise LabelSetError(
                f"{self._where} is damaged ({self.stored.name}: {error}); restore it from its origin."
            ) from error
        return np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])


def _pread(descriptor: int, size: int, place: int) -> bytes:
    parts = []
    while size > 0:  # one call gives at most 2 GB
        part = os.pread(descriptor, size, place)
        if not part:
            raise ValueError("the file ends too early")
        parts.append(part)
        size, place = size - len(part), place + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unfiltered(raw: bytes, stored: Stored) -> bytes:
    """The filters undone, last first. Raises ValueError or zlib.error; never more bytes than the piece has."""
    wanted = stored.piece_bytes
    for code in reversed(stored.filters):
        if code == FLETCHER32:
            raw = _checked(raw)
        elif code == DEFLATE:
            raw = _inflated(raw, wanted)
        elif code == SHUFFLE and stored.dtype.itemsize > 1:
            if len(raw) != wanted:
                raise ValueError(f"a piece has {len(raw)} bytes, {wanted} were wanted")
            raw = np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(stored.dtype.itemsize, -1).T).tobytes()
    if len(raw) != wanted:
        raise ValueError(f"a piece has {len(raw)} bytes, {wanted} were wanted")
    return raw


def _inflated(raw: bytes, wanted: int) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(raw, wanted + 1)
    if len(data) != wanted:
        raise ValueError(f"a piece inflates to {'less' if len(data) < wanted else 'more'} than {wanted} bytes")
    if not stream.eof:
        raise ValueError("a piece was cut off")
    return data


def _checked(raw: bytes) -> bytes:
    """The bytes before their trailing checksum, after comparing it."""
    if len(raw) < 4:
        raise ValueError("a piece is shorter than its checksum")
    data, stated = raw[:-4], int.from_bytes(raw[-4:], "little")
    read = fletcher32(data)
    if any((a - b) % 0xFFFF for a, b in ((read >> 16, stated >> 16), (read & 0xFFFF, stated & 0xFFFF))):
        raise ValueError("a checksum is wrong")
    return data


def fletcher32(data: bytes) -> int:
    """HDF5's Fletcher-32: big-endian 16-bit words, an odd last byte is a high one; each half is known modulo 65535."""
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.int64)
    # The second sum is over all prefixes, so word i counts n - i times; far below 2^63 for pieces of MAX_CHUNK_BYTES.
    second = int(words @ np.arange(len(words), 0, -1))
    return (second % 0xFFFF) << 16 | int(words.sum()) % 0xFFFF
