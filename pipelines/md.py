"""Molecular dynamics with a student, into a folder: trajectory.xyz, log.csv and, when it is over, summary.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdistill.trainer.evaluation.dynamics import Motion

TRAJECTORY, LOG, SUMMARY = "trajectory.xyz", "log.csv", "summary.json"
COLUMNS = ("fs", "potential_ev_per_atom", "total_ev_per_atom", "temperature_kelvin", "domain_distance")


def run_md(
    run: Path, start: str, out: Path, motion: Motion, device: str = "cpu", progress: bool = True
) -> dict[str, Any]:
    """Move the atoms of a file (any that ASE reads; FILE@INDEX, else its last structure) with the student of a run.

    Velocities in the file are kept, so that the last structure of a trajectory goes on; else they are drawn. The trajectory is
    extended XYZ, with energies, forces, momenta and, where the run has a domain, each atom's domain_distance; log.csv
    has the largest. Returns what summary.json holds. Raises InputError: no student, no readable file, a folder in use.
    """
    from hdistill.data.errors import InputError
    from hdistill.data.support.progress import progress as progress_bar
    from hdistill.data.support.publish import publish
    from hdistill.trainer.evaluation.dynamics import run as move
    from hdistill.trainer.force_field.calculator import HDistillCalculator

    calculator = HDistillCalculator(run, device)
    atoms = _read(start)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out} holds something already; give another -o folder. (A run goes on from {TRAJECTORY} as START.)"
        )
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
            outside = getattr(moving.calc, "domain_distance", None)
            furthest = "" if outside is None else f"{outside.max():.3f}"
            log.write(f"{fs:g},{potential:.8f},{potential + kinetic:.8f},{moving.get_temperature():.2f},{furthest}\n")
            log.flush()
            now = round(fs / motion.timestep_fs)
            bar.advance(now - done, K=moving.get_temperature())
            done = now

        moved = move(atoms, calculator, motion, sample)
    summary = {"out": str(out), "run": str(run), "n_atoms": len(atoms), "ensemble": motion.ensemble, **moved.summary()}
    publish(out / SUMMARY, (json.dumps(summary, indent=1) + "\n").encode(), replace=True)
    return summary


def summary_text(summary: dict[str, Any]) -> str:
    """What `hdistill md` says at the end."""
    said = f"{summary['out']}: {summary['n_atoms']} atoms, {summary['fs']:g} fs ({summary['ensemble']})"
    if summary["ensemble"] == "NVE" and summary["drift_mev_per_atom"] is not None:
        drift, excursion = summary["drift_mev_per_atom"], summary["excursion_mev_per_atom"]
        said += f", energy drift {drift:.3g} meV/atom, at most {excursion:.3g} from the start"
    if summary["mean_temperature_kelvin"] is not None:
        said += f", {summary['mean_temperature_kelvin']:.0f} K on average"
    return f"{said}; stopped, since {summary['why']}." if summary["why"] else f"{said}; whole all the time."


def write_frame(file: Any, atoms: Any, fs: float) -> None:
    """One structure of a trajectory, complete in the file when this returns."""
    from ase.io import write

    frame = atoms.copy()
    frame.calc = atoms.calc
    frame.info["time_fs"] = fs
    outside = getattr(atoms.calc, "domain_distance", None)
    if outside is not None:
        frame.arrays["domain_distance"] = outside
    write(file, frame, format="extxyz")
    file.flush()


def _read(start: str) -> Any:
    from ase.io import read

    from hdistill.data.errors import InputError

    try:
        return read(start)
    except Exception as error:  # ASE raises what its many readers raise
        reason = str(error).strip() or type(error).__name__
        raise InputError(f"{start} could not be read as a structure ({reason.splitlines()[0]}).") from error
