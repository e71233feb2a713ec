"""Molecular dynamics as people run it: ensembles, ramps of the temperature, and a state from which it goes on to the same numbers.

The integrators are ASE's: velocity Verlet (NVE); Langevin, or Bussi, Donadio and Parrinello's velocity rescaling (J. Chem. Phys.
126, 014101, 2007) for NVT; Langevin for atoms and cell (Quigley and Probert, J. Chem. Phys. 120, 11432, 2004) for NPT.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from ase import Atoms, units
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from hdistill.data.errors import InputError

from .dynamics import first_momenta

Ensemble = Literal["nve", "nvt", "npt"]
Thermostat = Literal["langevin", "bussi"]
State = dict[str, Any]
INTEGRATOR_STATE = ("p_eps", "force_eps", "transferred_energy")  # what ASE's integrators carry from step to step


@dataclass(frozen=True)
class Conditions:
    """What atoms move under. thermostat_fs is the time constant of the thermostat, barostat_fs that of the cell; pressure in GPa, of
    a cell that keeps its shape, or with anisotropic changes it. final_temperature_K: the temperature goes there in a straight line
    over the run; None: it stays. First velocities are drawn from temperature_K where the atoms have none."""

    ensemble: Ensemble = "nve"
    timestep_fs: float = 0.5
    temperature_K: float = 300.0
    final_temperature_K: float | None = None
    thermostat: Thermostat = "langevin"
    thermostat_fs: float = 100.0
    pressure_GPa: float = 0.0
    barostat_fs: float = 1000.0
    anisotropic: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("ensemble", get_args(Ensemble)), ("thermostat", get_args(Thermostat))):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} was {getattr(self, name)!r}; it is one of {', '.join(allowed)}.")
        for name in ("timestep_fs", "thermostat_fs", "barostat_fs"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name} was {getattr(self, name)} fs; it must be more than 0.")
        for name in ("temperature_K", "final_temperature_K"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InputError(f"{name} was {value} K; it must be 0 or more.")
        if self.final_temperature_K is not None and self.ensemble == "nve":
            raise InputError("A temperature ramp needs a thermostat; take the ensemble nvt or npt.")
        if not abs(self.pressure_GPa) < float("inf"):
            raise InputError(f"pressure_GPa was {self.pressure_GPa}; it must be a finite number.")
        if self.ensemble == "npt" and self.thermostat == "bussi":
            raise InputError("NPT has the Langevin thermostat alone; leave the thermostat out.")
        if self.thermostat_fs < 2 * self.timestep_fs or self.barostat_fs < 10 * self.timestep_fs:
            raise InputError("The time constants of thermostat and barostat must be at least 2 and 10 time steps.")


class Simulation:
    """Atoms under way. advance() moves them; state() and restore() carry a run over to another process, to the same numbers."""

    def __init__(self, atoms: Atoms, calculator: Any, conditions: Conditions, steps: int):
        """Of a copy of the atoms, for `steps` in all. Raises InputError: no atoms, NPT where there is no cell or no stress."""
        if len(atoms) == 0:
            raise InputError("There are no atoms to move.")
        self.atoms = atoms.copy()
        self.atoms.calc = calculator
        self.conditions, self.steps, self.step = conditions, steps, 0
        self.rng = np.random.default_rng(conditions.seed)
        if conditions.ensemble == "npt":
            _require_stress(self.atoms, calculator)
        if not self.atoms.has("momenta"):
            self.atoms.set_momenta(first_momenta(self.atoms, conditions.temperature_K, self.rng))
        self.integrator = self._integrator()

    @property
    def time_fs(self) -> float:
        return self.step * self.conditions.timestep_fs

    def advance(self, steps: int) -> None:
        """Move on; with a ramp the temperature is set before each step."""
        if self.conditions.final_temperature_K is None:
            self.integrator.run(steps)
            self.step += steps
            return
        for _ in range(steps):
            self._set_temperature()
            self.integrator.run(1)
            self.step += 1

    def wanted_temperature(self) -> float:
        """K, at this step."""
        first, last = self.conditions.temperature_K, self.conditions.final_temperature_K
        return first if last is None else first + (last - first) * min(1.0, self.step / self.steps)

    def state(self) -> State:
        """All that the rest of the run depends on: arrays, numbers, and JSON of the random numbers."""
        kept = {
            name: np.asarray(getattr(self.integrator, name))
            for name in INTEGRATOR_STATE
            if hasattr(self.integrator, name)
        }
        atoms = {"positions": self.atoms.positions, "momenta": self.atoms.get_momenta(), "cell": self.atoms.cell.array}
        return {"step": self.step, "rng": self.rng.bit_generator.state, **atoms, **kept}

    def restore(self, state: State) -> None:
        """Go on from a state of a run of the same atoms under the same conditions."""
        self.step = int(state["step"])
        self.atoms.set_cell(state["cell"], scale_atoms=False)
        self.atoms.set_positions(state["positions"], apply_constraint=False)
        self.atoms.set_momenta(state["momenta"], apply_constraint=False)
        self.integrator = self._integrator()
        for name in INTEGRATOR_STATE:
            if name in state:
                value = np.asarray(state[name])
                setattr(self.integrator, name, value if value.ndim else float(value))
        self.rng.bit_generator.state = state["rng"]

    def _integrator(self) -> MolecularDynamics:
        c, atoms = self.conditions, self.atoms
        timestep, temperature = c.timestep_fs * units.fs, self.wanted_temperature()
        if c.ensemble == "nve":
            return VelocityVerlet(atoms, timestep)
        constant = c.thermostat_fs * units.fs
        if c.ensemble == "nvt" and c.thermostat == "bussi":
            if atoms.get_kinetic_energy() == 0:
                raise InputError(
                    "Bussi's thermostat rescales velocities, and all are 0; start from a temperature above 0 K."
                )
            return Bussi(atoms, timestep, temperature, constant, rng=self.rng)
        if c.ensemble == "nvt":
            # fixcm would take the motion of the whole out of a sample that should have it.
            return Langevin(
                atoms, timestep, temperature_K=temperature, friction=1 / constant, rng=self.rng, fixcm=False
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Using heuristic P_mass")
            return LangevinBAOAB(
                atoms,
                timestep,
                temperature_K=temperature,
                externalstress=-c.pressure_GPa * units.GPa,
                hydrostatic=not c.anisotropic,
                T_tau=constant,
                P_tau=c.barostat_fs * units.fs,
                rng=self.rng,
            )

    def _set_temperature(self) -> None:
        temperature = self.wanted_temperature()
        if isinstance(self.integrator, Bussi):  # ASE's has no way to set it
            self.integrator.temp = temperature * units.kB
            self.integrator.target_kinetic_energy = 0.5 * self.integrator.temp * self.integrator.ndof
        elif isinstance(self.integrator, Langevin):
            self.integrator.set_temperature(temperature_K=temperature)
        else:
            self.integrator.set_temperature(temperature)


def pressure_GPa(atoms: Atoms) -> float | None:
    """Of potential and motion, -trace of the stress / 3; None where the calculator has no stress or there is no volume."""
    if not atoms.pbc.all() or "stress" not in getattr(atoms.calc, "implemented_properties", ()):
        return None
    stress: NDArray[np.float64] = atoms.get_stress(voigt=False, include_ideal_gas=True)
    return float(-np.trace(stress) / 3 / units.GPa)


def _require_stress(atoms: Atoms, calculator: Any) -> None:
    if not atoms.pbc.all():
        raise InputError("NPT changes a cell, and these atoms are not periodic in all directions; take nvt or nve.")
    if "stress" not in getattr(calculator, "implemented_properties", ()):
        raise InputError("NPT needs a stress, and this force field predicts none (direct forces); take nvt or nve.")
    if atoms.constraints:
        raise InputError("NPT cannot hold atoms in place; remove the constraints, or take nvt or nve.")
