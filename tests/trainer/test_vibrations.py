"""Frequencies: an analytic diatomic, ASE's own vibrations, a chain with known phonons, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from ase.vibrations import VibrationsData

from hdistill.data.errors import InputError
from hdistill.data.hessian import products_by_differences
from hdistill.data.structure import Directions, HessianProducts, Structure
from hdistill.trainer.evaluation.vibrations import frequencies, frequency_error, full_hessian


def structure_of(atoms: Atoms) -> Structure:
    return Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)


def emt_hessian(atoms: Atoms) -> np.ndarray:
    """(3N,N,3) by central differences of EMT's forces."""
    n = len(atoms)

    def forces_at(positions: np.ndarray) -> np.ndarray:
        moved = atoms.copy()
        moved.positions = positions
        moved.calc = EMT()
        return np.asarray(moved.get_forces())

    return products_by_differences(forces_at, atoms.positions, np.eye(3 * n).reshape(3 * n, n, 3), 1e-4)


def spring(numbers: tuple[int, int], k: float) -> tuple[Structure, np.ndarray]:
    """A diatomic with a spring constant k along an oblique bond."""
    u = np.array([1.0, 2.0, 2.0]) / 3
    block = k * np.outer(u, u)
    hessian = np.block([[block, -block], [-block, block]]).reshape(6, 2, 3)
    return Structure(np.array(numbers), np.array([[0.3, -1.0, 2.0], np.array([0.3, -1.0, 2.0]) + 1.1 * u])), hessian


def test_a_diatomic_has_one_frequency_and_it_is_the_textbooks() -> None:
    structure, hessian = spring((6, 8), 118.7)  # eV/A^2: 1902 N/m, carbon monoxide
    (actual,) = frequencies(structure, hessian)
    reduced = 12.011 * 15.999 / (12.011 + 15.999)
    k, mass = 118.7 * 16.0217663, reduced * 1.66053907e-27  # N/m, kg
    assert actual == pytest.approx(np.sqrt(k / mass) / (2 * np.pi * 2.99792458e10), rel=1e-5)
    assert actual == pytest.approx(2169, abs=10)  # measured: 2170 cm^-1


def test_a_maximum_has_an_imaginary_frequency_shown_as_a_negative_number() -> None:
    structure, hessian = spring((6, 8), 118.7)
    (real,), (imaginary,) = frequencies(structure, hessian), frequencies(structure, -hessian)
    assert imaginary == pytest.approx(-real, rel=1e-12)


def test_a_molecule_at_its_minimum_has_the_frequencies_of_ase() -> None:
    atoms = molecule("H2O")
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=1e-7)
    hessian = emt_hessian(atoms)
    flat = hessian.reshape(9, 9)
    theirs = VibrationsData.from_2d(atoms, 0.5 * (flat + flat.T)).get_frequencies()
    actual = frequencies(structure_of(atoms), hessian)
    assert len(actual) == 3
    np.testing.assert_allclose(actual, np.sort(theirs.real)[-3:], rtol=1e-6)


@pytest.mark.parametrize(("name", "n"), [("CO2", 4), ("H2O", 3), ("CH4", 9)])
def test_linear_molecules_keep_one_more(name: str, n: int) -> None:
    atoms = molecule(name)
    hessian = np.eye(3 * len(atoms)).reshape(-1, len(atoms), 3)
    assert len(frequencies(structure_of(atoms), hessian)) == n


def test_away_from_a_minimum_rotations_do_not_mix_in() -> None:
    """With the identity as Hessian each atom is a free oscillator: every mode that is left has the frequency of some mass."""
    structure = structure_of(molecule("CH4"))
    actual = frequencies(structure, np.eye(15).reshape(15, 5, 3))
    light, heavy = (
        units._hbar * np.sqrt(units._e * 1e20 / (m * units._amu)) / units._e / units.invcm for m in (1.008, 12.011)
    )
    assert heavy - 1e-6 < actual.min() <= actual.max() < light + 1e-6


def test_a_crystal_loses_only_its_translations() -> None:
    atoms = bulk("Cu", cubic=True)
    hessian = emt_hessian(atoms)
    actual = frequencies(structure_of(atoms), hessian)
    assert len(actual) == 9
    flat = hessian.reshape(12, 12)
    theirs = np.sort(VibrationsData.from_2d(atoms, 0.5 * (flat + flat.T)).get_frequencies().real)
    np.testing.assert_allclose(actual, theirs[-9:], rtol=1e-5)
    assert actual.min() > 50


def test_a_free_atom_has_none() -> None:
    assert frequencies(structure_of(Atoms("Ar")), np.zeros((3, 1, 3))).shape == (0,)


def test_rows_of_a_label_in_any_order_are_a_hessian() -> None:
    _, hessian = spring((6, 8), 10.0)
    order = np.array([3, 0, 5, 1, 4, 2], np.int32)
    stored = HessianProducts(Directions("rows", coordinate=order), hessian[order])
    assert np.array_equal(full_hessian(stored), hessian)
    some = HessianProducts(Directions("rows", coordinate=order[:4]), hessian[order[:4]])
    with pytest.raises(InputError, match=r"2 of the 6 rows.*--hessian full"):
        full_hessian(some)
    with pytest.raises(InputError, match="all rows"):
        full_hessian(HessianProducts(Directions("probes", signs=np.ones((1, 2, 3), np.int8)), np.zeros((1, 2, 3))))


def test_what_is_no_hessian_is_refused() -> None:
    structure, hessian = spring((6, 8), 10.0)
    with pytest.raises(InputError, match=r"shape \(6, 2, 3\)"):
        frequencies(structure, hessian.reshape(6, 6))
    skewed = hessian.copy()
    skewed[0, 1, 1] += 1.0
    with pytest.raises(InputError, match="no normal modes"):
        frequencies(structure, skewed)
    skewed[0, 1, 1] = np.nan
    with pytest.raises(InputError, match="not finite numbers"):
        frequencies(structure, skewed)


def test_the_error_of_frequencies_is_between_sorted_ones() -> None:
    assert frequency_error(np.array([300.0, -20.0]), np.array([-10.0, 280.0])) == 15.0
    with pytest.raises(InputError, match="2 frequencies cannot be compared with 3"):
        frequency_error(np.zeros(2), np.zeros(3))
