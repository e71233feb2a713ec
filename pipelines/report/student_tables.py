"""Students as tables and sentences: a fit, its errors, a simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .text import duration, table

WORST_GROUPS = 10


def fit_summary(result: dict[str, Any]) -> str:
    """One paragraph on a finished fit."""
    errors = result["validation"]
    validation = (
        f"; validation: force MAE {errors['force_mae_mev_per_angstrom']:.1f} meV/A, "
        f"energy MAE {errors['energy_mae_mev_per_atom']:.2f} meV/atom (step {result['best_step']})"
        if errors
        else ""
    )
    return (
        f"{result['run']}: {result['n_parameters']} parameters, {result['n_train']} structures, {result['steps']} steps, "
        f"{duration(result['seconds'])} of CPU time{validation}."
    )


def evaluation_table(result: dict[str, Any]) -> str:
    """What `hdistill evaluate` shows: all of the split, then the groups with the largest force errors."""
    groups = sorted(result["by_group"].items(), key=lambda item: -item[1]["force_mae_mev_per_angstrom"])
    header = ["structures", "force MAE meV/A", "energy MAE meV/atom"]
    has_stress = result["stress_mae_mev_per_angstrom3"] is not None
    header += ["stress MAE meV/A^3"] if has_stress else []
    header += ["Hessian rel. error", "dE MAE meV", "rank of E"]
    rows = [("all", *_errors(result, has_stress))]
    rows += [(name, *_errors(row, has_stress)) for name, row in groups[:WORST_GROUPS]]
    lines = [table((f"split {result['split']}", *header), rows)]
    if len(groups) > WORST_GROUPS:
        lines.append(f"({len(groups) - WORST_GROUPS} more groups with smaller errors)")
    if result["n_comparable"]:
        lines.append(
            f"dE: energy differences between the {result['n_comparable']} structures that share a composition, of whole structures; "
            "rank: Spearman's correlation of their energies, 1 in the right order."
        )
    lines += [f"Left out: {sentence}" for sentence in left_out_of(result)]
    return "\n".join(lines)


def left_out_of(errors: Mapping[str, Any]) -> list[str]:
    """What a split has that was not compared, each kind in a sentence."""
    kinds = (
        ("n_unknown_elements", "with elements that the student was not trained on"),
        ("n_without_reference", "without energies or forces of their own"),
    )
    return [f"{errors[name]} structures {why}." for name, why in kinds if errors.get(name)]


def verdict_table(rows: list[dict[str, Any]]) -> str:
    """What was required, what was measured, and whether it holds."""
    return table(("requirement", "measured", "required", ""), verdict_cells(rows))


def verdict_cells(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    return [
        (
            row["figure"],
            "not measured" if row["measured"] is None else f"{row['measured']:.4g}",
            row["required"],
            "passed" if row["passed"] else "FAILED",
        )
        for row in rows
    ]


def _errors(row: dict[str, Any], has_stress: bool) -> tuple[str, ...]:
    columns = [("force_mae_mev_per_angstrom", ".1f"), ("energy_mae_mev_per_atom", ".2f")]
    columns += [("stress_mae_mev_per_angstrom3", ".2f")] if has_stress else []
    columns += [("hessian_relative_error", ".3f"), ("difference_mae_mev", ".1f"), ("rank_correlation", ".2f")]
    return str(row["n_structures"]), *("-" if row[name] is None else format(row[name], form) for name, form in columns)


def simulation_summary(result: dict[str, Any]) -> str:
    """What `hdistill md` says at the end."""
    text = f"{result['out']}: {result['n_atoms']} atoms, {result['fs']:g} fs ({result['ensemble']})"
    if result["drift_mev_per_atom"] is not None:
        drift, excursion = result["drift_mev_per_atom"], result["excursion_mev_per_atom"]
        text += f", energy drift {drift:.3g} meV/atom, at most {excursion:.3g} from the start"
    if result["mean_temperature_kelvin"] is not None:
        text += f", mean temperature {result['mean_temperature_kelvin']:.0f} K"
    if result["ensemble"] == "NPT" and result.get("mean_pressure_gpa") is not None:
        text += f", mean pressure {result['mean_pressure_gpa']:.2f} GPa"
    if result.get("replicas"):
        text += f", {len(result['replicas'])} replicas"
    if result.get("ns_per_day"):
        text += f", {result['ns_per_day']:.3g} ns/day{' (machine code)' if result.get('compiled') else ''}"
    return f"{text}; stopped: {result['why']}." if result["why"] else f"{text}; the structure stayed whole."
