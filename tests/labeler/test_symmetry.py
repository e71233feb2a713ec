"""Rows rebuilt by the symmetry of a crystal against rows that the teacher computed, all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write
from ase.spacegroup import crystal

from hdistill.data.format.shard import read_samples
from hdistill.data.labelsets.label_set import verify
from hdistill.data.probes import draw, parse_spec
from hdistill.data.structure import Directions, Labels, Structure
from hdistill.labeler.planning import symmetry
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.process.parent import TeacherProcess
from hdistill.labeler.run import RunSettings, label as run_label, label_share
from hdistill.labeler.teachers import registry
from hdistill.labeler.teachers.lennard_jones import load

TEACHER = load(registry.request("lennard-jones", dtype="float64"))


def structure_of(atoms: Atoms) -> Structure:
    return Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)


def perovskite(a: float = 3.9) -> Atoms:
    sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms("SrTiO3", scaled_positions=sites, cell=[a] * 3, pbc=True)


def turned(atoms: Atoms) -> Atoms:
    """Axes of the crystal along no Cartesian axis."""
    atoms = atoms.copy()
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    return atoms


def moved(atoms: Atoms) -> Atoms:
    """Atoms outside of their cell."""
    atoms = atoms.copy()
    atoms.positions += [31.0, -17.0, 5.0]
    return atoms


def strained(atoms: Atoms, *strain: float) -> Atoms:
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + np.array(strain).reshape(3, 3)), scale_atoms=True)
    return atoms


RUTILE = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90])
QUARTZ = crystal(
    ["Si", "O"],
    [(0.4697, 0, 0), (0.4135, 0.2669, 0.1191)],
    spacegroup=152,
    cellpar=[4.916, 4.916, 5.405, 90, 90, 120],
)
WATER_BOX = molecule("H2O", cell=[5, 5, 5], pbc=True)

# name: crystal, and how many rows of its Hessian (of 3N) must be computed, without the witness
CRYSTALS = {
    "perovskite": (perovskite(), 4),  # Sr and Ti one each, O along and across its bond
    "perovskite, turned": (turned(perovskite()), 3),  # a row of O is neither along nor across its bond
    "perovskite, 2x2x2": (perovskite() * (2, 2, 2), 4),
    "perovskite, 1x1x2": (perovskite() * (1, 1, 2), 9),  # Sr, Ti and O in the plane have fewer neighbours alike
    "perovskite, tetragonal": (strained(perovskite(), 0, 0, 0, 0, 0, 0, 0, 0, 0.02), 9),
    "perovskite, sheared, 1x1x2": (strained(perovskite(), 0, 0.03, 0, 0, 0, 0, 0, 0, 0) * (1, 1, 2), 15),
    "fcc": (bulk("Ar", "fcc", a=5.3) * (2, 2, 2), 1),
    "fcc, cubic cell": (bulk("Ar", "fcc", a=5.3, cubic=True), 1),
    "fcc, atoms outside": (moved(bulk("Ar", "fcc", a=5.3, cubic=True)), 1),
    "diamond": (bulk("C", "diamond", a=4.6), 1),
    "hcp": (bulk("Mg", "hcp", a=3.6, c=5.8), 2),
    "hcp, turned": (turned(bulk("Mg", "hcp", a=3.6, c=5.8)), 1),
    "rutile": (RUTILE, 4),  # a row in the plane, between the axes of the site, and one along c, of Ti and of O
    "quartz": (QUARTZ, None),  # chiral, screw axes, not orthogonal
    "water in a box": (WATER_BOX, None),
}


def label(structures: Sequence[Structure], directions: Sequence[Directions | None], n_edges: int) -> list[Labels]:
    return TEACHER.label(structures, directions)


class Counting:
    """A teacher's `label` that counts the rows it is asked for."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(
        self, structures: Sequence[Structure], directions: Sequence[Directions | None], n_edges: int
    ) -> list[Labels]:
        self.rows += sum(0 if d is None else len(d) for d in directions)
        return TEACHER.label(structures, directions)


def values_of(labels: Labels) -> np.ndarray:
    assert labels.hessian is not None
    return np.asarray(labels.hessian.values, np.float64)


@pytest.mark.parametrize("name", CRYSTALS)
def test_the_full_hessian_is_rebuilt_from_few_rows(name: str) -> None:
    atoms, expected = CRYSTALS[name]
    s = structure_of(atoms)
    every = draw(parse_spec("full"), 0, s.id, s.n_atoms)
    ask = Counting()
    (actual,) = symmetry.sparing(ask)([s], [every], 0)
    (truth,) = TEACHER.label([s], [every])
    assert ask.rows < 3 * s.n_atoms
    if expected is not None:
        assert ask.rows == expected + 1
    assert actual.hessian is not None
    assert actual.hessian.n_computed == ask.rows
    assert actual.hessian.directions is every
    largest = np.abs(values_of(truth)).max()
    assert largest > 1e-3
    np.testing.assert_allclose(values_of(actual), values_of(truth), rtol=0, atol=1e-10 * largest)


@pytest.mark.parametrize("name", ["perovskite, 2x2x2", "perovskite, sheared, 1x1x2", "hcp, turned", "quartz"])
@pytest.mark.parametrize("count", [2, 5, 12])
def test_random_rows_are_rebuilt_and_only_wanted_ones_asked(name: str, count: int) -> None:
    s = structure_of(CRYSTALS[name][0])
    for seed in range(5):
        wanted = draw(parse_spec(f"rows:{count}"), seed, s.id, s.n_atoms)
        assert wanted is not None
        reduction = symmetry.reduce(s, wanted)
        asked = wanted if reduction is None else reduction.asked
        assert set(asked.coordinate.tolist()) <= set(wanted.coordinate.tolist())  # type: ignore[union-attr]
        (actual,) = symmetry.sparing(label)([s], [wanted], 0)
        (truth,) = TEACHER.label([s], [wanted])
        largest = np.abs(values_of(truth)).max()
        np.testing.assert_allclose(values_of(actual), values_of(truth), rtol=0, atol=1e-10 * largest)


def test_computed_rows_stay_as_the_teacher_gave_them() -> None:
    s = structure_of(QUARTZ)
    wanted = draw(parse_spec("full"), 0, s.id, s.n_atoms)
    reduction = symmetry.reduce(s, wanted)
    assert reduction is not None
    assert reduction.asked.coordinate is not None
    values = np.random.default_rng(0).normal(size=(len(reduction.asked), s.n_atoms, 3)).astype(np.float32)
    rebuilt = reduction.rebuild(values)
    assert rebuilt.dtype == np.float32
    assert (rebuilt[reduction.asked.coordinate] == values).all()


@pytest.mark.parametrize("where", ["atom", "cell"])
def test_a_small_distortion_is_no_symmetry(where: str) -> None:
    """One atom moved by 1e-4 A, off every axis and plane; a cell sheared by as much."""
    atoms = perovskite()
    if where == "atom":
        atoms.positions[2] += np.array([3.0, 5.0, 7.0]) / np.linalg.norm([3.0, 5.0, 7.0]) * 1e-4
    else:
        atoms = strained(atoms, 0, 2.6e-5, 1.1e-5, 0, 1.7e-5, 0.7e-5, 0, 0, 0)
    s = structure_of(atoms)
    reduction = symmetry.reduce(s, draw(parse_spec("full"), 0, s.id, s.n_atoms))
    assert reduction is None or len(reduction.asked) > 7  # a sheared crystal keeps its inversion


@pytest.mark.parametrize("kind", ["rattled", "molecule", "slab", "probes", "nothing"])
def test_what_has_no_symmetry_passes_unchanged(kind: str) -> None:
    atoms = molecule("CH4") if kind == "molecule" else perovskite()
    if kind == "rattled":
        atoms.rattle(0.05, seed=0)
    if kind == "slab":
        atoms.pbc = [True, True, False]
    s = structure_of(atoms)
    spec = {"probes": "probes:4", "nothing": "none"}.get(kind, "full")
    wanted = draw(parse_spec(spec), 0, s.id, s.n_atoms)
    assert symmetry.reduce(s, wanted) is None
    given: list[Directions | None] = []

    def ask(structures: Sequence[Structure], directions: Sequence[Directions | None], n_edges: int) -> list[Labels]:
        given.extend(directions)
        return TEACHER.label(structures, directions)

    (actual,) = symmetry.sparing(ask)([s], [wanted], 0)
    assert given == [wanted]
    assert actual.hessian is None or actual.hessian.n_computed is None


def test_a_batch_keeps_its_order() -> None:
    rattled = perovskite()
    rattled.rattle(0.05, seed=0)
    structures = [structure_of(a) for a in (perovskite(), rattled, molecule("H2O"), RUTILE)]
    directions = [draw(parse_spec("full"), 0, s.id, s.n_atoms) for s in structures]
    directions[2] = None
    actual = symmetry.sparing(label)(structures, directions, 0)
    for one, other in zip(actual, TEACHER.label(structures, directions), strict=True):
        assert one.energy == other.energy
        assert (one.hessian is None) == (other.hessian is None)
        if one.hessian is not None:
            np.testing.assert_allclose(
                values_of(one), values_of(other), rtol=0, atol=1e-10 * np.abs(values_of(other)).max()
            )


@pytest.mark.parametrize("broken", ["rows", "forces"])
def test_a_teacher_that_breaks_the_symmetry_is_asked_for_all_rows(broken: str) -> None:
    s = structure_of(perovskite())
    wanted = draw(parse_spec("full"), 0, s.id, s.n_atoms)
    asked: list[int] = []

    def ask(structures: Sequence[Structure], directions: Sequence[Directions | None], n_edges: int) -> list[Labels]:
        """Each row is a little harder than the one before, and no place is like another."""
        asked.extend(0 if d is None else len(d) for d in directions)
        labels = TEACHER.label(structures, directions)
        if broken == "forces":
            return [replace(x, forces=x.forces + np.array([0, 0, 0.01])) for x in labels]
        hard = [1 + 0.02 * d.coordinate[:, None, None] for d in directions if d and d.coordinate is not None]
        actual = zip(labels, hard, strict=True)
        return [replace(x, hessian=replace(x.hessian, values=values_of(x) * h)) for x, h in actual if x.hessian]

    (actual,) = symmetry.sparing(ask)([s], [wanted], 0)
    assert asked == [5, 15]
    assert actual.hessian is not None
    assert actual.hessian.n_computed is None
    assert (values_of(actual) == values_of(ask([s], [wanted], 0)[0])).all()


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        pytest.param("7net-0", 1e-8, marks=[pytest.mark.xdist_group("sevennet"), pytest.mark.long]),
        pytest.param("chgnet", 1e-9, marks=[pytest.mark.xdist_group("chgnet"), pytest.mark.long]),
    ],
)
def test_a_real_teacher_in_float64(name: str, tolerance: float, warm: Callable[[str], Path]) -> None:
    """SevenNet-0 tells a structure from its mirror image: with mirrors among the operations this would be 4e-4 off."""
    python = warm(registry.entry(name).family)
    s = structure_of(perovskite() * (1, 1, 2))
    wanted = Directions("rows", coordinate=np.array([0, 1, 15, 16, 3, 4, 18, 19], np.int32))  # x and y of Sr and Ti
    with TeacherProcess(python, registry.request(name, dtype="float64")) as teacher:
        (actual,) = symmetry.sparing(lambda batch, wanted, _: teacher.label(batch, wanted))([s], [wanted], 0)
        (truth,) = teacher.label([s], [wanted])
    assert actual.hessian is not None
    assert actual.hessian.n_computed == 3
    np.testing.assert_allclose(
        values_of(actual), values_of(truth), rtol=0, atol=tolerance * np.abs(values_of(truth)).max()
    )


def test_a_label_set_tells_how_many_rows_were_computed_and_holds_the_energies_of_atoms(tmp_path: Path) -> None:
    """A perfect and a rattled crystal, labelled without a scheduler: 5 rows of 15, and all 15."""
    rattled = perovskite()
    rattled.rattle(0.05, seed=1)
    write(tmp_path / "crystals.xyz", [perovskite(), rattled])
    settings = LabelSettings(
        "lennard-jones", (str(tmp_path / "crystals.xyz"),), hessian="full", codec="exact", atom_energies=True
    )
    out, quiet = tmp_path / "labels", RunSettings(workers=1, progress=False)
    label_share(settings, out, (1, 1), run=quiet, say=lambda _: None)
    manifest = run_label(settings, out, run=quiet, say=lambda _: None).manifest
    assert (manifest.hessian.n_products, manifest.hessian.n_computed) == (30, 20)
    samples = [sample for shard in verify(out).shards for sample in read_samples(shard.path)]
    assert len(samples) == 2
    for sample in samples:
        energies = sample.labels.atom_energies
        assert energies is not None
        assert energies.sum() == pytest.approx(sample.labels.energy, rel=1e-12)
        every = draw(parse_spec("full"), 0, sample.structure.id, sample.structure.n_atoms)
        (truth,) = TEACHER.label([sample.structure], [every])
        largest = np.abs(values_of(truth)).max()
        np.testing.assert_allclose(values_of(sample.labels), values_of(truth), rtol=0, atol=1e-6 * largest)
