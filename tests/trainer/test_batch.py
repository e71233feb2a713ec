"""Neighbour lists, batches, targets and the loss."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from hdistill.data.errors import InputError
from hdistill.data.format.shard import Sample
from hdistill.data.structure import Directions, HessianProducts, Structure
from hdistill.trainer.fitting.loss import counts_of, loss_sums, weighted
from hdistill.trainer.force_field.predict import Prediction
from hdistill.trainer.inputs.batch import batch_of, targets_of, with_products
from hdistill.trainer.inputs.neighbours import edges_of
from hdistill.trainer.inputs.references import References
from tests.data.samples import random_samples
from tests.trainer.structures import crystal, molecule

NO_OFFSET = References(tuple(range(1, 19)), (0.0,) * 18)
Pairs = set[tuple[int, int, tuple[float, ...]]]


def all_pairs(structure: Structure, cutoff: float, reach: int) -> Pairs:
    """Every pair within the cutoff, by trying all images."""
    actual: Pairs = set()
    reaches = [range(-reach, reach + 1) if periodic else range(1) for periodic in structure.pbc]
    for image in product(*reaches):
        shift = np.array(image) @ structure.cell
        for i, j in product(range(structure.n_atoms), repeat=2):
            r = structure.positions[j] - structure.positions[i] + shift
            if 0 < np.linalg.norm(r) < cutoff:
                actual.add((i, j, tuple(np.round(r, 6))))
    return actual


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
def test_edges_are_all_pairs(pbc: tuple[bool, ...]) -> None:
    structure = replace(crystal(), pbc=np.array(pbc))
    structure = replace(structure, positions=structure.positions + 5 * structure.cell[0])  # outside the cell
    edges = edges_of(structure, 4.5)
    i, j = edges.index
    r = structure.positions[j] - structure.positions[i] + edges.shift
    actual = list(zip(i.tolist(), j.tolist(), map(tuple, np.round(r, 6)), strict=True))
    assert len(actual) == len(set(actual))
    assert set(actual) == all_pairs(structure, 4.5, 4)
    assert (np.diff(i) >= 0).all()


def test_a_structure_without_neighbours_has_no_edges() -> None:
    edges = edges_of(Structure(np.array([6], np.uint8), np.zeros((1, 3))), 5.0)
    assert edges.index.shape == (2, 0)
    assert edges.shift.shape == (0, 3)


@pytest.mark.parametrize(
    ("broken", "wanted"),
    [
        (replace(crystal(), cell=np.zeros((3, 3))), "no volume"),
        (replace(crystal(), cell=np.diag([3.0, 3.0, 0.0])), "no volume"),
        (replace(molecule(), positions=np.full((6, 3), np.nan)), "not finite"),
    ],
)
def test_impossible_geometries_are_refused(broken: Structure, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        batch_of([broken], 4.5)


def test_all_stored_products_become_slots() -> None:
    samples = random_samples("rows:4", sizes=(3, 1, 5))
    targets = targets_of(samples, NO_OFFSET)
    assert targets.directions.shape == (4, 9, 3)
    owner = np.repeat([0, 1, 2], (3, 1, 5))
    for s, sample in enumerate(samples):
        products = sample.labels.hessian
        assert products is not None
        n = len(products.directions)  # the single atom has only three rows
        own = np.flatnonzero(owner == s)
        assert np.array_equal(targets.directions[:n, own], products.directions.vectors(len(own)))
        assert np.allclose(targets.products[:n, own], products.values)
        assert (targets.product_scale[:n, own] == 1).all()
        assert (targets.product_scale[n:, own] == 0).all()


def drawn(samples: list[Sample], step: int) -> list[Sample]:
    return [with_products(s, 2, np.random.default_rng((0, step, place))) for place, s in enumerate(samples)]


def test_drawn_products_are_a_function_of_the_generator() -> None:
    samples = random_samples("probes:8", sizes=(3, 4))
    draws = [targets_of(drawn(samples, step), NO_OFFSET) for step in range(9)]
    again = targets_of(drawn(samples, 3), NO_OFFSET)
    assert torch.equal(again.products, draws[3].products)
    assert len({targets.products.numpy().tobytes() for targets in draws}) > 4
    stored = samples[0].labels.hessian
    assert stored is not None
    for targets in draws:
        first, second = (k.numpy() for k in targets.products[:, :3])
        matches = [int(np.flatnonzero((stored.values == k.astype(np.float32)).all((1, 2)))[0]) for k in (first, second)]
        assert matches[0] != matches[1]
        assert np.array_equal(targets.directions[0, :3].numpy(), stored.directions.vectors(3)[matches[0]])
        assert np.allclose(targets.product_scale[:, :3], 9**-0.5)


def test_reference_targets() -> None:
    samples = random_samples(sizes=(3, 4, 5))[1:]  # the first has none of its own
    targets = targets_of(samples, NO_OFFSET, "reference")
    assert targets.energy.tolist() == [s.structure.ref_energy for s in samples]
    assert np.array_equal(targets.forces.numpy(), np.concatenate([s.structure.ref_forces for s in samples]))  # type: ignore[misc]
    with pytest.raises(InputError, match=r"without energy of its own.*targets 'teacher'"):
        targets_of(random_samples(sizes=(3,)), NO_OFFSET, "reference")


def test_reference_energies_are_subtracted_before_rounding() -> None:
    (sample,) = random_samples(sizes=(4,))
    huge = replace(sample, labels=replace(sample.labels, energy=-1e7 + 0.001))
    offsets = References(tuple(range(1, 10)), (-2.5e6,) * 9)
    assert targets_of([huge], offsets).energy.item() == pytest.approx(0.001, abs=1e-8)


def prediction_of(energy: float, forces: torch.Tensor, products: torch.Tensor | None) -> Prediction:
    return Prediction(torch.tensor([energy]), forces, None, products)


def test_loss_parts_by_hand() -> None:
    (sample,) = random_samples("probes:2", sizes=(3,))
    batch, targets = batch_of([sample.structure], 4.0), targets_of([sample], NO_OFFSET)
    off = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    messages = prediction_of(targets.energy.item() - 0.6, targets.forces + off, targets.products + 9**0.5 * off)
    parts, counts = loss_sums(messages, batch, targets), counts_of([sample])
    assert {name: round(part.item() / counts[name], 6) for name, part in parts.items()} == {
        "energy": 0.2,
        "forces": 2.0,
        "hessian": 2.0,
    }
    assert weighted(parts, {"energy": 1, "forces": 2 / 3, "hessian": 10 / 6}).item() == pytest.approx(24.2)
    assert weighted(parts, {"forces": 1}).item() == pytest.approx(6)


def test_the_stress_part_is_an_energy_per_atom() -> None:
    """V/n |dstress|_F: half an eV/A^3 too much in a cell of 8 A^3 and 4 atoms is 1 eV; a molecule has no stress."""
    periodic, isolated = random_samples("none", sizes=(4, 3))
    structure, labels = (
        replace(periodic.structure, cell=2 * np.eye(3)),
        replace(periodic.labels, stress=np.zeros((3, 3))),
    )
    samples = [replace(periodic, structure=structure, labels=labels), isolated]
    batch, targets = batch_of([s.structure for s in samples], 1.0), targets_of(samples, NO_OFFSET)
    assert targets.stress_scale.tolist() == [1, 0]
    stress = torch.zeros(2, 3, 3, dtype=torch.float64)
    stress[:, 0, 0] = 0.5
    parts = loss_sums(Prediction(targets.energy, targets.forces, stress, None), batch, targets)
    assert parts["stress"].item() / counts_of(samples)["stress"] == pytest.approx(1.0)


def test_an_exact_student_has_a_gradient_without_nan() -> None:
    samples = random_samples("rows:4", sizes=(3, 1))
    batch, targets = batch_of([s.structure for s in samples], 4.0), targets_of(samples, NO_OFFSET)
    leaves = [targets.energy.clone(), targets.forces.clone(), targets.products.clone()]
    energy, forces, products = (leaf.requires_grad_() for leaf in leaves)
    loss = weighted(
        loss_sums(Prediction(energy, forces, None, products), batch, targets), {"energy": 1, "forces": 1, "hessian": 1}
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss == 0
    for leaf in leaves:
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_empty_slots_do_not_count() -> None:
    samples = random_samples("rows:8", sizes=(1, 3))  # three rows and eight
    batch, targets = batch_of([s.structure for s in samples], 4.0), targets_of(samples, NO_OFFSET)
    wrong = targets.products + 1.0
    wrong[3:, 0] = 1e6
    parts = loss_sums(Prediction(targets.energy, targets.forces, None, wrong), batch, targets)
    assert parts["hessian"].item() / counts_of(samples)["hessian"] == pytest.approx(3**0.5)


def test_what_is_not_there_counts_nothing() -> None:
    counts = counts_of(random_samples("none", sizes=(3, 4)))
    nothing = dict.fromkeys(("difference", "atom_energy", "hessian", "node", "embedding"), 0)
    assert counts == {"energy": 2, "forces": 7, "stress": 1, **nothing}


def test_rows_and_probes_estimate_the_same() -> None:
    """Mean squares of the scaled residuals of all rows, and of very many probes, are |dH|_F^2 / 3n per product."""
    rng = np.random.default_rng(0)
    (sample,) = random_samples(sizes=(4,))
    difference = rng.normal(size=(12, 12))
    rows = Directions("rows", coordinate=np.arange(12, dtype=np.int32))
    probes = Directions("probes", signs=rng.choice([-1, 1], (20000, 4, 3)).astype(np.int8))
    means = []
    for directions in (rows, probes):
        residuals = (directions.vectors(4).reshape(-1, 12) @ difference).reshape(-1, 4, 3)
        labels = replace(sample.labels, hessian=HessianProducts(directions, residuals))
        targets = targets_of([replace(sample, labels=labels)], NO_OFFSET)
        means.append((targets.products * targets.product_scale[:, :, None]).square().sum((1, 2)).mean().item())
    assert means[0] == pytest.approx((difference**2).sum() / 12)
    assert means[1] == pytest.approx(means[0], rel=0.02)
