"""hdistill's own calculator of a student."""

from __future__ import annotations

from typing import Any


def calculator(model: str, task: str | None, dtype: str, device: str) -> Any:
    from hdistill.trainer.force_field.calculator import HDistillCalculator

    offer, _, run = model.partition(":")
    assert offer == "student"
    return HDistillCalculator(run, device, dtype)
