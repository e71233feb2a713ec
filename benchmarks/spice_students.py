"""What Hessian labels buy: ANI-1x labels SPICE monomers (H C N O, at most 16 atoms), students learn from 100 and from 400 of them.

    python benchmarks/spice_students.py --data FOLDER_WITH_SPICE_FILES [-o OUT] [--steps 2000] [--student painn-small]

For each number of training structures and each seed: energies and forces; the same with 4 stored probes, and with 4 stored rows
(equal steps); energies and forces for as much CPU time as the fit with probes took. Errors on molecules that no student has
seen, the same 300 structures for all. Prints a Markdown table; an interrupted run continues.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from hdistill.data.sources import SourceReport
from hdistill.data.split import parse_fractions, split_of
from hdistill.labeler.plan import LabelSettings
from hdistill.labeler.prepare import selection
from hdistill.labeler.run import RunSettings, label
from hdistill.trainer.evaluate import evaluate_student
from hdistill.trainer.fit import fit
from hdistill.trainer.settings import FitSettings

WHERE = "{'H','C','N','O'} >= elements and n_atoms <= 16"
SPLITS = "0.5,0.1,0.4"
SIZES = (100, 400)
SEEDS = (0, 1)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("spice-students"), show_default=True)
@click.option("--steps", default=2000, show_default=True)
@click.option("--student", default="painn-small", show_default=True)
def main(data: Path, out: Path, steps: int, student: str) -> None:
    base = LabelSettings("ani-1x", ("spice:monomers",), where=WHERE, splits=SPLITS)
    labels = {}
    for n in SIZES:
        for hessian in ("probes:4", "rows:4"):
            settings = replace(base, hessian=hessian, limit=limit_for(n, base, data))
            folder = out / f"labels-{n}-{hessian.replace(':', '')}"
            labels[n, hessian] = label(settings, folder, data, RunSettings(), _say).path
    test = labels[max(SIZES), "probes:4"]  # its held-out molecules are held out of every smaller set too
    plain = FitSettings(student=student, steps=steps, hessian_weight=0.0)
    with_hessian = FitSettings(student=student, steps=steps)
    rows = []
    for n in SIZES:
        for seed in SEEDS:
            probes = labels[n, "probes:4"]

            def run(name: str, labels: Path, settings: FitSettings, n: int = n, seed: int = seed) -> dict[str, Any]:
                _say(f"{n} structures, seed {seed}: {name}")
                done = fit(labels, out / f"{student}-{n}-{seed}-{name.replace(' ', '-')}", replace(settings, seed=seed))
                errors = evaluate_student(done.run, test, "test")
                errors.pop("by_group")
                return {"n": n, "seed": seed, "name": name, "steps": done.steps, "seconds": done.seconds, **errors}

            distilled = run("probes", probes, with_hessian)
            rows += [run("energies and forces", probes, plain), distilled]
            rows.append(run("rows", labels[n, "rows:4"], with_hessian))
            longer = replace(plain, steps=100 * steps, max_seconds=distilled["seconds"])
            rows.append(run("energies and forces, CPU time of probes", probes, longer))
    (out / f"{student}.json").write_text(json.dumps(rows, indent=1))
    print(markdown(rows))


def limit_for(n_train: int, settings: LabelSettings, data: Path) -> int:
    """How many structures --limit must keep for exactly n_train of them to be in the training split."""
    fractions = parse_fractions(settings.splits)
    everything = replace(settings, limit=1_000_000)
    trained = 0
    for number, structure in enumerate(selection(everything, data, SourceReport()), start=1):
        trained += split_of(structure.group, settings.seed, fractions) == "train"
        if trained == n_train:
            return number
    raise SystemExit(f"Only {trained} structures are left for training; {n_train} are needed.")


def markdown(rows: list[dict[str, Any]]) -> str:
    """One line for each way of training; both seeds in each cell."""
    lines = [
        "| structures | labels | steps | CPU s | force MAE meV/Å | energy MAE meV/atom | Hessian rel. error |",
        "|---|---|---|---|---|---|---|",
    ]
    for n, name in dict.fromkeys((row["n"], row["name"]) for row in rows):
        mine = [row for row in rows if (row["n"], row["name"]) == (n, name)]

        def cell(key: str, form: str, mine: list[dict[str, Any]] = mine) -> str:
            return ", ".join(format(row[key], form) for row in mine)

        seconds = f"{statistics.mean(row['seconds'] for row in mine):.0f}"
        errors = [cell("force_mae_mev_per_angstrom", ".0f"), cell("energy_mae_mev_per_atom", ".1f")]
        lines.append(
            f"| {n} | {name} | {cell('steps', 'd')} | {seconds} | {' | '.join(errors)} "
            f"| {cell('hessian_relative_error', '.3f')} |"
        )
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
