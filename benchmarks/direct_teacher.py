"""A teacher whose forces are not the gradient of an energy, into a student whose forces are one: what happens to the energy in 10 ps.

    python benchmarks/direct_teacher.py --data FOLDER_WITH_SPICE_FILES [-o OUT] [--structures 400] [--steps 2000]

ANI-1x labels SPICE monomers (H C N O, at most 16 atoms); a direct-force PaiNN learns energies and forces from them. It then is the
teacher (`student:RUN`) of the same structures: energies, forces and probes of -dF/dR, which is not symmetric. Conservative PaiNNs
of the same size learn from those labels alone, with and without a short-range repulsion (ZBL) under them. All then move the same
molecules, of the test split, from the same positions and velocities at constant energy. Prints Markdown; an interrupted run
continues (but for the dynamics).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import json
import sys
from pathlib import Path
from typing import Any

import click
from ase import Atoms

from hdistill.data.format.shard import Sample
from hdistill.data.labelsets.label_set import open_label_set
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.run import RunSettings, label
from hdistill.trainer.evaluation.dynamics import Motion, run as move
from hdistill.trainer.evaluation.errors import evaluate_student, samples_of
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.force_field.calculator import HDistillCalculator

WHERE = "{'H','C','N','O'} >= elements and n_atoms <= 16"


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("direct-teacher"), show_default=True)
@click.option("--structures", default=800, show_default=True, help="Labelled in all; half of them for training.")
@click.option("--steps", default=2000, show_default=True, help="Of both fits.")
@click.option("--student", default="painn-small", show_default=True, help="NAME, beside which there is NAME-direct.")
@click.option("--molecules", default=3, show_default=True, help="Moved by both.")
@click.option("--md-steps", default=20_000, show_default=True, help="Of 0.5 fs.")
@click.option("--temperature", default=300.0, show_default=True, help="K, at the start.")
def main(
    data: Path, out: Path, structures: int, steps: int, student: str, molecules: int, md_steps: int, temperature: float
) -> None:
    asked = LabelSettings("ani-1x", ("spice:monomers",), where=WHERE, splits="0.5,0.1,0.4", limit=structures)
    first = label(asked, out / "labels-ani-1x", data, RunSettings(workers=1), _say).path
    motion = Motion(steps=md_steps, temperature_K=temperature)
    starts = first_of_each_group(list(samples_of(open_label_set(first), "test")))[:molecules]
    actual = compare(first, out, student, steps, starts, motion)
    (out / "direct-teacher.json").write_text(json.dumps(actual, indent=1) + "\n")
    print(markdown(actual))


def compare(labels: Path, out: Path, student: str, steps: int, starts: list[Sample], motion: Motion) -> dict[str, Any]:
    """Fit the direct student to the labels, make it the teacher of the same structures, fit the conservative ones, move all."""
    direct = fit(labels, out / "direct", FitSettings(student=f"{student}-direct", steps=steps, hessian_weight=0.0)).run
    asked = LabelSettings(f"student:{direct}", (str(labels),), splits="0.5,0.1,0.4")
    from_direct = label(asked, out / "labels-direct", None, RunSettings(workers=1), _say).path
    runs = {"direct": direct}
    for name, repulsion in (("conservative", False), ("conservative, ZBL", True)):
        settings = FitSettings(student=student, steps=steps, repulsion=repulsion)
        runs[name] = fit(from_direct, out / name.replace(", ", "-"), settings).run
    rows = []
    for name, run in runs.items():
        calculator = HDistillCalculator(run)
        moved = []
        for start in starts:
            _say(f"{name}: {start.structure.group}")
            atoms = Atoms(start.structure.numbers, start.structure.positions)
            moved.append({"molecule": start.structure.group, **move(atoms, calculator, motion).summary()})
        rows.append(
            {
                "name": name,
                "error_to_original": _force_error(run, labels),
                "error_to_direct": None if name == "direct" else _force_error(run, from_direct),
                "dynamics": moved,
            }
        )
    return {"teacher_conservative": _is_conservative(from_direct), "students": rows}


def first_of_each_group(samples: list[Sample]) -> list[Sample]:
    """One structure of every molecule, largest first: what could fall apart comes first."""
    groups: dict[str, Sample] = {}
    for sample in samples:
        groups.setdefault(sample.structure.group, sample)
    return sorted(groups.values(), key=lambda sample: (-sample.structure.n_atoms, sample.structure.id))


def markdown(actual: dict[str, Any]) -> str:
    lines = [
        "| student | force MAE to ANI-1x, to the direct one, meV/Å | molecule | fs | drift meV/atom | excursion | whole until fs |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in actual["students"]:
        errors = ", ".join("-" if e is None else f"{e:.0f}" for e in (row["error_to_original"], row["error_to_direct"]))
        for moved in row["dynamics"]:
            figures = [moved["drift_mev_per_atom"], moved["excursion_mev_per_atom"]]
            shown = " | ".join("-" if figure is None else f"{figure:.3g}" for figure in figures)
            end = f"{moved['stable_until_fs']:.0f}" + (f" ({moved['why']})" if moved["why"] else "")
            lines.append(f"| {row['name']} | {errors} | {moved['molecule']} | {moved['fs']:.0f} | {shown} | {end} |")
    return "\n".join(lines)


def _force_error(run: Path, labels: Path) -> float:
    return float(evaluate_student(run, labels, "test")["force_mae_mev_per_angstrom"])


def _is_conservative(labels: Path) -> bool:
    return open_label_set(labels).manifest.teacher.conservative


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
