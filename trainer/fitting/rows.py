"""What a step and a validation say, and the row of the log that is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..evaluation.errors import ErrorSummary


@dataclass(frozen=True)
class StepRow:
    """One gradient step. terms: of the loss, averages over the step in the units of loss.py; weights: that they had; loss: the
    weighted sum; gradient_norm: before it was cut."""

    learning_rate: float
    loss: float
    gradient_norm: float
    terms: Mapping[str, float]
    weights: Mapping[str, float]


@dataclass(frozen=True)
class ValidationRow:
    """The averaged student on the validation structures. errors: none where there are no such structures; finite: whether all of
    its weights are."""

    errors: ErrorSummary | None
    finite: bool

    @property
    def score(self) -> float:
        """Smaller is better: force MAE (meV/A) + energy MAE (meV/atom); 0 where there is nothing to tell."""
        if self.errors is None:
            return 0.0
        return self.errors.force_mae_mev_per_angstrom + self.errors.energy_mae_mev_per_atom


def columns(n_steps: int, seconds: float, step: StepRow, validation: ValidationRow | None) -> dict[str, float | None]:
    """A row of log.csv by column, after n_steps and CPU seconds; weights and errors of steps that were validated only."""
    row: dict[str, float | None] = {
        "step": n_steps,
        "cpu_seconds": round(seconds, 2),
        "learning_rate": step.learning_rate,
        "loss": step.loss,
        **step.terms,
        "gradient_norm": step.gradient_norm,
    }
    if validation is None:
        return row
    row |= {"energy_weight": step.weights["energy"], "hessian_weight": step.weights["hessian"]}
    errors = {} if validation.errors is None else validation.errors.as_json()
    return row | {f"val_{name}": value for name, value in errors.items()}
