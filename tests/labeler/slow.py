"""A Lennard-Jones calculator that takes its time, and one that tells which GPU its process may see."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ase.calculators.lj import LennardJones


class Slow(LennardJones):
    """seconds: of sleep at each evaluation. gate: a file without which none goes on."""

    def __init__(self, seconds: float = 0.0, gate: str = "/", **parameters: Any) -> None:
        self.seconds = seconds
        self.gate = Path(gate)
        super().__init__(sigma=3.4, epsilon=0.01, rc=8.5, **parameters)

    def calculate(self, *arguments: Any, **named: Any) -> None:
        time.sleep(self.seconds)
        while not self.gate.exists():
            time.sleep(0.05)
        super().calculate(*arguments, **named)


class TellsItsGpu(Slow):
    """folder: gets a file for each process that evaluates, with its CUDA_VISIBLE_DEVICES."""

    def __init__(self, folder: str, **parameters: Any) -> None:
        self.folder = Path(folder)
        super().__init__(**parameters)

    def calculate(self, *arguments: Any, **named: Any) -> None:
        reported = self.folder / f"{os.getppid()}-{os.getpid()}"  # the worker and its child
        reported.write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "unset"))
        super().calculate(*arguments, **named)
