"""A student in OpenMM as a PythonForce, of all particles or of a few: the part of a system that is not left to a force field.

    force = openmm_force("run/", numbers)                          # atomic numbers of the particles that it acts on
    force = openmm_force("run/", numbers, particles=[0, 1, 2])     # the other particles do not exist for it
    system.addForce(force)

Mechanical embedding: what acts between these particles and the others, and what a force field says of them, are the system's own
forces. Through openmm-ml, `MLPotential("ase")` takes an HDistillCalculator as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import units

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure

from ..calculator import Compiled, HDistillCalculator
from .batched import BatchedStudent

MISSING = "OpenMM 8.3 or later is not installed here; type `pip install openmm`."
KJ_PER_MOL = units.kJ / units.mol  # eV
NM = 10.0  # A


def openmm_force(
    path: str | Path,
    numbers: Sequence[int],
    particles: Sequence[int] = (),
    periodic: bool = False,
    device: str = "cpu",
    dtype: str | None = None,
    compiled: Compiled = "auto",
    skin: float = 0.5,
) -> Any:
    """An openmm.PythonForce; numbers (N,) are the atomic numbers of `particles`, or of all where there are none. periodic: in the box of
    the system. Other arguments as HDistillCalculator has them. Raises InputError: OpenMM is missing, an unknown element."""
    try:
        from openmm import PythonForce, unit
    except ImportError:
        raise InputError(MISSING) from None
    if particles and len(particles) != len(numbers):
        raise InputError(f"There are {len(numbers)} atomic numbers for {len(particles)} particles; give one for each.")
    student = BatchedStudent(HDistillCalculator(path, device, dtype, None, compiled, skin))
    atomic = np.asarray(numbers, np.int64)
    pbc = np.full(3, periodic)
    student([Structure(atomic, NM * np.arange(3 * len(atomic)).reshape(-1, 3))])  # an unknown element is told now

    def compute(state: Any) -> tuple[float, np.ndarray]:
        positions = NM * state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        cell = np.zeros((3, 3))
        if periodic:
            cell = NM * state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)
        outputs = student([Structure(atomic, np.array(positions, np.float64), np.array(cell, np.float64), pbc)])
        return float(outputs.energies.sum()) / KJ_PER_MOL, outputs.forces.cpu().numpy() * (NM / KJ_PER_MOL)

    force = PythonForce(compute)
    if particles:
        force.setParticles(list(particles))
    force.setUsesPeriodicBoundaryConditions(periodic)
    return force
