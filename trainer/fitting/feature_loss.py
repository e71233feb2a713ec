"""Distillation of features, the baselines of Amin et al., arXiv 2501.09009, after Ekstrom Kelvinius et al., "Accelerating Molecular
Graph Neural Networks via Knowledge Distillation", NeurIPS 2023, arXiv 2306.14818:

    node (n2n)        |W x_i + b - t_i|^2 / D          x_i (C,) what the student's readout reads, t_i (D,) the teacher's features
    embedding (a2a)   |W' e_i + b' - m_i|^2 / D        e_i (C',) the student's embedding of the element, m_i (D,) the mean of t

both averaged over atoms and without units: t is normalised by its mean and standard deviation over the training split. A label
set has no table of the teacher's atom embeddings, so that a2a is to the mean of the node features of each element, where the paper
takes the teacher's own table. The maps W, b are trained along; they are kept for resuming and are not part of the student.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from hdistill.data.errors import InputError

from ..force_field.predict import call_once
from ..inputs.batch import Batch, Targets
from .loss import Terms
from .settings import FitSettings
from .step import Gradients, differentiated, sums_of

READ_AT = {"node": "readout", "embedding": "embedding"}  # the module of a student whose features are read


def feature_maps(model: nn.Module, settings: FitSettings, elements: Sequence[int], width: int) -> nn.ModuleDict:
    """The linear maps from a student's features to a teacher's of that width, weights drawn from the seed alone.

    Raises InputError for a student that has no `readout` or `embedding` to read.
    """
    weights = {"node": settings.node_weight, "embedding": settings.embedding_weight}
    maps = nn.ModuleDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for term in (term for term, weight in weights.items() if weight > 0):
            maps[term] = nn.Linear(_width_of(model, term, elements, settings.student), width)
    first = next(model.parameters())
    return maps.to(first.device, first.dtype)


def _width_of(model: nn.Module, term: str, elements: Sequence[int], student: str) -> int:
    """How many features of an atom a student has there, by calling it once."""
    with _read_features(model, [term], student) as read:
        call_once(model, elements[0])
    features = read.get(term)
    if features is None or features.dim() != 2 or len(features) != 3:
        raise _unreadable(term, student)
    return features.shape[1]


def feature_gradients(maps: nn.ModuleDict, settings: FitSettings) -> Gradients:
    """As eager_gradients, with the terms of the features, and with the gradients by the maps behind those by the student.

    Hooks read the features, which no traced step would call: there is no compiled kind.
    """

    def gradients(
        model: nn.Module, batch: Batch, targets: Targets, factors: Mapping[str, float]
    ) -> tuple[Terms, list[torch.Tensor]]:
        with _read_features(model, list(maps), settings.student) as read:
            terms = sums_of(model, batch, targets, factors, settings.product_method, settings.hessian_norm)
        wanted = {"node": targets.node_features, "embedding": targets.node_means}
        for term, linear in maps.items():
            residuals = linear(read[term]).to(wanted[term].dtype) - wanted[term]
            terms[term] = (residuals.square().mean(1) * targets.node_scale).sum()
        return differentiated(terms, factors, [*model.parameters(), *maps.parameters()])

    return gradients


@contextmanager
def _read_features(model: nn.Module, terms: Sequence[str], student: str) -> Iterator[dict[str, torch.Tensor]]:
    """The features of a student in its first call, by term: the input of its readout, the output of its embedding."""
    read: dict[str, torch.Tensor] = {}

    def before_readout(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        read.setdefault("node", inputs[0])

    def after_embedding(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        read.setdefault("embedding", output)

    hooks = []
    try:
        for term in terms:
            module = getattr(model, READ_AT[term], None)
            if not isinstance(module, nn.Module):
                raise _unreadable(term, student)
            hooks.append(
                module.register_forward_pre_hook(before_readout)
                if term == "node"
                else module.register_forward_hook(after_embedding)
            )
        yield read
    finally:
        for hook in hooks:
            hook.remove()


def _unreadable(term: str, student: str) -> InputError:
    return InputError(
        f"The student '{student}' has no `{READ_AT[term]}` with one row of features for every atom, which {term}_weight reads; "
        f"leave {term}_weight 0, or take one of our own students."
    )
