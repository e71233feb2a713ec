"""Molecular dynamics with any ASE calculator: does the energy stay where it was, and do the atoms stay together?

`nve` is the test of a force field: what is not a gradient of an energy, or no smooth one, heats or cools by itself. The integrators are
ASE's; here are the start, the watch and the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.velocitydistribution import Stationary, ZeroRotation, force_temperature
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure

from ..inputs.neighbours import Edges, edges_of

Array = NDArray[np.float64]

BONDED = 1.25  # times the sum of covalent radii: what counts as a bond at the start
HOTTEST = 20.0  # times the wanted temperature: the atoms have long left


@dataclass(frozen=True)
class Limits:
    """What still counts as whole. nearest: of any two atoms, A; stretch: of a bond of the start, as a multiple of its length
    there, or of the sum of covalent radii where that is more."""

    nearest: float = 0.5
    stretch: float = 1.7


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A run as it was sampled, (S,) each: times fs; potential, total (potential + kinetic) eV per atom; temperature K.

    drift: slope of the total energy by least squares, times the length of the run; excursion: largest distance of the total
    energy from its first value; both in meV per atom, over the part in which the structure was whole. Not meaningful with a
    thermostat. stable_until: fs; why: what ended it, empty where nothing did.
    """

    times: Array
    potential: Array
    total: Array
    temperature: Array
    drift: float
    excursion: float
    stable_until: float
    why: str

    @property
    def stable(self) -> bool:
        return not self.why

    def summary(self) -> dict[str, Any]:
        """The figures without the series, as JSON has them (no NaN)."""
        return {
            "fs": float(self.times[-1]) if len(self.times) else 0.0,
            "drift_mev_per_atom": _plain(self.drift),
            "excursion_mev_per_atom": _plain(self.excursion),
            "mean_temperature_kelvin": _plain(float(self.temperature.mean())) if len(self.temperature) else None,
            "stable": self.stable,
            "stable_until_fs": self.stable_until,
            "why": self.why,
        }


@dataclass(frozen=True)
class Motion:
    """How atoms move. friction (1/fs): None is NVE (velocity Verlet), else Langevin dynamics (NVT) at the temperature.

    An atom's first velocities are drawn from the temperature, without drift or rotation of the whole, unless it has some.
    sample_every: steps between two samples of the energies, which are also the steps at which the structure is looked at.
    """

    steps: int = 10_000
    timestep_fs: float = 0.5
    temperature_K: float = 300.0
    friction: float | None = None
    sample_every: int = 10
    seed: int = 0
    limits: Limits = Limits()

    @property
    def ensemble(self) -> str:
        return "NVE" if self.friction is None else "NVT"

    def __post_init__(self) -> None:
        for name in ("steps", "sample_every", "timestep_fs"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} was {getattr(self, name)}; it must be more than 0.")
        if not self.temperature_K >= 0:
            raise InputError(f"temperature was {self.temperature_K} K; it must be 0 or more.")
        if self.friction is not None and not self.friction > 0:
            raise InputError(f"friction was {self.friction} 1/fs; it must be more than 0, or left out for NVE.")


def nve(
    atoms: Atoms,
    calculator: Any,
    steps: int = 10_000,
    timestep_fs: float = 0.5,
    temperature_K: float = 300.0,
    seed: int = 0,
    sample_every: int = 10,
    limits: Limits = Limits(),
) -> Trajectory:
    """Velocity Verlet at constant energy; the atoms are left alone, a copy moves. See Motion; with a friction it is `run`."""
    motion = Motion(steps, timestep_fs, temperature_K, sample_every=sample_every, seed=seed, limits=limits)
    return run(atoms, calculator, motion)


def run(
    atoms: Atoms, calculator: Any, motion: Motion, each: Callable[[Atoms, float], None] | None = None
) -> Trajectory:
    """Move a copy of the atoms; `each` is called with them and the time in fs at every sample, the first at 0.

    The same seed gives the same run. Raises InputError where there is nothing to move, or what the calculator refuses.
    """
    if len(atoms) == 0:
        raise InputError("There are no atoms to move.")
    moving = atoms.copy()
    moving.calc = calculator
    rng = np.random.default_rng(motion.seed)
    if not moving.has("momenta"):
        moving.set_momenta(first_momenta(moving, motion.temperature_K, rng))
    watch = Watch(moving, motion.limits)
    dynamics = _integrator(moving, motion, rng)
    rows: list[tuple[float, float, float, float]] = []
    stable_until, why = 0.0, ""
    for step in (*range(0, motion.steps, motion.sample_every), motion.steps):
        dynamics.run(step - dynamics.nsteps)
        time = float(step * motion.timestep_fs)
        potential = float(moving.get_potential_energy()) / len(moving)
        total, temperature = potential + moving.get_kinetic_energy() / len(moving), float(moving.get_temperature())
        why = watch.problem(moving, total, temperature, motion)
        if why:
            break
        rows.append((time, potential, total, temperature))
        stable_until = time
        if each is not None:
            each(moving, time)
    times, potentials, totals, temperatures = np.array(rows, np.float64).reshape(-1, 4).T
    return Trajectory(
        times, potentials, totals, temperatures, *drift_and_excursion(times, totals), stable_until=stable_until, why=why
    )


def drift_and_excursion(times: Array, total: Array) -> tuple[float, float]:
    """Of total energies in eV per atom, in meV per atom: the least-squares slope times the time, and the largest distance from
    the first value. NaN with fewer than two samples."""
    if len(times) < 2:
        return float("nan"), float("nan")
    centred = times - times.mean()
    slope = float(centred @ (total - total.mean()) / (centred @ centred))
    return 1e3 * slope * float(times[-1] - times[0]), 1e3 * float(np.abs(total - total[0]).max())


def first_momenta(atoms: Atoms, temperature_K: float, rng: np.random.Generator) -> Array:
    """Of the temperature (N,3), without motion of the whole; the few degrees of freedom of a small molecule have exactly it."""
    moving = atoms.copy()
    spread = np.sqrt(units.kB * temperature_K * moving.get_masses())[:, None]
    moving.set_momenta(spread * rng.normal(size=(len(moving), 3)))
    if len(moving) > 1:
        Stationary(moving, preserve_temperature=False)
        if len(moving) > 2 and not moving.pbc.any():
            ZeroRotation(moving, preserve_temperature=False)
        force_temperature(moving, temperature_K)
    momenta: Array = moving.get_momenta()
    return momenta


VELOCITIES = ("velocities", "velocity", "vel", "velo")  # arrays of a file, extended XYZ's by their usual names
VELOCITY_UNITS = {
    "A/fs": 1.0,
    "A/ps": 1e-3,
    "nm/ps": 1e-2,
    "m/s": 1e-5,
    "bohr/aut": units.Bohr / (units._aut * 1e15),
}  # in A/fs


def take_velocities(atoms: Atoms) -> str:
    """Give atoms the velocities that their file has as an array, in A/fs, or in the unit that info["velocities_unit"] states,
    without the motion of the whole, which changes nothing but the temperature; momenta that are there stay.

    Returns what was done, in a sentence, empty where there are none. Raises InputError for another unit or shape.
    """
    name = next((name for name in VELOCITIES if name in atoms.arrays), None)
    if atoms.has("momenta") or name is None:
        return f"Momenta of the file are kept ({atoms.get_temperature():.0f} K)." if atoms.has("momenta") else ""
    unit = atoms.info.get("velocities_unit", "A/fs")
    if unit not in VELOCITY_UNITS:
        raise InputError(f"The velocities of the file are in '{unit}'; {', '.join(VELOCITY_UNITS)} can be used.")
    velocities = np.asarray(atoms.arrays.pop(name), np.float64)
    if velocities.shape != (len(atoms), 3) or not np.isfinite(velocities).all():
        raise InputError(f"'{name}' of the file is not three finite numbers for each atom; remove it, or mend it.")
    atoms.set_velocities(velocities * VELOCITY_UNITS[unit] / units.fs)
    drift = float(np.linalg.norm(atoms.get_momenta().sum(axis=0)) / atoms.get_masses().sum()) * units.fs
    Stationary(atoms, preserve_temperature=False)
    stated = "as the file states" if "velocities_unit" in atoms.info else "since no unit is stated (velocities_unit=)"
    whole = f", without the motion of the whole ({drift:.2g} A/fs)" if drift > 1e-6 else ""
    return f"Velocities '{name}' of the file are kept, in {unit} {stated}: {atoms.get_temperature():.0f} K{whole}."


class Watch:
    """Looks at moving atoms: nearer to each other than they should be, or further than their bonds reach?"""

    def __init__(self, atoms: Atoms, limits: Limits):
        self.limits = limits
        radii = covalent_radii[atoms.numbers]
        edges = _edges(atoms, 2 * BONDED * float(radii.max()))
        reach = radii[edges.index[0]] + radii[edges.index[1]]
        length = edges.lengths(atoms.positions)
        bonded = (length < BONDED * reach) & (edges.index[0] <= edges.index[1])
        # Images stay where they were: dynamics does not wrap positions.
        self.bonds = Edges(edges.index[:, bonded], edges.shift[bonded])
        self.longest = limits.stretch * np.maximum(length, reach)[bonded]

    def problem(self, atoms: Atoms, total: float, temperature: float, motion: Motion) -> str:
        """Why the structure is no longer whole; empty where it is."""
        if not (np.isfinite(atoms.positions).all() and np.isfinite(total)):
            return "positions or energy are not finite"
        length = self.bonds.lengths(atoms.positions)
        far = length > self.longest
        if far.any():
            bond = int((length / self.longest).argmax())
            i, j = self.bonds.index[:, bond]
            return f"the bond {_name(atoms, i)}-{_name(atoms, j)} is {length[bond]:.2f} A long"
        near = _edges(atoms, self.limits.nearest)
        if near.index.shape[1]:
            i, j = near.index[:, int(near.lengths(atoms.positions).argmin())]
            return f"{_name(atoms, i)} and {_name(atoms, j)} are {near.lengths(atoms.positions).min():.2f} A apart"
        if temperature > HOTTEST * max(motion.temperature_K, 300.0):
            return f"the temperature rose to {temperature:.0f} K"
        return ""


def _integrator(atoms: Atoms, motion: Motion, rng: np.random.Generator) -> MolecularDynamics:
    timestep = motion.timestep_fs * units.fs
    if motion.friction is None:
        return VelocityVerlet(atoms, timestep)
    friction = motion.friction / units.fs
    # fixcm would take the motion of the whole out of a sample that should have it.
    return Langevin(atoms, timestep, temperature_K=motion.temperature_K, friction=friction, rng=rng, fixcm=False)


def _edges(atoms: Atoms, cutoff: float) -> Edges:
    return edges_of(Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc), cutoff)


def _name(atoms: Atoms, index: int) -> str:
    return f"{atoms.symbols[index]}{index}"


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None
