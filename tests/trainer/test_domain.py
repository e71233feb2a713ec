"""The domain: what was learned from is inside, what is squeezed, torn or alone is outside; and it belongs to one student."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from hdistill.data.errors import InputError
from hdistill.trainer.fitting.fit import FitResult
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import STUDENT
from hdistill.trainer.force_field.domain import DOMAIN, Domain, calibrated, domain_of, fit_domain, load_domain
from tests.data.samples import write_label_set
from tests.trainer.structures import argon_samples


@pytest.fixture(scope="module")
def run(fitted: FitResult, argon: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("domain") / "run"
    shutil.copytree(fitted.run, copy)
    (copy / DOMAIN).unlink(missing_ok=True)
    assert load_domain(copy) is None
    assert fit_domain(copy, argon) is not None
    return copy


def distances(calculator: HDistillCalculator, atoms: Atoms) -> np.ndarray:
    atoms.calc = calculator
    atoms.get_forces()
    actual = calculator.domain_distance
    assert actual is not None
    assert actual.shape == (len(atoms),)
    return np.asarray(actual)


def held_out() -> list[Atoms]:
    samples = [s.structure for s in argon_samples(120) if s.split == "test"]
    return [Atoms(s.numbers, s.positions) for s in samples]


def test_held_out_structures_are_inside_and_strange_ones_outside(run: Path) -> None:
    calculator = HDistillCalculator(run, warn_beyond=None)
    known = np.concatenate([distances(calculator, atoms) for atoms in held_out()])
    assert (known < 1).mean() > 0.85
    assert known.max() > 0.3
    for atoms in held_out()[:4]:
        squeezed = atoms.copy()
        squeezed.positions *= 0.7
        assert distances(calculator, squeezed).max() > 2
    crowd = Atoms("Ar13", 3.8 * np.vstack([np.zeros((1, 3)), _icosahedron()]))  # no atom had twelve neighbours
    assert distances(calculator, crowd)[0] > 2


def test_it_is_continuous_along_a_path_and_the_same_for_a_turned_structure(run: Path) -> None:
    calculator = HDistillCalculator(run, warn_beyond=None)
    atoms = held_out()[0]
    before = distances(calculator, atoms)
    turned = atoms.copy()
    turned.rotate(40, (1, 2, 3))
    np.testing.assert_allclose(distances(calculator, turned), before, rtol=1e-3)
    steps = []
    for scale in np.linspace(1.0, 0.8, 201):
        moved = atoms.copy()
        moved.positions *= scale
        steps.append(distances(calculator, moved).max())
    jumps = np.abs(np.diff(steps))
    assert jumps.max() < 0.1 * (max(steps) - min(steps))


def test_the_first_strange_atom_is_told_of_once(run: Path) -> None:
    calculator = HDistillCalculator(run, compiled=False)  # machine code of other tests is looked at less often
    atoms = held_out()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distances(calculator, atoms.copy())
    atoms.positions *= 0.7
    with pytest.warns(
        UserWarning, match=r"The surroundings of Ar \(atom \d\) are unlike those this student learned from"
    ):
        distances(calculator, atoms)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.positions *= 0.99
        distances(calculator, atoms)


def test_results_do_not_depend_on_whether_there_is_a_domain(run: Path, fitted: FitResult) -> None:
    alone = fitted.run / STUDENT
    bare = run.parent / "bare"
    bare.mkdir()
    shutil.copy(alone, bare / STUDENT)
    atoms = held_out()[1]
    atoms.calc = HDistillCalculator(bare)
    forces = atoms.get_forces()
    assert "domain_distance" not in atoms.calc.results
    atoms.calc = HDistillCalculator(run)
    assert np.array_equal(atoms.get_forces(), forces)


def test_it_belongs_to_its_student_and_to_its_label_set(run: Path, argon: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert load_domain(copy / STUDENT) is not None
    data = (copy / STUDENT).read_bytes()
    (copy / STUDENT).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # a student of a later step
    assert load_domain(copy) is None
    (copy / STUDENT).write_bytes(data)
    (copy / DOMAIN).write_bytes(b"nonsense")
    with pytest.raises(InputError, match="damaged"):
        HDistillCalculator(copy)
    other = write_label_set(tmp_path / "other", argon_samples(20, seed=5))
    with pytest.raises(InputError, match="was fitted to another label set"):
        fit_domain(run, other)


def test_the_same_student_and_labels_give_the_same_file(run: Path, argon: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / DOMAIN).unlink()
    fit_domain(copy, argon)
    assert (copy / DOMAIN).read_bytes() == (run / DOMAIN).read_bytes()


def test_a_normal_cloud_has_mahalanobis_distances_and_its_own_quantile() -> None:
    rng = np.random.default_rng(0)
    shape = np.array([[2.0, 0.0], [1.5, 0.3]])
    cloud, more = rng.normal(size=(20_000, 2)) @ shape.T + 7, rng.normal(size=(20_000, 2)) @ shape.T + 7
    numbers = np.full(20_000, 6)
    plain = domain_of(numbers, cloud)
    point = np.array([[8.0, 7.5]])
    exact = np.sqrt((point - 7) @ np.linalg.inv(shape @ shape.T) @ (point - 7).T)
    assert plain.distances(np.array([6]), point)[0] == pytest.approx(exact[0, 0], rel=0.05)
    domain = calibrated(plain, plain.distances(numbers, more), numbers)
    assert domain.limit[0] == pytest.approx(np.sqrt(5.99), rel=0.03)  # 95 % of a chi-square of two degrees of freedom
    assert (domain.distances(numbers, more) < 1).mean() == pytest.approx(0.95, abs=1e-3)
    assert np.isinf(domain.distances(np.array([8]), point)).all()


def test_few_environments_of_an_element_are_enough() -> None:
    """One atom of an element, and more features than atoms: finite, and far things are further than near ones."""
    rng = np.random.default_rng(1)
    numbers, features = np.array([1] * 8 + [92]), rng.normal(size=(9, 32))
    domain: Domain = calibrated(domain_of(numbers, features), np.array([3.0]), np.array([1]))
    for element, centre in ((1, features[:8].mean(axis=0)), (92, features[8])):
        near, far = domain.distances(np.array([element, element]), centre + np.array([[0.1], [5.0]]) * np.ones(32))
        assert 0 <= near < far < np.inf


def _icosahedron() -> np.ndarray:
    golden = (1 + 5**0.5) / 2
    flat = np.array([(0, a, b * golden) for a in (1, -1) for b in (1, -1)])
    corners = np.vstack([np.roll(flat, k, axis=1) for k in range(3)])
    return corners / np.linalg.norm(corners[0])
