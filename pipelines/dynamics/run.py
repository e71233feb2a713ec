"""Molecular dynamics with a student into a folder that can be killed and gone on with."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import SUMMARY, begun, described_as, figures_of, over
from .loop import MovingRun
from .settings import MdSettings
from .trajectory import trajectory_path

if TYPE_CHECKING:
    from ase import Atoms


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
    described = described_as(atoms, settings)
    state = begun(out, described)
    if state is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out} is in use; give another -o folder. (To continue from its end, take its trajectory as START.)"
        )
    if state is not None and (done := over(out, settings.steps)) is not None:
        return done
    simulation = Simulation(atoms, calculator, settings.conditions, settings.steps)
    simulation.atoms.get_forces()  # what the student refuses is refused before there are files
    out.mkdir(parents=True, exist_ok=True)
    if kept and state is None and progress:
        print(kept, file=sys.stderr)
    began_at = 0
    if state is not None:
        simulation.restore(state)
        began_at = simulation.step
    clock = time.monotonic()
    why = MovingRun(simulation, settings, out, described, state).finish(progress)
    wall = time.monotonic() - clock
    name = str(run) if isinstance(run, str | Path) else type(run).__name__
    speed = (simulation.step - began_at) * settings.conditions.timestep_fs * 1e-6 / (wall / 86400) if wall > 0 else None
    summary = {
        "out": str(out),
        "run": name,
        "trajectory": str(trajectory_path(out, settings.form)),
        "n_atoms": len(atoms),
        "ensemble": settings.conditions.ensemble.upper(),
        "steps": simulation.step,
        **figures_of(out, settings, why, simulation.time_fs),
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
