"""The compact set of hashes: exact where hashes look alike, and compact."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from hdistill.data.support.digest_set import DigestSet


def same_as_a_set(keys: list[bytes]) -> None:
    ours, pythons = DigestSet(), set()
    for key in keys:
        assert ours.add(key) == (key not in pythons)
        pythons.add(key)
        assert len(ours) == len(pythons)


def test_random_hashes_and_duplicates() -> None:
    generator = random.Random(0)
    keys = [generator.randbytes(16) for _ in range(5000)]
    same_as_a_set(keys + generator.choices(keys, k=3000) + [generator.randbytes(16) for _ in range(100)])


def test_hashes_that_lie_in_one_row() -> None:
    generator = random.Random(1)
    keys = [b"ab" + generator.randbytes(14) for _ in range(2000)]
    same_as_a_set(keys + keys[::-1])


def test_hashes_that_are_found_across_the_border_of_two_others() -> None:
    """With few different bytes the end of one hash and the beginning of the next often make a third."""
    generator = random.Random(2)
    keys = [bytes(2) + bytes(generator.choices(b"\0\1", weights=(5, 1), k=14)) for _ in range(4000)]
    ours = DigestSet()
    row = b""
    across = 0
    for key in keys:
        at = row.find(key[2:])
        across += at >= 0 and at % 14 != 0
        if ours.add(key):
            row += key[2:]
    assert across > 100
    same_as_a_set(keys)


def test_a_zero_hash_and_one_at_the_very_beginning() -> None:
    same_as_a_set([bytes(16), bytes(16), bytes(15) + b"\1", bytes(16)])


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="15 bytes"):
        DigestSet().add(bytes(15))


def test_a_hash_takes_few_bytes() -> None:
    generator = random.Random(3)
    keys = DigestSet()
    n = 200_000
    tracemalloc.start()
    for _ in range(n):
        keys.add(generator.randbytes(16))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(keys) == n
    assert (
        held / n < 60
    )  # a Python set of bytes takes 98; a third of this are the rows themselves, which more hashes share
