"""What Hessian labels buy, measured: students with and without them, over training-set size, kinds of labels and students.

    python benchmarks/study.py --data FOLDER_WITH_SPICE_FILES -o OUT [--subset spice|perovskites] [--part curve|kinds|...]
    python benchmarks/study_report.py OUT            # tables (Markdown) and pictures of what is there

Two subsets of real structures: small molecules (SPICE monomers of H C N O, labelled by ANI-1x) and strained perovskites (labelled by
SevenNet-0). Errors are against the teacher, on structures of known groups (molecules; chemistries) and of new ones. The ways to train:

    plain           energies and forces
    plain, longer   the same, for as many steps as take the CPU time of probes-4
    probes-4, ...   energies, forces and one stored Hessian product of each structure a step, drawn from so many
    n2n, a2a        energies, forces and the teacher's node features, or their means for each element
    ..., repulsion  with a fixed short-range repulsion under the student

Results are lines of OUT/<subset>/results.jsonl; what is there is not run again, and a fit that was interrupted continues. The order
is that of importance: whatever was finished is a story.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from study_labels import SUBSETS, Labels, Subset, label_all, say
from study_measure import accuracy, dynamics_of, every_sample, speeds, test_samples

from hdistill.trainer.fitting.fit import FitResult, fit
from hdistill.trainer.fitting.settings import FitSettings

BASE = FitSettings(
    student="painn-small", steps=4000, learning_rate=1e-2, product_method="difference", validate_every=500
)
SEEDS = (0, 1, 2)
MIDDLE = {"spice": 200, "perovskites": 100}  # training structures, where everything but their number is varied
BASELINES: dict[str, dict[str, Any]] = {
    "n2n": {"node_weight": 1.0},
    "a2a": {"embedding_weight": 1.0},
}  # of 0.01, 0.1 and 1, by validation
STUDENTS = ("moment", "painn", "gemnet-t", "gemnet-dt")
PARTS = ("curve", "kinds", "baselines", "students", "speed", "dynamics")
REPULSION = ", repulsion"
N_MD = 10  # molecules or crystals


@dataclass(frozen=True)
class Job:
    """One fit: the part of the study it is of, n training structures, the way, the student and the seed."""

    part: str
    n: int
    way: str
    student: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.student}-{self.n}-{self.way.replace(', ', '-')}-{self.seed}"


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Folder with the SPICE files.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("study"), show_default=True)
@click.option("--subset", "name", type=click.Choice(list(SUBSETS)), default="spice", show_default=True)
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, help="Default: all, in this order.")
@click.option(
    "--n", "sizes", type=int, multiple=True, help="Numbers of training structures of the curve. Default: all."
)
@click.option("--student", "students", multiple=True, help="Of students, speed and dynamics. Default: all.")
@click.option("--steps", default=BASE.steps, show_default=True, help="Of 'plain' and of the ways with Hessian labels.")
@click.option("--seeds", default=len(SEEDS), show_default=True)
@click.option("--compile/--eager", "compiled", default=True, show_default=True, help="Of all fits, plain ones too.")
@click.option("--teacher", help="Another teacher, as a check; give another --out.")
@click.option("--worker", default="0/1", show_default=True, help="k/n: of n that share the work, this is number k.")
def main(
    data: Path | None,
    out: Path,
    name: str,
    parts: tuple[str, ...],
    sizes: tuple[int, ...],
    students: tuple[str, ...],
    steps: int,
    seeds: int,
    compiled: bool,
    teacher: str | None,
    worker: str,
) -> None:
    torch.set_num_threads(1)
    subset = SUBSETS[name]
    parts = parts or PARTS
    kinds = (subset.kinds if "kinds" in parts else ()) + (("features",) if "baselines" in parts else ())
    labels = label_all(subset, out / name / "labels", data, teacher, kinds)
    study = Study(out / name, subset, teacher or subset.teacher, labels, replace(BASE, steps=steps, compile=compiled))
    own, of = map(int, worker.split("/"))
    students = students or STUDENTS
    for number, job in enumerate(jobs(subset, parts, sizes or subset.sizes, students, seeds)):
        if job.seed % of == own if of > 1 and job.part == "curve" else number % of == own:
            study.run(job)
    if "speed" in parts:
        study.speeds(students)
    if "dynamics" in parts:
        study.dynamics(students)


def jobs(
    subset: Subset, parts: tuple[str, ...], sizes: tuple[int, ...], students: tuple[str, ...], n_seeds: int
) -> Iterator[Job]:
    """Everything that is fitted, the most important first."""
    middle = MIDDLE[subset.name]
    by_importance = sorted(sizes, key=lambda n: (n != middle, n != max(sizes), n))
    seeds = SEEDS[:n_seeds]
    if "curve" in parts:
        for seed in seeds:
            for n in by_importance:
                for way in ("plain", "probes-4", "plain, longer"):
                    yield Job("curve", n, way, BASE.student, seed)
    if "kinds" in parts:
        for seed in seeds:
            for kind in subset.kinds:
                yield Job("kinds", middle, kind.replace(":", "-"), BASE.student, seed)
    if "baselines" in parts:
        for seed in seeds:
            for way in BASELINES:
                yield Job("baselines", middle, way, BASE.student, seed)
    if "students" in parts:
        for student in students:
            for way in ("plain", "probes-4"):
                yield Job("students", middle, way, student, 0)
    if "dynamics" in parts:
        for n in (middle, max(subset.sizes)):
            for way in ("plain", "probes-4"):
                yield Job("dynamics", n, way + REPULSION, BASE.student, 0)


@dataclass(frozen=True)
class Study:
    """Runs jobs and keeps what came of them in folder/results.jsonl."""

    folder: Path
    subset: Subset
    teacher: str
    labels: Labels
    base: FitSettings

    @property
    def file(self) -> Path:
        return self.folder / "results.jsonl"

    def run(self, job: Job) -> None:
        """Fit and measure, unless that is done."""
        if self.is_done(job):
            return
        say(f"{self.subset.name}: {job.name}")
        done = self.fitted(job)
        if done is None:
            say("  left out: the fits whose time it should take are not there")
            return
        tests = test_samples(self.labels)
        row: dict[str, Any] = {"name": job.name, **asdict(job), "steps": done.steps, "seconds": done.seconds}
        row |= {"n_parameters": done.n_parameters, "best_step": done.best_step, **accuracy(done.run, tests)}
        add_row(self.file, row)

    def fitted(self, job: Job) -> FitResult | None:
        """The fit, begun, continued or found."""
        settings = self.settings(job)
        if settings is None:
            return None
        return fit(self.labels_of(job), self.folder / "runs" / job.name, settings, progress=False)

    def settings(self, job: Job) -> FitSettings | None:
        common = replace(self.base, student=job.student, seed=job.seed, repulsion=job.way.endswith(REPULSION))
        way = job.way.removesuffix(REPULSION)
        plain = replace(common, hessian_weight=0.0)
        if way in BASELINES:
            return replace(plain, **BASELINES[way])
        if not way.startswith("plain"):
            return common
        if way == "plain":
            return plain
        rows = {row["name"]: row for row in read_rows(self.file)}
        short, distilled = (rows.get(replace(job, way=way).name) for way in ("plain", "probes-4"))
        if short is None or distilled is None:
            return None
        # By the ratio of two measured times, not by the clock: the same number of steps can be run again.
        return replace(plain, steps=round(plain.steps * distilled["seconds"] / short["seconds"]))

    def labels_of(self, job: Job) -> Path:
        if job.part in ("kinds", "baselines"):
            return self.labels.kind("features" if job.way in BASELINES else job.way, job.n)
        return self.labels.pool(job.n)

    def speeds(self, students: tuple[str, ...]) -> None:
        """Milliseconds of a call of every student and of the teacher, measured in turn on one new structure."""
        jobs = [Job("students", MIDDLE[self.subset.name], "plain", student, 0) for student in (BASE.student, *students)]
        runs = {job.student: done.run for job in jobs if self.is_done(job) and (done := self.fitted(job))}
        largest = max(every_sample(self.labels.test("new-full")), key=lambda sample: sample.structure.n_atoms)
        (self.folder / "speed.jsonl").unlink(missing_ok=True)
        for row in speeds(self.teacher, runs, largest):
            add_row(self.folder / "speed.jsonl", row)

    def is_done(self, job: Job) -> bool:
        return job.name in {row["name"] for row in read_rows(self.file)}

    def dynamics(self, students: tuple[str, ...]) -> None:
        """NVE of a structure of each of a few new groups with every student, and with few and many training structures.

        Molecules that are new; strains of chemistries that are known: of new ones no student knows anything.
        """
        test = "known-full" if self.subset.new else "new-full"
        groups = {sample.structure.group: sample for sample in every_sample(self.labels.test(test))}
        samples = list(groups.values())[:N_MD]
        file = self.folder / "dynamics.jsonl"
        middle, most = MIDDLE[self.subset.name], max(self.subset.sizes)
        kinds = [(n, BASE.student, end) for n in (most, middle) for end in (REPULSION, "")]
        kinds += [(middle, student, "") for student in students]
        for n, student, end in kinds:
            for way in ("plain", "probes-4"):
                job = Job("dynamics", n, way + end, student, 0)
                if job.name in {row["name"] for row in read_rows(file)} or not self.is_done(job):
                    continue
                if done := self.fitted(job):
                    say(f"{self.subset.name}: NVE of {job.name}")
                    rows = dynamics_of(done.run, samples)
                    add_row(file, {"name": job.name, **asdict(job), "runs": rows})


def read_rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def add_row(file: Path, row: dict[str, Any]) -> None:
    """Append a line at once, so that several processes may share the file."""
    with file.open("a") as stream:
        stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    sys.exit(main())
