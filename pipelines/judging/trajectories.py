"""Where atoms are and how far they go: the student's run beside the teacher's own short one, at each temperature."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from hdistill.data.errors import InputError

from .motion import FRICTION, start_of
from .subject import Subject

Array = NDArray[np.float64]
SHORT_PS, STEP_FS, SETTLE = 1.0, 1.0, 0.2  # of both runs; the first fifth is left out
SAMPLE_FS = 5.0
REACH, WIDTH = 6.0, 0.05  # A, of distributions of distances
BLUR = 2  # bins: noise of a short run is not a difference
LAGS = 20  # of mean square displacements, up to half of what is kept


def trajectories(subject: Subject) -> dict[str, Any]:
    """The first structure with a thermostat at each temperature, by the teacher and by the student, same start and noise.

    runs, one a temperature: pairs: distances A, how often (per A, of the student and the teacher), overlap of the two, 1 where they are
    the same, and that of the two halves of the teacher's run, which is what chance leaves; vibration: mean square distance from the mean
    place, A^2, by element; displacement: lags ps and mean square displacements A^2 by element. smallest_overlap: of all pairs.
    """
    teacher = subject.require_teacher()
    atoms = start_of(subject, teacher)
    n_frames = 2 * len(subject.temperatures) * (round(1e3 * SHORT_PS / SAMPLE_FS) + 1)
    runs = []
    with subject.bar(n_frames, "frames", "trajectories") as bar:
        for kelvin in subject.temperatures:
            here = frames(atoms, subject.student(), kelvin, bar.advance)
            there = frames(atoms, teacher, kelvin, bar.advance)
            runs.append({"temperature": kelvin, **beside(here, there, atoms)})
    overlaps = [pair["overlap"] for run in runs for pair in run["pairs"].values()]
    return {
        "formula": atoms.get_chemical_formula(),
        "n_atoms": len(atoms),
        "picoseconds": SHORT_PS,
        "runs": runs,
        "smallest_overlap": min(overlaps) if overlaps else None,
    }


def frames(atoms: Atoms, calculator: Any, kelvin: float, tick: Any = lambda: None) -> list[Atoms]:
    """Of a short Langevin run. Raises InputError where it does not hold together."""
    from hdistill.trainer.evaluation.dynamics import Motion, run

    every = round(SAMPLE_FS / STEP_FS)
    motion = Motion(round(1e3 * SHORT_PS / STEP_FS), STEP_FS, kelvin, friction=FRICTION, sample_every=every)
    kept: list[Atoms] = []

    def keep(at: Atoms, time: float) -> None:
        tick()
        if time >= SETTLE * 1e3 * SHORT_PS:
            kept.append(at.copy())

    done = run(atoms, calculator, motion, keep)
    if done.why:
        raise InputError(f"The run at {kelvin:g} K was not whole: {done.why} after {done.stable_until:g} fs.")
    return kept


def beside(here: list[Atoms], there: list[Atoms], atoms: Atoms) -> dict[str, Any]:
    """Frames of the student beside those of the teacher; see trajectories."""
    pairs: dict[str, Any] = {}
    elements = sorted(set(atoms.numbers.tolist()))
    for pair in combinations_with_replacement(elements, 2):
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
    placed = {"student": without_the_whole(here), "teacher": without_the_whole(there)}
    vibration, displacement = {}, {}
    for z in elements:
        of = atoms.numbers == z
        vibration[chemical_symbols[z]] = {who: spread(at[:, of]) for who, at in placed.items()}
        displacement[chemical_symbols[z]] = {who: displacements(at[:, of]) for who, at in placed.items()}
    lags = [lag * SAMPLE_FS / 1e3 for lag in lags_of(len(here))]
    return {"pairs": pairs, "vibration": vibration, "displacement": {"ps": lags, "of": displacement}}


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


def without_the_whole(frames: list[Atoms]) -> Array:
    """(F,N,3) positions in A, without the motion (and, of molecules, the turns) of the whole."""
    from ase.build import minimize_rotation_and_translation

    fixed, placed = frames[0], []
    for at in frames:
        moved = at.copy()
        if at.pbc.any():
            moved.positions -= (moved.positions - fixed.positions).mean(0)
        else:
            minimize_rotation_and_translation(fixed.copy(), moved)
        placed.append(moved.positions)
    return np.array(placed)


def spread(positions: Array) -> float:
    """Mean square distance of atoms from their mean places, A^2; positions (F,N,3)."""
    away = positions - positions.mean(0)
    return float((away**2).sum(-1).mean())


def displacements(positions: Array) -> list[float]:
    """Mean square displacement in A^2 of atoms after each lag, over all times to begin from; positions (F,N,3), not wrapped."""
    return [float(((positions[lag:] - positions[:-lag]) ** 2).sum(-1).mean()) for lag in lags_of(len(positions))]


def lags_of(n: int) -> list[int]:
    """In frames, from one to half of n, evenly."""
    return sorted({max(1, round(share * n / 2 / LAGS)) for share in range(1, LAGS + 1)})
