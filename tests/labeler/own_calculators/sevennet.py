"""sevenn's own calculator; it computes in float32 only."""

from __future__ import annotations

from typing import Any


def calculator(model: str, task: str | None, dtype: str, device: str) -> Any:
    from sevenn.calculator import SevenNetCalculator

    assert dtype == "float32"
    return SevenNetCalculator(model, device=device, modal=task)
