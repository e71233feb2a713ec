"""The settings of `label` and `fit` as keyword arguments: named as on the command line and in TOML recipes, checked by type checkers.

They are those of LabelSettings and FitSettings, which hold the defaults and the meaning; a test compares them. What is left out is
taken from a recipe, or else has its default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

if TYPE_CHECKING:
    from hdistill.data.format.codec import Codec
    from hdistill.trainer.choices import HessianNorm, ProductMethod, TargetKind

F = TypeVar("F", bound=Callable[..., Any])


class LabelOptions(TypedDict, total=False):
    where: str | None
    limit: int | None
    diverse: int | None
    hessian: str
    products: Literal["autograd", "difference", "auto"] | None
    codec: Codec
    seed: int
    splits: str
    task: str | None
    dtype: Literal["float32", "float64"]
    arguments: Sequence[str]
    atom_energies: bool | None
    node_features: bool
    device: str
    batch_edges: int | None
    energy_key: str | None
    forces_key: str | None
    stress_key: str | None
    group_key: str | None
    not_in: Sequence[str]


class ResumeOptions(TypedDict, total=False):
    steps: int
    max_seconds: float | None
    max_edges: int
    device: str


class FitOptions(ResumeOptions, total=False):
    student: str
    repulsion: bool
    batch_size: int
    learning_rate: float
    warmup: int
    energy_weight: float
    energy_weight_end: float | None
    difference_weight: float
    atom_energy_weight: float
    force_weight: float
    stress_weight: float
    hessian_weight: float
    hessian_norm: HessianNorm
    max_hessian: float | None
    halve_hessian_within: float | None
    node_weight: float
    embedding_weight: float
    products_per_step: int
    product_method: ProductMethod
    targets: TargetKind
    reference_share: float
    ema_decay: float
    clip: float
    weight_decay: float
    amsgrad: bool
    compile: bool
    validate_every: int
    validate_at_most: int
    seed: int
    dtype: Literal["float32", "float64"]
    tf32: bool


def showing(settings: type) -> Callable[[F], F]:
    """Lets help() and tab completion show each field of a dataclass, with its default, where a function takes **settings."""

    def decorated(function: F) -> F:
        signature = inspect.signature(function)
        named = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        taken = {p.name for p in named}
        more = [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if each.default is MISSING else each.default,
                annotation=each.type,
            )
            for each in fields(settings)
            if each.name not in taken
        ]
        function.__signature__ = signature.replace(parameters=[*named, *more])  # type: ignore[attr-defined]
        return function

    return decorated
