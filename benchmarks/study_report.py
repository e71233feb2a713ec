"""Tables (Markdown, to standard output) and pictures (PNG) of what study.py has found so far.

python benchmarks/study_report.py OUT [--pictures docs/pictures]
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from study import REPULSION, read_rows
from study_labels import SUBSETS
from study_measure import TESTS

Row = dict[str, Any]
COLORS = {"plain": "#8c8c8c", "plain, longer": "#4c72b0", "probes-4": "#c44e52"}
NAMES = {
    "plain": "energies + forces",
    "plain, longer": "energies + forces, CPU time of probes",
    "probes-4": "with 4 Hessian probes",
}
FIGURES = (
    ("force_mae_mev_per_angstrom", "force MAE meV/Å", "{:.1f}"),
    ("energy_mae_mev_per_atom", "energy MAE meV/atom", "{:.2f}"),
    ("hessian_relative_error", "Hessian rel. error", "{:.3f}"),
    ("frequency_mae_per_cm", "frequencies cm⁻¹", "{:.1f}"),
)


@click.command()
@click.argument("out", type=click.Path(path_type=Path, exists=True))
@click.option("--pictures", type=click.Path(path_type=Path), default=Path("docs/pictures"), show_default=True)
def main(out: Path, pictures: Path) -> None:
    for name in SUBSETS:
        rows = read_rows(out / name / "results.jsonl")
        speeds = {row["name"]: row for row in read_rows(out / name / "speed.jsonl")}
        if not rows:
            continue
        for test in TESTS:
            print(f"\n### {name}, {test}: training-set size\n\n{curve_table(rows, test)}")
        for title, table in (
            ("kinds of labels", kinds_table(rows)),
            ("students", students_table(rows, speeds)),
            ("NVE", dynamics_table(read_rows(out / name / "dynamics.jsonl"))),
        ):
            print(f"\n### {name}: {title}\n\n{table}")
        pictures.mkdir(parents=True, exist_ok=True)
        draw_curves(rows, pictures / f"study-{name}.png")
        if speeds:
            draw_speed(rows, speeds, SUBSETS[name].teacher, pictures / f"study-{name}-speed.png")


def curve_table(rows: Sequence[Row], test: str) -> str:
    """A line for each number of structures and each way; the last two columns compare forces with plain training."""
    own = [row for row in rows if row["part"] == "curve"]
    lines = []
    for n in sorted({row["n"] for row in own}):
        for way in COLORS:
            some = [row for row in own if (row["n"], row["way"]) == (n, way)]
            if some:
                ratios = [force_ratio(some, own, n, against, test) for against in ("plain", "plain, longer")]
                cells = [cell([row[test].get(key) for row in some], form) for key, _, form in FIGURES]
                times = [cell([row[key] for row in some], "{:.0f}", spread=False) for key in ("steps", "seconds")]
                shown = ratios if way == "probes-4" else ["", ""]
                lines.append([str(n), NAMES[way], str(len(some)), *times, *cells, *shown])
    names = [name for _, name, _ in FIGURES]
    header = ["structures", "labels", "seeds", "steps", "CPU s", *names, "forces / equal steps", "/ equal CPU time"]
    return markdown(header, lines)


def force_ratio(some: Sequence[Row], rows: Sequence[Row], n: int, against: str, test: str) -> str:
    """Mean force error over that of another way, over the seeds that both have."""
    key = FIGURES[0][0]
    other = {row["seed"]: row[test][key] for row in rows if (row["n"], row["way"]) == (n, against)}
    pairs = [(row[test][key], other[row["seed"]]) for row in some if row["seed"] in other]
    return f"{sum(a for a, _ in pairs) / sum(b for _, b in pairs):.2f}" if pairs else ""


def kinds_table(rows: Sequence[Row]) -> str:
    """Kinds of labels at one number of structures, errors on both test sets."""
    n = next((row["n"] for row in rows if row["part"] == "kinds"), None)
    own = [row for row in rows if row["n"] == n and row["part"] in ("kinds", "baselines", "curve")]
    hessians = ("rows-1", "rows-4", "rows-16", "probes-1", "probes-4", "probes-16", "full")
    order = ("plain", *hessians, "n2n", "a2a", "plain, longer")
    lines = []
    for way in order:
        some = [row for row in own if row["way"] == way]
        if some:
            cells = [cell([row[test].get(key) for row in some], form) for test in TESTS for key, _, form in FIGURES]
            lines.append([way, str(len(some)), *cells])
    header = ["labels", "seeds", *(f"{name}, {test}" for test in TESTS for _, name, _ in FIGURES)]
    return markdown(header, lines)


def students_table(rows: Sequence[Row], speeds: dict[str, Row]) -> str:
    """Students at one number of structures, on new groups, beside their cost and the teacher's."""
    lines = []
    for row in same_n(rows):
        cells = [cell([row["new"].get(key)], form) for key, _, form in FIGURES]
        cost = speeds.get(row["student"])
        fast = [f"{cost['ms']:.2f}", f"{cost['ratio']:.0f}x"] if cost else ["", ""]
        lines.append(
            [
                row["student"],
                str(row["n_parameters"]),
                NAMES[row["way"]],
                *(f"{row[key]:.0f}" for key in ("steps", "seconds")),
                *cells,
                *fast,
            ]
        )
    names = [name for _, name, _ in FIGURES]
    header = ["student", "parameters", "labels", "steps", "CPU s", *names, "ms a call", "faster than teacher"]
    return markdown(header, lines)


def same_n(rows: Sequence[Row]) -> list[Row]:
    """Seed 0 of every student at the number of structures of part `students`, plain and distilled."""
    n = next((row["n"] for row in rows if row["part"] == "students"), None)
    return [row for row in rows if row["n"] == n and row["seed"] == 0 and row["way"] in ("plain", "probes-4")]


def dynamics_table(rows: Sequence[Row]) -> str:
    """NVE by student, number of structures and labels. Drift and excursion are of the runs that stayed whole to their end."""
    lines = []
    for row in rows:
        runs = row["runs"]
        whole = [run for run in runs if not run["why"]]
        largest = [
            max((abs(run[f"{key}_mev_per_atom"]) for run in whole), default=None) for key in ("drift", "excursion")
        ]
        way, repulsion = row["way"].removesuffix(REPULSION), row["way"].endswith(REPULSION)
        lines.append(
            [
                str(row["n"]),
                row["student"] + (" with repulsion" if repulsion else ""),
                NAMES[way],
                f"{len(whole)} of {len(runs)}",
                f"{sum(run['fs'] for run in runs) / 1000:.1f}",
                *("" if x is None else f"{x:.2f}" for x in largest),
                "; ".join(sorted({run["why"] for run in runs if run["why"]})),
            ]
        )
    header = ["structures", "student", "labels", "whole to the end", "ps until lost, all", "largest drift meV/atom"]
    return markdown([*header, "largest excursion", "what was lost"], lines)


def cell(values: Sequence[float | None], form: str, spread: bool = True) -> str:
    """Mean ± standard deviation over seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = form.format(statistics.mean(known))
    return f"{mean} ± {form.format(statistics.stdev(known))}" if spread and len(known) > 1 else mean


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|".join("---" for _ in header)
    return "\n".join([f"| {' | '.join(header)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in lines)])


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Force, Hessian and frequency errors over the number of training structures; full lines: known groups, dashed: new ones."""
    from matplotlib.figure import Figure

    shown = [FIGURES[0], FIGURES[2], FIGURES[3]]
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, len(shown))
    own = [row for row in rows if row["part"] == "curve"]
    for panel, (key, name, _) in zip(panels, shown, strict=True):
        for way, color in COLORS.items():
            for test, style in zip(TESTS, ("-", "--"), strict=True):
                points: dict[int, list[float]] = {}
                for row in own:
                    if row["way"] == way:
                        points.setdefault(row["n"], []).append(row[test][key])
                sizes = sorted(points)
                label = NAMES[way] if test == TESTS[0] else None
                means = [statistics.mean(points[n]) for n in sizes]
                panel.plot(sizes, means, style, color=color, marker=".", label=label)
        panel.set(xscale="log", yscale="log", xlabel="training structures", title=name)
        sizes = sorted({row["n"] for row in own})
        panel.set_xticks(sizes, [str(n) for n in sizes])
        panel.set_xticks([], minor=True)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    figure.savefig(path, dpi=100)


def draw_speed(rows: Sequence[Row], speeds: dict[str, Row], teacher: str, path: Path) -> None:
    """Force error on new groups against the time of a call, teacher at zero error: figure 1 of arXiv 2501.09009."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    panel = figure.subplots()
    for row in same_n(rows):
        if row["student"] in speeds:
            x, y = speeds[row["student"]]["ms"], row["new"]["force_mae_mev_per_angstrom"]
            panel.plot(x, y, "o", color=COLORS[row["way"]])
            if row["way"] == "probes-4":
                panel.annotate(row["student"], (x, y), textcoords="offset points", xytext=(4, -12), fontsize=7)
    panel.plot(speeds[teacher]["ms"], 0, "*", color="black", markersize=12)
    panel.annotate(
        f"{teacher} (teacher)", (speeds[teacher]["ms"], 0), textcoords="offset points", xytext=(-60, 8), fontsize=7
    )
    for way in ("plain", "probes-4"):
        panel.plot([], [], "o", color=COLORS[way], label=NAMES[way])
    panel.set(xscale="log", xlabel="ms for energy and forces", ylabel="force MAE meV/Å, new groups")
    panel.legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
