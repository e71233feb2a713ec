"""How good a student of study.py is: errors on known and on new groups, frequencies, milliseconds of a call, 10 ps of NVE."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms, units
from study_labels import Labels

from hdistill.data.format.schema import SPLITS
from hdistill.data.format.shard import Sample
from hdistill.data.labelsets.label_set import open_label_set
from hdistill.data.labelsets.stream import in_order
from hdistill.data.structure import Structure
from hdistill.labeler.process.parent import TeacherProcess
from hdistill.labeler.teachers import environments, registry
from hdistill.pipelines.report.speed import OWN_CALCULATORS, interleaved_ms, own_calculator, student_call
from hdistill.trainer.evaluation.dynamics import Motion, Watch, drift_and_excursion, first_momenta
from hdistill.trainer.evaluation.errors import errors_of, joined, summary
from hdistill.trainer.evaluation.vibrations import frequencies, full_hessian
from hdistill.trainer.force_field.checkpoint import TrainedStudent, load_student
from hdistill.trainer.force_field.predict import is_direct, predict
from hdistill.trainer.inputs.batch import batch_of

TESTS = ("known", "new")
KEPT = ("energy_mae_mev_per_atom", "force_mae_mev_per_angstrom", "hessian_relative_error")
MOTION = Motion(steps=20_000, timestep_fs=0.5, temperature_K=300.0)
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
    actual = summary(joined(rows)).as_json()
    kept = {name: actual[name] for name in KEPT}
    return kept | ({} if is_direct(student.model) else {"frequency_mae_per_cm": frequency_mae(student, full)})


def frequency_mae(student: TrainedStudent, samples: list[Sample]) -> float:
    """Mean |difference| of all frequencies of all structures, cm^-1; each structure's are sorted."""
    differences = []
    for sample in samples:
        n = sample.structure.n_atoms
        rows = torch.eye(3 * n, dtype=torch.float64).view(-1, n, 3)
        messages = predict(student.model, batch_of([sample.structure], student.cutoff), rows).products
        assert messages is not None
        own = frequencies(sample.structure, messages.detach().double().numpy())
        differences.append(np.abs(own - frequencies(sample.structure, full_hessian(sample.labels.hessian))))
    return float(np.concatenate(differences).mean())


def speeds(teacher: str, runs: dict[str, Path], sample: Sample) -> list[dict[str, Any]]:
    """Milliseconds of energy and forces of one structure by the teacher and by each run's student, all in turn, one thread each."""
    structure = sample.structure
    with teacher_of(teacher) as process:
        calls: list[Callable[[], object]] = [partial(process.label, [structure], [None])]
        calls += [partial(student_call(run), structure) for run in runs.values()]
        times = interleaved_ms(*calls, repeats=CALLS)
    names = (teacher, *runs)
    return [
        {"name": name, "n_atoms": structure.n_atoms, "ms": ms, "ratio": times[0] / ms}
        for name, ms in zip(names, times, strict=True)
    ]


def teacher_of(name: str) -> TeacherProcess:
    """The teacher package's own ASE calculator where the demo knows it, else the labeler's."""
    return own_calculator(name) if registry.entry(name).family in OWN_CALCULATORS else labelling_teacher(name)


def labelling_teacher(name: str, dtype: Literal["float32", "float64"] = "float32") -> TeacherProcess:
    """The teacher as the labeler runs it, which has Hessian products."""
    interpreter = environments.interpreter(registry.entry(name).family)
    return TeacherProcess(interpreter, registry.request(name, dtype=dtype))


def dynamics_of(run: Path, samples: list[Sample]) -> list[dict[str, Any]]:
    """NVE of each structure from its own geometry: drift and largest excursion of the energy, and whether it stayed whole.

    The velocity Verlet of hdistill.trainer.evaluation.dynamics.nve, with one call of the student a step for all structures.
    """
    student = load_student(run)
    flights = [Flight(sample) for sample in samples]
    timestep = MOTION.timestep_fs * units.fs
    for step in range(MOTION.steps + 1):
        flying = [flight for flight in flights if not flight.why]
        if not flying:
            break
        messages = predict(student.model, batch_of([flight.structure for flight in flying], student.cutoff))
        assert messages.forces is not None
        forces = messages.forces.detach().split([len(flight.atoms) for flight in flying])
        for flight, energy, force in zip(flying, messages.energy.tolist(), forces, strict=True):
            kick = 0.5 * timestep * force.numpy()
            if step:
                flight.momenta += kick
            if step % MOTION.sample_every == 0:
                flight.look(step, energy)
            flight.momenta += kick
            flight.atoms.positions += timestep * flight.momenta / flight.atoms.get_masses()[:, None]
    return [flight.summary() for flight in flights]


class Flight:
    """A structure in motion, with what was seen of it."""

    def __init__(self, sample: Sample):
        s = sample.structure
        self.group = s.group
        self.atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc)
        self.momenta = first_momenta(self.atoms, MOTION.temperature_K, np.random.default_rng(MOTION.seed))
        self.watch = Watch(self.atoms, MOTION.limits)
        self.times: list[float] = []
        self.totals: list[float] = []
        self.why = ""

    @property
    def structure(self) -> Structure:
        return Structure(self.atoms.numbers, self.atoms.positions, self.atoms.cell.array, self.atoms.pbc)

    def look(self, step: int, energy: float) -> None:
        self.atoms.set_momenta(self.momenta)
        total = (energy + self.atoms.get_kinetic_energy()) / len(self.atoms)
        self.why = self.watch.problem(self.atoms, total, self.atoms.get_temperature(), MOTION)
        if not self.why:
            self.times.append(step * MOTION.timestep_fs)
            self.totals.append(total)

    def summary(self) -> dict[str, Any]:
        drift, excursion = drift_and_excursion(np.array(self.times), np.array(self.totals))
        known = {} if np.isnan(drift) else {"drift_mev_per_atom": drift, "excursion_mev_per_atom": excursion}
        return {"group": self.group, "n_atoms": len(self.atoms), "why": self.why, "fs": self.times[-1], **known}
