"""What can be no structure is refused by verify and, where it would take gigabytes, before anything is read for training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk, fcc111, graphene, molecule

from hdistill.data.errors import LabelSetError
from hdistill.data.format import plausible
from hdistill.data.format.plausible import crowded, structure_problem
from hdistill.data.labelsets.label_set import open_label_set, verify
from hdistill.data.labelsets.stream import in_order
from hdistill.data.structure import Structure
from hdistill.labeler.planning import checks
from tests.data.samples import random_samples, write_label_set


def structure(positions: Any, cell: Any = 0.0, pbc: Any = False) -> Structure:
    positions = np.asarray(positions, np.float64).reshape(-1, 3)
    matrix = np.asarray(cell, np.float64)
    matrix = matrix if matrix.ndim == 2 else np.eye(3) * matrix
    return Structure(
        numbers=np.full(len(positions), 1, np.uint8),
        positions=positions,
        cell=matrix,
        pbc=np.broadcast_to(np.asarray(pbc, bool), 3).copy(),
        charge=0,
        spin=1,
        group="x",
        info={},
    )


def of_atoms(atoms: Any) -> Structure:
    return replace(structure(atoms.positions, np.array(atoms.cell), atoms.pbc), numbers=atoms.numbers.astype(np.uint8))


GOOD: dict[str, Callable[[], Any]] = {
    "diamond": lambda: bulk("C"),
    "a long thin cell of a wire": lambda: bulk("Cu", cubic=True) * (1, 1, 30),
    "a sheared cell": lambda: sheared(),
    "a slab": lambda: fcc111("Al", (4, 4, 6), vacuum=20.0),
    "graphene": lambda: graphene(),
    "a molecule far from the origin": lambda: moved(molecule("C60"), 3000.0),
    "hydrogen": lambda: molecule("H2"),
    "a large crystal": lambda: bulk("C", cubic=True) * 5,
    "a large crystal, unwrapped": lambda: moved(bulk("C", cubic=True) * 4, 1000.0),
}


def sheared() -> Any:
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.set_cell([atoms.cell[0], atoms.cell[1] + 3 * atoms.cell[0], atoms.cell[2] + 4 * atoms.cell[1]])
    return atoms


def moved(atoms: Any, distance: float) -> Any:
    atoms.translate([distance, -distance, 2 * distance])
    return atoms


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_matter_is_taken(kind: str) -> None:
    assert structure_problem(of_atoms(GOOD[kind]())) is None


GRID = np.stack(np.meshgrid(*[np.arange(5)] * 3), axis=-1).reshape(-1, 3)
BAD: dict[str, tuple[Structure, str]] = {
    "a cell of 0.05 A": (structure([0, 0, 0], 0.05, True), "image are 0.05 A apart"),
    "a wire of 0.05 A": (structure([0, 0, 0], np.diag([0.05, 9, 9]), [True, False, False]), "image are 0.05 A apart"),
    "rows that nearly cancel": (
        structure([0, 0, 0], [[9, 0, 0], [-8.9, 0.1, 0], [0, 0, 9]], True),
        "image are 0.141 A apart",
    ),
    "many atoms in a small cell": (structure(GRID[:40] * 0.5, 2.5, True), "0.391 A^3 for each atom"),
    "atoms in one place": (structure(np.zeros((100, 3))), "100 of its atoms are in a box"),
    "atoms in one place, after wrapping": (
        structure(np.arange(100)[:, None] * [12.0, 0, 0], np.diag([12.0, 12, 12]), True),
        "100 of its atoms are in a box",
    ),
    "a crowd and one far away": (structure([*(GRID * 0.5), [900, 0, 0]]), "of its atoms are in a box"),
    "two atoms in one place": (structure([[0, 0, 0], [0, 0, 0.1]]), "0.100 A apart"),
    "no volume": (structure([0, 0, 0], [[5, 0, 0], [5, 0, 0], [0, 0, 5]], True), "no volume"),
    "a cell of 20 km": (structure([0, 0, 0], 2e14, True), "more than 10000"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_is_said_by_label_and_by_verify(tmp_path: Path, kind: str) -> None:
    wrong, words = BAD[kind]
    assert words in str(structure_problem(wrong))
    assert checks.structure_problem(wrong, [1]) == structure_problem(wrong)
    labels = written(tmp_path, wrong)
    with pytest.raises(LabelSetError, match=r"cannot be: |that large"):
        verify(labels)


@pytest.mark.parametrize("kind", list(BAD)[:7])
def test_what_would_take_gigabytes_is_refused_before_it_is_read(tmp_path: Path, kind: str) -> None:
    with pytest.raises(LabelSetError, match=r"structure [0-9a-f]{32} cannot be"):
        list(in_order(open_label_set(written(tmp_path, BAD[kind][0]), check=False), "train"))


def written(folder: Path, wrong: Structure) -> Path:
    """A set of three structures, the second of which is wrong."""
    samples = random_samples("none", sizes=(3, wrong.n_atoms, 5))
    samples[1] = replace(samples[1], structure=wrong)
    return write_label_set(folder / "labels", [replace(sample, split="train") for sample in samples])


def test_many_structures_at_once_are_judged_as_each_alone() -> None:
    every = [BAD[kind][0] for kind in BAD] + [of_atoms(make()) for make in GOOD.values()]
    for order in (every, every[::-1]):
        alone = [crowded(np.array([s.n_atoms]), s.positions, s.cell[None], s.pbc[None]) is not None for s in order]
        together = crowded(
            np.array([s.n_atoms for s in order]),
            np.concatenate([s.positions for s in order]),
            np.array([s.cell for s in order]),
            np.array([s.pbc for s in order]),
        )
        assert together is not None
        assert alone[together[0]]
    assert plausible.MAX_IN_BOX * plausible.MIN_VOLUME > plausible.BOX**3  # no cell that is full fills a box
