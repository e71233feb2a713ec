"""One gradient step: draw products, cut the step into batches that fit, add up their gradients, move the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from hdistill.data.errors import HDistillError
from hdistill.data.format.shard import Sample

from ..choices import HessianNorm, ProductMethod
from ..force_field.predict import predict
from ..inputs.batch import Batch, Targets, batch_of, with_products
from ..inputs.neighbours import Edges
from .loss import Parts, counts_of, loss_sums, weighted
from .ranks import Ranks
from .settings import FitSettings
from .state import TrainState, learning_rate
from .task import Task

Gradients = Callable[[nn.Module, Batch, Targets, Mapping[str, float]], tuple[Parts, list[torch.Tensor]]]
MAX_SKIPPED = 20  # steps in a row whose loss or gradient is no number


def eager_gradients(method: ProductMethod, norm: HessianNorm = "atoms") -> Gradients:
    """The gradients of a loss by all parameters, operation by operation; compiled.py has the same as machine code."""

    def gradients(
        model: nn.Module, batch: Batch, targets: Targets, factors: Mapping[str, float]
    ) -> tuple[Parts, list[torch.Tensor]]:
        """Sums of the parts named in factors, and d(sum of factor times part) / d parameter for every parameter, in order."""
        parts = sums_of(model, batch, targets, factors, method, norm)
        parameters = list(model.parameters())
        found = torch.autograd.grad(weighted(parts, factors), parameters, allow_unused=True)
        zeros = (torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True))
        return {name: part.detach() for name, part in parts.items()}, list(zeros)

    return gradients


def sums_of(
    model: nn.Module,
    batch: Batch,
    targets: Targets,
    wanted: Mapping[str, Any],
    method: ProductMethod,
    norm: HessianNorm = "atoms",
) -> Parts:
    """The parts of the loss that are wanted, and no work on the others."""
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
    state: TrainState, samples: Sequence[Sample], task: Task, settings: FitSettings, gradients: Gradients, ranks: Ranks
) -> dict[str, Any]:
    """One step on these samples, of which this rank computes its share; returns its row of the log.

    Every rank draws the products of all samples, from the seed and the step alone, and averages are over the whole step: neither
    the number of ranks nor the cutting into batches changes more than the rounding. A step whose loss or gradient is no number
    leaves everything as it was; raises HDistillError after MAX_SKIPPED of them in a row.
    """
    generator = np.random.default_rng((settings.seed, state.step))
    drawn = [with_products(sample, _n_products(sample, task, settings), generator) for sample in samples]
    counts = counts_of(drawn, settings.hessian_norm, settings.targets)
    weights = settings.weights | {"hessian": settings.hessian_weight * state.hessian_factor}
    factors = {name: weight / counts[name] for name, weight in weights.items() if weight > 0 and counts[name]}
    sums = {name: torch.zeros((), dtype=torch.float64, device=ranks.device) for name in factors}
    total = [torch.zeros_like(p) for p in state.parameters]
    for some, edges in _batches(ranks.share(drawn), task, settings) if factors else ():
        batch = batch_of([s.structure for s in some], task.cutoff, ranks.device, edges)
        targets = task.targets(some, settings, ranks.device)
        parts, found = gradients(state.model, batch, targets, factors)
        torch._foreach_add_(total, found)
        for name in sums:
            sums[name] += parts[name]
    ranks.add_up([*total, *sums.values()])
    rate, loss = learning_rate(state, settings), sum(factors[name] * part.item() for name, part in sums.items())
    norm = _clip(state, total, settings)
    if math.isfinite(loss) and math.isfinite(norm):
        _move(state, rate)
    else:
        _skip(state, samples, settings)
    state.step += 1
    means = {name: part.item() / counts[name] for name, part in sums.items()}
    return {"learning_rate": rate, "loss": loss, "gradient_norm": norm, **means}


def _n_products(sample: Sample, task: Task, settings: FitSettings) -> int:
    """Of one structure in a step; none of one whose Hessian is left out."""
    is_freak = task.freaks and bytes.fromhex(sample.structure.id) in task.freaks
    return 0 if is_freak else settings.n_products


def _batches(
    samples: Sequence[Sample], task: Task, settings: FitSettings
) -> Iterator[tuple[list[Sample], list[Edges]]]:
    """Samples in order with their edges, in batches of at most max_edges edges, and of at least one sample."""
    some: list[Sample] = []
    edges: list[Edges] = []
    n_edges = 0
    for sample in samples:
        more = task.edges.of(sample.structure, task.cutoff)
        if some and n_edges + more.index.shape[1] > settings.max_edges:
            yield some, edges
            some, edges, n_edges = [], [], 0
        some, edges, n_edges = [*some, sample], [*edges, more], n_edges + more.index.shape[1]
    if some:
        yield some, edges


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


def _skip(state: TrainState, samples: Sequence[Sample], settings: FitSettings) -> None:
    state.skipped += 1
    if state.skipped >= MAX_SKIPPED:
        ids = ", ".join(s.structure.id for s in samples[:4])
        raise HDistillError(
            f"Loss or gradient was no number in {MAX_SKIPPED} steps in a row, until step {state.step + 1} (structures {ids}, ...); "
            f"a learning rate below {settings.learning_rate} or clip below {settings.clip} may help."
        )
