"""Memory of teacher processes: how much each may take, and how many pairs a batch may have so that it fits."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from hdistill.data.structure import Directions, Structure

from .batching import edges, pack
from .parent import TeacherOutOfMemory, TeacherProcess

USABLE = 0.9  # of a machine's memory; the rest is for the workers, the file cache and everybody else
MARGIN = 0.8  # of what a measured batch says would fit: structures of one size differ
# The limit of a container or of a Slurm job: cgroup v2, then v1.
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def of_machine() -> int:
    """Bytes of memory that this machine, or the container or job around this process, has."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [int(text) for text in map(_read, CGROUP_LIMITS) if text.isdigit()]
    return min([physical, *limits])


def share(n_teachers: int) -> int:
    """Bytes that each of n_teachers on this machine may take."""
    return int(USABLE * of_machine() / max(1, n_teachers))


def batch_edges(
    teacher: TeacherProcess,
    structures: Sequence[Structure],
    directions: Sequence[Directions | None],
    limit_bytes: int,
    default: int,
) -> int:
    """Pairs that a batch may have: `default`, or the power of two below what one measured batch says would fit.

    Decided once, for the plan: what shares a batch must not depend on a worker's luck, or labels would not be the same byte
    for byte. Rounded to a power of two because two measurements of memory are never equal.
    """
    sizes = [edges(structure) for structure in structures]
    batch = max(pack(sizes, default), key=lambda members: sum(sizes[i] for i in members))
    before = teacher.peak_bytes
    while True:
        measured = sum(sizes[i] for i in batch)
        try:
            teacher.label([structures[i] for i in batch], [directions[i] for i in batch])
            break
        except TeacherOutOfMemory:
            if len(batch) == 1:
                return _power_of_two_below(measured)
            batch = batch[: len(batch) // 2]
    growth = (teacher.peak_bytes - before) / measured
    fits = MARGIN * max(0, limit_bytes - before) / growth if growth > 0 else math.inf
    return default if fits >= default else _power_of_two_below(fits)


def _power_of_two_below(n: float) -> int:
    return 1 << max(0, math.ceil(math.log2(max(n, 1))) - 1)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
