"""The ASE calculator: it says what predict says, and the Hessian is the derivative of the forces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet

from hdistill.data.errors import InputError
from hdistill.trainer.fitting.fit import FitResult, fit
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import load_student
from hdistill.trainer.force_field.predict import predict
from hdistill.trainer.inputs.batch import batch_of
from tests.trainer.structures import argon_samples


@pytest.fixture(scope="module")
def calculator(fitted: FitResult) -> HDistillCalculator:
    return HDistillCalculator(fitted.run, dtype="float64")


def cluster(calculator: HDistillCalculator) -> Atoms:
    structure = argon_samples(4)[3].structure
    return Atoms(structure.numbers, structure.positions, calculator=calculator)


def crystal(calculator: HDistillCalculator) -> Atoms:
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.calc = calculator
    return atoms


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_it_says_what_predict_says(fitted: FitResult, dtype: str) -> None:
    sample = argon_samples(4)[3]
    calculator = HDistillCalculator(fitted.run, dtype=dtype, compiled=False)
    atoms = Atoms(sample.structure.numbers, sample.structure.positions, calculator=calculator)
    trained = load_student(fitted.run, dtype=dtype)
    messages = predict(trained.model, batch_of([sample.structure], trained.cutoff))
    energy = messages.energy.item() + trained.card.references.of(sample.structure.numbers)
    # predict adds the atoms up in the student's precision, the calculator in float64.
    assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-15 if dtype == "float64" else 1e-6)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    assert np.array_equal(atoms.get_forces(), messages.forces.numpy())
    assert atoms.get_potential_energy() == pytest.approx(sample.labels.energy, abs=0.03)


def test_energies_of_many_atoms_are_added_up_in_float64(fitted: FitResult) -> None:
    one = bulk("Ar", "fcc", a=5.4, cubic=True)
    one.rattle(0.1, seed=0)
    many = one.repeat(6)
    energies = []
    for atoms in (one, many):
        atoms.calc = HDistillCalculator(fitted.run, dtype="float32", compiled=False, warn_beyond=None)
        energies.append(atoms.get_potential_energy() / len(atoms))
    assert energies[1] == pytest.approx(energies[0], abs=1e-8)


def test_ase_writes_and_reads_what_it_says(fitted: FitResult, tmp_path: Path) -> None:
    """Nothing but what ASE knows is among the results: its writers and SinglePointCalculator stop at anything else."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import read, write

    calculator = HDistillCalculator(fitted.run)
    atoms = crystal(calculator)
    forces = atoms.get_forces()
    assert calculator.domain_distance is None or calculator.domain_distance.shape == (len(atoms),)
    frozen = atoms.copy()
    frozen.calc = SinglePointCalculator(frozen, **calculator.results)
    assert np.array_equal(frozen.get_forces(), forces)
    for name in ("a.traj", "a.xyz", "a.json", "a.db"):
        write(tmp_path / name, atoms)
        back = read(tmp_path / name)
        assert back.get_potential_energy() == pytest.approx(atoms.get_potential_energy())
        assert np.allclose(back.get_forces(), forces, atol=1e-7)


@pytest.mark.parametrize("periodic", [True, False])
def test_a_skin_changes_nothing_while_atoms_move_through_it(fitted: FitResult, periodic: bool) -> None:
    """Atoms walk for many times the skin, the cell is strained, atoms are wrapped and renamed by turns."""
    plain, skinned = (HDistillCalculator(fitted.run, dtype="float64", skin=skin, warn_beyond=None) for skin in (0, 0.6))
    rng = np.random.default_rng(0)
    atoms = crystal(plain) if periodic else cluster(plain)
    velocity = rng.normal(scale=0.03, size=atoms.positions.shape)
    for step in range(120):
        atoms.positions += velocity
        if periodic and step % 3 == 0:
            atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(scale=2e-3, size=(3, 3))), scale_atoms=True)
        if periodic and step % 50 == 0:
            atoms.wrap()
        other = atoms.copy()
        other.calc = skinned
        assert other.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
        assert np.allclose(other.get_forces(), atoms.get_forces(), atol=1e-12)
        if periodic:
            assert np.allclose(other.get_stress(), atoms.get_stress(), atol=1e-13)
    assert plain.lists.made == 120
    assert 3 <= skinned.lists.made < 40


def test_images_that_share_a_calculator_keep_their_lists(fitted: FitResult) -> None:
    calculator = HDistillCalculator(fitted.run)
    images = [crystal(calculator) for _ in range(5)]
    for n, image in enumerate(images):
        image.rattle(0.6, seed=n)
    for _ in range(4):
        for image in images:
            image.positions[0, 0] += 0.01
            image.get_forces()
    assert calculator.lists.made == 5


def test_threads_that_share_a_calculator_get_their_own_results(fitted: FitResult) -> None:
    from concurrent.futures import ThreadPoolExecutor

    calculator = HDistillCalculator(fitted.run, warn_beyond=None)
    images = [crystal(calculator) for _ in range(6)]
    for n, image in enumerate(images):
        image.rattle(0.1, seed=n)
    wanted = [image.get_forces() for image in images]

    def pair(image: Atoms) -> tuple[float, np.ndarray]:
        return image.get_potential_energy(), image.get_forces()

    with ThreadPoolExecutor(4) as pool:
        for (_, forces), right in zip(pool.map(pair, images * 5), wanted * 5, strict=True):
            assert np.allclose(forces, right, atol=1e-7)


def test_forces_and_stress_are_derivatives(calculator: HDistillCalculator) -> None:
    from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

    atoms = crystal(calculator)
    assert np.allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-7)
    assert np.allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-8)


def test_stress_of_a_molecule_is_not_implemented(calculator: HDistillCalculator) -> None:
    with pytest.raises(PropertyNotImplementedError):
        cluster(calculator).get_stress()


def test_the_hessian_is_plus_the_second_derivative(calculator: HDistillCalculator) -> None:
    for atoms in (cluster(calculator), crystal(calculator)):
        n = len(atoms)
        hessian = calculator.get_hessian(atoms)
        assert hessian.shape == (3 * n, n, 3)
        flat = hessian.reshape(3 * n, 3 * n)
        assert np.allclose(flat, flat.T, atol=1e-10)
        for row in (0, 3 * n - 2):
            step = np.zeros((n, 3))
            step[row // 3, row % 3] = 1e-4
            ahead, behind = atoms.copy(), atoms.copy()
            ahead.positions += step
            behind.positions -= step
            difference = -(calculator.get_forces(ahead) - calculator.get_forces(behind)) / 2e-4
            assert np.allclose(hessian[row], difference, atol=1e-6)


def test_the_hessian_of_a_single_atom_is_zero(calculator: HDistillCalculator) -> None:
    assert (calculator.get_hessian(Atoms("Ar")) == 0).all()
    atoms = Atoms("Ar", calculator=calculator)
    assert (atoms.get_forces() == 0).all()


def test_molecular_dynamics_conserves_energy(calculator: HDistillCalculator) -> None:
    atoms = cluster(calculator)
    atoms.set_momenta(np.random.default_rng(0).normal(scale=0.26, size=(len(atoms), 3)))  # about 20 K
    before = atoms.get_total_energy()
    VelocityVerlet(atoms, 2 * units.fs).run(50)
    assert atoms.get_total_energy() == pytest.approx(before, abs=2e-5 * len(atoms))


def test_unknown_elements_are_named_with_the_known(calculator: HDistillCalculator) -> None:
    with pytest.raises(InputError, match=r"not trained on He, Fe; it knows Ar\."):
        Atoms("FeArHe", np.eye(3) * 3, calculator=calculator).get_potential_energy()
    with pytest.raises(InputError, match="not trained on Fe"):
        calculator.get_hessian(Atoms("Fe"))


def test_a_crystal_without_cell_is_refused(calculator: HDistillCalculator) -> None:
    with pytest.raises(InputError, match="no volume"):
        Atoms("Ar", pbc=True, calculator=calculator).get_potential_energy()


def test_no_atoms_are_refused(calculator: HDistillCalculator) -> None:
    with pytest.raises(InputError, match="no atoms"):
        Atoms(calculator=calculator).get_potential_energy()


def test_a_student_with_direct_forces_has_no_stress_and_a_jacobian_that_is_not_symmetric(
    argon: Path, tmp_path: Path
) -> None:
    settings = FitSettings(student="painn-small-direct", steps=2, warmup=0, validate_every=2, hessian_weight=0)
    calculator = HDistillCalculator(fit(argon, tmp_path / "run", settings, progress=False).run, dtype="float64")
    atoms = crystal(calculator)
    assert not calculator.conservative
    assert "stress" not in calculator.implemented_properties
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    n = len(atoms)
    jacobian = calculator.get_hessian(atoms).reshape(3 * n, 3 * n)
    assert np.abs(jacobian - jacobian.T).max() > 1e-4 * np.abs(jacobian).max()
    step = np.zeros((n, 3))
    step[1, 2] = 1e-4
    ahead, behind = atoms.copy(), atoms.copy()
    ahead.positions += step
    behind.positions -= step
    column = -(calculator.get_forces(ahead) - calculator.get_forces(behind)) / 2e-4
    assert np.allclose(jacobian[:, 5], column.ravel(), atol=1e-6)


def test_it_computes_again_when_what_a_student_sees_has_changed(calculator: HDistillCalculator) -> None:
    atoms = crystal(calculator)
    energy = atoms.get_potential_energy()
    n_calls = 0
    plain = calculator.calculate

    def counted(*args: object, **kwargs: object) -> None:
        nonlocal n_calls
        n_calls += 1
        plain(*args, **kwargs)  # type: ignore[arg-type]

    calculator.calculate = counted  # type: ignore[method-assign]
    try:
        atoms.get_forces()
        atoms.set_initial_charges([1.0] * len(atoms))
        assert atoms.get_potential_energy() == energy
        assert n_calls == 0
        atoms.positions[0, 0] += 1e-13
        atoms.get_potential_energy()
        assert n_calls == 1
        atoms.set_cell(1.01 * atoms.cell.array, scale_atoms=False)
        assert atoms.get_potential_energy() != energy
        atoms.pbc = False
        assert atoms.get_potential_energy() != energy
        assert n_calls == 3
    finally:
        del calculator.calculate  # type: ignore[method-assign]
