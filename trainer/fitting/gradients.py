"""How the gradients of a step are computed: eagerly, as machine code, or those of features."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from torch import nn

from .feature_loss import feature_gradients
from .settings import FitSettings
from .step import Gradients, eager_gradients


def gradients_for(
    settings: FitSettings,
    maps: nn.Module | None,
    say: Callable[[str], None],
    aside: Callable[[], AbstractContextManager[None]],
) -> Gradients:
    """maps: of features, where the settings use them; say and aside: of a build, see compiled.py."""
    if settings.uses_features:
        assert isinstance(maps, nn.ModuleDict)
        return feature_gradients(maps, settings)
    eager = eager_gradients(settings.product_method, settings.hessian_norm)
    if not settings.compile:
        return eager
    from .compiled import CompiledGradients

    return CompiledGradients(settings, eager, say, aside)
