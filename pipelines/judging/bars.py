"""What is required of a student, and whether it holds: "force_mae<=30". What was not measured does not hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hdistill.data.errors import InputError, nearest

from .parts import PARTS

ERRORS = {
    "force_mae": "force_mae_mev_per_angstrom",
    "energy_mae": "energy_mae_mev_per_atom",
    "stress_mae": "stress_mae_mev_per_angstrom3",
    "hessian_error": "hessian_relative_error",
    "difference_mae": "difference_mae_mev",
    "rank_correlation": "rank_correlation",
}
TWIN = "from_scratch_ratio"
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def measured(
    errors: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]], twin: Mapping[str, Any] | None = None
) -> dict[str, float | None]:
    """All figures that can be required, by name; None where there is none. Units are in docs/report.md."""
    figures: dict[str, float | None] = {name: errors.get(key) for name, key in ERRORS.items()}
    for part, of in PARTS.items():
        for name, key in of.gives.items():
            value = parts.get(part, {}).get(key)
            figures[name] = value.get("rank_correlation") if isinstance(value, Mapping) else value
    figures[TWIN] = None
    if twin is not None and twin.get(ERRORS["force_mae"]):
        figures[TWIN] = errors[ERRORS["force_mae"]] / twin[ERRORS["force_mae"]]
    return figures


def verdicts(requirements: Sequence[str], figures: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Each requirement with what was measured and whether it holds. Raises InputError."""
    rows = []
    for text in requirements:
        name, sign, bar = _parsed(text)
        if name not in figures:
            raise InputError(
                f"There is no figure '{name}' to require; there are {', '.join(figures)}.{nearest(name, figures)}"
            )
        value = figures[name]
        holds = value is not None and {"<=": value <= bar, ">=": value >= bar, "<": value < bar, ">": value > bar}[sign]
        rows.append({"figure": name, "measured": value, "required": f"{sign} {bar:g}", "passed": bool(holds)})
    return rows


def needed(requirements: Sequence[str]) -> list[str]:
    """The parts that give what is required."""
    named = {_parsed(text)[0] for text in requirements}
    return [part for part, of in PARTS.items() if named & set(of.gives)]


def _parsed(text: str) -> tuple[str, str, float]:
    match = re.fullmatch(rf"\s*(\w+)\s*(<=|>=|<|>)\s*({NUMBER})\s*", text)
    if match is None:
        raise InputError(
            f"--require was '{text}'; it takes a figure, <, <=, > or >=, and a number, such as force_mae<=30."
        )
    return match[1], match[2], float(match[3])
