"""MACE's own calculator: of a .model file, or through the loaders of the foundation models."""

from __future__ import annotations

from typing import Any


def calculator(model: str, task: str | None, dtype: str, device: str) -> Any:
    from mace.calculators import MACECalculator, mace_mp, mace_off

    head = {} if task is None else {"head": task}
    kind, _, size = model.partition(":")
    loader = {"mace-mp": mace_mp, "mace-off": mace_off}.get(kind)
    if loader is None:
        return MACECalculator(model_paths=model, device=device, default_dtype=dtype, **head)
    return loader(model=size, device=device, default_dtype=dtype, **head)
