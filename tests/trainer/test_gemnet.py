"""What is special to GemNet; what every student must do is in test_students.py."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.polynomial import legendre
from scipy.spatial.transform import Rotation
from torch import nn

from hdistill.data.structure import Structure
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.force_field.predict import edge_vectors, predict
from hdistill.trainer.inputs.batch import batch_of
from hdistill.trainer.students import gemnet
from hdistill.trainer.students.build import build
from hdistill.trainer.students.harmonics import Harmonics
from hdistill.trainer.students.sizes import SIZES
from tests.trainer.structures import crystal, molecule, moved, perovskite, student

SMALL = "gemnet-dt-small"
CUTOFF = SIZES[SMALL].cutoff


def small(direct: bool, seed: int = 0) -> gemnet.GemNet:
    model = build(replace(SIZES[SMALL], direct=direct), (1, 6, 8), scale=1.0, seed=seed).to(torch.float64)
    assert isinstance(model, gemnet.GemNet)
    return model


def unit_vectors(n: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 3)))
    return torch.nn.functional.normalize(drawn, dim=1)


def say(model: nn.Module, structure: Structure) -> tuple[torch.Tensor, torch.Tensor]:
    printed = predict(model, batch_of([structure], CUTOFF))
    assert printed.forces is not None
    return printed.energy.detach(), printed.forces.detach()


# Angles


def test_products_of_harmonics_are_legendre_polynomials_of_the_cosine() -> None:
    unit = torch.cat((unit_vectors(20), torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)))
    harmonics, cosines = Harmonics(gemnet.ORDERS - 1).to(torch.float64)(unit), (unit @ unit.T).numpy()
    for order in range(gemnet.ORDERS):
        some = harmonics[:, order**2 : (order + 1) ** 2]
        wanted = (2 * order + 1) * legendre.legval(cosines, [0] * order + [1])
        assert np.allclose(some @ some.T, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("structure", [molecule(), crystal()], ids=["molecule", "crystal"])
def test_triplets_are_those_that_a_list_of_them_gives(structure: Structure) -> None:
    """Every pair of edges at an atom, by images: the paper's sum over b, with the cosine of the angle and no harmonics."""
    batch = batch_of([structure], 4.0)
    vectors = edge_vectors(batch, batch.positions)
    r, centre, neighbor = vectors.norm(dim=1), *batch.edge_index.tolist()
    unit, generator = vectors / r[:, None], torch.Generator().manual_seed(0)
    angles = gemnet.Angles(basis=9, mixtures=3).to(torch.float64)
    triplets = gemnet.Triplets(channels=8, narrow=5, mixtures=3).to(torch.float64)
    basis, edges, filters = (
        torch.randn(len(r), width, generator=generator, dtype=torch.float64) for width in (9, 8, 5)
    )
    actual = triplets(edges, batch.edge_index, structure.n_atoms, filters, angles(basis, unit))

    messages, radial = triplets.down(edges) * filters, angles.radial(basis).unflatten(1, (3, gemnet.ORDERS))
    received = torch.zeros(2, len(r), 3, 5, dtype=torch.float64)
    for e, other in itertools.product(range(len(r)), repeat=2):
        for side, (atom, sign) in enumerate(((centre[e], 1), (neighbor[e], -1))):
            if centre[other] == atom:
                cosine = sign * float(unit[e] @ unit[other])
                angular = [
                    (2 * order + 1) * legendre.legval(cosine, [0] * order + [1]) for order in range(gemnet.ORDERS)
                ]
                received[side, e] += torch.outer(
                    radial[e] @ torch.tensor(angular, dtype=torch.float64), messages[other]
                )
    at = triplets.bilinear(received.flatten(2) * gemnet.TRIPLET_SUM / gemnet.ORDERS)
    wanted = (triplets.from_centre(at[0]) + triplets.from_neighbor(at[1])) / math.sqrt(2)
    torch.testing.assert_close(actual, wanted, rtol=1e-10, atol=1e-12)


def test_the_angle_between_two_edges_matters_where_no_third_edge_tells_it() -> None:
    """Two hydrogens 3 A from an oxygen, out of each other's sight at 120 and at 180 degrees."""

    def energy(degrees: float) -> float:
        turn = math.radians(degrees)
        ends = np.array([[0.0, 0, 0], [3, 0, 0], [3 * math.cos(turn), 3 * math.sin(turn), 0]])
        return say(small(False), Structure(np.array([8, 1, 1], np.uint8), ends))[0].item()

    assert abs(energy(120) - energy(180)) > 1e-4 * abs(energy(180))


# Edges


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("structure", [molecule(), crystal()], ids=["molecule", "crystal"])
def test_the_order_of_edges_does_not_matter(structure: Structure, direct: bool) -> None:
    model, batch = small(direct), batch_of([structure], CUTOFF)
    order = torch.randperm(batch.edge_index.shape[1], generator=torch.Generator().manual_seed(0))
    shuffled = replace(batch, edge_index=batch.edge_index[:, order], edge_shift=batch.edge_shift[order])
    before, after = predict(model, batch), predict(model, shuffled)
    torch.testing.assert_close(after.energy, before.energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(after.forces, before.forces, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("direct", [False, True])
def test_images_of_an_atom_are_atoms(direct: bool) -> None:
    """One and two atoms in cells smaller than the cutoff, where a triplet's atoms may all be one atom, against supercells
    in which every neighbour of an atom is another atom."""
    cell = np.array([[2.9, 0, 0], [0.4, 3.1, 0], [0, -0.3, 3.3]])
    for numbers, positions in (([6], [[0.0, 0, 0]]), ([6, 8], [[0.0, 0, 0], [1.2, 1.5, 1.3]])):
        one = Structure(np.array(numbers, np.uint8), np.array(positions), cell, np.ones(3, bool))
        steps = np.array(list(itertools.product(range(5), repeat=3))) @ cell
        large = Structure(
            np.tile(one.numbers, len(steps)),
            (one.positions[None] + steps[:, None]).reshape(-1, 3),
            5 * cell,
            np.ones(3, bool),
        )
        edges = batch_of([large], CUTOFF).edge_index.T.tolist()
        assert len({tuple(e) for e in edges}) == len(edges)  # no two edges between the same two atoms
        (energy, forces), (of_large, forces_of_large) = (say(small(direct), s) for s in (one, large))
        torch.testing.assert_close(of_large, len(steps) * energy, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(forces_of_large, forces.repeat(len(steps), 1), rtol=1e-8, atol=1e-9)


# Smoothness


def crossing(x: float) -> Structure:
    """Atom 3 at a distance of CUTOFF * (1 - x) from atom 0, and inside the cutoff of atoms 1 and 2: where x is small and
    positive its edges to atom 0 have just appeared, in triplets with all others of both atoms."""
    positions = [[0.0, 0, 0], [1.2, 0.3, 0], [0.4, -1.1, 0.3], [CUTOFF * (1 - x), 0, 0]]
    return Structure(np.array([6, 8, 1, 1], np.uint8), np.array(positions))


def derivatives(model: nn.Module, x: float, up_to: int) -> torch.Tensor:
    """What is said at `crossing`, and its derivatives by x: energies, and of a direct student also force components."""
    batch = batch_of([crossing(x)], CUTOFF)
    leaf = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(4, 3, dtype=torch.float64).index_put((torch.tensor([3]), torch.tensor([0])), -CUTOFF * leaf)
    printed = model(batch.numbers, batch.edge_index, edge_vectors(batch, batch.positions + shift))
    weights = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    value = (printed[1] * weights).sum() if isinstance(printed, tuple) else printed.sum()
    actual = [value]
    for _ in range(up_to):
        (value,) = torch.autograd.grad(value, leaf, create_graph=True)
        actual.append(value)
    return torch.stack(actual).detach()


@pytest.mark.parametrize("direct", [False, True])
def test_an_edge_that_appears_in_triplets_appears_smoothly(direct: bool) -> None:
    """Value and three derivatives on both sides of the cutoff: what they differ by shrinks with the distance from it."""
    model = small(direct)

    def jump(x: float) -> torch.Tensor:
        return (derivatives(model, x, 3) - derivatives(model, -x, 3)).abs()

    wide, narrow = jump(1e-3), jump(1e-4)
    assert (narrow <= 0.2 * wide + 1e-10).all(), (wide, narrow)
    assert wide[3] > 1e-6  # there was something to be continuous


@pytest.mark.parametrize("direct", [False, True])
def test_what_an_edge_adds_grows_with_the_fourth_power(direct: bool) -> None:
    """All that an edge says, in triplets too, has the envelope as a factor: (1-r/cutoff)^4, so nothing below that power."""
    model = small(direct)

    def added(x: float) -> float:
        batch = batch_of([crossing(x)], CUTOFF)
        vectors = edge_vectors(batch, batch.positions)
        crosses = batch.edge_index.sum(0) == 3  # edges 0-3 and 3-0, but not 1-2 and 2-1
        crosses &= (batch.edge_index == 0).any(0)
        assert crosses.sum() == 2
        values = []
        for kept in (torch.ones_like(crosses), ~crosses):
            printed = model(batch.numbers, batch.edge_index[:, kept], vectors[kept])
            values.append(torch.cat([part.flatten() for part in printed]) if direct else printed)
        return float((values[0] - values[1]).detach().norm())

    power = math.log(added(0.02) / added(0.01)) / math.log(2)
    assert 3.5 < power < 4.5


def test_atoms_in_a_line_have_all_derivatives() -> None:
    """Carbon dioxide, and a perovskite: cosines of exactly -1 and 1. Third derivatives are differences of second ones."""
    carbon_dioxide = Structure(np.array([6, 8, 8], np.uint8), np.array([[0.0, 0, 0], [1.16, 0, 0], [-1.16, 0, 0]]))
    model = small(False)
    for structure in (carbon_dioxide, perovskite()):
        u, v, w = (torch.from_numpy(np.random.default_rng(s).normal(size=(structure.n_atoms, 3))) for s in range(3))

        def curvature(
            positions: np.ndarray, structure: Structure = structure, u: torch.Tensor = u, v: torch.Tensor = v
        ) -> tuple[torch.Tensor, torch.Tensor]:
            batch = batch_of([moved(structure, positions)], CUTOFF)
            leaf = batch.positions.clone().requires_grad_()
            value = model(batch.numbers, batch.edge_index, edge_vectors(batch, leaf)).sum()
            for direction in (u, v):
                (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
                value = (gradient * direction).sum()
            return value, torch.autograd.grad(value, leaf)[0]

        _, third = curvature(structure.positions)
        ahead, behind = (curvature(structure.positions + s * 2e-5 * w.numpy())[0].item() for s in (1, -1))
        assert third.isfinite().all()
        assert (third * w).sum().item() == pytest.approx((ahead - behind) / 4e-5, rel=1e-4, abs=1e-5)


# Direct forces


def test_direct_forces_turn_with_the_structure() -> None:
    turn = torch.from_numpy(Rotation.random(rng=np.random.default_rng(0)).as_matrix())
    for mirror in (1.0, -1.0):
        for structure in (molecule(), crystal()):
            turned = replace(
                structure,
                positions=mirror * structure.positions @ turn.numpy(),
                cell=mirror * structure.cell @ turn.numpy(),
            )
            forces, after = say(small(True), structure)[1], say(small(True), turned)[1]
            torch.testing.assert_close(after, mirror * forces @ turn, rtol=1e-9, atol=1e-9)
            assert forces.abs().max() > 1e-2


def test_direct_forces_have_no_sum_and_no_torque_but_are_no_gradient() -> None:
    model = small(True)
    for structure in (molecule(), crystal()):
        assert say(model, structure)[1].sum(0).abs().max() < 1e-12
    structure = molecule()
    torque = torch.linalg.cross(torch.from_numpy(structure.positions), say(model, structure)[1])
    assert torque.sum(0).abs().max() < 1e-12
    rows = torch.eye(3 * structure.n_atoms, dtype=torch.float64).reshape(-1, structure.n_atoms, 3)
    products = predict(model, batch_of([structure], CUTOFF), rows).products
    assert products is not None
    hessian = products.detach().flatten(1)
    assert (hessian - hessian.T).norm() > 0.1 * hessian.norm()
    # Force sum rules of both sides: translating all atoms changes no force, and no displacement gives a net force.
    n = structure.n_atoms
    for sums in (hessian.reshape(3 * n, n, 3).sum(1), hessian.reshape(n, 3, 3 * n).sum(0)):
        assert sums.abs().max() < 1e-10 * hessian.abs().max()


# Sizes


@pytest.mark.parametrize(("name", "wanted"), [("gemnet-t", 0.67e6), ("gemnet-dt", 0.67e6), (SMALL, 0.048e6)])
def test_parameters_are_about_as_many_as_in_the_paper(name: str, wanted: float) -> None:
    count = sum(p.numel() for p in student(name, (1, 6, 7, 8)).parameters())
    assert count == pytest.approx(wanted, rel=0.06)


@pytest.mark.parametrize("name", ["gemnet-t", "gemnet-dt"])
def test_fresh_students_say_numbers_near_one(name: str) -> None:
    """From three atoms with 2 edges each to a dense crystal with 86."""
    carbon = np.array([[0.0, 0, 0], [0.25, 0.25, 0.25]])
    cell = 3.57 * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    diamond = Structure(np.array([6, 6], np.uint8), carbon @ cell, cell, np.ones(3, bool))
    for structure in (molecule(3), molecule(8), perovskite(), diamond):
        batch = batch_of([structure], CUTOFF)
        energies = [predict(student(name, seed=seed), batch).energy.item() / structure.n_atoms for seed in range(4)]
        assert 0.03 < np.sqrt(np.mean(np.square(energies))) < 60


@pytest.mark.parametrize("name", [SMALL, pytest.param("gemnet-t", marks=pytest.mark.long)])
def test_it_learns(argon: Path, tmp_path: Path, name: str) -> None:
    """Forces on clusters that it was not shown, of which it says nothing useful after one step."""
    settings = FitSettings(
        student=name, steps=60, warmup=5, learning_rate=3e-3, validate_every=1000, hessian_weight=0.0
    )
    first, last = (
        fit(argon, tmp_path / str(steps), replace(settings, steps=steps), progress=False).validation[
            "force_mae_mev_per_angstrom"
        ]
        for steps in (1, settings.steps)
    )
    assert last < 0.5 * first, (first, last)
