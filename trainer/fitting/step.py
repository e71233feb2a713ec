"""One gradient step: the gradients of all pieces added up over all ranks, then the weights are moved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from hdistill.data.errors import HDistillError

from ..choices import HessianNorm, ProductMethod
from ..force_field.predict import predict
from ..inputs.batch import Batch, Targets
from .data import Piece, StepInputs
from .loss import Terms, difference_slopes, loss_sums, weighted
from .ranks import Ranks
from .rows import StepRow
from .settings import FitSettings
from .state import TrainState, learning_rate, progress_of

# Sums of the terms named in factors, and d(sum of factor times term) / d parameter for every parameter, in order.
Gradients = Callable[[nn.Module, Batch, Targets, Mapping[str, float]], tuple[Terms, list[torch.Tensor]]]
MAX_SKIPPED = 20  # steps in a row whose loss or gradient is not finite


def eager_gradients(method: ProductMethod, norm: HessianNorm = "atoms") -> Gradients:
    """The gradients of a loss by all parameters, operation by operation; compiled.py has the same as machine code."""

    def gradients(
        model: nn.Module, batch: Batch, targets: Targets, factors: Mapping[str, float]
    ) -> tuple[Terms, list[torch.Tensor]]:
        terms = sums_of(model, batch, targets, factors, method, norm)
        return differentiated(terms, factors, list(model.parameters()))

    return gradients


def differentiated(
    terms: Terms, factors: Mapping[str, float], parameters: Sequence[nn.Parameter]
) -> tuple[Terms, list[torch.Tensor]]:
    """The terms that have a factor, without their graph, and the gradient of their weighted sum by each parameter, zeros where it
    takes no part."""
    grads = torch.autograd.grad(weighted(terms, factors), parameters, allow_unused=True)
    zeros = (torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True))
    return {name: term.detach() for name, term in terms.items() if name in factors}, list(zeros)


def sums_of(
    model: nn.Module,
    batch: Batch,
    targets: Targets,
    wanted: Mapping[str, Any],
    method: ProductMethod,
    norm: HessianNorm = "atoms",
) -> Terms:
    """The terms of the loss that are wanted, and no work on the others."""
    prediction = predict(
        model,
        batch,
        targets.directions if "hessian" in wanted else None,
        forces="forces" in wanted,
        stress="stress" in wanted,
        training=True,
        method=method,
    )
    return loss_sums(prediction, batch, targets, norm)


def train_step(
    state: TrainState, inputs: StepInputs, settings: FitSettings, gradients: Gradients, ranks: Ranks
) -> StepRow:
    """Move the state by one step. One whose loss or gradient is not finite leaves everything as it was; raises HDistillError after
    MAX_SKIPPED of them in a row."""
    weights = settings.weights_at(progress_of(state, settings), state.hessian_factor)
    counts = inputs.counts
    factors = {name: weight / counts[name] for name, weight in weights.items() if weight > 0 and counts[name]}
    sums = {name: torch.zeros((), dtype=torch.float64, device=ranks.device) for name in factors}
    total = [torch.zeros_like(p) for p in state.parameters]
    for piece in _with_slopes(state.model, inputs, ranks) if factors else ():
        terms, grads = gradients(state.model, piece.batch, piece.targets, factors)
        torch._foreach_add_(total, grads)
        for name in sums:
            sums[name] += terms[name]
    ranks.add_up([*total, *sums.values()])
    loss = sum(factors[name] * term.item() for name, term in sums.items())
    rate, norm = learning_rate(state, settings), _clip(state, total, settings)
    if math.isfinite(loss) and math.isfinite(norm):
        _move(state, rate)
    else:
        _skip(state, inputs.ids, settings)
    state.step += 1
    means = {name: term.item() / counts[name] for name, term in sums.items()}
    return StepRow(rate, loss, norm, means, weights)


def _with_slopes(model: nn.Module, inputs: StepInputs, ranks: Ranks) -> Sequence[Piece]:
    """The pieces of a step; where pairs of structures are learned that do not meet in one piece, with the slopes that the
    residuals of the whole step give, which one more pass without gradients finds."""
    if inputs.pair_weights is None:
        return inputs.pieces
    residuals = torch.zeros(len(inputs.ids), dtype=torch.float64, device=ranks.device)
    with torch.no_grad():
        for piece in inputs.pieces:
            energy = predict(model, piece.batch, forces=False).energy
            residuals[list(piece.places)] = energy.double() - piece.targets.energy
    ranks.add_up([residuals])
    slopes = torch.from_numpy(difference_slopes(residuals.cpu().numpy(), inputs.pair_weights)).to(ranks.device)
    return [
        replace(
            piece,
            targets=replace(
                piece.targets,
                pair_weight=torch.zeros_like(piece.targets.pair_weight),
                slope=slopes[list(piece.places)],
            ),
        )
        for piece in inputs.pieces
    ]


def _clip(state: TrainState, gradient: Sequence[torch.Tensor], settings: FitSettings) -> float:
    """Hand the gradient to the parameters, cut to settings.clip; returns its norm before that."""
    parameters = state.parameters
    for parameter, each in zip(parameters, gradient, strict=True):
        parameter.grad = each
    return torch.nn.utils.clip_grad_norm_(parameters, settings.clip).item()


def _move(state: TrainState, rate: float) -> None:
    """Move weights and averaged weights along the gradient."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.step()
    state.average.update_parameters(state.model)
    state.skipped = 0


def _skip(state: TrainState, ids: Sequence[str], settings: FitSettings) -> None:
    state.skipped += 1
    if state.skipped >= MAX_SKIPPED:
        raise HDistillError(
            f"Loss or gradient was not finite in {MAX_SKIPPED} steps in a row, until step {state.step + 1} (structures "
            f"{', '.join(ids[:4])}, ...); a learning rate below {settings.learning_rate} or clip below {settings.clip} may help."
        )
