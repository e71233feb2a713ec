"""A step is the same step however it is cut, and one whose gradient is not finite moves nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hdistill.data.errors import HDistillError
from hdistill.data.format.shard import Sample
from hdistill.data.labelsets.label_set import open_label_set
from hdistill.data.labelsets.stream import in_order
from hdistill.trainer.fitting.ranks import Ranks
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.fitting.state import TrainState, new_state
from hdistill.trainer.fitting.step import MAX_SKIPPED, eager_gradients
from hdistill.trainer.students.build import build
from hdistill.trainer.students.registry import size_of
from tests.trainer.structures import Prepared, one_step, prepared

SETTINGS = FitSettings(student="painn-small", dtype="float64", batch_size=6, products_per_step=2)


@pytest.fixture(scope="module")
def task(argon: Path) -> Prepared:
    return prepared(argon, SETTINGS)


@pytest.fixture(scope="module")
def samples(argon: Path) -> list[Sample]:
    return list(in_order(open_label_set(argon), "train"))[:6]


def fresh(task: Prepared, settings: FitSettings = SETTINGS) -> TrainState:
    model = build(size_of("painn-small"), task.references.elements, task.scale).to(torch.float64)
    return new_state(model, settings)


def gradient(state: TrainState) -> torch.Tensor:
    return torch.cat([p.grad.reshape(-1) for p in state.model.parameters() if p.grad is not None])


def test_a_step_in_pieces_is_the_same_step(task: Prepared, samples: list[Sample]) -> None:
    """Hessian, forces and energies are averages over the whole step, so batches of one structure add up to the same."""
    whole, cut = fresh(task), fresh(task)
    row = one_step(whole, samples, task, SETTINGS, eager_gradients("exact"), Ranks())
    pieces = one_step(cut, samples, task, replace(SETTINGS, max_edges=1), eager_gradients("exact"), Ranks())
    assert {name: pytest.approx(value, rel=1e-9) for name, value in row.items()} == pieces
    assert torch.allclose(gradient(whole), gradient(cut), rtol=1e-9, atol=1e-12)


def test_shares_of_ranks_add_up_to_the_step(task: Prepared, samples: list[Sample]) -> None:
    """Each rank's sum, computed here one after the other, with the averages of the whole step."""
    whole = fresh(task)
    one_step(whole, samples, task, replace(SETTINGS, clip=1e9), eager_gradients("exact"), Ranks())
    total = torch.zeros_like(gradient(whole))
    for index in range(4):
        share = fresh(task)
        alone = _Alone(index, 4)
        one_step(share, samples, task, replace(SETTINGS, clip=1e9), eager_gradients("exact"), alone)
        total += gradient(share)
    assert torch.allclose(total, gradient(whole), rtol=1e-9, atol=1e-12)


class _Alone(Ranks):
    """A rank that nobody answers: its own sums are all it gets."""

    def add_up(self, tensors) -> None:  # type: ignore[no-untyped-def]
        pass


def test_weights_of_zero_cost_no_derivatives(task: Prepared, samples: list[Sample]) -> None:
    """Without forces, stress and products the student is asked for nothing but energies: no gradient by positions is taken."""
    plain = replace(SETTINGS, force_weight=0.0, hessian_weight=0.0, stress_weight=0.0)
    asked: list[bool] = []
    state = fresh(task)
    state.model.register_forward_pre_hook(lambda module, inputs: asked.append(inputs[2].requires_grad))
    row = one_step(state, samples, task, plain, eager_gradients("exact"), Ranks())
    assert set(row) == {"learning_rate", "loss", "gradient_norm", "energy"}
    assert row["loss"] == pytest.approx(row["energy"])
    full = one_step(fresh(task), samples, task, SETTINGS, eager_gradients("exact"), Ranks())
    assert {"forces", "hessian"} < set(full)


def test_a_gradient_that_is_not_finite_moves_nothing(task: Prepared, samples: list[Sample]) -> None:
    state = fresh(task)
    before = [p.clone() for p in state.model.parameters()]
    broken = [replace(samples[0], labels=replace(samples[0].labels, energy=float("nan"))), *samples[1:]]
    row = one_step(state, broken, task, SETTINGS, eager_gradients("exact"), Ranks())
    assert row["loss"] != row["loss"]
    assert state.step == state.skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))
    one_step(state, samples, task, SETTINGS, eager_gradients("exact"), Ranks())
    assert state.skipped == 0
    assert not torch.equal(before[0], next(state.model.parameters()))
    for _ in range(MAX_SKIPPED - 1):
        one_step(state, broken, task, SETTINGS, eager_gradients("exact"), Ranks())
    with pytest.raises(HDistillError, match=f"not finite in {MAX_SKIPPED} steps in a row"):
        one_step(state, broken, task, SETTINGS, eager_gradients("exact"), Ranks())
