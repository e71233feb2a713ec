"""The demo's picture: errors of the three students, and how their force error fell with CPU time."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEASURES = (
    ("force_mae_mev_per_angstrom", "force MAE, meV/Å"),
    ("energy_mae_mev_per_atom", "energy MAE, meV/atom"),
    ("hessian_relative_error", "Hessian relative error"),
)


@dataclass(frozen=True)
class Contender:
    """One way to train: its folder, its name in the table, its colour in the picture."""

    folder: str
    name: str
    color: str


def draw(result: dict[str, Any], contenders: Sequence[Contender], out: Path) -> None:
    """Write out/demo.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(15, 3.8), width_ratios=(1, 1, 1, 2), layout="constrained")
    for axis, (key, title) in zip(axes, MEASURES, strict=False):
        values = [row[key] for row in result["rows"]]
        bars = axis.bar(range(len(values)), values, color=[c.color for c in contenders])
        axis.bar_label(bars, fmt="%.3g", padding=2)
        axis.set(title=title, xticks=[], ylim=(0, 1.15 * max(values)))
        axis.spines[["top", "right"]].set_visible(False)
    for contender in contenders:
        seconds, errors = _curve(out / contender.folder / "log.csv")
        axes[3].plot(seconds, errors, color=contender.color, label=contender.name)
    axes[3].set(title="validation force MAE, meV/Å", xlabel="CPU seconds of training", yscale="log")
    plain_ticks(axes[3].yaxis)
    axes[3].spines[["top", "right"]].set_visible(False)
    axes[3].legend(frameon=False)
    figure.suptitle("Students of one label set, on held-out structures (lower is better)")
    figure.savefig(out / "demo.png", dpi=130)
    plt.close(figure)


def plain_ticks(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers, 60 and not 6x10^1: 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _curve(log: Path) -> tuple[list[float], list[float]]:
    with open(log, newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["val_force_mae_mev_per_angstrom"]]
    return [float(row["cpu_seconds"]) for row in rows], [float(row["val_force_mae_mev_per_angstrom"]) for row in rows]
