"""Structures, students and labelled samples that the trainer's tests share. Labels are a real teacher's: Lennard-Jones."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hdistill.data.format.shard import Sample
from hdistill.data.labelsets.label_set import LabelSet, open_label_set
from hdistill.data.probes import draw, parse_spec
from hdistill.data.structure import Structure
from hdistill.labeler.teachers.contract import TeacherRequest
from hdistill.labeler.teachers.lennard_jones import LennardJones
from hdistill.trainer.fitting.data import TrainingData
from hdistill.trainer.fitting.ranks import Ranks
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.fitting.state import TrainState
from hdistill.trainer.fitting.statistics import Statistics, compute_statistics
from hdistill.trainer.fitting.step import Gradients, train_step
from hdistill.trainer.force_field.checkpoint import StudentCard, save_student
from hdistill.trainer.inputs.references import References
from hdistill.trainer.students.build import build
from hdistill.trainer.students.sizes import SIZES, StudentSize

ELEMENTS = (1, 6, 8)
EXAMPLE = Path(__file__).parent / "outside_student"
CUBE = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])


def student(name: str, elements: tuple[int, ...] = ELEMENTS, seed: int = 0) -> nn.Module:
    """A student with fresh weights in float64, for derivatives that are compared with differences."""
    return build(SIZES[name], elements, scale=1.0, seed=seed).to(torch.float64)


def molecule(n: int = 6, seed: int = 0) -> Structure:
    """n atoms of ELEMENTS on a rattled cubic grid of 1.2 A."""
    rng = np.random.default_rng(seed)
    positions = 1.2 * CUBE[:n] + rng.normal(scale=0.1, size=(n, 3))
    return Structure(rng.choice(ELEMENTS, n).astype(np.uint8), positions, group=f"molecule-{seed}")


def crystal(seed: int = 0, size: float = 3.1) -> Structure:
    """Three atoms in a skewed cell much smaller than any cutoff, so that atoms see images of themselves."""
    rng = np.random.default_rng(seed)
    cell = size * np.eye(3) + rng.normal(scale=0.2, size=(3, 3))
    fractions = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]) + rng.normal(scale=0.03, size=(3, 3))
    return Structure(np.array(ELEMENTS, np.uint8), fractions @ cell, cell, np.ones(3, bool), group="crystal")


def perovskite() -> Structure:
    """An ideal cubic ABX3: every site is so symmetric that all vector features vanish."""
    fractions = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return Structure(np.array([1, 6, 8, 8, 8], np.uint8), 3.9 * fractions, 3.9 * np.eye(3), np.ones(3, bool))


def moved(structure: Structure, positions: np.ndarray) -> Structure:
    return replace(structure, positions=positions)


def argon_samples(n: int, hessian: str = "probes:4", seed: int = 0) -> list[Sample]:
    """Clusters of 3 to 6 atoms near the Lennard-Jones minimum; of ten, one is for validation and two are for tests."""
    rng = np.random.default_rng(seed)
    structures = []
    for number in range(n):
        size = 3 + number % 4
        positions = 3.8 * CUBE[:size] + rng.normal(scale=0.15, size=(size, 3))
        structures.append(Structure(np.full(size, 18, np.uint8), positions, group=f"cluster-{size}"))
    directions = [draw(parse_spec(hessian), seed, s.id, s.n_atoms) for s in structures]
    labels = LennardJones(TeacherRequest("lennard-jones", "lennard_jones", "", dtype="float64")).label(
        structures, directions
    )
    splits = ["val" if i % 10 == 8 else "test" if i % 10 > 8 or i % 10 == 7 else "train" for i in range(n)]
    return [Sample(*each) for each in zip(structures, labels, splits, strict=True)]


def argon_crystals(n: int) -> list[Sample]:
    """The same in periodic cells and with a stress, whose value is not the teacher's."""
    cell, stress = 9.0 * np.eye(3), np.diag([0.01, 0.02, -0.01])
    return [
        replace(
            sample,
            structure=replace(sample.structure, cell=cell, pbc=np.ones(3, bool)),
            labels=replace(sample.labels, stress=stress),
        )
        for sample in argon_samples(n)
    ]


@dataclass(frozen=True)
class Prepared:
    """A label set, and what its training split says before the first step."""

    labels: LabelSet
    statistics: Statistics

    @property
    def references(self) -> References:
        return self.statistics.references

    @property
    def scale(self) -> float:
        return self.statistics.scale


def prepared(labels: Path | LabelSet, settings: FitSettings) -> Prepared:
    labels = labels if isinstance(labels, LabelSet) else open_label_set(labels)
    return Prepared(labels, compute_statistics(labels, settings))


def one_step(
    state: TrainState,
    samples: Sequence[Sample],
    task: Prepared,
    settings: FitSettings,
    gradients: Gradients,
    ranks: Ranks,
) -> dict[str, float]:
    """A training step on these samples; its numbers by name, terms of the loss among them."""
    inputs = TrainingData(task.labels, task.statistics, settings, ranks).inputs(samples, state.step)
    row = train_step(state, inputs, settings, gradients, ranks)
    numbers = {"learning_rate": row.learning_rate, "loss": row.loss, "gradient_norm": row.gradient_norm}
    return {**numbers, **row.terms}


def install_example(folder: Path) -> Path:
    """The example package of an outside student in a folder, with the metadata that pip makes of its pyproject.toml."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    shutil.copy(EXAMPLE / "pair_student.py", folder)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    offers = project["entry-points"]["hdistill.students"].items()
    lines = ["[hdistill.students]", *(f"{student} = {where}" for student, where in offers)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def saved_student(folder: Path, size: StudentSize, name: str, elements: tuple[int, ...] = ELEMENTS) -> Path:
    """A run folder that holds a student with fresh weights."""
    references = References(elements, (0.0,) * len(elements))
    settings = {"dtype": "float32"}
    folder.mkdir()
    card = StudentCard(name, size, references, 1.0, settings, "", {}, {}, 0, {})
    save_student(folder, card, build(size, elements, 1.0))
    return folder
