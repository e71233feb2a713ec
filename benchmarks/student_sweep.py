"""Force error against training time for students, and for variants of them: which size is worth its cost.

    python benchmarks/student_sweep.py --data FOLDER_WITH_SPICE_FILES -o OUT [STUDENT ...]
    python benchmarks/student_sweep.py -o OUT ace:channels=16 ace:max_l=3,cutoff=5.0     # variants of a student

Small molecules of SPICE (H C N O), labelled by ANI-1x with 4 probes each: --n to train on, errors on molecules that none has seen.
Eager steps of 8 structures, one product each by difference; time is CPU seconds of the training steps, one thread. One line of
OUT/sweep.jsonl a fit; what is there is not run again, and a fit that was interrupted continues. The table is of all lines with the
same number of structures and steps.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from student_variants import add_row, errors, read_rows, registered, samples_of
from study_labels import SUBSETS, Labels, label_all, say

from hdistill.data.format.shard import Sample
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.settings import FitSettings

SUBSET = replace(SUBSETS["spice"], sizes=(100, 400, 2000), n_test=300, n_full=20)
STUDENTS = ("painn-small", "moment-large", "painn", "ace-small", "ace", "ace-large", "ace-local-small", "ace-local")
BASE = FitSettings(learning_rate=5e-3, ema_decay=0.995, product_method="difference", validate_every=500)
N_TEST = 100
ROWS = "sweep.jsonl"


@click.command()
@click.argument("students", nargs=-1)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    help="Folder with the SPICE files; not needed where OUT has the labels.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("sweep"), show_default=True)
@click.option("--n", type=click.Choice([str(n) for n in SUBSET.sizes]), default="400", show_default=True)
@click.option("--steps", default=1500, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--plain", is_flag=True, help="Energies and forces alone.")
def main(students: tuple[str, ...], data: Path | None, out: Path, n: str, steps: int, seed: int, plain: bool) -> None:
    torch.set_num_threads(1)
    names = [registered(name) for name in students or STUDENTS]
    labels = Labels(out / "labels") if data is None else label_all(SUBSET, out / "labels", data)
    test = samples_of(labels.test("new"))[:N_TEST]
    for student in names:
        settings = replace(BASE, student=student, steps=steps, seed=seed, hessian_weight=0.0 if plain else 0.3)
        run(settings, int(n), labels, out, test)
    print(table([row for row in read_rows(out / ROWS) if (row["n"], row["steps"]) == (int(n), steps)]))


def run(settings: FitSettings, n: int, labels: Labels, out: Path, test: list[Sample]) -> None:
    """One fit and its errors, unless they are there."""
    kind = "plain" if settings.hessian_weight == 0 else "probes"
    name = f"{settings.student}-{n}-{settings.steps}-{kind}-{settings.seed}"
    if any(row["name"] == name for row in read_rows(out / ROWS)):
        return
    say(name)
    done = fit(labels.pool(n), out / "runs" / name, settings, progress=False)
    row = {"name": name, "student": settings.student, "n": n, "steps": settings.steps, "kind": kind}
    row |= {"seed": settings.seed, "seconds": done.seconds, "n_parameters": done.n_parameters, **errors(done.run, test)}
    add_row(out / ROWS, row)
    print(table([row]).splitlines()[-1], flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, the fastest first."""
    lines = [
        "| student | labels | parameters | force MAE meV/Å | energy meV/atom | Hessian | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["seconds"]):
        force, energy = row["force_mae_mev_per_angstrom"], row["energy_mae_mev_per_atom"]
        shown = f"{force:.1f} | {energy:.1f} | {row['hessian_relative_error']:.3f} | {row['seconds']:.0f}"
        lines.append(f"| `{row['student']}` | {row['kind']} | {row['n_parameters'] / 1e3:.0f}k | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
