"""What every student must do, whatever it is made of. Derivatives are compared with central differences in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure
from hdistill.trainer.batch import Batch, batch_of
from hdistill.trainer.predict import Prediction, edge_vectors, predict
from hdistill.trainer.students.build import build
from hdistill.trainer.students.sizes import SIZES, size_of
from tests.trainer.structures import crystal, molecule, moved, perovskite, student

Case = tuple[nn.Module, float]


@pytest.fixture(params=sorted(SIZES))
def case(request: pytest.FixtureRequest) -> Case:
    return student(request.param), SIZES[request.param].cutoff


def say(case: Case, structure: Structure, directions: np.ndarray | None = None) -> Prediction:
    model, cutoff = case
    wanted = None if directions is None else torch.from_numpy(directions)
    return predict(model, batch_of([structure], cutoff), wanted, stress=True)


def energy_at(case: Case, structure: Structure, positions: np.ndarray) -> float:
    return say(case, moved(structure, positions)).energy.item()


def vectors(structure: Structure, n: int = 2, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1.0, 1.0], (n, structure.n_atoms, 3))


def close(found: torch.Tensor, wanted: object, tolerance: float = 1e-9) -> None:
    expected = torch.as_tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(found.detach(), expected, rtol=tolerance, atol=tolerance, check_dtype=False)


# Symmetries


def test_rotation_and_translation(case: Case) -> None:
    turn = Rotation.random(rng=np.random.default_rng(0)).as_matrix()
    for structure in (molecule(), crystal()):
        v = vectors(structure)
        turned = replace(structure, positions=structure.positions @ turn + 7.0, cell=structure.cell @ turn)
        before, after = say(case, structure, v), say(case, turned, v @ turn)
        close(after.energy, before.energy)
        close(after.forces, before.forces @ torch.from_numpy(turn))
        assert before.products is not None
        assert after.products is not None
        close(after.products, before.products @ torch.from_numpy(turn))


def test_permutation(case: Case) -> None:
    structure = crystal()
    order = np.array([2, 0, 1])
    v = vectors(structure)
    shuffled = replace(structure, numbers=structure.numbers[order], positions=structure.positions[order])
    before, after = say(case, structure, v), say(case, shuffled, v[:, order])
    close(after.energy, before.energy)
    close(after.forces, before.forces[order])
    assert before.products is not None
    assert after.products is not None
    close(after.products, before.products[:, order])


def test_two_far_copies_have_twice_the_energy(case: Case) -> None:
    one = molecule()
    two = Structure(np.tile(one.numbers, 2), np.concatenate((one.positions, one.positions + 100.0)))
    close(say(case, two).energy, 2 * say(case, one).energy)
    close(say(case, two).forces, say(case, one).forces.repeat(2, 1))


def test_a_supercell_is_its_cell_many_times(case: Case) -> None:
    small = crystal()
    steps = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) @ small.cell
    positions = (small.positions[None] + steps[:, None]).reshape(-1, 3)
    large = Structure(np.tile(small.numbers, 8), positions, 2 * small.cell, np.ones(3, bool))
    before, after = say(case, small), say(case, large)
    close(after.energy, 8 * before.energy)
    close(after.forces, before.forces.repeat(8, 1))
    assert before.stress is not None
    assert after.stress is not None
    close(after.stress, before.stress)


def test_energies_move_with_atoms_across_the_cell_border(case: Case) -> None:
    structure = crystal()
    wrapped = structure.positions + np.array([[1, 0, -2], [0, 0, 0], [0, 3, 0]]) @ structure.cell
    close(say(case, moved(structure, wrapped)).energy, say(case, structure).energy)


# Derivatives


@pytest.mark.parametrize("structure", [molecule(), crystal()], ids=["molecule", "crystal"])
def test_forces_are_minus_the_gradient(case: Case, structure: Structure) -> None:
    forces = say(case, structure).forces
    for atom, axis in ((0, 0), (1, 2), (2, 1)):
        step = np.zeros_like(structure.positions)
        step[atom, axis] = 1e-4
        ahead = energy_at(case, structure, structure.positions + step)
        behind = energy_at(case, structure, structure.positions - step)
        close(forces[atom, axis], -(ahead - behind) / 2e-4, 1e-6)


def test_stress_is_the_derivative_by_strain(case: Case) -> None:
    structure = crystal()
    stress = say(case, structure).stress
    assert stress is not None
    volume = abs(np.linalg.det(structure.cell))
    for a, b in ((0, 0), (0, 1), (2, 1)):
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[a, b] += sign * 0.5e-5
            strain[b, a] += sign * 0.5e-5
            deform = np.eye(3) + strain
            bent = replace(structure, positions=structure.positions @ deform, cell=structure.cell @ deform)
            energies.append(say(case, bent).energy.item())
        close(stress[0, a, b], (energies[0] - energies[1]) / (2e-5 * volume), 1e-6)


@pytest.mark.parametrize("structure", [molecule(), crystal()], ids=["molecule", "crystal"])
def test_products_are_differences_of_forces(case: Case, structure: Structure) -> None:
    v = vectors(structure)
    products = say(case, structure, v).products
    assert products is not None
    for k in range(len(v)):
        ahead = say(case, moved(structure, structure.positions + 1e-4 * v[k])).forces
        behind = say(case, moved(structure, structure.positions - 1e-4 * v[k])).forces
        close(products[k], -(ahead - behind).detach() / 2e-4, 1e-5)


@pytest.mark.parametrize("structure", [molecule(), crystal(), perovskite()], ids=["molecule", "crystal", "perovskite"])
def test_third_derivatives_are_differences_of_products(case: Case, structure: Structure) -> None:
    """d/dR of u . H v, by a third backward pass, along a random direction."""
    model, cutoff = case
    v, u, w = vectors(structure, 3)

    def curvature(positions: np.ndarray, with_gradient: bool) -> tuple[float, float]:
        batch = batch_of([moved(structure, positions)], cutoff)
        leaf = batch.positions.clone().requires_grad_()
        vectors_of_edges = edge_vectors(batch, leaf)
        energy = model(batch.numbers, batch.edge_index, vectors_of_edges).sum()
        (gradient,) = torch.autograd.grad(energy, leaf, create_graph=True)
        (product,) = torch.autograd.grad(gradient, leaf, torch.from_numpy(v), create_graph=True)
        value = (product * torch.from_numpy(u)).sum()
        if not with_gradient:
            return value.item(), 0.0
        (third,) = torch.autograd.grad(value, leaf)
        return value.item(), (third * torch.from_numpy(w)).sum().item()

    _, found = curvature(structure.positions, True)
    ahead, _ = curvature(structure.positions + 1e-4 * w, False)
    behind, _ = curvature(structure.positions - 1e-4 * w, False)
    assert found == pytest.approx((ahead - behind) / 2e-4, rel=1e-4, abs=1e-5)


def test_parameter_gradients_of_products_are_differences(case: Case) -> None:
    """The double backward that a Hessian loss needs, for one weight of every parameter tensor."""
    model, cutoff = case
    structure = molecule()
    batch, v = batch_of([structure], cutoff), torch.from_numpy(vectors(structure, 1))

    def loss(training: bool) -> torch.Tensor:
        products = predict(model, batch, v, training=training).products
        assert products is not None
        return products.square().sum()

    loss(True).backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        if parameter.grad is None:  # a constant energy per atom has no forces
            assert name.startswith("readout"), name
            continue
        where = tuple(int(i) for i in np.unravel_index(int(parameter.grad.abs().argmax()), parameter.shape))
        found, kept = parameter.grad[where].item(), parameter[where].item()
        with torch.no_grad():
            parameter[where] = kept + 1e-5
        ahead = loss(False).item()
        with torch.no_grad():
            parameter[where] = kept - 1e-5
        behind = loss(False).item()
        with torch.no_grad():
            parameter[where] = kept
        assert found == pytest.approx((ahead - behind) / 2e-5, rel=1e-4, abs=1e-8), name


def test_difference_products_are_near_exact_ones(case: Case) -> None:
    model, cutoff = case
    for structure in (molecule(), crystal()):
        batch, v = batch_of([structure], cutoff), torch.from_numpy(vectors(structure))
        exact = predict(model, batch, v).products
        near = predict(model, batch, v, method="difference", training=True).products
        assert exact is not None
        assert near is not None
        assert (near - exact).norm() < 0.02 * exact.norm()
        assert near.requires_grad


# Smoothness at the cutoff


def test_derivatives_are_continuous_at_the_cutoff(case: Case) -> None:
    """An atom that leaves the cutoff sphere: energy and three derivatives jump by nothing; the step only halves the difference."""
    model, cutoff = case
    numbers = np.array([6, 8, 1], np.uint8)

    def derivatives(distance: float) -> list[float]:
        structure = Structure(numbers, np.array([[0.0, 0, 0], [0, 1.2, 0], [distance, 0, 0]]))
        batch = batch_of([structure], cutoff)
        x = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
        positions = batch.positions + torch.zeros(3, 3, dtype=torch.float64).index_put(
            (torch.tensor([2]), torch.tensor([0])), x
        )
        value = model(batch.numbers, batch.edge_index, edge_vectors(batch, positions)).sum()
        found = [value.item()]
        for _ in range(3):
            (value,) = torch.autograd.grad(value, x, create_graph=True, allow_unused=True, materialize_grads=True)
            found.append(value.item())
        return found

    # The pair 1-2 would blur the picture: it has left the sphere before.
    assert np.hypot(cutoff - 1e-2, 1.2) > cutoff

    def jump(half: float) -> np.ndarray:
        return np.abs(np.subtract(derivatives(cutoff - half), derivatives(cutoff + half)))

    wide, narrow = jump(1e-3), jump(1e-4)
    assert (narrow <= 0.2 * wide + 1e-9).all(), (wide, narrow)
    assert wide[3] > 1e-7  # there was something to be continuous


def test_forces_and_products_are_continuous_at_the_cutoff(case: Case) -> None:
    _, cutoff = case
    structure = molecule(3)
    v = vectors(structure, 1)
    before, after = (
        say(case, moved(structure, np.array([[0.0, 0, 0], [0, 1.2, 0], [x, 0, 0]])), v)
        for x in (cutoff - 1e-5, cutoff + 1e-5)
    )
    close(after.forces, before.forces, 1e-9)
    assert before.products is not None
    assert after.products is not None
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
    model, cutoff = case
    structure = hard_cases()[name]
    batch = batch_of([structure], cutoff)
    said = predict(model, batch, torch.from_numpy(vectors(structure, 1)), stress=True, training=True)
    assert said.products is not None
    assert said.stress is not None
    total = said.energy.sum() + said.forces.square().sum() + said.products.square().sum() + said.stress.sum()
    total.backward()  # type: ignore[no-untyped-call]
    assert total.isfinite()
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    if name in ("single atom", "far atoms", "one atom, periodic", "perfect perovskite"):
        assert said.forces.abs().max() < 1e-10


def test_a_batch_is_its_structures_one_by_one(case: Case) -> None:
    model, cutoff = case
    structures = [molecule(5, 1), hard_cases()["single atom"], crystal(), molecule(3, 2)]
    v = [vectors(s) for s in structures]
    together = predict(model, batch_of(structures, cutoff), torch.from_numpy(np.concatenate(v, 1)), stress=True)
    alone = [say(case, s, each) for s, each in zip(structures, v, strict=True)]
    close(together.energy, torch.cat([a.energy for a in alone]))
    close(together.forces, torch.cat([a.forces for a in alone]))
    for name, dim in (("stress", 0), ("products", 1)):
        close(getattr(together, name), torch.cat([getattr(a, name) for a in alone], dim))


def test_float32_is_near_float64(case: Case) -> None:
    model, cutoff = case
    far = moved(molecule(), molecule().positions + 1000.0)  # geometry stays float64, so this costs no digits
    v = torch.from_numpy(vectors(far))
    exact = predict(model, batch_of([far], cutoff), v)
    rough = predict(model.to(torch.float32), batch_of([far], cutoff), v)
    close(rough.forces, exact.forces, 1e-4)
    assert exact.products is not None
    assert rough.products is not None
    assert (rough.products - exact.products).norm() < 1e-4 * exact.products.norm()


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
