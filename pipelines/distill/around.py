"""Structures around a minimum: rattled, strained, with their bonds turned; supercells of crystals. The moves are those of data/sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hdistill.data.structure import geometry_of

from .explore import seed_of
from .start import name_of

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

    from hdistill.data.structure import Structure

MOST_ATOMS = 100
EDGE = 7.5  # A between opposite faces: soft modes at zone boundaries exist only in supercells that hold them
RATTLES = (0.01, 0.03, 0.1)  # A
TURN = 30.0  # degrees, the step of a torsion
TRIES = 50


def around(starts: Sequence[Atoms], n: int, seed: int) -> list[Atoms]:
    """n structures, by turns of each start: crystals are strained and rattled, molecules have their torsions turned and are rattled.
    Each is a group of its own, drawn without regard to the others."""
    import numpy as np

    rng = np.random.default_rng(seed_of(seed, "around"))
    streams = [_of_one(atoms, rng) for atoms in starts]
    frames = []
    for number in range(n):
        frame = next(streams[number % len(streams)])
        frame.info["group"] = f"{frame.info['parent']}:{number}"
        frames.append(frame)
    return frames


def supercell(atoms: Atoms) -> Atoms:
    """Repeated until its faces are EDGE apart, as far as it has atoms enough for that."""
    from hdistill.data.sampling.supercell import Supercell, best_repeats

    repeats = best_repeats(geometry_of(atoms), Supercell(EDGE, MOST_ATOMS))
    bigger: Atoms = atoms.repeat(repeats)
    bigger.info = dict(atoms.info)
    return bigger


def conformers(starts: Sequence[Atoms], n: int, seed: int) -> list[Atoms]:
    """n of each molecule that has torsions, from turning these; not relaxed."""
    import numpy as np

    from hdistill.data.sampling.torsions import rotatable_bonds

    rng = np.random.default_rng(seed_of(seed, "conformers"))
    made = []
    for atoms in starts:
        bonds = rotatable_bonds(geometry_of(atoms))
        for _ in range(n if bonds else 0):
            if (frame := turned(atoms, bonds, rng)) is not None:
                frame.info["move"] = "torsions"
                made.append(frame)
    return made


def rattled(atoms: Atoms, sigma: float, rng: np.random.Generator) -> Atoms:
    """Gaussian displacements in A; an atom that comes too near to another is drawn again."""
    from hdistill.data.sampling.rattle import Rattle, rattle
    from hdistill.data.sampling.world import World

    return _moved(atoms, next(rattle(geometry_of(atoms), Rattle(1, sigma), World(rng))))


def strained(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Cell and atoms under a random strain: volume, axes and angles at once."""
    from hdistill.data.sampling.strain import Strain, strain
    from hdistill.data.sampling.world import World

    return _moved(atoms, next(strain(geometry_of(atoms), Strain(1, sigma=0.0), World(rng))))


def turned(atoms: Atoms, bonds: Sequence[tuple[int, int, Any]], rng: np.random.Generator) -> Atoms | None:
    """One or two torsions (rotatable_bonds) turned by steps of TURN; None where atoms clash whatever is drawn."""
    from dataclasses import replace

    from hdistill.data.sampling.child import nearest_ratios
    from hdistill.data.sampling.torsions import turn

    start = geometry_of(atoms)
    limit = min(0.85 * float(nearest_ratios(start).min()), 0.9)
    for _ in range(TRIES):
        moved = start
        for k in rng.choice(len(bonds), min(len(bonds), int(rng.integers(1, 3))), replace=False).tolist():
            i, j, side = bonds[k]
            angle = TURN * int(rng.integers(1, round(360 / TURN)))
            moved = replace(moved, positions=turn(moved, i, j, side, angle))
        if nearest_ratios(moved).min() >= limit:
            return _moved(atoms, moved)
    return None


def _of_one(atoms: Atoms, rng: np.random.Generator) -> Iterator[Atoms]:
    """Frames without end."""
    from hdistill.data.sampling.torsions import rotatable_bonds

    bonds = rotatable_bonds(geometry_of(atoms))
    number = 0
    while True:
        sigma = RATTLES[number % len(RATTLES)]
        base, move = atoms, "rattle"
        if atoms.pbc.all() and number % 2:
            base, move = strained(atoms, rng), "strain"
        elif bonds and number % 4:
            conformer = turned(atoms, bonds, rng)
            base, move = (atoms, "rattle") if conformer is None else (conformer, "torsions")
        frame = rattled(base, sigma, rng)
        known: dict[str, Any] = {key: atoms.info[key] for key in ("charge", "spin") if key in atoms.info}
        frame.info = {"parent": name_of(atoms), "move": move, "sigma": sigma, **known}
        yield frame
        number += 1


def _moved(atoms: Atoms, to: Structure) -> Atoms:
    moved = atoms.copy()
    moved.set_cell(to.cell)
    moved.set_positions(to.positions)
    return moved
