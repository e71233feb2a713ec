"""The start structures at the teacher's minimum, and what is said where they were far from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from hdistill.data.errors import InputError

from .settings import DistillSettings
from .start import name_of

if TYPE_CHECKING:
    from ase import Atoms

FMAX = 2e-3  # eV/A; a teacher in float32 gets no lower with certainty
STEPS = 300
PATH_EVERY = 3  # steps between frames of the path that are kept
ROUGH = 1.0  # eV/A: a start with a larger force is far from a minimum
ROUGH_MOVES = 0.3  # A: with less of a way, a force is large because bonds are stiff
WILD = 50.0  # eV/A: nothing near what the teacher knows
FAR = 1.0  # A that an atom moves
Say = Callable[[str], None]
Relaxed: TypeAlias = "tuple[list[Atoms], list[Atoms], list[dict[str, Any]]]"


def relax(start: Sequence[Atoms], settings: DistillSettings, calculator: Any, say: Say) -> Relaxed:
    """Each start relaxed with the teacher's calculator, frames of the paths there, and figures of each.

    Where a minimum is not reached what was reached is taken, and said. Raises InputError for a start whose forces are so large that
    no minimum can be meant.
    """
    relaxed, path, figures = [], [], []
    for atoms in start:
        done, frames, row = _relax_one(atoms, settings, calculator)
        relaxed.append(done)
        path += frames
        figures.append(row)
        for remark in _remarks(row, settings):
            say(remark)
    return relaxed, path, figures


def _relax_one(atoms: Atoms, settings: DistillSettings, calculator: Any) -> tuple[Atoms, list[Atoms], dict[str, Any]]:
    import numpy as np
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE2

    moving = atoms.copy()
    moving.calc = calculator
    first = float(np.linalg.norm(moving.get_forces(), axis=1).max())
    if not first < WILD:
        raise InputError(
            f"{name_of(atoms)}: a force is {first:.3g} eV/A at the start, which no minimum is near to: atoms overlap, or the teacher "
            "does not know such a structure. Mend the geometry (units, overlapping atoms, missing hydrogens) and try again."
        )
    with_cell = _moves_cell(atoms, settings, calculator)
    frames: list[Atoms] = []
    if settings.relax == "none":
        optimizer = None
    else:
        optimizer = FIRE2(FrechetCellFilter(moving) if with_cell else moving, logfile=None)
        optimizer.attach(lambda: frames.append(moving.copy()), interval=PATH_EVERY)
        optimizer.run(fmax=FMAX, steps=STEPS)
    last = float(np.linalg.norm(moving.get_forces(), axis=1).max())
    row = {
        "structure": name_of(atoms),
        "with_cell": with_cell,
        "steps": 0 if optimizer is None else int(optimizer.nsteps),
        "largest_force_at_start": first,
        "largest_force": last,
        "moved": _moved(atoms, moving),
        "volume_change": _volume_change(atoms, moving),
    }
    relaxed = moving.copy()
    return relaxed, frames[1:-1], row


def _moves_cell(atoms: Atoms, settings: DistillSettings, calculator: Any) -> bool:
    if settings.relax != "auto":
        return settings.relax == "cell"
    return bool(atoms.pbc.all()) and "stress" in calculator.results  # the first call said whether the teacher has one


def _moved(before: Atoms, after: Atoms) -> float:
    """A: how far the atom went that went furthest, the cell's change and the motion of the whole aside."""
    import numpy as np

    then = before.copy()
    if before.pbc.all():
        then.set_cell(after.cell, scale_atoms=True)
    away = after.positions - then.positions
    return float(np.linalg.norm(away - away.mean(axis=0), axis=1).max())


def _volume_change(before: Atoms, after: Atoms) -> float:
    return float(after.get_volume() / before.get_volume() - 1) if before.pbc.all() else 0.0


def _remarks(row: dict[str, Any], settings: DistillSettings) -> list[str]:
    remarks, name = [], row["structure"]
    far = row["moved"] > FAR or abs(row["volume_change"]) > 0.1
    if far or (row["largest_force_at_start"] > ROUGH and row["moved"] > ROUGH_MOVES):
        volume = f" and the volume by {100 * row['volume_change']:+.1f} %" if row["volume_change"] else ""
        remarks.append(
            f"{name} was far from the teacher's minimum: a force of {row['largest_force_at_start']:.2g} eV/A; relaxing moved an atom by "
            f"{row['moved']:.2f} A{volume}. It goes on from there; --relax none keeps the start as it is."
        )
    if settings.relax != "none" and row["largest_force"] > 10 * FMAX:
        remarks.append(
            f"{name} did not come to a minimum in {row['steps']} steps (a force of {row['largest_force']:.2g} eV/A is left), as liquids "
            "and large molecules do not; it is taken as it is now."
        )
    return remarks
