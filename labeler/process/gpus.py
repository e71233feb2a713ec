"""One GPU for each worker: what a worker can see, and which of it is used least. The teacher inherits its worker's variables."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "CUDA_VISIBLE_DEVICES"
DRIVER = Path("/proc/driver/nvidia/gpus")  # one folder a GPU; not shown inside every container


def visible() -> list[str]:
    """Names of the GPUs that this process may use, in CUDA's order: those of CUDA_VISIBLE_DEVICES, else all of the machine."""
    stated = os.environ.get(VARIABLE)
    if stated is None:
        return [str(number) for number in range(_count())]
    names = [name.strip() for name in stated.split(",")]
    # CUDA reads the list up to the first name that is none: -1 is the usual way to say "no more".
    return names[: next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))]


def _count() -> int:
    if DRIVER.is_dir():
        return len(list(DRIVER.iterdir()))
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=10).stdout
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def one_each(device: str, n: int) -> list[str | None]:
    """The GPU of each of n teachers of this process; None where the device is not "cuda", or no GPU is known."""
    shares = Shares()
    names = visible() if device == "cuda" else []
    return [shares.take(str(worker), "", names) for worker in range(n)]


class Shares:
    """Who has which GPU, by node: a node is a host and, as batch systems may number GPUs from 0 in each job, a job."""

    def __init__(self) -> None:
        self._used: Counter[tuple[str, str]] = Counter()
        self._of: dict[str, tuple[str, str]] = {}

    def take(self, worker: str, node: str, names: Sequence[str]) -> str | None:
        """The GPU of a worker: the least used of those it sees, the first of equals; None where it sees none."""
        if not names:
            return None
        name = min(names, key=lambda name: self._used[node, name])
        self._used[node, name] += 1
        self._of[worker] = (node, name)
        return name

    def give_back(self, worker: str) -> None:
        """A worker is gone: its GPU is free for the one that comes in its place."""
        if worker in self._of:
            self._used[self._of.pop(worker)] -= 1
