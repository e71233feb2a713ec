"""How much faster a student is than its teacher: both through ASE calculators, interleaved, one thread, neighbour lists included."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import InputError

if TYPE_CHECKING:
    from hdistill.data.structure import Structure
    from hdistill.labeler.process.parent import TeacherProcess

# The teacher package's own ASE calculator, so that the comparison does not depend on our adapter.
OWN_CALCULATORS: dict[str, tuple[str, str]] = {
    "sevennet": ("sevenn.calculator.SevenNetCalculator", "model"),
    "chgnet": ("chgnet.model.CHGNetCalculator", ""),
}
REPEATS = 5


def against_teacher(run: Path, labels: Path, teacher: str) -> list[dict[str, Any]]:
    """Milliseconds per energy-and-forces call of teacher and student on one test structure of each size in the label set."""
    from hdistill.data.labelsets.label_set import open_label_set
    from hdistill.trainer.evaluation.errors import samples_of

    structures = {s.structure.n_atoms: s.structure for s in samples_of(open_label_set(labels, check=False), "test")}
    rows = []
    with own_calculator(teacher) as process:
        ask_student = student_call(run)
        for n_atoms, structure in sorted(structures.items()):
            calls = (partial(process.label, [structure], [None]), partial(ask_student, structure))
            teacher_ms, student_ms = interleaved_ms(*calls)
            ratio = teacher_ms / student_ms
            rows.append({"n_atoms": n_atoms, "teacher_ms": teacher_ms, "student_ms": student_ms, "ratio": ratio})
    return rows


def own_calculator(teacher: str) -> TeacherProcess:
    """The teacher package's own ASE calculator, in a process of its own: what users run today. Raises InputError."""
    from hdistill.labeler.process.parent import TeacherProcess
    from hdistill.labeler.teachers import environments, registry
    from hdistill.labeler.teachers.contract import TeacherRequest

    entry = registry.entry(teacher)
    if entry.family not in OWN_CALCULATORS:
        raise InputError(f"The speed of {teacher} cannot be compared yet; known: {', '.join(OWN_CALCULATORS)}.")
    path, argument = OWN_CALCULATORS[entry.family]
    arguments = {argument: entry.model} if argument else {}
    request = TeacherRequest(f"ase:{path}", "ase", path, arguments=arguments)
    return TeacherProcess(environments.interpreter(entry.family), request)


def student_call(run: Path) -> Callable[[Structure], None]:
    """A function that computes energy and forces of a structure with a run's student, on one thread as its teacher does."""
    import torch
    from ase import Atoms

    from hdistill.trainer.force_field.calculator import HDistillCalculator

    torch.set_num_threads(1)
    student = HDistillCalculator(run)

    def call(s: Structure) -> None:
        student.calculate(Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc), ["energy", "forces"])

    return call


def interleaved_ms(*calls: Callable[[], Any], repeats: int = REPEATS) -> list[float]:
    """Median milliseconds of each call, taken in turn so that a busy machine is busy for all of them."""
    for call in calls:
        call()
        call()  # compilers and caches warm up on the first calls
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            taken.append(1e3 * (time.perf_counter() - began))
    return [statistics.median(taken) for taken in times]
