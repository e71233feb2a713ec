"""Checksums of HDF5's metadata, so that bytes can be changed as a malicious publisher would: without leaving a trace.

Blocks that a shard has: superblock 2 or 3, object headers 2 ("OHDR"), the fixed array that indexes chunks ("FAHD", "FADB").
Layouts: HDF5 File Format Specification 3.0. The hash is Bob Jenkins' lookup3 (public domain), hashlittle().
"""

from __future__ import annotations

import re
import struct

_MASK = 0xFFFFFFFF


def lookup3(data: bytes) -> int:
    """hashlittle(data, 0)."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    if not data:
        return c
    padded = data + b"\0" * (-len(data) % 12)
    words = struct.unpack(f"<{len(padded) // 4}I", padded)
    for i in range(0, len(words) - 3, 3):
        a, b, c = (a + words[i]) & _MASK, (b + words[i + 1]) & _MASK, (c + words[i + 2]) & _MASK
        a = (a - c) & _MASK ^ _turned(c, 4)
        c = (c + b) & _MASK
        b = (b - a) & _MASK ^ _turned(a, 6)
        a = (a + c) & _MASK
        c = (c - b) & _MASK ^ _turned(b, 8)
        b = (b + a) & _MASK
        a = (a - c) & _MASK ^ _turned(c, 16)
        c = (c + b) & _MASK
        b = (b - a) & _MASK ^ _turned(a, 19)
        a = (a + c) & _MASK
        c = (c - b) & _MASK ^ _turned(b, 4)
        b = (b + a) & _MASK
    a, b, c = (a + words[-3]) & _MASK, (b + words[-2]) & _MASK, (c + words[-1]) & _MASK
    c = ((c ^ b) - _turned(b, 14)) & _MASK
    a = ((a ^ c) - _turned(c, 11)) & _MASK
    b = ((b ^ a) - _turned(a, 25)) & _MASK
    c = ((c ^ b) - _turned(b, 16)) & _MASK
    a = ((a ^ c) - _turned(c, 4)) & _MASK
    b = ((b ^ a) - _turned(a, 14)) & _MASK
    return ((c ^ b) - _turned(b, 24)) & _MASK


def blocks(image: bytes) -> list[tuple[int, int]]:
    """(start, end) of the metadata blocks found in an image; each ends with 4 bytes of checksum."""
    actual = [(0, 48)]  # the superblock, with offsets and lengths of 8 bytes
    for match in re.finditer(rb"OHDR\x02", image):
        start = match.start()
        flags = image[start + 5] if start + 6 < len(image) else 0
        place = start + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(image[place : place + width], "little")
        actual.append((start, place + width + size + 4))
    for match in re.finditer(rb"FAHD\0", image):
        start = match.start()
        actual.append((start, start + 28))
        width, count = image[start + 6], int.from_bytes(image[start + 8 : start + 16], "little")
        data = int.from_bytes(image[start + 16 : start + 24], "little")
        actual.append((data, data + 14 + width * count + 4))
    return [(start, end) for start, end in actual if 0 <= start < end - 4 and end <= len(image)]


def checksummed(image: bytes, only: tuple[int, int] | None = None) -> bytes:
    """The image with right checksums, of all blocks or of those that overlap `only` (start, end)."""
    data = bytearray(image)
    for start, end in blocks(image):
        if only is None or (start < only[1] and only[0] < end):
            data[end - 4 : end] = struct.pack("<I", lookup3(bytes(data[start : end - 4])))
    return bytes(data)


def _turned(x: int, n: int) -> int:
    return (x << n | x >> (32 - n)) & _MASK
