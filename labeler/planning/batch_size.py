"""How many pairs of atoms a batch may have so that it fits into memory: one batch is labelled and what it takes is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hdistill.data.errors import TeacherError
from hdistill.data.structure import Directions, Structure

from ..process.batching import n_pairs, pack
from ..process.host import TeacherHost
from ..process.parent import TeacherOutOfMemory

MARGIN = 0.8  # of what a measured batch says would fit: structures of one size differ
TRIES = 4  # batches, where the teacher fails on one for another reason than memory


def measure(
    host: TeacherHost,
    structures: Sequence[Structure],
    directions: Sequence[Directions | None],
    limit_bytes: int,
    default: int,
) -> int:
    """Pairs that a batch may have: `default`, or the power of two below what one measured batch says would fit.

    Decided once, for the plan: what shares a batch must not depend on a worker's luck, or labels would not be the same byte
    for byte. Rounded to a power of two because two measurements of memory are never equal. A batch that the teacher fails on for
    another reason is passed over; its culprit is found when the batch is labelled.
    """
    sizes = [n_pairs(structure) for structure in structures]
    batches = sorted(pack(sizes, default), key=lambda members: -sum(sizes[i] for i in members))
    for batch in batches[:TRIES]:
        while True:
            measured = sum(sizes[i] for i in batch)
            try:
                before = host.peak_bytes
                host.label([structures[i] for i in batch], [directions[i] for i in batch], measured)
            except TeacherOutOfMemory:
                if len(batch) == 1:
                    return _power_of_two_below(measured)
                batch = batch[: len(batch) // 2]
                continue
            except TeacherError:
                break
            growth = (host.peak_bytes - before) / measured
            fits = MARGIN * max(0, limit_bytes - before) / growth if growth > 0 else math.inf
            return default if fits >= default else _power_of_two_below(fits)
    return default


def _power_of_two_below(n: float) -> int:
    return 1 << max(0, math.ceil(math.log2(max(n, 1))) - 1)
