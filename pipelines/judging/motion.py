"""Dynamics: what is conserved, and what holds together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units

from hdistill.data.errors import InputError
from hdistill.data.sampling.supercell import Supercell, best_repeats
from hdistill.data.structure import geometry_of

from .minimum import minimum
from .subject import Subject

if TYPE_CHECKING:
    from hdistill.trainer.evaluation.dynamics import Trajectory

NVE_PS, STEP_FS = 2.0, 0.5
NVT_PS, REPLICAS, FRICTION = 2.0, 2, 0.02  # 1/fs
SAMPLE_EVERY = 10  # steps
EDGE, MOST_ATOMS = (
    8.0,
    64,
)  # A, a crystal's cell is repeated until it is so wide, as far as it has no more atoms than that


def dynamics(subject: Subject) -> dict[str, Any]:
    """The first structure, relaxed, at constant energy from each temperature; then replicas with a thermostat at the highest.

    runs: drift (meV/atom over the run by least squares, and per ns), fluctuation about its line (root mean square, meV/atom), largest
    excursion, momentum of the whole at the end (A/fs, a velocity).
    """
    from hdistill.trainer.evaluation.dynamics import Motion, run

    calculator = subject.student()
    if not calculator.conservative:
        raise InputError(
            "The student predicts forces directly: they are the gradient of no energy, so that none is conserved."
        )
    atoms = start_of(subject, calculator)
    temperatures = subject.temperatures
    steps, long = round(1e3 * NVE_PS / STEP_FS), round(1e3 * NVT_PS / STEP_FS)
    runs, replicas = [], []
    total = len(temperatures) * steps + REPLICAS * long
    with subject.bar(total, "steps", "dynamics") as bar:

        def watch(at: Atoms, time: float) -> None:
            last["momentum"] = at.get_momenta().sum(0) / at.get_masses().sum() * units.fs
            if time > 0:
                bar.advance(SAMPLE_EVERY)

        for kelvin in temperatures:
            last: dict[str, Any] = {"momentum": np.zeros(3)}
            done = run(atoms, calculator, Motion(steps, STEP_FS, kelvin, sample_every=SAMPLE_EVERY), watch)
            momentum = float(np.linalg.norm(last["momentum"]))
            runs.append({"temperature": kelvin, "momentum_a_per_fs": momentum, **conserved(done)})
        for seed in range(REPLICAS):
            motion = Motion(long, STEP_FS, max(temperatures), FRICTION, SAMPLE_EVERY, seed)
            replicas.append({"temperature": max(temperatures), **run(atoms, calculator, motion, watch).summary()})
    drifts = [abs(each["drift_mev_per_atom"]) for each in runs if each["drift_mev_per_atom"] is not None]
    per_ns = [abs(each["drift_mev_per_atom_ns"]) for each in runs if each["drift_mev_per_atom_ns"] is not None]
    return {
        "runs": runs,
        "replicas": replicas,
        "n_whole": sum(each["stable"] for each in replicas),
        "formula": atoms.get_chemical_formula(),
        "n_atoms": len(atoms),
        "largest_drift": max(drifts, default=None),
        "largest_drift_per_ns": max(per_ns, default=None),
        "stable_ps": min(each["stable_until_fs"] for each in (*runs, *replicas)) / 1e3,
    }


def conserved(done: Trajectory) -> dict[str, Any]:
    """The summary of a run at constant energy, its drift per ns, and how the energy fluctuates about that line."""
    figures = done.summary()
    whole = done.times <= done.stable_until
    times, energies = done.times[whole], 1e3 * done.total[whole]
    if len(times) < 3 or figures["drift_mev_per_atom"] is None:
        return {**figures, "drift_mev_per_atom_ns": None, "fluctuation_mev_per_atom": None}
    line = np.polyfit(times, energies, 1)
    about = energies - np.polyval(line, times)
    return {
        **figures,
        "drift_mev_per_atom_ns": float(1e6 * line[0]),
        "fluctuation_mev_per_atom": float(np.sqrt((about**2).mean())),
    }


def start_of(subject: Subject, calculator: Any) -> Atoms:
    """The first structure, of a crystal repeated, relaxed; as it is where no minimum is near."""
    atoms = subject.atoms(1)[0]
    if atoms.pbc.all():
        atoms = atoms.repeat(best_repeats(geometry_of(atoms), Supercell(EDGE, MOST_ATOMS)))
    try:
        relaxed = minimum(atoms, calculator, fmax=0.05)
    except InputError:
        return atoms
    relaxed.calc = None
    return relaxed
