"""How smooth a teacher's Hessian is: what no smooth student can learn of it.

    python benchmarks/study_roughness.py OUT [--subset spice] [--run NAME] [--teacher NAME]     # OUT of study.py

Structures are displaced by random vectors of size h, and the change of the Hessian is compared: of a smooth energy it grows as h, of
one whose second derivative jumps (an activation with a kink in its slope) it grows as the root of h, by the number of jumps that
were crossed. The student of a run is the smooth one to compare with. Float64.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from study_labels import SUBSETS, Labels
from study_measure import every_sample, labelling_teacher

from hdistill.data.structure import Directions, Structure
from hdistill.labeler.process.parent import TeacherProcess
from hdistill.trainer.force_field.checkpoint import load_student
from hdistill.trainer.force_field.predict import predict
from hdistill.trainer.inputs.batch import batch_of

SIZES = (0.0003, 0.001, 0.003, 0.01, 0.03)  # A, of each component
N_STRUCTURES = 10
Hessian = Callable[[Structure], NDArray[np.float64]]


@click.command()
@click.argument("out", type=click.Path(path_type=Path, exists=True))
@click.option("--subset", "name", type=click.Choice(list(SUBSETS)), default="spice", show_default=True)
@click.option("--run", default="painn-small-200-probes-4-0", show_default=True, help="A student of study.py.")
@click.option("--teacher", help="Another teacher than the subset's.")
def main(out: Path, name: str, run: str, teacher: str | None) -> None:
    torch.set_num_threads(1)
    samples = every_sample(Labels(out / name / "labels").test("known-full"))[:N_STRUCTURES]
    structures = [sample.structure for sample in samples]
    teacher = teacher or SUBSETS[name].teacher
    with labelling_teacher(teacher, dtype="float64") as process:
        changes = [
            relative_changes(hessian, structures)
            for hessian in (of_teacher(process), of_student(out / name / "runs" / run))
        ]
    print(f"| displacement Å | {teacher} | {run} |\n|---|---|---|")
    for size, by_teacher, by_student in zip(SIZES, *changes, strict=True):
        print(f"| {size} | {by_teacher:.4f} | {by_student:.4f} |")


def relative_changes(hessian: Hessian, structures: list[Structure]) -> list[float]:
    """Mean |H(R + h u) - H(R)| / |H(R)| over structures for each h; u has standard normal components, the same for every h."""
    rng = np.random.default_rng(0)
    ways = [rng.standard_normal((s.n_atoms, 3)) for s in structures]
    starts = [hessian(s) for s in structures]
    return [
        float(
            np.mean(
                [
                    np.linalg.norm(hessian(replace(s, positions=s.positions + size * u)) - start)
                    / np.linalg.norm(start)
                    for s, u, start in zip(structures, ways, starts, strict=True)
                ]
            )
        )
        for size in SIZES
    ]


def of_teacher(process: TeacherProcess) -> Hessian:
    def hessian(s: Structure) -> NDArray[np.float64]:
        rows = Directions("rows", coordinate=np.arange(3 * s.n_atoms, dtype=np.int32))
        products = process.label([s], [rows])[0].hessian
        assert products is not None
        return np.asarray(products.values, np.float64)

    return hessian


def of_student(run: Path) -> Hessian:
    student = load_student(run, dtype="float64")

    def hessian(s: Structure) -> NDArray[np.float64]:
        rows = torch.eye(3 * s.n_atoms, dtype=torch.float64).view(-1, s.n_atoms, 3)
        messages = predict(student.model, batch_of([s], student.cutoff), rows).products
        assert messages is not None
        return messages.detach().numpy()

    return hessian


if __name__ == "__main__":
    main()
