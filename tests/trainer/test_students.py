"""The contract of students: every one of them, of hdistill and of an installed package, does all of this."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation
from torch import nn

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import load_student
from hdistill.trainer.force_field.predict import Prediction, edge_vectors, is_direct, predict
from hdistill.trainer.inputs.batch import Batch, batch_of
from hdistill.trainer.students.build import build
from hdistill.trainer.students.registry import size_of
from hdistill.trainer.students.sizes import SIZES, StudentSize
from tests.trainer.structures import (
    ELEMENTS,
    crystal,
    install_example,
    molecule,
    moved,
    perovskite,
    saved_student,
)

WITH_REPULSION = "painn-small with repulsion"
OUTSIDE = "pairs"  # of the example package
HEAVY = (
    "painn",
    "painn-direct",
    "gemnet-t",
    "gemnet-dt",
    "moment-large",
    "ace",
    "ace-large",
    "ace-local",
    "ace-local-large",
)
"""Sizes whose architecture is here in a small size too: fewer structures in the slow tests."""
DIRECT = tuple(name for name, size in SIZES.items() if size.direct)
CONSERVATIVE = (*(name for name in SIZES if name not in DIRECT), WITH_REPULSION, OUTSIDE)


@dataclass(frozen=True)
class Case:
    """A student with fresh weights in float64, for derivatives that are compared with differences."""

    name: str
    size: StudentSize
    model: nn.Module

    @property
    def cutoff(self) -> float:
        return self.size.cutoff

    @property
    def some(self) -> list[Structure]:
        """Structures for tests of derivatives."""
        return [molecule(4)] if self.name in HEAVY else [molecule(), crystal()]


def case_of(name: str) -> Case:
    size = size_of(name.partition(" with ")[0], repulsion=name == WITH_REPULSION)
    return Case(name, size, build(size, ELEMENTS, scale=1.0).to(torch.float64))


@pytest.fixture(scope="module", autouse=True)
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The example package, installed for these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(install_example(tmp_path_factory.mktemp("site")))
        yield


@pytest.fixture(params=sorted((*DIRECT, *CONSERVATIVE)))
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


@pytest.fixture(params=sorted(CONSERVATIVE))
def conservative(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


def say(case: Case, structure: Structure, directions: np.ndarray | None = None) -> Prediction:
    wanted = None if directions is None else torch.from_numpy(directions)
    return predict(case.model, batch_of([structure], case.cutoff), wanted, stress=True)


def energy_at(case: Case, structure: Structure, positions: np.ndarray) -> float:
    return say(case, moved(structure, positions)).energy.item()


def forces_at(case: Case, structure: Structure, positions: np.ndarray) -> np.ndarray:
    return _there(say(case, moved(structure, positions)).forces).numpy()


def vectors(structure: Structure, n: int = 2, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1.0, 1.0], (n, structure.n_atoms, 3))


def close(actual: torch.Tensor | None, wanted: object, tolerance: float = 1e-9) -> None:
    expected = torch.as_tensor(wanted, dtype=torch.float64).detach()
    torch.testing.assert_close(_there(actual), expected, rtol=tolerance, atol=tolerance, check_dtype=False)


def _there(actual: torch.Tensor | None) -> torch.Tensor:
    assert actual is not None
    return actual.detach()


def stresses(*messages: Prediction) -> bool:
    """Whether these have a stress; a student with direct forces has none."""
    assert len({s.stress is None for s in messages}) == 1
    return messages[0].stress is not None


# Symmetries


@pytest.mark.parametrize("mirror", [1.0, -1.0], ids=["rotation", "reflection"])
def test_rotation_reflection_and_translation(case: Case, mirror: float) -> None:
    turn = mirror * Rotation.random(rng=np.random.default_rng(0)).as_matrix()
    for structure in (molecule(), crystal()):
        v = vectors(structure)
        turned = replace(structure, positions=structure.positions @ turn + 7.0, cell=structure.cell @ turn)
        before, after = say(case, structure, v), say(case, turned, v @ turn)
        close(after.energy, before.energy)
        close(after.forces, _there(before.forces) @ torch.from_numpy(turn))
        close(after.products, _there(before.products) @ torch.from_numpy(turn))


def test_permutation(case: Case) -> None:
    structure = crystal()
    order = np.array([2, 0, 1])
    v = vectors(structure)
    shuffled = replace(structure, numbers=structure.numbers[order], positions=structure.positions[order])
    before, after = say(case, structure, v), say(case, shuffled, v[:, order])
    close(after.energy, before.energy)
    close(after.forces, _there(before.forces)[order])
    close(after.products, _there(before.products)[:, order])


def test_two_far_copies_have_twice_the_energy(case: Case) -> None:
    one = molecule()
    two = Structure(np.tile(one.numbers, 2), np.concatenate((one.positions, one.positions + 100.0)))
    before, after = say(case, one), say(case, two)
    close(after.energy, 2 * before.energy)
    close(after.forces, _there(before.forces).repeat(2, 1))


def test_a_supercell_is_its_cell_many_times(case: Case) -> None:
    small = crystal()
    steps = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) @ small.cell
    positions = (small.positions[None] + steps[:, None]).reshape(-1, 3)
    large = Structure(np.tile(small.numbers, 8), positions, 2 * small.cell, np.ones(3, bool))
    before, after = say(case, small), say(case, large)
    close(after.energy, 8 * before.energy)
    close(after.forces, _there(before.forces).repeat(8, 1))
    if stresses(before, after):
        close(after.stress, _there(before.stress))


def test_energies_move_with_atoms_across_the_cell_border(case: Case) -> None:
    structure = crystal()
    wrapped = structure.positions + np.array([[1, 0, -2], [0, 0, 0], [0, 3, 0]]) @ structure.cell
    before, after = say(case, structure), say(case, moved(structure, wrapped))
    close(after.energy, before.energy)
    close(after.forces, _there(before.forces))


LOCAL = tuple(name for name, size in SIZES.items() if size.architecture in ("moment", "ace") and size.layers == 1)


@pytest.mark.parametrize(
    ("name", "local"), [*((name, True) for name in LOCAL), ("painn-small", False), ("ace-small", False)]
)
def test_strict_locality(name: str, local: bool) -> None:
    """An atom out of reach that a neighbour does see: of a strictly local student the energy does not change by a bit."""
    case = case_of(name)

    def energy_of_the_first(far: float) -> float:
        chain = Structure(np.array([6, 8, 6], np.uint8), np.array([[0.0, 0, 0], [3.0, 0, 0], [far, 0, 0]]))
        batch = batch_of([chain], case.cutoff)
        energies = case.model(batch.numbers, batch.edge_index, edge_vectors(batch, batch.positions))
        return float(energies[0].item())

    assert case.cutoff <= 5.0
    assert (energy_of_the_first(5.5) == energy_of_the_first(5.8)) == local


# Derivatives


def test_forces_are_minus_the_gradient(conservative: Case) -> None:
    for structure in conservative.some:
        forces = say(conservative, structure).forces
        assert forces is not None
        for atom, axis in ((0, 0), (1, 2), (2, 1)):
            step = np.zeros_like(structure.positions)
            step[atom, axis] = 1e-4
            ahead = energy_at(conservative, structure, structure.positions + step)
            behind = energy_at(conservative, structure, structure.positions - step)
            close(forces[atom, axis], -(ahead - behind) / 2e-4, 1e-6)


def test_hessians_are_symmetric(conservative: Case) -> None:
    for structure in conservative.some:
        v = vectors(structure, 2)
        products = _there(say(conservative, structure, v).products).numpy()
        assert (products[0] * v[1]).sum() == pytest.approx((products[1] * v[0]).sum(), abs=1e-9)


@pytest.mark.parametrize("name", DIRECT)
def test_direct_forces_are_no_gradient(name: str) -> None:
    """Else they would be no kind of their own: these tests would pass with a student that says -dE/dR."""
    case, structure = case_of(name), molecule()
    v = vectors(structure, 2)
    products = _there(say(case, structure, v).products).numpy()
    assert is_direct(case.model)
    assert say(case, structure).stress is None
    assert abs((products[0] * v[1]).sum() - (products[1] * v[0]).sum()) > 1e-3 * np.abs(products).max()


def test_stress_is_the_derivative_by_strain(conservative: Case) -> None:
    structure = crystal()
    stress = _there(say(conservative, structure).stress)
    volume = abs(np.linalg.det(structure.cell))
    for a, b in ((0, 0), (2, 1)):
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[a, b] += sign * 0.5e-5
            strain[b, a] += sign * 0.5e-5
            deform = np.eye(3) + strain
            bent = replace(structure, positions=structure.positions @ deform, cell=structure.cell @ deform)
            energies.append(say(conservative, bent).energy.item())
        close(stress[0, a, b], (energies[0] - energies[1]) / (2e-5 * volume), 1e-6)


def test_products_are_differences_of_forces(case: Case) -> None:
    """v . H u = -v . (F(R + h u) - F(R - h u)) / 2h: rows of H are forces, columns are displacements."""
    for structure in case.some:
        v, others = vectors(structure), vectors(structure, 3, seed=6)
        products = _there(say(case, structure, v).products).numpy()
        for u in others:
            ahead, behind = (forces_at(case, structure, structure.positions + s * 1e-4 * u) for s in (1, -1))
            wanted = -np.einsum("kij,ij->k", v, (ahead - behind) / 2e-4)
            close(torch.from_numpy(np.einsum("kij,ij->k", products, u)), wanted, 1e-5)


def test_third_derivatives_are_differences_of_products(case: Case) -> None:
    """d/dR of v . H u, by one more backward pass, along a random direction."""
    for structure in case.some if case.name in HEAVY else (*case.some, perovskite()):
        v, u, w = vectors(structure, 3)

        def curvature(
            positions: np.ndarray,
            with_gradient: bool,
            structure: Structure = structure,
            v: np.ndarray = v,
            u: np.ndarray = u,
            w: np.ndarray = w,
        ) -> tuple[float, float]:
            batch = batch_of([moved(structure, positions)], case.cutoff)
            leaf = batch.positions.clone().requires_grad_()
            forces = forces_with_graph(case, batch, leaf)
            (product,) = torch.autograd.grad(forces, leaf, torch.from_numpy(-v), create_graph=True)
            value = (product * torch.from_numpy(u)).sum()
            if not with_gradient:
                return value.item(), 0.0
            (third,) = torch.autograd.grad(value, leaf)
            return value.item(), (third * torch.from_numpy(w)).sum().item()

        _, actual = curvature(structure.positions, True)
        ahead, _ = curvature(structure.positions + 1e-4 * w, False)
        behind, _ = curvature(structure.positions - 1e-4 * w, False)
        assert actual == pytest.approx((ahead - behind) / 2e-4, rel=1e-4, abs=1e-5)


def forces_with_graph(case: Case, batch: Batch, positions: torch.Tensor) -> torch.Tensor:
    messages = case.model(batch.numbers, batch.edge_index, edge_vectors(batch, positions))
    if is_direct(case.model):
        forces: torch.Tensor = messages[1]
        return forces
    (gradient,) = torch.autograd.grad(messages.sum(), positions, create_graph=True)
    return -gradient


def test_parameter_gradients_are_differences(case: Case) -> None:
    """The double backward that a Hessian loss needs, for one weight of every parameter tensor; of the large GemNets, which have
    more than a hundred, for one in four: the small one has them all."""
    structure = molecule(4)
    batch, v = batch_of([structure], case.cutoff), torch.from_numpy(vectors(structure, 1))

    def loss(training: bool) -> torch.Tensor:
        messages = predict(case.model, batch, v, training=training)
        assert messages.products is not None
        return messages.energy.sum() + messages.products.square().sum()

    loss(True).backward()  # type: ignore[no-untyped-call]
    named = list(case.model.named_parameters())
    for name, parameter in named:
        assert parameter.grad is not None, f"{name} is not used"
    for name, parameter in named[:: 4 if len(named) > 100 and not case.name.endswith("-small") else 1]:
        assert parameter.grad is not None
        where = tuple(int(i) for i in np.unravel_index(int(parameter.grad.abs().argmax()), parameter.shape))
        actual, kept = parameter.grad[where].item(), parameter[where].item()
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter[where] = kept + step
            values.append(loss(False).item())
        with torch.no_grad():
            parameter[where] = kept
        assert actual == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-7), name


def test_difference_products_are_near_exact_ones(conservative: Case) -> None:
    for structure in conservative.some:
        batch, v = batch_of([structure], conservative.cutoff), torch.from_numpy(vectors(structure))
        exact = _there(predict(conservative.model, batch, v).products)
        near = predict(conservative.model, batch, v, method="difference", training=True).products
        assert near is not None
        assert near.requires_grad
        assert (near - exact).norm() < 0.02 * exact.norm()


# Smoothness at the cutoff


def test_derivatives_are_continuous_at_the_cutoff(case: Case) -> None:
    """An atom that leaves the cutoff sphere: the energy and three derivatives (of direct forces: they and two) jump by nothing;
    a tenth of the step leaves a tenth of the difference or less."""
    numbers = np.array([6, 8, 1], np.uint8)
    along = torch.from_numpy(vectors(molecule(3), 1)[0])

    def derivatives(distance: float) -> list[float]:
        structure = Structure(numbers, np.array([[0.0, 0, 0], [0, 1.2, 0], [distance, 0, 0]]))
        batch = batch_of([structure], case.cutoff)
        x = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
        where = (torch.tensor([2]), torch.tensor([0]))
        positions = batch.positions + torch.zeros(3, 3, dtype=torch.float64).index_put(where, x)
        messages = case.model(batch.numbers, batch.edge_index, edge_vectors(batch, positions))
        values = (
            ((messages[0].sum(), 3), ((messages[1] * along).sum(), 2))
            if is_direct(case.model)
            else ((messages.sum(), 3),)
        )
        actual = []
        for value, order in values:
            actual.append(value.item())
            for _ in range(order):
                (value,) = torch.autograd.grad(value, x, create_graph=True, allow_unused=True, materialize_grads=True)
                actual.append(value.item())
        return actual

    # The pair 1-2 would blur the picture: it has left the sphere before.
    assert np.hypot(case.cutoff - 1e-2, 1.2) > case.cutoff

    def jump(half: float) -> np.ndarray:
        return np.abs(np.subtract(derivatives(case.cutoff - half), derivatives(case.cutoff + half)))

    wide, narrow = jump(1e-3), jump(1e-4)
    assert (narrow <= 0.2 * wide + 1e-9).all(), (wide, narrow)
    assert wide[3] > 1e-7  # there was something to be continuous


def test_forces_and_products_are_continuous_at_the_cutoff(case: Case) -> None:
    structure = molecule(3)
    v = vectors(structure, 1)
    before, after = (
        say(case, moved(structure, np.array([[0.0, 0, 0], [0, 1.2, 0], [x, 0, 0]])), v)
        for x in (case.cutoff - 1e-5, case.cutoff + 1e-5)
    )
    close(after.forces, before.forces, 1e-9)
    close(after.products, before.products, 1e-8)


# Hard cases


def hard_cases() -> dict[str, Structure]:
    lone = Structure(np.array([6], np.uint8), np.zeros((1, 3)))
    return {
        "single atom": lone,
        "far atoms": Structure(np.array([6, 1, 8], np.uint8), 50.0 * CORNERS),
        "one atom, periodic": replace(lone, cell=2.8 * np.eye(3), pbc=np.ones(3, bool)),
        "slab": replace(crystal(), pbc=np.array([True, True, False])),
        "slab without third vector": replace(crystal(), pbc=np.array([True, True, False]), cell=np.diag([3.1, 3.1, 0])),
        "perfect perovskite": perovskite(),
        "dimer": Structure(np.array([6, 1], np.uint8), np.array([[0.0, 0, 0], [1.1, 0, 0]])),
    }


CORNERS = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("name", sorted(hard_cases()))
def test_nothing_is_nan(case: Case, name: str) -> None:
    structure = hard_cases()[name]
    batch = batch_of([structure], case.cutoff)
    messages = predict(case.model, batch, torch.from_numpy(vectors(structure, 1)), stress=True, training=True)
    assert messages.products is not None
    assert messages.forces is not None
    total = messages.energy.sum() + messages.forces.square().sum() + messages.products.square().sum()
    if stresses(messages):
        total = total + _there(messages.stress).sum()
    total.backward()  # type: ignore[no-untyped-call]
    assert total.isfinite()
    for parameter in case.model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    if name in ("single atom", "far atoms", "one atom, periodic", "perfect perovskite"):
        assert messages.forces.abs().max() < 1e-10


def test_a_batch_is_its_structures_one_by_one(case: Case) -> None:
    structures = [molecule(5, 1), hard_cases()["single atom"], crystal(), molecule(3, 2)]
    v = [vectors(s) for s in structures]
    batch = batch_of(structures, case.cutoff)
    together = predict(case.model, batch, torch.from_numpy(np.concatenate(v, 1)), stress=True)
    alone = [say(case, s, each) for s, each in zip(structures, v, strict=True)]
    close(together.energy, torch.cat([a.energy for a in alone]))
    for name, dim in (("forces", 0), ("products", 1), *([("stress", 0)] if stresses(together, *alone) else [])):
        close(getattr(together, name), torch.cat([getattr(a, name) for a in alone], dim))


def test_float32_is_near_float64(case: Case) -> None:
    far = moved(molecule(), molecule().positions + 1000.0)  # geometry stays float64, so this costs no digits
    v, batch = torch.from_numpy(vectors(far)), batch_of([far], case.cutoff)
    exact = predict(case.model, batch, v)
    rough = predict(case.model.to(torch.float32), batch, v)
    for name in ("forces", "products"):
        actual, wanted = _there(getattr(rough, name)), _there(getattr(exact, name))
        assert (actual - wanted).norm() < 1e-4 * wanted.norm(), name


# Fresh weights


def test_fresh_weights_say_things_of_the_size_of_the_scale(case: Case) -> None:
    """Energies of atoms near 1 in molecules and in solids: the scale of the labels multiplies them."""
    for structure in (molecule(), crystal()):
        batch = batch_of([structure], case.cutoff)
        messages = case.model(batch.numbers, batch.edge_index, edge_vectors(batch, batch.positions))
        energies, forces = (messages[0] if is_direct(case.model) else messages), _there(say(case, structure).forces)
        assert 0.05 < energies.square().mean().sqrt() < 10, case.name
        assert 0.005 < forces.square().mean().sqrt() < 50, case.name


def test_the_scale_multiplies_all(case: Case) -> None:
    larger = replace(case, model=build(case.size, ELEMENTS, scale=3.0).to(torch.float64))
    before, after = say(case, molecule()), say(larger, molecule())
    if case.name == WITH_REPULSION:  # which is in eV whatever the scale; nothing here is near enough to have any
        assert before.energy == say(case_of("painn-small"), molecule()).energy
    close(after.energy, 3 * before.energy)
    close(after.forces, 3 * _there(before.forces))


# Files


def test_stored_loaded_and_asked_for_an_unknown_element(case: Case, tmp_path: Path) -> None:
    run = saved_student(tmp_path / "run", case.size, case.name)
    loaded = load_student(run, dtype="float64")
    assert loaded.card.size == case.size
    batch = batch_of([molecule()], loaded.cutoff)
    for actual, wanted in ((predict(loaded.model, batch), say(case, molecule())),):
        close(actual.energy, wanted.energy)
        close(actual.forces, wanted.forces)
    with pytest.raises(InputError, match="not trained on Ar; it knows H, C, O"):
        Atoms("CAr", positions=[[0, 0, 0], [1.5, 0, 0]], calculator=HDistillCalculator(run)).get_forces()


def test_weights_depend_on_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (build(SIZES["painn-small"], (1, 8), 1.0, seed=3) for _ in range(2))
    other = build(SIZES["painn-small"], (1, 8), 1.0, seed=4)
    assert torch.equal(before, torch.random.get_rng_state())
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_an_unknown_student_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no student 'pain-small'.*Did you mean 'painn-small'"):
        size_of("pain-small")


def test_edges_point_from_centre_to_neighbor() -> None:
    structure = crystal()
    batch: Batch = batch_of([structure], 4.0)
    r = edge_vectors(batch, batch.positions).norm(dim=1)
    assert (r <= 4.0).all()
    centre, neighbor = batch.edge_index
    wanted = structure.positions[neighbor] - structure.positions[centre] + batch.edge_shift.numpy()
    assert np.allclose(edge_vectors(batch, batch.positions).numpy(), wanted)
