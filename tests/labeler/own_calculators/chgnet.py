"""chgnet's own calculator; it computes in float32 only."""

from __future__ import annotations

from typing import Any


def calculator(model: str, task: str | None, dtype: str, device: str) -> Any:
    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet

    assert dtype == "float32"
    return CHGNetCalculator(CHGNet.load(model_name=model, use_device=device), use_device=device)
