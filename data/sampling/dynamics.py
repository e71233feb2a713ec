"""Molecular dynamics of several replicas at once, over any driver, watched: who falls apart or goes where nobody was stops alone.

Langevin dynamics by the splitting BAOAB (Leimkuhler and Matthews, J. Chem. Phys. 138, 174102, 2013):

    p += F dt/2;  x += p/m dt/2;  p = c p + sqrt((1 - c^2) m kT) R;  x += p/m dt/2;  p += F' dt/2,   c = exp(-friction dt)

At a pressure the volume follows stochastic cell rescaling (Bernetti and Bussi, J. Chem. Phys. 153, 114107, 2020):

    d ln V = -(beta / tau) (P0 - P - kT/V) dt + sqrt(2 kT beta / (V tau)) dW
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from ase import units
from ase.data import atomic_masses, chemical_symbols, covalent_radii
from numpy.typing import NDArray

from ..errors import InputError
from ..structure import Structure
from ..support.checked import Above, AtLeast
from .child import child, nearest_ratios
from .driver import Driven, Driver
from .world import World

Array = NDArray[np.float64]

CHECK_EVERY = 10  # steps between two looks at the atoms
TOO_NEAR = 0.55  # of the sum of covalent radii: atoms fall together
STRETCH = 1.7  # of a molecule's bond: it is broken
BONDED = 1.25  # times the sum of covalent radii
HOTTEST = 5.0  # times the temperature, and HOTTEST_K at least: it runs away
HOTTEST_K = 3000.0
COMPRESSIBILITY = 0.01  # 1/GPa, of a soft crystal; only its ratio to PRESSURE_TIME matters
PRESSURE_TIME = 500.0  # fs
LIGHT = 0.5  # fs a step with hydrogen
HEAVY = 2.0  # fs a step without


@dataclass(frozen=True)
class Md:
    """n: structures of each temperature (and pressure); ps: of each replica; friction: 1/ps; unfamiliar: stops a replica, of the
    driver's own measure; timestep: fs, none: 0.5 with hydrogen and 2 without; warmup: ps before the first that is kept."""

    n: Annotated[int, AtLeast(1)] = 10
    ps: Annotated[float, Above(0)] = 1.0
    replicas: Annotated[int, AtLeast(1)] = 2
    friction: Annotated[float, Above(0)] = 10.0
    unfamiliar: Annotated[float, Above(0)] | None = None
    timestep: Annotated[float, Above(0)] | None = None
    warmup: Annotated[float, AtLeast(0)] = 0.2


@dataclass(frozen=True, eq=False)
class Replica:
    """One run: where it starts, K, GPa or none, and the seed of its noise."""

    start: Structure
    temperature: float
    pressure: float | None
    seed: int


@dataclass(frozen=True, eq=False)
class Visit:
    """A structure that a replica came through: time fs, temperature K, the largest unfamiliarity of an atom (NaN: not known)."""

    replica: int
    structure: Structure
    time: float
    temperature: float
    unfamiliar: float


@dataclass(frozen=True, eq=False)
class Stop:
    """A replica has ended: fs that it ran, why (empty: it came to its end), the atoms concerned, and the structure as it was."""

    replica: int
    time: float
    why: str
    atoms: tuple[int, ...]
    structure: Structure


def md(start: Structure, amounts: Md, world: World) -> Iterator[Structure]:
    """Structures of replicas at each temperature and pressure, evenly in time after the warm-up; a replica that stops gives those
    before. Pressures are for crystals; what is not periodic in all directions keeps its cell."""
    driver = world.require_driver("md")
    pressures: tuple[float | None, ...] = (world.pressures or (None,)) if start.pbc.all() else (None,)
    replicas = [
        Replica(start, temperature, pressure, seed_of(world.seed, start.id, temperature, pressure, number))
        for temperature in world.temperatures
        for pressure in pressures
        for number in range(amounts.replicas)
    ]
    timestep = amounts.timestep or default_timestep(start)
    per_replica = -(-amounts.n // amounts.replicas)
    steps = max(1, round(1e3 * amounts.ps / timestep))
    first = min(round(1e3 * amounts.warmup / timestep), steps // 2)
    every = max(1, (steps - first) // per_replica)
    for event in explore(
        replicas, driver, steps, timestep, every, amounts.friction, amounts.unfamiliar, first=first, limit=per_replica
    ):
        if isinstance(event, Visit):
            yield event.structure
        elif event.why:
            world.dropped[f"md: {event.why}"] += 1


def default_timestep(structure: Structure) -> float:
    """fs a step."""
    return LIGHT if structure.numbers.min() == 1 else HEAVY


def seed_of(*facts: object) -> int:
    """A seed from anything that can be written down: the same facts, the same seed, on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(facts).encode(), digest_size=8).digest(), "big")


def explore(
    replicas: Sequence[Replica],
    driver: Driver,
    steps: int,
    timestep: float,
    every: int,
    friction: float = 10.0,
    unfamiliar: float | None = None,
    first: int = 0,
    limit: int | None = None,
) -> Iterator[Visit | Stop]:
    """Move all replicas together; a Visit every so many steps after step `first`, at most `limit` a replica, and one Stop each.

    timestep fs, friction 1/ps; unfamiliar: a replica stops where an atom's is above. The same replicas give the same structures
    where the driver does. Raises InputError for a pressure on what is not periodic, or a driver without stress.
    """
    for replica in replicas:
        if replica.pressure is not None and not replica.start.pbc.all():
            raise InputError("A pressure needs a structure that is periodic in all three directions.")
    runs = [_Run(number, replica, timestep, friction) for number, replica in enumerate(replicas)]
    visits = [0] * len(runs)
    for run, driven in zip(runs, driver([run.structure() for run in runs]), strict=True):
        run.take(driven)
    for step in range(1, steps + 1):
        for run in runs:
            run.drift()
        for run, driven in zip(runs, driver([run.structure() for run in runs]) if runs else (), strict=True):
            run.take(driven)
            run.kick()
        going = []
        for run in runs:
            time = step * timestep
            why, atoms = run.problem(unfamiliar) if step % CHECK_EVERY == 0 or step % every == 0 else ("", ())
            if why:
                yield Stop(run.number, time, why, atoms, run.recorded(step))
                continue
            due = step > first and (step - first) % every == 0
            if due and (limit is None or visits[run.number] < limit):
                visits[run.number] += 1
                yield Visit(run.number, run.recorded(step), time, run.temperature(), run.unfamiliar())
            going.append(run)
        runs = going
        if not runs:
            return
    for run in runs:
        yield Stop(run.number, steps * timestep, "", (), run.recorded(steps))


class _Run:
    """One replica on its way. Momenta in ASE's units."""

    def __init__(self, number: int, replica: Replica, timestep: float, friction: float):
        start = replica.start
        self.number, self.replica = number, replica
        self.rng = np.random.default_rng(replica.seed)
        self.x, self.cell = np.array(start.positions, np.float64), np.array(start.cell, np.float64)
        self.mass = atomic_masses[start.numbers][:, None]
        self.kt, self.dt = units.kB * replica.temperature, timestep * units.fs
        self.keep = float(np.exp(-friction * timestep * 1e-3))
        self.p = np.sqrt(self.mass * self.kt) * self.rng.normal(size=self.x.shape)
        if len(self.p) > 1:
            self.p -= self.mass * self.p.sum(axis=0) / self.mass.sum()
        self.driven: Driven | None = None
        self.bonds, self.longest = _bonds(start)

    def structure(self) -> Structure:
        s = self.replica.start
        return Structure(s.numbers, self.x.copy(), self.cell.copy(), s.pbc, s.charge, s.spin)

    def recorded(self, step: int) -> Structure:
        r = self.replica
        facts: dict[str, Any] = {"temperature": r.temperature, "replica": self.number, "seed": r.seed, "step": step}
        if r.pressure is not None:
            facts["pressure"] = r.pressure
        return child(r.start, "md", self.x.copy(), self.cell.copy(), **facts)

    def take(self, driven: Driven) -> None:
        self.driven = driven
        self.forces = np.asarray(driven.forces, np.float64)

    def drift(self) -> None:
        """Half a kick with the forces of before, and the whole way with the thermostat in its middle; then the volume."""
        self.p += 0.5 * self.dt * self.forces
        self.x += 0.5 * self.dt * self.p / self.mass
        noise = np.sqrt((1 - self.keep**2) * self.mass * self.kt) * self.rng.normal(size=self.p.shape)
        self.p = self.keep * self.p + noise
        self.x += 0.5 * self.dt * self.p / self.mass
        if self.replica.pressure is not None:
            self._rescale(self.replica.pressure * units.GPa)

    def kick(self) -> None:
        self.p += 0.5 * self.dt * self.forces

    def _rescale(self, wanted: float) -> None:
        assert self.driven is not None
        if self.driven.stress is None:
            raise InputError("This driver gives no stress; leave --pressure out.")
        volume = abs(float(np.linalg.det(self.cell)))
        pressure = (float((self.p**2 / self.mass).sum()) / volume - float(np.trace(self.driven.stress))) / 3
        rate = COMPRESSIBILITY / units.GPa / (PRESSURE_TIME * units.fs)
        change = -rate * (wanted - pressure - self.kt / volume) * self.dt
        change += np.sqrt(2 * self.kt * rate * self.dt / volume) * float(self.rng.normal())
        scale = float(np.exp(np.clip(change, -0.03, 0.03) / 3))
        self.x, self.cell, self.p = self.x * scale, self.cell * scale, self.p / scale

    def temperature(self) -> float:
        return float((self.p**2 / self.mass).sum() / (3 * len(self.p)) / units.kB)

    def unfamiliar(self) -> float:
        strange = None if self.driven is None else self.driven.unfamiliar
        return float("nan") if strange is None else float(np.max(strange))

    def problem(self, unfamiliar: float | None) -> tuple[str, tuple[int, ...]]:
        """Why this replica goes no further, empty where it does; and the atoms."""
        if not (np.isfinite(self.x).all() and np.isfinite(self.p).all() and np.isfinite(self.cell).all()):
            return "positions or velocities are not finite", ()
        if self.temperature() > max(HOTTEST * self.replica.temperature, HOTTEST_K):
            return "the temperature ran away", tuple(np.argsort(-(self.p**2 / self.mass).sum(axis=1))[:3].tolist())
        if len(self.bonds):
            length = np.linalg.norm(self.x[self.bonds[:, 0]] - self.x[self.bonds[:, 1]], axis=1)
            if (length > self.longest).any():
                pair = self.bonds[int((length / self.longest).argmax())]
                return f"a bond {self._names(pair)} broke", tuple(pair.tolist())
        ratios = nearest_ratios(self.structure())
        if ratios.min() < TOO_NEAR:
            atoms = tuple(np.flatnonzero(ratios < TOO_NEAR).tolist())
            return "atoms fell together", atoms
        if unfamiliar is not None and self.unfamiliar() > unfamiliar:
            assert self.driven is not None
            strange = np.asarray(self.driven.unfamiliar)
            return "atoms are unlike the training set", tuple(np.flatnonzero(strange > unfamiliar).tolist())
        return "", ()

    def _names(self, pair: NDArray[np.int64]) -> str:
        return "-".join(sorted(chemical_symbols[self.replica.start.numbers[a]] for a in pair))


def _bonds(start: Structure) -> tuple[NDArray[np.int64], Array]:
    """Bonds (B,2) of a molecule and how long each may become (B,); crystals and liquids may rearrange."""
    if start.pbc.any() or start.n_atoms < 2:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    radii = covalent_radii[start.numbers]
    i, j = np.triu_indices(start.n_atoms, 1)
    length, reach = np.linalg.norm(start.positions[i] - start.positions[j], axis=1), radii[i] + radii[j]
    bonded = length < BONDED * reach
    return np.stack([i, j], axis=1)[bonded], (STRETCH * np.maximum(length, reach))[bonded]
