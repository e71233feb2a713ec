"""Memory of teacher processes: how much each may take."""

from __future__ import annotations

import os
from pathlib import Path

USABLE = 0.9  # of a machine's memory; the rest is for the workers, the file cache and everybody else
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


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
