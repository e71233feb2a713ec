"""Molecular dynamics with a student, and the demo."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

from .arguments import Place, folder_of, run_place
from .printed import Figures, result_of
from .results import Simulated

if TYPE_CHECKING:
    from ase import Atoms

    from hdistill.trainer.evaluation.simulation import Ensemble, Thermostat


def md(
    run: Any,
    start: Place | Atoms,
    out: Place,
    *,
    teacher: str | None = None,
    task: str | None = None,
    steps: int = 10_000,
    timestep: float = 0.5,
    ensemble: Ensemble | None = None,
    temperature: float = 300.0,
    to_temperature: float | None = None,
    thermostat: Thermostat = "langevin",
    thermostat_time: float | None = None,
    friction: float | None = None,
    pressure: float = 0.0,
    barostat_time: float = 1000.0,
    anisotropic: bool = False,
    every: int = 10,
    trajectory: Literal["xyz", "traj", "nc"] = "xyz",
    stop_beyond: float = 10.0,
    replicas: int = 1,
    seed: int = 0,
    compiled: bool | Literal["auto", "background"] = "auto",
    device: str = "cpu",
    progress: bool = True,
) -> Simulated:
    """Move atoms with a run's student (or a student file, a .pt2, any ASE calculator), into a folder: trajectory, log.csv,
    summary.json. Where run is None the teacher of this name moves them, in a process of its own. The same call continues a run that
    was killed; more steps lengthen it.

    start: Atoms, or a file (its last structure, or FILE@INDEX); velocities are kept, else drawn from the temperature (K).
    timestep and time constants in fs, pressure in GPa, friction in 1/fs (1 / thermostat_time). ensemble: nve, nvt or npt; None is
    nvt where there is a friction, else nve. to_temperature: a ramp. every: steps between two frames. stop_beyond: the
    domain_distance that ends a run, 0: none. replicas: so many runs with seeds of their own. What ended the run early is in `why`
    of the result. Raises InputError.
    """
    from hdistill.data.errors import InputError
    from hdistill.trainer.evaluation.simulation import Conditions

    from ..dynamics.run import run_md, run_replicas
    from ..dynamics.settings import MdSettings

    if (run is None) == (teacher is None):
        raise InputError("md takes a run, or the name of a teacher and None for the run; give one of them.")
    if task is not None and teacher is None:
        raise InputError("A student has one level of theory; task is for a teacher.")
    if friction is not None and thermostat_time is not None:
        raise InputError("friction is 1 / thermostat_time; give one of them.")
    if friction is not None and not friction > 0:
        raise InputError(f"friction was {friction} 1/fs; it must be more than 0, or left out for NVE.")
    if replicas < 1:
        raise InputError(f"replicas was {replicas}; it must be at least 1.")
    conditions = Conditions(
        ensemble=ensemble or ("nve" if friction is None else "nvt"),
        timestep_fs=timestep,
        temperature_K=temperature,
        final_temperature_K=to_temperature,
        thermostat=thermostat,
        thermostat_fs=1 / friction if friction is not None else thermostat_time or 100.0,
        pressure_GPa=pressure,
        barostat_fs=barostat_time,
        anisotropic=anisotropic,
        seed=seed,
    )
    settings = MdSettings(conditions, steps, every, trajectory, stop_beyond or None, compiled=compiled)
    with ExitStack() as stack:
        force_field: Any = run_place(run) if isinstance(run, str | os.PathLike) else run
        if teacher is not None:
            from hdistill.labeler.teacher_calculator import TeacherCalculator

            force_field = stack.enter_context(TeacherCalculator(teacher, task, device=device))
        if replicas == 1:
            return result_of(Simulated, run_md(force_field, start, folder_of(out), settings, device, progress))
        many = run_replicas(force_field, start, folder_of(out), settings, replicas, device, progress)
        return result_of(Simulated, many)


def demo(out: Place = "demo", *, workers: int = 2, say: Callable[[str], None] = print) -> Figures:
    """Label, distil and compare on a real teacher (SevenNet-0) in minutes; the same call continues."""
    from .demo import run_demo, summary

    return Figures(run_demo(folder_of(out), workers, say), summary)
