"""Dynamics by the student at every condition, several replicas: what it visits, and where it must be stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdistill.data.support.progress import progress

from .folder import read_frames, write_frames
from .settings import DistillSettings
from .start import name_of
from .teach import Work

if TYPE_CHECKING:
    from ase import Atoms

AHEAD = (
    0.5,
    1.3,
)  # times the lowest and the highest temperature: a replica each goes there, and is not part of the verdict
FRAMES = 40  # of a replica, about
APART_FS = 50.0  # between two frames at least
SETTLE = 2  # frames at the beginning that are not kept
LOOK_EVERY = 10  # steps between two looks at whether the atoms hold together
WORTH_BUILDING = 15_000  # steps
BEYOND = 10.0  # the domain distance at which a replica is stopped


@dataclass(frozen=True)
class Condition:
    """K, and GPa (None: constant volume). asked: whether the user wants it; else it only goes ahead."""

    temperature: float
    pressure: float | None
    asked: bool = True


@dataclass(frozen=True)
class Replica:
    """One run of dynamics and how it ended: why is empty where it is whole to its end, else it names the atoms."""

    structure: str
    temperature: float
    pressure: float | None
    number: int
    asked: bool
    fs: float
    mean_temperature: float
    why: str


def explore(
    run: Path,
    out: Path,
    folder: Path,
    k: int,
    picoseconds: float,
    settings: DistillSettings,
    work: Work,
    ahead: bool = True,
) -> dict[str, Any]:
    """Writes folder/visited.xyz; what became of the replicas. Frames say where they come from: parent, temperature, pressure,
    replica, step, domain_distance; `last` is the one before a replica was stopped.
    ahead: with the replicas at conditions that nobody asked for, too."""
    starts = read_frames(out / "start" / "dynamics.xyz")
    frames: list[Atoms] = []
    replicas: list[dict[str, Any]] = []
    planned = [each for each in _planned(starts, k, settings) if ahead or each[1].asked]
    steps = sum(1000 * picoseconds / timestep_fs(atoms, settings) for atoms, _, _ in planned)
    calculator = _calculator(run, work, steps)
    with progress(len(planned), "replicas", f"round {k}: dynamics, {picoseconds:g} ps each", work.progress) as bar:
        for atoms, condition, number in planned:
            seed = seed_of(settings.seed, k, name_of(atoms), condition, number)
            visited, replica = run_replica(calculator, atoms, condition, number, picoseconds, seed, settings)
            for frame in visited:
                frame.info["group"] = f"{name_of(atoms)}:round-{k}:{len(replicas)}"
            frames += visited
            replicas.append(asdict(replica))
            bar.advance(1, frames=len(frames))
    write_frames(folder / "visited.xyz", frames)
    return {"n_frames": len(frames), "picoseconds": picoseconds, "replicas": replicas}


def conditions(settings: DistillSettings, periodic: bool) -> list[Condition]:
    """Those asked for; and a colder one, nearer to the minimum, and a hotter one, which see what the others will meet later."""
    found = [Condition(t, None) for t in settings.temperatures]
    found += [Condition(t, p) for p in settings.pressures for t in settings.temperatures if periodic]
    colder, hotter = AHEAD[0] * min(settings.temperatures), AHEAD[1] * max(settings.temperatures)
    return [*found, *(Condition(t, None, asked=False) for t in (colder, hotter))]


def timestep_fs(atoms: Atoms, settings: DistillSettings) -> float:
    """1 fs with hydrogen, 2 fs without, unless it is set."""
    return settings.timestep_fs or (1.0 if (atoms.numbers == 1).any() else 2.0)


def stability(explored: dict[str, Any]) -> dict[str, Any]:
    """Of the replicas at the asked conditions: how many there are, how many and whether all are whole, and why the others are not."""
    asked = [replica for replica in explored["replicas"] if replica["asked"]]
    broken = [replica for replica in asked if replica["why"]]
    said = [f"{r['structure']} at {r['temperature']:g} K after {r['fs'] / 1000:.2f} ps: {r['why']}" for r in broken]
    return {"n_replicas": len(asked), "n_whole": len(asked) - len(broken), "whole": not broken, "stopped": said}


def seed_of(*words: Any) -> int:
    """A seed that depends on these words alone."""
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=4).digest())


def _planned(starts: Sequence[Atoms], k: int, settings: DistillSettings) -> Iterator[tuple[Atoms, Condition, int]]:
    """Start, condition and number of each replica: the starts of a structure (its conformers) take turns, from round to round on."""
    names = list(dict.fromkeys(name_of(atoms) for atoms in starts))
    for name in names:
        own = [atoms for atoms in starts if name_of(atoms) == name]
        turn = (k - 1) * settings.replicas
        for condition in conditions(settings, bool(own[0].pbc.all())):
            for number in range(settings.replicas if condition.asked else 1):
                yield own[(turn + number) % len(own)], condition, number


def run_replica(
    calculator: Any,
    start: Atoms,
    condition: Condition,
    number: int,
    picoseconds: float,
    seed: int,
    settings: DistillSettings,
) -> tuple[list[Atoms], Replica]:
    """Langevin dynamics of one replica, and its frames; it ends where bonds break, atoms collide, the temperature runs away or an
    atom is beyond what the student knows."""
    from hdistill.trainer.evaluation.dynamics import Motion, Watch
    from hdistill.trainer.evaluation.simulation import Simulation

    conditions = _conditions(condition, timestep_fs(start, settings), seed)
    dt = conditions.timestep_fs
    steps = max(1, round(1000 * picoseconds / dt))
    every = max(1, round(max(APART_FS, 1000 * picoseconds / FRAMES) / dt))
    simulation = Simulation(start, calculator, conditions, steps)
    watch, motion = Watch(simulation.atoms, _limits()), Motion(temperature_K=condition.temperature)
    frames: list[Atoms] = []
    temperatures: list[float] = []
    why, n_looks = "", 0
    while simulation.step < steps and not why:
        simulation.advance(min(LOOK_EVERY, steps - simulation.step))
        moving = simulation.atoms
        temperature = float(moving.get_temperature())
        total = float(moving.get_potential_energy()) / len(moving)
        why = watch.problem(moving, total, temperature, motion) or _beyond(calculator, moving)
        temperatures.append(temperature)
        due = simulation.step // every > len(frames) + n_looks
        if due and not why:
            if n_looks < SETTLE:
                n_looks += 1
            else:
                frames.append(_frame(simulation, calculator, start, condition, number))
        elif why and frames:
            frames[-1].info["last"] = True
    mean = sum(temperatures) / max(len(temperatures), 1)
    pressure = condition.pressure
    replica = Replica(
        name_of(start), condition.temperature, pressure, number, condition.asked, simulation.step * dt, mean, why
    )
    return frames, replica


def _calculator(run: Path, work: Work, steps: float) -> Any:
    """The student; as machine code where it has so many steps to make that building it is paid back."""
    from hdistill.trainer.force_field.calculator import HDistillCalculator
    from hdistill.trainer.force_field.engines.parity import NotExported

    if steps >= WORTH_BUILDING:
        try:
            return HDistillCalculator(run, work.device, warn_beyond=None, compiled=True)
        except NotExported as error:
            work.say(f"The student runs without machine code: {error}")
    return HDistillCalculator(run, work.device, warn_beyond=None, compiled=False)


def _conditions(condition: Condition, dt: float, seed: int) -> Any:
    from hdistill.trainer.evaluation.simulation import Conditions

    return Conditions(
        ensemble="nvt" if condition.pressure is None else "npt",
        timestep_fs=dt,
        temperature_K=condition.temperature,
        pressure_GPa=condition.pressure or 0.0,
        seed=seed,
    )


def _limits() -> Any:
    from hdistill.trainer.evaluation.dynamics import Limits

    return Limits()


def _beyond(calculator: Any, atoms: Atoms) -> str:
    """Why a replica must end, by how unlike anything the student learned its atoms are; empty where it need not."""
    distances = calculator.domain_distance
    if distances is None or not (distances > BEYOND).any():
        return ""
    far = [f"{atoms.symbols[i]}{i}" for i in distances.argsort()[::-1][:3] if distances[i] > BEYOND]
    return f"the surroundings of {', '.join(far)} are unlike anything learned (domain distance {distances.max():.1f})"


def _frame(simulation: Any, calculator: Any, start: Atoms, condition: Condition, number: int) -> Atoms:
    distances = calculator.domain_distance
    frame = simulation.atoms.copy()
    frame.calc = None
    frame.arrays.pop("momenta", None)
    known = {key: start.info[key] for key in ("charge", "spin") if key in start.info}
    frame.info = {
        **{"parent": name_of(start), "move": "md", "step": simulation.step, "replica": number, **known},
        **{"temperature": condition.temperature, "asked": condition.asked},
        **({} if condition.pressure is None else {"pressure": condition.pressure}),
        **({} if distances is None else {"domain_distance": float(distances.max())}),
    }
    return frame
