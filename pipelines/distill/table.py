"""What a user watches: a table that grows by a line each round, rounds.csv, a picture of a round."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdistill.data.support.publish import publish

from ..report.canvas import BLUE, ORANGE, png_of

if TYPE_CHECKING:
    from ase import Atoms

CSV = "rounds.csv"
COLUMNS = (
    *("round", "n_labelled", "n_quarantined", "seconds", "cpu_seconds", "fit_cpu_seconds", "picoseconds"),
    *(
        "n_replicas",
        "n_whole",
        "n",
        "force_mae",
        "force_rms",
        "energy_mae",
        "hessian_relative_error",
        "chosen_force_mae",
    ),
    "validation_force_mae",
)
SHOWN: tuple[tuple[str, Callable[[Sequence[dict[str, Any]]], str]], ...] = (
    ("round", lambda rows: str(rows[-1]["round"])),
    ("labelled", lambda rows: str(rows[-1]["n_labelled"])),
    ("teacher min", lambda rows: f"{sum(row['seconds'] for row in rows) / 60:.1f}"),
    ("on-policy meV/A", lambda rows: _number(rows[-1].get("force_mae"))),
    ("of rms", lambda rows: _share(rows[-1])),
    ("chosen meV/A", lambda rows: _number(rows[-1].get("chosen_force_mae"))),
    ("whole", lambda rows: f"{rows[-1]['n_whole']}/{rows[-1]['n_replicas']}" if "n_replicas" in rows[-1] else ""),
    ("ps", lambda rows: _number(rows[-1].get("picoseconds"))),
    ("validation meV/A", lambda rows: _number(rows[-1].get("validation_force_mae"))),
)


def line(rows: Sequence[dict[str, Any]]) -> str:
    """The last round's line, under the header where it is the first; under it what stopped replicas."""
    header = ["  ".join(name for name, _ in SHOWN)] if len(rows) == 1 else []
    text = "  ".join(value(rows).rjust(len(name)) for name, value in SHOWN)
    stopped = rows[-1].get("stopped", [])
    said = [f"      stopped: {sentence}" for sentence in stopped[:2]]
    more = [f"      and {len(stopped) - 2} more replicas"] if len(stopped) > 2 else []
    return "\n".join([*header, text, *said, *more])


def write_csv(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """All rounds; errors in meV/A, meV/atom, times in s."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    publish(file, stream.getvalue().encode(), replace=True)


def picture(rows: Sequence[dict[str, Any]], frames: Sequence[Atoms], file: Path) -> None:
    """How errors fell until this round, and how unlike what was learned its structures are, by temperature. Nothing where matplotlib
    is not installed."""
    if find_spec("matplotlib") is None:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    measured = [row for row in rows if row.get("force_mae") is not None]
    for key, style, color, label in (
        ("force_mae", "o-", BLUE, "on-policy, at random"),
        ("chosen_force_mae", "s--", ORANGE, "all chosen"),
    ):
        left.plot([row["round"] for row in measured], [row[key] for row in measured], style, color=color, label=label)
    left.set(xlabel="round", ylabel="force MAE before training on them, meV/Å", ylim=(0, None))
    left.set_xticks([row["round"] for row in measured])
    for at_random, color, label in ((True, BLUE, "at random"), (False, ORANGE, "spread out, unsure")):
        some = [atoms.info for atoms in frames if bool(atoms.info.get("at_random")) is at_random]
        distances = [info.get("domain_distance", 0.0) for info in some]
        right.scatter([info.get("temperature", 0.0) for info in some], distances, s=18, color=color, label=label)
    right.set(xlabel="temperature of the dynamics, K", ylabel="largest domain distance of an atom", ylim=(0, None))
    for axis in (left, right):
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    publish(file, png_of(figure), replace=True)


def _share(row: dict[str, Any]) -> str:
    return "" if row.get("force_mae") is None else f"{100 * row['force_mae'] / row['force_rms']:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
