"""Pictures of dynamics, phonons, minima, distortions and scans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .canvas import BLUE, COLORS, GREY, ORANGE, figure_of, png_of

Figures = Mapping[str, Any]
LOOK = {
    "dft": {"color": GREY, "linewidth": 2.4, "linestyle": "-", "label": "forces of the file"},
    "teacher": {"color": ORANGE, "linewidth": 1.6, "linestyle": "--", "label": "teacher"},
    "student": {"color": BLUE, "linewidth": 1.1, "linestyle": "-", "label": "student"},
}
NAMES = {"G": "Γ"}


def physical_figures(parts: Mapping[str, Figures]) -> dict[str, bytes]:
    """By the names that physical_sections.py gives them."""
    made: dict[str, bytes] = {}
    curvature, relaxation = parts.get("curvature", {}), parts.get("relaxation", {})
    compared = [row for row in curvature.get("molecules", ()) if "teacher" in row]
    if compared:
        made["frequencies"] = _frequencies(compared)
    crystals = [row for row in curvature.get("crystals", ()) if "why" not in row]
    made |= {f"phonons{i}": _bands(row) for i, row in enumerate(crystals)}
    curves = [row for row in relaxation.get("structures", ()) if "student" in row]
    made |= {f"eos{i}": _equation_of_state(row) for i, row in enumerate(curves)}
    for name, draw in (("distortions", _distortions), ("scans", _scans), ("dft", _bands)):
        if name in parts and "does_not_apply" not in parts[name]:
            made[name] = draw(parts[name])
    if runs := parts.get("trajectories", {}).get("runs"):
        made |= {f"distances{i}": _distances(run) for i, run in enumerate(runs)} | {
            "displacements": _displacements(runs)
        }
    return made


def _frequencies(rows: list[Figures]) -> bytes:
    figure, axis = figure_of(4.6, 4.4)
    highest = 1.05 * max(max(*row["student"], *row["teacher"], 1.0) for row in rows)
    axis.plot([0, highest], [0, highest], color=GREY, linewidth=1)
    for number, row in enumerate(rows):
        axis.scatter(row["teacher"], row["student"], s=12, color=COLORS[number % len(COLORS)], label=row["formula"])
    axis.set(xlabel="teacher, cm⁻¹", ylabel="student, cm⁻¹")
    axis.set_aspect("equal")
    axis.legend(frameon=False, fontsize=8)
    return png_of(figure)


def _bands(row: Figures) -> bytes:
    """Bands along the path, and beside them the densities of states."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axis, side = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1])
    first = next(row[who] for who in LOOK if who in row)
    for who, look in LOOK.items():
        if who not in row:
            continue
        one = row[who]
        for number, (x, lines) in enumerate(zip(one["distances"], one["bands"], strict=True)):
            labelled = look | ({} if number == 0 else {"label": None})
            drawn = axis.plot(x, lines, **labelled)
            for line in drawn[1:]:
                line.set_label(None)
        side.plot(one["dos"]["density"], one["dos"]["frequency"], **(look | {"label": None}))
    ticks, names = _ticks(first)
    for at in ticks:
        axis.axvline(at, color=GREY, linewidth=0.6)
    axis.axhline(0, color=GREY, linewidth=0.6)
    axis.set_xticks(ticks, names)
    axis.set(xlim=(ticks[0], ticks[-1]), ylabel="frequency, THz (imaginary below 0)")
    side.set(xlabel="density of states", xlim=(0, None), xticks=[])
    for each in (axis, side):
        each.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return png_of(figure)


def _ticks(one: Figures) -> tuple[list[float], list[str]]:
    """Where segments meet, and the names of both ends where they differ."""
    ticks: list[float] = []
    names: list[str] = []
    for (start, end), x in zip(one["names"], one["distances"], strict=True):
        start, end = NAMES.get(start, start), NAMES.get(end, end)
        if not ticks:
            ticks, names = [x[0]], [start]
        elif names[-1] != start:
            names[-1] = f"{names[-1]}|{start}"
        ticks.append(x[-1])
        names.append(end)
    return ticks, names


def _equation_of_state(row: Figures) -> bytes:
    figure, axis = figure_of(5.2, 3.8)
    for who in ("teacher", "student"):
        if who in row:
            axis.plot(row[who]["volumes"], row[who]["energies"], marker="o", markersize=4, **LOOK[who])
    axis.set(xlabel="volume, Å³ per atom", ylabel="energy above the lowest, meV per atom")
    axis.legend(frameon=False, fontsize=9)
    return png_of(figure)


def _distortions(part: Figures) -> bytes:
    figure, axis = figure_of(6.0, 3.8)
    rows = part["rows"]
    names = [
        f"{'strain' if r['kind'] == 'strain' else 'rattle'}\n{r['amount']:+g}".replace("rattle\n+", "rattle\n")
        for r in rows
    ]
    axis.bar(names, [row["force_mae"] for row in rows], color=BLUE, width=0.6)
    axis.set(ylabel="force MAE, meV/Å", xlabel="Å of a rattle, share of a length")
    return png_of(figure)


def _scans(part: Figures) -> bytes:
    from matplotlib.figure import Figure

    curves = part["curves"]
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(2.6 * columns + 0.6, 2.3 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, curve in zip(axes, curves, strict=False):
        axis.plot(curve["at"], curve["teacher"], **LOOK["teacher"])
        axis.plot(curve["at"], curve["student"], **LOOK["student"])
        axis.set_title(f"{curve['kind']} {curve['atoms']}", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.set_xlabel("Å" if curve["kind"] == "bond" else "degrees", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(curves) :]:
        axis.set_visible(False)
    figure.supylabel("kcal/mol", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return png_of(figure)


def _distances(part: Figures) -> bytes:
    figure, axis = figure_of(6.4, 4.0)
    for number, (name, pair) in enumerate(part["pairs"].items()):
        color = COLORS[number % len(COLORS)]
        axis.plot(pair["distances"], pair["student"], color=color, linewidth=1.3, label=name)
        axis.plot(pair["distances"], pair["teacher"], color=color, linewidth=1.3, linestyle="--")
    axis.set(xlabel="distance, Å (full: student, dashed: teacher)", ylabel="how often, per Å", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8, ncols=1 + len(part["pairs"]) // 8)
    return png_of(figure)


def _displacements(runs: list[Figures]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(runs) + 0.6, 3.4), layout="constrained")
    axes = figure.subplots(1, len(runs), squeeze=False).ravel()
    for axis, run in zip(axes, runs, strict=True):
        for number, (name, of) in enumerate(run["displacement"]["of"].items()):
            color = COLORS[number % len(COLORS)]
            axis.plot(run["displacement"]["ps"], of["student"], color=color, linewidth=1.3, label=name)
            axis.plot(run["displacement"]["ps"], of["teacher"], color=color, linewidth=1.3, linestyle="--")
        axis.set(title=f"{run['temperature']:g} K", xlabel="ps (full: student, dashed: teacher)", ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("mean square displacement, Å²")
    axes[0].legend(frameon=False, fontsize=8)
    return png_of(figure)
