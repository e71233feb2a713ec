"""A step as one graph for all sizes: energy, forces, products, loss and the gradients of all parameters, traced by torch's make_fx.

A graph without the gradients would be cut from the parameters at every `detach` that tracing leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from hdistill.data.errors import HDistillError

from ..inputs.batch import Batch, Targets
from .settings import FitSettings
from .step import Gradients

# A atoms, B structures, E edges as tracing sees them: three different numbers. K products and D features are the same in all batches.
SIZES = {"A": 149, "B": 13, "E": 2003}
DIMENSIONS: dict[str, tuple[str | int, ...]] = {
    "numbers": ("A",),
    "positions": ("A", 3),
    "structure_index": ("A",),
    "n_atoms": ("B",),
    "volume": ("B",),
    "edge_index": (2, "E"),
    "edge_shift": ("E", 3),
    "energy": ("B",),
    "forces": ("A", 3),
    "stress": ("B", 3, 3),
    "stress_scale": ("B",),
    "directions": ("K", "A", 3),
    "products": ("K", "A", 3),
    "product_scale": ("K", "A"),
    "share": (2, "B"),
    "stress_share": (2, "B"),
    "other_energy": ("B",),
    "other_forces": ("A", 3),
    "other_stress": ("B", 3, 3),
    "node_features": ("A", "D"),
    "node_means": ("A", "D"),
    "node_scale": ("A",),
    "atom_energy": ("A",),
    "atom_energy_scale": ("A",),
    "pair_weight": ("B", "B"),
    "slope": ("B",),
}


class NotCompiled(HDistillError):
    """Why a step cannot be had as machine code."""


@dataclass(frozen=True, eq=False)
class Trial:
    """What is compiled, the step of a model with these terms of the loss, and the batch it is tried on."""

    settings: FitSettings
    eager: Gradients
    names: Sequence[str]
    model: nn.Module
    batch: Batch
    targets: Targets
    factors: Mapping[str, float]
    say: Callable[[str], None]


def padded(batch: Batch, targets: Targets, n_products: int) -> tuple[Batch, Targets]:
    """With slots for n_products products, and for two structures at least: the second has no atoms and adds nothing to any sum."""
    if batch.n_atoms.shape[0] == 1:
        batch = replace(batch, **_longer(batch, "B", 1))
        batch.n_atoms[1] = 1  # a divisor
        targets = replace(targets, **_longer(targets, "B", 1))
    return batch, replace(targets, **_longer(targets, "K", n_products - targets.directions.shape[0]))


def _longer(plain: Batch | Targets, dimension: str, by: int) -> dict[str, torch.Tensor]:
    """All of its tensors that have a dimension, with zeros at its end, or ends."""
    longer = {}
    for name, dimensions, tensor in arrays_of(plain):
        if by > 0 and dimension in dimensions:
            zeros = tensor.new_zeros(
                [n + by if d == dimension else n for d, n in zip(dimensions, tensor.shape, strict=True)]
            )
            zeros[tuple(slice(n) for n in tensor.shape)] = tensor
            longer[name] = zeros
    return longer


def arrays_of(plain: Batch | Targets) -> list[tuple[str, tuple[str | int, ...], torch.Tensor]]:
    """Name, dimensions and tensor of each field; one that is not in use, without elements, has none that varies."""
    tensors = [(f.name, getattr(plain, f.name)) for f in fields(plain)]
    return [(name, (0,) if t.shape == (0,) else DIMENSIONS[name], t) for name, t in tensors]


def traced(trial: Trial) -> tuple[torch.fx.GraphModule, list[Any], Any]:
    """The graph of the whole step, its inputs without data, and the record of what was assumed of sizes: nothing, or NotCompiled."""
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    step = _Step(trial.model, trial.eager, trial.names)
    tensors = tensors_of(trial.model)
    shapes = ShapeEnv()
    mode = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=False)
    sizes = SIZES | {"K": trial.settings.n_products}

    def fake(like: torch.Tensor, dimensions: Sequence[str | int]) -> Any:
        named = zip(dimensions, like.shape, strict=True)
        shape = [sizes.get(str(size), own) for size, own in named]
        free = [DimDynamic.DUCK if size in SIZES else DimDynamic.STATIC for size in dimensions]
        strides = [DimDynamic.INFER_STRIDE] * len(shape)
        empty = torch.empty(shape, dtype=like.dtype, device=like.device)
        return mode.from_tensor(
            empty, symbolic_context=StatelessSymbolicContext(dynamic_sizes=free, dynamic_strides=strides)
        )

    flat = [(tensor, dimensions) for x in (trial.batch, trial.targets) for _, dimensions, tensor in arrays_of(x)]
    weights = torch.empty(len(trial.names), dtype=torch.float64, device=trial.batch.positions.device)
    inputs = [fake(t, t.shape) for t in (*tensors.values(), weights)] + [fake(t, d) for t, d in flat]

    def whole(*given: torch.Tensor) -> list[torch.Tensor]:
        values, weights, rest = given[: len(tensors)], given[len(tensors)], iter(given[len(tensors) + 1 :])
        state = {
            f"student.{name}": t.detach().requires_grad_() if isinstance(real, nn.Parameter) else t
            for (name, real), t in zip(tensors.items(), values, strict=True)
        }
        pieces = [kind(**{f.name: next(rest) for f in fields(kind)}) for kind in (Batch, Targets)]
        outputs: list[torch.Tensor] = torch.func.functional_call(step, state, (*pieces, weights), tie_weights=True)
        return outputs

    with mode:
        graph = make_fx(whole, tracing_mode="symbolic")(*inputs)
    check_sizes(shapes)
    return _simplified(graph), inputs, shapes


class _Step(nn.Module):
    """The eager step as a module, so that its student can be called with other tensors for weights."""

    def __init__(self, student: nn.Module, gradients: Gradients, names: Sequence[str]):
        super().__init__()
        self.student, self.gradients, self.names = student, gradients, names

    def forward(self, batch: Batch, targets: Targets, weights: torch.Tensor) -> list[torch.Tensor]:
        factors: dict[str, Any] = dict(zip(self.names, weights.unbind(), strict=True))
        terms, grads = self.gradients(self.student, batch, targets, factors)
        return [terms[name] for name in self.names] + grads


def _simplified(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Without detached copies, and with what is computed twice computed once (a third of a double backward is)."""
    from torch._functorch.compile_utils import fx_graph_cse

    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target == torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    return torch.fx.GraphModule(graph, fx_graph_cse(graph.graph))


def check_sizes(shapes: Any) -> None:
    if shapes.guards:
        guards = ", ".join(str(guard.expr) for guard in shapes.guards[:3])
        raise NotCompiled(f"the student's operations depend on the sizes of the batch: {guards}")


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def inputs_of(model: nn.Module, batch: Batch, targets: Targets, weights: torch.Tensor) -> list[torch.Tensor]:
    return [*tensors_of(model).values(), weights, *(getattr(x, f.name) for x in (batch, targets) for f in fields(x))]
