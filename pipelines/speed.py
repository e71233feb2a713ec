"""How much faster a student is than its teacher: both through ASE calculators, interleaved, one thread, neighbour lists included."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hdistill.data.errors import InputError

# The teacher package's own ASE calculator, so that the comparison does not depend on our adapter.
OWN_CALCULATORS: dict[str, tuple[str, str]] = {
    "sevennet": ("sevenn.calculator.SevenNetCalculator", "model"),
    "chgnet": ("chgnet.model.CHGNetCalculator", ""),
}
REPEATS = 5


def against_teacher(run: Path, labels: Path, teacher: str) -> list[dict[str, Any]]:
    """Milliseconds per energy-and-forces call of teacher and student on one test structure of each size in the label set."""
    from ase import Atoms

    from hdistill.data.labelset import open_label_set
    from hdistill.labeler import catalogue, environments
    from hdistill.labeler.teacher_process import TeacherProcess
    from hdistill.labeler.teachers.contract import TeacherRequest
    from hdistill.trainer.calculator import HDistillCalculator
    from hdistill.trainer.evaluate import samples_of

    entry = catalogue.entry(teacher)
    if entry.family not in OWN_CALCULATORS:
        raise InputError(f"The speed of {teacher} cannot be compared yet; known: {', '.join(OWN_CALCULATORS)}.")
    path, argument = OWN_CALCULATORS[entry.family]
    arguments = {argument: entry.model} if argument else {}
    request = TeacherRequest(f"ase:{path}", "ase", path, arguments=arguments)
    structures = {s.structure.n_atoms: s.structure for s in samples_of(open_label_set(labels, check=False), "test")}
    student = HDistillCalculator(run)
    rows = []
    with TeacherProcess(environments.interpreter(entry.family), request) as process:
        for n_atoms, s in sorted(structures.items()):
            atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc)

            def ask_student(atoms: Atoms = atoms) -> None:
                student.calculate(atoms, ["energy", "forces"])

            def ask_teacher(s: Any = s) -> None:
                process.label([s], [None])

            teacher_ms, student_ms = _interleaved(ask_teacher, ask_student)
            ratio = teacher_ms / student_ms
            rows.append({"n_atoms": n_atoms, "teacher_ms": teacher_ms, "student_ms": student_ms, "ratio": ratio})
    return rows


def _interleaved(*calls: Callable[[], None]) -> list[float]:
    """Median milliseconds of each call, taken in turn so that a busy machine is busy for all of them."""
    for call in calls:
        call()
        call()  # compilers and caches warm up on the first calls
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(REPEATS):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            taken.append(1e3 * (time.perf_counter() - began))
    return [statistics.median(taken) for taken in times]
