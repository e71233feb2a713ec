"""Molecular dynamics with a student, into a folder: trajectory.xyz, log.csv and, when it is over, summary.json."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

if TYPE_CHECKING:
    from ase import Atoms

    from hdistill.trainer.evaluation.dynamics import Motion

TRAJECTORY, LOG, SUMMARY = "trajectory.xyz", "log.csv", "summary.json"
Start: TypeAlias = Union[str, "os.PathLike[str]", "Atoms"]
COLUMNS = ("fs", "potential_ev_per_atom", "total_ev_per_atom", "temperature_kelvin", "domain_distance")


def run_md(
    run: Path, start: Start, out: Path, motion: Motion, device: str = "cpu", progress: bool = True
) -> dict[str, Any]:
    """Move the atoms of a file (any that ASE reads; FILE@INDEX, else its last structure) with the student of a run.

    Velocities in the file are kept, so that the last structure of a trajectory goes on; else they are drawn. The trajectory is
    extended XYZ, with energies, forces, momenta and, where the run has a domain, each atom's domain_distance; log.csv
    has the largest. Returns what summary.json holds. Raises InputError, before anything is written: no student, no readable file,
    a structure that the student refuses, a folder in use.
    """
    from hdistill.data.errors import InputError
    from hdistill.data.support.progress import progress as progress_bar
    from hdistill.data.support.publish import publish

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out} is in use; give another -o folder. (To continue a run, take its {TRAJECTORY} as START.)"
        )
    atoms = _start(start)
    from hdistill.trainer.evaluation.dynamics import run as move
    from hdistill.trainer.force_field.calculator import HDistillCalculator

    calculator = HDistillCalculator(run, device)
    calculator.calculate(atoms, ["energy"])  # what it refuses is refused before there are files
    out.mkdir(parents=True, exist_ok=True)
    with (
        (out / TRAJECTORY).open("w") as trajectory,
        (out / LOG).open("w") as log,
        progress_bar(motion.steps, "steps", "md", progress) as bar,
    ):
        log.write(",".join(COLUMNS) + "\n")
        done = 0

        def sample(moving: Any, fs: float) -> None:
            nonlocal done
            write_frame(trajectory, moving, fs)
            n = len(moving)
            potential, kinetic = moving.get_potential_energy() / n, moving.get_kinetic_energy() / n
            distances = getattr(moving.calc, "domain_distance", None)
            largest = "" if distances is None else f"{distances.max():.3f}"
            log.write(f"{fs:g},{potential:.8f},{potential + kinetic:.8f},{moving.get_temperature():.2f},{largest}\n")
            log.flush()
            now = round(fs / motion.timestep_fs)
            bar.advance(now - done, K=moving.get_temperature())
            done = now

        moved = move(atoms, calculator, motion, sample)
    summary = {"out": str(out), "run": str(run), "n_atoms": len(atoms), "ensemble": motion.ensemble, **moved.summary()}
    if motion.friction is not None:  # a thermostat changes the total energy: its drift says nothing
        summary |= {"drift_mev_per_atom": None, "excursion_mev_per_atom": None}
    publish(out / SUMMARY, (json.dumps(summary, indent=1) + "\n").encode(), replace=True)
    return summary


def write_frame(file: Any, atoms: Any, fs: float) -> None:
    """One structure of a trajectory, complete in the file when this returns."""
    from ase.io import write

    frame = atoms.copy()
    frame.calc = atoms.calc
    frame.info["time_fs"] = fs
    distances = getattr(atoms.calc, "domain_distance", None)
    if distances is not None:
        frame.arrays["domain_distance"] = distances
    write(file, frame, format="extxyz")
    file.flush()


def _start(start: Start) -> Atoms:
    """The atoms to move: a copy of Atoms, or the structure of a file. Raises InputError."""
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
