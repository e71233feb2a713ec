"""A Lennard-Jones calculator that some elements break, each in its own way: what a real teacher does on a bad day."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import numpy as np
from ase.calculators.calculator import all_changes
from ase.calculators.lj import LennardJones

SEGFAULT, HANG, MEMORY, NAN, EXIT, RAISE = 82, 80, 9, 7, 8, 6  # Pb, Hg, F, N, O, C


class Poison(LennardJones):
    def __init__(self) -> None:
        super().__init__(sigma=2.5, epsilon=0.05, rc=8.0, smooth=True)

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        numbers = set(atoms.numbers.tolist())
        if SEGFAULT in numbers:
            os.kill(os.getpid(), signal.SIGSEGV)
        if HANG in numbers:
            time.sleep(3600)
        if MEMORY in numbers:
            hoard = []
            while True:  # really: until the limit of the process says no
                hoard.append(np.empty(1 << 23))
        if NAN in numbers:
            self.results["forces"] = np.full((len(atoms), 3), np.nan)
        if EXIT in numbers:
            sys.exit(5)
        if RAISE in numbers:
            raise ValueError("no carbon, please")


class Swirl(LennardJones):
    """Lennard-Jones and a force that circles the z axis: no energy has such a gradient."""

    def __init__(self, strength: float = 0.5):
        super().__init__(sigma=2.5, epsilon=0.05, rc=8.0, smooth=True)
        self.strength = strength

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        x, y, _ = atoms.positions.T
        self.results["forces"] = self.results["forces"] + self.strength * np.stack([-y, x, 0 * x], axis=1)


class Drifting(LennardJones):
    """Lennard-Jones whose strength is read from outside: a teacher whose file was replaced under its name."""

    def __init__(self, epsilon: float = 0.05) -> None:
        actual = float(os.environ.get("HDISTILL_TEST_EPSILON", epsilon))
        super().__init__(sigma=2.5, epsilon=actual, rc=8.0, smooth=True)
