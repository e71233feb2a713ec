"""The way to a minimum of the driver's energy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from ..structure import Structure
from ..support.checked import Above, AtLeast
from .child import child, is_sound
from .driver import Driver
from .world import World

FINE_STEP = 0.1  # A, the longest step of an optimiser


@dataclass(frozen=True)
class Relax:
    """fmax: largest force at the end, eV/A; steps: at most; every: of the path, each so many steps are kept; cell: of crystals, too."""

    fmax: Annotated[float, Above(0)] = 0.02
    steps: Annotated[int, AtLeast(1)] = 200
    every: Annotated[int, AtLeast(1)] = 5
    cell: bool = True


def relax(start: Structure, amounts: Relax, world: World) -> Iterator[Structure]:
    """Structures of the path, and its end as the last one (info `last`). Cells of slabs and wires stay as they are.

    Where no minimum is reached within the steps, or the structure falls apart on the way, that is counted, and the last sound
    structure ends the path.
    """
    driver = world.require_driver("relax")
    atoms = as_atoms(start)
    atoms.calc = DriverCalculator(driver, start)
    moving = FrechetCellFilter(atoms) if amounts.cell and start.pbc.all() else atoms
    optimiser = FIRE(moving, logfile=None, maxstep=FINE_STEP)
    before: Structure | None = None
    reached = False
    for step, at_minimum in enumerate(optimiser.irun(fmax=amounts.fmax, steps=amounts.steps)):
        reached = bool(at_minimum)
        here = child(start, "relax", atoms.positions.copy(), atoms.cell.array.copy(), step=step)
        if not is_sound(here, min(world.nearest, 0.5)):
            world.dropped["relax: atoms fell together"] += 1
            break
        if before is not None and (step - 1) % amounts.every == 0:
            yield before
        before = here
    if not reached:
        world.dropped[f"relax: no minimum within {amounts.steps} steps (kept where it stood)"] += 1
    if before is not None:
        yield child(before, "relax", before.positions, before.cell, step=before.info["step"], last=True)


def as_atoms(structure: Structure) -> Atoms:
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    atoms.info.update(charge=structure.charge, spin=structure.spin)
    return atoms


class DriverCalculator(Calculator):  # type: ignore[misc]
    """A driver for ASE's optimisers; charge and spin are those of `start`."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, driver: Driver, start: Structure):
        super().__init__()
        self.driver, self.start = driver, start

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        s = self.start
        here = Structure(s.numbers, self.atoms.positions, self.atoms.cell.array, s.pbc, s.charge, s.spin)
        (driven,) = self.driver([here])
        self.results = {"energy": float(driven.energy), "forces": np.asarray(driven.forces, np.float64)}
        if driven.stress is not None:
            stress = np.asarray(driven.stress, np.float64)
            self.results["stress"] = stress.flat[[0, 4, 8, 5, 2, 1]]
