"""Dynamics: what is conserved, what holds together, and where atoms are, beside the teacher's own short run."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import chemical_symbols
from numpy.typing import NDArray

from hdistill.data.errors import InputError

from .minimum import minimum
from .subject import Subject

Array = NDArray[np.float64]
TEMPERATURES = (300.0, 600.0)  # K
NVE_PS, STEP_FS = 2.0, 0.5
NVT_PS, REPLICAS, FRICTION = 2.0, 2, 0.02  # 1/fs
SHORT_PS, SHORT_STEP_FS, SETTLE = 1.0, 1.0, 0.2  # of the teacher's run; the first fifth is left out
SAMPLE_FS = 5.0
REACH, WIDTH = 6.0, 0.05  # A, of distributions of distances
BLUR = 2  # bins: noise of a short run is not a difference


def dynamics(subject: Subject) -> dict[str, Any]:
    """The first structure, relaxed, at constant energy from each temperature: drift (meV/atom over the run, by least squares), largest
    excursion, momentum of the whole at the end (A/fs, a velocity); then replicas with a thermostat at the highest temperature."""
    from hdistill.trainer.evaluation.dynamics import Motion, run

    calculator = subject.student()
    if not calculator.conservative:
        raise InputError(
            "The student predicts forces directly: they are the gradient of no energy, so that none is conserved."
        )
    atoms = _start(subject, calculator)
    steps, long = round(1e3 * NVE_PS / STEP_FS), round(1e3 * NVT_PS / STEP_FS)
    runs, replicas = [], []
    total = len(TEMPERATURES) * steps + REPLICAS * long
    with subject.bar(total, "steps", "dynamics") as bar:

        def watch(at: Atoms, _: float) -> None:
            last["momentum"] = at.get_momenta().sum(0) / at.get_masses().sum() * units.fs
            bar.advance(10)

        for temperature in TEMPERATURES:
            last: dict[str, Any] = {"momentum": np.zeros(3)}
            done = run(atoms, calculator, Motion(steps, STEP_FS, temperature), watch)
            drift = float(np.linalg.norm(last["momentum"]))
            runs.append({"temperature": temperature, "momentum_a_per_fs": drift, **done.summary()})
        for seed in range(REPLICAS):
            motion = Motion(long, STEP_FS, TEMPERATURES[-1], friction=FRICTION, seed=seed)
            replicas.append({"temperature": TEMPERATURES[-1], **run(atoms, calculator, motion, watch).summary()})
    drifts = [abs(each["drift_mev_per_atom"]) for each in runs if each["drift_mev_per_atom"] is not None]
    return {
        "runs": runs,
        "replicas": replicas,
        "n_whole": sum(each["stable"] for each in replicas),
        "formula": atoms.get_chemical_formula(),
        "n_atoms": len(atoms),
        "largest_drift": max(drifts) if drifts else None,
        "stable_ps": min(each["stable_until_fs"] for each in (*runs, *replicas)) / 1e3,
    }


def _start(subject: Subject, calculator: Any) -> Atoms:
    """The first structure, relaxed; as it is where no minimum is near."""
    atoms = subject.atoms(1)[0]
    try:
        relaxed = minimum(atoms, calculator, fmax=0.05)
    except InputError:
        return atoms
    relaxed.calc = None
    return relaxed


def trajectories(subject: Subject) -> dict[str, Any]:
    """The first structure with a thermostat at the lowest temperature, by the teacher and by the student, same start and noise.

    pairs: distances A, how often (per A, of the student and the teacher), overlap of the two, 1 where they are the same, and that of
    the two halves of the teacher's run, which is what chance leaves; vibration: mean square distance from the mean place, A^2, by element.
    """
    teacher = subject.require_teacher()
    atoms = _start(subject, teacher)
    with subject.bar(2 * round(1e3 * SHORT_PS / SAMPLE_FS), "frames", "trajectories") as bar:
        here = frames(atoms, subject.student(), bar.advance)
        there = frames(atoms, teacher, bar.advance)
    return {"formula": atoms.get_chemical_formula(), "n_atoms": len(atoms), **beside(here, there, atoms)}


def frames(atoms: Atoms, calculator: Any, tick: Any = lambda: None) -> list[Atoms]:
    """Of a short Langevin run. Raises InputError where it does not hold together."""
    from hdistill.trainer.evaluation.dynamics import Motion, run

    every = round(SAMPLE_FS / SHORT_STEP_FS)
    motion = Motion(
        round(1e3 * SHORT_PS / SHORT_STEP_FS), SHORT_STEP_FS, TEMPERATURES[0], friction=FRICTION, sample_every=every
    )
    kept: list[Atoms] = []

    def keep(at: Atoms, time: float) -> None:
        tick()
        if time >= SETTLE * 1e3 * SHORT_PS:
            kept.append(at.copy())

    done = run(atoms, calculator, motion, keep)
    if done.why:
        raise InputError(f"The run was not whole: {done.why} after {done.stable_until:g} fs.")
    return kept


def beside(here: list[Atoms], there: list[Atoms], atoms: Atoms) -> dict[str, Any]:
    """Frames of the student beside those of the teacher; see trajectories."""
    pairs: dict[str, Any] = {}
    for pair in combinations_with_replacement(sorted(set(atoms.numbers.tolist())), 2):
        own, its = (distances(frames, pair) for frames in (here, there))
        if not its.any():
            continue
        half = len(there) // 2
        first, second = distances(there[:half], pair), distances(there[half:], pair)
        pairs["-".join(chemical_symbols[z] for z in pair)] = {
            "distances": (WIDTH * (np.arange(len(own)) + 0.5)).tolist(),
            "student": own.tolist(),
            "teacher": its.tolist(),
            "overlap": overlap(own, its),
            "overlap_of_halves": overlap(first, second),
        }
    vibration = {
        chemical_symbols[z]: {"student": spread(here, z), "teacher": spread(there, z)}
        for z in sorted(set(atoms.numbers.tolist()))
    }
    overlaps = [each["overlap"] for each in pairs.values()]
    return {
        "temperature": TEMPERATURES[0],
        "pairs": pairs,
        "vibration": vibration,
        "smallest_overlap": min(overlaps) if overlaps else None,
    }


def distances(frames: list[Atoms], pair: tuple[int, int]) -> Array:
    """How often two atoms of a pair of elements are so far apart (per A; sums to 1 times 1/WIDTH), up to REACH, images included."""
    from ase.neighborlist import neighbor_list

    counts = np.zeros(round(REACH / WIDTH))
    for at in frames:
        i, j, d = neighbor_list("ijd", at, REACH)
        of = (at.numbers[i] == pair[0]) & (at.numbers[j] == pair[1])
        counts += np.histogram(d[of], len(counts), (0, REACH))[0]
    width = np.arange(-3 * BLUR, 3 * BLUR + 1)
    window = np.exp(-0.5 * (width / BLUR) ** 2)
    smooth: Array = np.convolve(counts, window / window.sum(), "same")
    return smooth / (WIDTH * smooth.sum()) if smooth.any() else smooth


def overlap(one: Array, other: Array) -> float:
    """Of two distributions of distances: 1 where they are the same, 0 where they have nothing in common."""
    return float(WIDTH * np.minimum(one, other).sum())


def spread(frames: list[Atoms], element: int) -> float:
    """Mean square distance of an element's atoms from their mean places, A^2, without the motion (and turns) of the whole."""
    from ase.build import minimize_rotation_and_translation

    fixed, placed = frames[0], []
    for at in frames:
        moved = at.copy()
        if at.pbc.any():
            moved.positions -= (moved.positions - fixed.positions).mean(0)
        else:
            minimize_rotation_and_translation(fixed.copy(), moved)
        placed.append(moved.positions[at.numbers == element])
    away = np.array(placed) - np.mean(placed, axis=0)
    return float((away**2).sum(-1).mean())
