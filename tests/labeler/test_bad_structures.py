"""Kinds of bad structures, and what becomes of each: quarantined or skipped with its name, while its neighbours are labelled."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from hdistill.data.structure import Structure
from hdistill.labeler.planning.checks import structure_problem
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.run import RunSettings, label
from tests.labeler.conftest import clusters, write_extxyz

ARGON = [18]


def moved(atoms: Atoms, position: list[float]) -> Atoms:
    """Its second atom put elsewhere."""
    atoms.positions[1] = position
    return atoms


def in_cell(atoms: Atoms, cell: list[list[float]] | list[float], pbc: bool | tuple[bool, bool, bool] = True) -> Atoms:
    atoms.cell, atoms.pbc = Atoms(cell=cell).cell, pbc
    return atoms


def messages(atoms: Atoms, **info: object) -> Atoms:
    atoms.info.update(info)
    return atoms


def with_number(atoms: Atoms, number: int) -> Atoms:
    atoms.numbers[0] = number
    return atoms


# Each changes one good cluster of argon; the words are in quarantine, or count it among those skipped in the manifest.
QUARANTINED: dict[str, tuple[Callable[[Atoms], Atoms], str]] = {
    "a position is NaN": (lambda a: moved(a, [0, np.nan, 0]), "a position is not finite"),
    "a position is infinite": (lambda a: moved(a, [0, np.inf, 0]), "a position is not finite"),
    "the cell is NaN": (lambda a: in_cell(a, [[np.nan, 0, 0], [0, 9, 0], [0, 0, 9]]), "cell is not finite"),
    "the cell is infinite": (lambda a: in_cell(a, [[np.inf, 0, 0], [0, 9, 0], [0, 0, 9]]), "cell is not finite"),
    "two atoms in one place": (lambda a: moved(a, a.positions[0].tolist()), "0.000 A apart"),
    "two atoms nearly in one place": (lambda a: moved(a, (a.positions[0] + [0, 0, 0.3]).tolist()), "0.300 A apart"),
    "an atom on its neighbour's image": (
        lambda a: in_cell(moved(a, (a.positions[0] + [20, 0, 0.1]).tolist()), [20, 20, 20]),
        "0.100 A apart",
    ),
    "an atom on its own image": (lambda a: in_cell(a, [0.2, 20, 20]), "A apart, less than 0.4"),
    "a flat cell": (lambda a: in_cell(a, [[9, 0, 0], [0, 9, 0], [9, 9, 0]]), "no volume"),
    "a cell of a micrometre": (lambda a: in_cell(a, [1e4 + 1, 20, 20]), "a cell edge is 10001 A"),
    "atoms spread over a micrometre": (lambda a: moved(a, [2e4, 0, 0]), "spread over"),
    "a position near the largest number": (lambda a: moved(a, [1e300, 0, 0]), "spread over"),
    "forces too large to learn": (lambda a: moved(a, (a.positions[0] + [0, 0, 0.8]).tolist()), "a force is"),
}
SKIPPED: dict[str, tuple[Callable[[Atoms], Atoms], str]] = {
    "a dummy atom": (lambda a: with_number(a, 0), "unknown element"),
    "a broken charge": (lambda a: messages(a, charge=0.5), "charge is not a whole number"),
    "a charge that is NaN": (lambda a: messages(a, charge=np.nan), "charge is not a whole number"),
    "a negative spin": (lambda a: messages(a, spin=-1), "spin is not a multiplicity"),
}


def test_each_kind_is_named_and_the_others_are_labelled(tmp_path: Path) -> None:
    """One run over all of them, each beside a good cluster: the sixteen good ones are labelled, every bad one accounted for."""
    good = clusters(16)
    bad = clusters(len(QUARANTINED) + len(SKIPPED), seed=1)
    changes = {**QUARANTINED, **SKIPPED}
    for number, (kind, (change, _)) in enumerate(changes.items()):
        change(bad[number]).info["group"] = kind
    mixed = [atoms for pair in zip(bad, good, strict=False) for atoms in pair] + bad[len(good) :]
    source = write_extxyz(tmp_path / "mixed.xyz", mixed)
    settings = LabelSettings("lennard-jones", (str(source),), hessian="probes:2", splits="0.6,0.2,0.2")
    result = label(settings, tmp_path / "labels", run=RunSettings(workers=1, progress=False), say=lambda _: None)
    assert result.manifest.counts.n_structures == len(good)
    assert result.manifest.counts.n_quarantined == len(QUARANTINED)
    rows = [row for p in sorted((result.path / "quarantine").glob("*.json")) for row in json.loads(p.read_bytes())]
    texts = {row["group"]: row["text"] for row in rows}
    assert texts.keys() == QUARANTINED.keys()
    for kind, (_, words) in QUARANTINED.items():
        assert words in texts[kind], (kind, texts[kind])
    skipped = result.manifest.subset.skipped
    wanted = [words for _, words in SKIPPED.values()]
    assert {words: skipped.get(words) for words in wanted} == {words: wanted.count(words) for words in wanted}


def one(**changes: object) -> Structure:
    structure = Structure(numbers=np.array([18, 18], np.uint8), positions=np.array([[0.0, 0, 0], [0, 0, 3.8]]))
    return replace(structure, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("structure", "words"),
    [
        (one(), None),
        (one(numbers=np.zeros(0, np.uint8), positions=np.zeros((0, 3))), "it has no atoms"),
        (one(numbers=np.array([18, 92], np.uint8)), "does not know U"),
        (one(numbers=np.array([18, 0], np.uint8)), "does not know 0"),
        (one(numbers=np.array([18, 200], np.uint8)), "does not know 200"),
        (one(cell=np.diag([8.0, 8, 0]), pbc=np.array([True, True, False])), None),  # a slab needs no third vector
        (one(cell=np.diag([8.0, 8, 0]), pbc=np.array([True, False, True])), "no volume"),
        (one(pbc=np.ones(3, bool)), "no volume"),  # extended XYZ loses the periodicity of what has no cell
        (one(cell=np.diag([8.0, 8, 4.0]), pbc=np.ones(3, bool)), "0.200 A apart"),
        (one(cell=np.diag([8.0, 8, 4.0]), pbc=np.zeros(3, bool)), None),  # a cell that is not periodic has no images
    ],
)
def test_what_no_file_of_structures_can_hold(structure: Structure, words: str | None) -> None:
    actual = structure_problem(structure, ARGON)
    assert actual == words if words is None else words in (actual or "")
