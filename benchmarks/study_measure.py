"""How good a student of study.py is: errors on known and on new groups, frequencies, milliseconds of a call, 10 ps of NVE."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from study_labels import Labels

from hdistill.data.labelset import open_label_set
from hdistill.data.schema import SPLITS
from hdistill.data.shard import Sample
from hdistill.data.stream import in_order
from hdistill.labeler import catalogue, environments
from hdistill.labeler.teacher_process import TeacherProcess
from hdistill.pipelines.speed import OWN_CALCULATORS, interleaved_ms, own_calculator, student_call
from hdistill.trainer.batch import batch_of
from hdistill.trainer.checkpoint import TrainedStudent, load_student
from hdistill.trainer.dynamics import nve
from hdistill.trainer.evaluate import errors_of, joined, summary
from hdistill.trainer.predict import is_direct, predict
from hdistill.trainer.vibrations import frequencies, full_hessian

TESTS = ("known", "new")
KEPT = ("energy_mae_mev_per_atom", "force_mae_mev_per_angstrom", "hessian_relative_error")
MD_STEPS = 20_000
MD_TIMESTEP = 0.5  # fs
MD_TEMPERATURE = 300.0  # K
CALLS = 30


def test_samples(labels: Labels) -> dict[str, list[Sample]]:
    """The samples of all test sets, by name; their own splits do not matter."""
    names = [*TESTS, *(f"{name}-full" for name in TESTS)]
    return {name: every_sample(labels.test(name)) for name in names}


def every_sample(path: Path) -> list[Sample]:
    opened = open_label_set(path, check=False)
    return [sample for split in SPLITS for sample in in_order(opened, split)]


def accuracy(run: Path, tests: dict[str, list[Sample]]) -> dict[str, Any]:
    """Errors of a run's student by test set, with the frequencies' in cm^-1 for those that have full Hessians."""
    student = load_student(run)
    return {name: _errors(student, tests[name], tests[f"{name}-full"]) for name in TESTS}


def _errors(student: TrainedStudent, samples: list[Sample], full: list[Sample]) -> dict[str, Any]:
    rows = list(errors_of(student.model, student.cutoff, student.card.references, samples, "teacher"))
    found = summary(joined(rows))
    kept = {name: found[name] for name in KEPT}
    return kept | ({} if is_direct(student.model) else {"frequency_mae_per_cm": frequency_mae(student, full)})


def frequency_mae(student: TrainedStudent, samples: list[Sample]) -> float:
    """Mean |difference| of all frequencies of all structures, cm^-1; each structure's are sorted."""
    differences = []
    for sample in samples:
        n = sample.structure.n_atoms
        rows = torch.eye(3 * n, dtype=torch.float64).view(-1, n, 3)
        said = predict(student.model, batch_of([sample.structure], student.cutoff), rows).products
        assert said is not None
        mine = frequencies(sample.structure, said.detach().double().numpy())
        differences.append(np.abs(mine - frequencies(sample.structure, full_hessian(sample.labels.hessian))))
    return float(np.concatenate(differences).mean())


def speeds(teacher: str, runs: dict[str, Path], sample: Sample) -> list[dict[str, Any]]:
    """Milliseconds of energy and forces of one structure by the teacher and by each run's student, all in turn, one thread each."""
    structure = sample.structure
    with teacher_of(teacher) as process:
        calls = [partial(process.label, [structure], [None])]
        calls += [partial(student_call(run), structure) for run in runs.values()]
        times = interleaved_ms(*calls, repeats=CALLS)
    names = (teacher, *runs)
    return [
        {"name": name, "n_atoms": structure.n_atoms, "ms": ms, "ratio": times[0] / ms}
        for name, ms in zip(names, times, strict=True)
    ]


def teacher_of(name: str) -> TeacherProcess:
    """The teacher package's own ASE calculator where the demo knows it, else the labeler's."""
    entry = catalogue.entry(name)
    if entry.family in OWN_CALCULATORS:
        return own_calculator(name)
    return TeacherProcess(environments.interpreter(entry.family), catalogue.request(name))


def dynamics_of(calculator: Any, samples: list[Sample], seed: int = 0) -> list[dict[str, Any]]:
    """NVE of each structure from its own geometry: drift and largest excursion of the energy, and whether it stayed whole."""
    rows = []
    for sample in samples:
        ran = nve(atoms_of(sample), calculator, MD_STEPS, MD_TIMESTEP, MD_TEMPERATURE, seed)
        rows.append({"group": sample.structure.group, "n_atoms": sample.structure.n_atoms, **ran.summary()})
    return rows


def atoms_of(sample: Sample) -> Atoms:
    s = sample.structure
    return Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc)
