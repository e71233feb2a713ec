"""Molecular dynamics with a student into a folder that can be killed and gone on with.

trajectory.xyz|traj|nc   the frames            log.csv        energies, temperature, pressure, domain_distance
restart.npz              from where it goes on  summary.json   when it is over: figures, and what ended it
"""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .trajectory import open_trajectory, trajectory_path

if TYPE_CHECKING:
    from ase import Atoms

    from hdistill.trainer.evaluation.dynamics import Limits
    from hdistill.trainer.evaluation.simulation import Conditions, Simulation

LOG, SUMMARY, RESTART = "log.csv", "summary.json", "restart.npz"
COLUMNS = (
    *("fs", "potential_ev_per_atom", "total_ev_per_atom", "temperature_kelvin", "domain_distance"),
    *("pressure_gpa", "volume_angstrom3"),
)
LOOK_EVERY = 10  # steps between two looks at whether the atoms hold together
RESTART_EVERY_S = 10.0


def _conditions() -> Conditions:
    from hdistill.trainer.evaluation.simulation import Conditions

    return Conditions()


def _limits() -> Limits:
    from hdistill.trainer.evaluation.dynamics import Limits

    return Limits()


@dataclass(frozen=True)
class MdSettings:
    """steps in all; every: steps between two frames and rows of the log; form of the trajectory: xyz, traj or nc. stop_beyond: the
    domain_distance at which a run ends, None: at none. compiled: as HDistillCalculator has it."""

    conditions: Conditions = field(default_factory=_conditions)
    steps: int = 10_000
    every: int = 10
    form: str = "xyz"
    stop_beyond: float | None = 10.0
    limits: Limits = field(default_factory=_limits)
    compiled: Any = "auto"

    def __post_init__(self) -> None:
        from hdistill.data.errors import InputError

        for name in ("steps", "every"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} was {getattr(self, name)}; it must be more than 0.")
        if self.stop_beyond is not None and not self.stop_beyond > 0:
            raise InputError(f"stop_beyond was {self.stop_beyond}; it must be more than 0, or None.")


def run_md(
    run: Any, start: Any, out: Path, settings: MdSettings | None = None, device: str = "cpu", progress: bool = True
) -> dict[str, Any]:
    """Move atoms with a student, and go on where a run with the same settings was killed, to the same numbers; more steps lengthen it.

    run: a run folder, a student file, a .pt2, or any ASE calculator. start: Atoms, or a file that ASE reads (its last structure,
    or FILE@INDEX); momenta in it, or an array of velocities (A/fs, or the unit that velocities_unit states), are kept, so that the
    last structure of a trajectory goes on, else they are drawn; ASE's constraints hold. The run ends where atoms collide, bonds
    break, the temperature runs away or an atom is beyond stop_beyond: `why` names step and atoms. Returns what summary.json holds.
    Raises InputError, before anything is written: no student, no readable file, a structure that the student refuses, a folder
    with another run.
    """
    from hdistill.data.errors import InputError
    from hdistill.data.support.publish import publish
    from hdistill.trainer.evaluation.dynamics import take_velocities
    from hdistill.trainer.evaluation.simulation import Simulation

    settings = settings or MdSettings()
    atoms, calculator = _atoms(start), _calculator(run, device, settings)
    kept = take_velocities(atoms)
    described = _described(atoms, settings)
    state = _begun(out, described)
    if state is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out} is in use; give another -o folder. (To continue from its end, take its trajectory as START.)"
        )
    if state is not None and (over := _over(out, settings.steps)) is not None:
        return over
    simulation = Simulation(atoms, calculator, settings.conditions, settings.steps)
    simulation.atoms.get_forces()  # what the student refuses is refused before there are files
    out.mkdir(parents=True, exist_ok=True)
    if kept and state is None and progress:
        print(kept, file=sys.stderr)
    began_at = 0
    if state is not None:
        simulation.restore(state)
        began_at = simulation.step
    began = time.monotonic()
    why = _Run(simulation, settings, out, described, state).finish(progress)
    wall = time.monotonic() - began
    name = str(run) if isinstance(run, str | Path) else type(run).__name__
    speed = (simulation.step - began_at) * settings.conditions.timestep_fs * 1e-6 / (wall / 86400) if wall > 0 else None
    summary = {
        "out": str(out),
        "run": name,
        "trajectory": str(trajectory_path(out, settings.form)),
        "n_atoms": len(atoms),
        "ensemble": settings.conditions.ensemble.upper(),
        "steps": simulation.step,
        **_figures(out, settings, why, simulation.time_fs),
        "continued_from_step": began_at,
        "compiled": bool(getattr(calculator, "compiled", False)),
        "ns_per_day": speed,
    }
    publish(out / SUMMARY, (json.dumps(summary, indent=1) + "\n").encode(), replace=True)
    return summary


def run_replicas(
    run: Any, start: Any, out: Path, settings: MdSettings, replicas: int, device: str = "cpu", progress: bool = True
) -> dict[str, Any]:
    """Several runs from one start, one after the other, in out/replica-0 and on, with the seeds seed, seed + 1, ...: momenta of START
    are not kept, as all would be the same. Returns means and extremes over them, and their summaries as `replicas`."""
    atoms = _atoms(start)
    atoms.arrays.pop("momenta", None)
    summaries = []
    for k in range(replicas):
        conditions = replace(settings.conditions, seed=settings.conditions.seed + k)
        one = replace(settings, conditions=conditions)
        summaries.append(run_md(run, atoms, out / f"replica-{k}", one, device, progress))
    ended = next((s for s in summaries if s["why"]), None)

    def mean(name: str) -> float | None:
        values = [s[name] for s in summaries if s[name] is not None]
        return sum(values) / len(values) if values else None

    return {
        **summaries[0],
        "out": str(out),
        **{name: mean(name) for name in ("mean_temperature_kelvin", "mean_pressure_gpa", "ns_per_day")},
        **{name: _largest(summaries, name) for name in ("drift_mev_per_atom", "excursion_mev_per_atom")},
        **{name: min(s[name] for s in summaries) for name in ("fs", "steps", "stable_until_fs")},
        "stable": ended is None,
        "why": "" if ended is None else f"{ended['why']} in {ended['out']}",
        "replicas": summaries,
    }


def _largest(summaries: list[dict[str, Any]], name: str) -> float | None:
    values = [s[name] for s in summaries if s[name] is not None]
    return max(values, key=abs) if values else None


class _Run:
    """A simulation and the files it writes."""

    def __init__(self, simulation: Simulation, settings: MdSettings, out: Path, described: str, state: Any):
        from hdistill.trainer.evaluation.dynamics import Motion, Watch

        self.simulation, self.settings, self.out, self.described = simulation, settings, out, described
        conditions = settings.conditions
        hottest = max(conditions.temperature_K, conditions.final_temperature_K or 0.0)
        self.motion = Motion(temperature_K=hottest)
        self.watch = Watch(_at_start(simulation.atoms, state), settings.limits)
        self.n_frames = 0 if state is None else int(state["n_frames"])
        trajectory_bytes = 0 if state is None else int(state["trajectory_bytes"])
        self.start = simulation.atoms.positions.copy() if state is None else state["start_positions"]
        self.start_cell = simulation.atoms.cell.array.copy() if state is None else state["start_cell"]
        self.trajectory = open_trajectory(out, settings.form, self.n_frames, trajectory_bytes)
        self.log = (out / LOG).open("w" if state is None else "r+")
        self.log.truncate(0 if state is None else int(state["log_bytes"]))
        self.log.seek(0, io.SEEK_END)
        if state is None:
            self.log.write(",".join(COLUMNS) + "\n")

    def finish(self, progress: bool) -> str:
        """Run to the end, or to what ends it: why, empty where nothing did."""
        from hdistill.data.errors import InputError
        from hdistill.data.support.progress import progress as progress_bar

        simulation, settings = self.simulation, self.settings
        kept = began = time.monotonic()
        first = simulation.step
        with progress_bar(settings.steps, "steps", "md", progress, first) as bar:
            why = ""
            if not self.n_frames:
                why = self._problem()
                self._sample()
                self._keep()
            while not why and simulation.step < settings.steps:
                before = simulation.step
                until = min(_next(before, LOOK_EVERY), _next(before, settings.every), settings.steps)
                try:
                    simulation.advance(until - before)
                    why = self._problem()
                except InputError as error:  # of positions that are not finite there is no neighbour list
                    why = f"the forces could not be computed between steps {before} and {until} ({error})"
                    break
                if why or simulation.step % settings.every == 0 or simulation.step == settings.steps:
                    shown = self._sample()
                    rate = (simulation.step - first) * settings.conditions.timestep_fs / (time.monotonic() - began)
                    bar.advance(0, **shown, **{"ns/day": rate * 0.0864})
                    if time.monotonic() - kept > RESTART_EVERY_S or simulation.step == settings.steps:
                        self._keep()
                        kept = time.monotonic()
                bar.advance(simulation.step - before)
        self.trajectory.close()
        self.log.close()
        return why

    def _problem(self) -> str:
        atoms = self.simulation.atoms
        total = atoms.get_potential_energy() + atoms.get_kinetic_energy()
        why = self.watch.problem(atoms, float(total), float(atoms.get_temperature()), self.motion)
        limit = self.settings.stop_beyond
        distances = None if limit is None else getattr(atoms.calc, "domain_distance", None)
        if not why and distances is not None and distances.max() > limit:
            atom = int(distances.argmax())
            why = f"{atoms.symbols[atom]}{atom} is at a domain_distance of {distances[atom]:.1f}, beyond {limit:g}"
        return f"{why} at step {self.simulation.step} ({self.simulation.time_fs:g} fs)" if why else ""

    def _sample(self) -> dict[str, Any]:
        """One frame and one row; what of it is shown."""
        from hdistill.trainer.evaluation.simulation import pressure_GPa

        atoms, fs = self.simulation.atoms, self.simulation.time_fs
        n = len(atoms)
        potential, kinetic = atoms.get_potential_energy() / n, atoms.get_kinetic_energy() / n
        temperature = float(atoms.get_temperature())
        distances, pressure = getattr(atoms.calc, "domain_distance", None), pressure_GPa(atoms)
        furthest = None if distances is None else float(distances.max())
        volume = atoms.get_volume() if atoms.pbc.all() else None
        row = (
            *(f"{fs:g}", f"{potential:.8f}", f"{potential + kinetic:.8f}", f"{temperature:.2f}"),
            *("" if x is None else f"{x:.{digits}f}" for x, digits in ((furthest, 3), (pressure, 4), (volume, 3))),
        )
        self.trajectory.write(atoms, fs)
        self.n_frames += 1
        self.log.write(",".join(row) + "\n")
        self.log.flush()
        shown = {"K": temperature, "eV/atom": float(potential + kinetic), "GPa": pressure, "domain": furthest}
        return {name: value for name, value in shown.items() if value is not None}

    def _keep(self) -> None:
        """A restart file: from here the run goes on, whenever it is killed."""
        import numpy as np

        from hdistill.data.support.publish import publish

        state = self.simulation.state()
        about = {
            "described": self.described,
            "rng": state.pop("rng"),
            "n_frames": self.n_frames,
            "log_bytes": (self.out / LOG).stat().st_size,
            "trajectory_bytes": trajectory_path(self.out, self.settings.form).stat().st_size,
        }
        buffer = io.BytesIO()
        np.savez(buffer, about=json.dumps(about), start_positions=self.start, start_cell=self.start_cell, **state)
        publish(self.out / RESTART, buffer.getvalue(), replace=True)


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


def _at_start(atoms: Atoms, state: Any) -> Atoms:
    """The atoms where the run began: bonds are those of the start."""
    first = atoms.copy()
    if state is not None:
        first.set_cell(state["start_cell"], scale_atoms=False)
        first.set_positions(state["start_positions"], apply_constraint=False)
    return first


def _described(atoms: Atoms, settings: MdSettings) -> str:
    """All that a run is, but for its length and for what computes the forces; of a ramp the length, too."""
    import hashlib

    arrays = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_momenta())
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    plain = {name: value for name, value in asdict(settings).items() if name not in ("steps", "compiled")}
    ramp = settings.steps if settings.conditions.final_temperature_K is not None else None
    return json.dumps({**plain, "start": digest, "ramp_steps": ramp}, sort_keys=True)


def _begun(out: Path, described: str) -> Any:
    """The state that a folder's run goes on from; None where there is none. Raises InputError where it is another run's."""
    import numpy as np

    from hdistill.data.errors import InputError

    if not (out / RESTART).exists():
        return None
    try:
        with np.load(out / RESTART, allow_pickle=False) as file:
            state = {name: file[name] for name in file.files}
        state |= json.loads(str(state.pop("about")))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{out / RESTART} is damaged ({error}); remove {out}, or give another folder.") from error
    if state["described"] != described:
        old, new = (json.loads(text) for text in (state["described"], described))
        changed = [name for name in new if old.get(name) != new[name]]
        changed += [n for n, v in new["conditions"].items() if old.get("conditions", {}).get(n) != v]
        names = ", ".join(name for name in changed if name != "conditions")
        raise InputError(f"{out} is in use: it holds a run with another {names}; give another -o folder.")
    return state


def _over(out: Path, steps: int) -> dict[str, Any] | None:
    """The summary of a run that is over already."""
    try:
        summary: dict[str, Any] = json.loads((out / SUMMARY).read_text())
    except (OSError, ValueError):
        return None
    return summary if summary.get("why") or summary.get("steps", 0) >= steps else None


def _figures(out: Path, settings: MdSettings, why: str, time_fs: float) -> dict[str, Any]:
    """Of the whole log; the last row of a run that was stopped is what stopped it, and is left out."""
    import numpy as np

    from hdistill.trainer.evaluation.dynamics import Trajectory, drift_and_excursion

    with (out / LOG).open() as file:
        rows = list(csv.DictReader(file))
    rows = rows[:-1] if why else rows
    times, potential, total, temperature = (np.array([float(row[name]) for row in rows]) for name in COLUMNS[:4])
    drift, excursion = drift_and_excursion(times, total)
    until = float(times[-1]) if rows else 0.0
    figures = Trajectory(times, potential, total, temperature, drift, excursion, until, why).summary()
    figures["fs"] = time_fs
    if settings.conditions.ensemble != "nve":  # a thermostat changes the total energy: its drift says nothing
        figures |= {"drift_mev_per_atom": None, "excursion_mev_per_atom": None}
    pressures = [float(row["pressure_gpa"]) for row in rows if row["pressure_gpa"]]
    return figures | {"mean_pressure_gpa": float(np.mean(pressures)) if pressures else None}


def _calculator(run: Any, device: str, settings: MdSettings) -> Any:
    if not isinstance(run, str | Path):
        return run
    from hdistill.trainer.force_field.calculator import HDistillCalculator

    return HDistillCalculator(run, device, compiled=settings.compiled)


def _atoms(start: Any) -> Atoms:
    """The atoms to move: a copy of Atoms, or the structure of a file. Raises InputError."""
    import os

    from ase import Atoms
    from ase.io import read

    from hdistill.data.errors import InputError

    if isinstance(start, Atoms):
        atoms = start.copy()
    else:
        try:
            atoms = read(os.fspath(start))
        except Exception as error:  # ASE raises what its many readers raise
            reason = str(error).strip() or type(error).__name__
            raise InputError(f"{start} could not be read as a structure ({reason.splitlines()[0]}).") from error
    if len(atoms) == 0:
        raise InputError(f"{start} has no atoms to move.")
    return atoms
