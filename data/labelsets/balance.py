"""The books of a label set: every structure that was planned is labelled or in quarantine, and none is both.

Ids of structures are hashes of 128 bits; a set of them is known by its number and by the sum of all, modulo 2^128. Sums need no
order and no memory, add up over shards, and tell a structure that is missing from one that another has replaced.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..errors import LabelSetError
from ..format.records import Balance, IdSum

NONE = IdSum(n=0, sum="0" * 32)


def id_sum(ids: Iterable[str] | NDArray[np.uint8]) -> IdSum:
    """Number and sum of ids: texts of 32 hexadecimal digits, or rows of 16 bytes, (S,16).

    Whoever finishes a labelling run gives the sum of the plan's ids as `Facts.planned`; `write` then refuses to publish a set in
    which the labelled ones and those in quarantine are not these.
    """
    rows = ids if isinstance(ids, np.ndarray) else np.frombuffer(b"".join(map(bytes.fromhex, ids)), np.uint8)
    words = np.ascontiguousarray(rows).reshape(-1, 16).view(">u4").astype(np.uint64)  # sums of 2^32 of them fit
    total = sum(int(word) << 32 * (3 - place) for place, word in enumerate(words.sum(axis=0, dtype=np.uint64)))
    return _as_sum(len(words), total)


def plus(*sums: IdSum) -> IdSum:
    """The sum of disjoint sets of ids."""
    return _as_sum(sum(x.n for x in sums), sum(int(x.sum, 16) for x in sums))


def minus(a: IdSum, b: IdSum) -> IdSum:
    """What is left of a set of ids without those of a part of it."""
    return _as_sum(a.n - b.n, int(a.sum, 16) - int(b.sum, 16))


def require_balance(balance: Balance, labelled: IdSum, what: str) -> None:
    """Raise LabelSetError unless what was planned is what is labelled and in quarantine."""
    done = plus(labelled, balance.quarantined)
    if done == balance.planned:
        return
    if done.n == balance.planned.n:
        raise LabelSetError(
            f"{what}: {done.n} structures were planned, and as many are labelled or in quarantine, but they are not the same ones; "
            "label the set again."
        )
    raise LabelSetError(
        f"{what}: {balance.planned.n} structures were planned, but {labelled.n} are labelled and "
        f"{balance.quarantined.n} in quarantine, {done.n} together; label the set again."
    )


def _as_sum(n: int, total: int) -> IdSum:
    return IdSum(n=n, sum=f"{total % (1 << 128):032x}")
