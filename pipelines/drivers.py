"""What drives sampling: a student (student:RUN, a run folder), a teacher by name, or any ASE calculator."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure

if TYPE_CHECKING:
    from hdistill.data.sampling.driver import Driven, Driver

STUDENT = "student:"


@contextmanager
def driver_of(what: Any, task: str | None = None, device: str = "cpu", python: Path | None = None) -> Iterator[Driver]:
    """A driver for as long as the context lasts: a teacher's process ends with it. Raises InputError, TeacherError.

    what: "student:RUN", the folder of a run, a name that --teacher takes, or an ASE calculator. task, device, python: of a teacher.
    """
    if not isinstance(what, str | os.PathLike):
        yield by_calculator(what)
        return
    name = os.fspath(what)
    bare = name.removeprefix(STUDENT)
    run = bare if "://" in bare else Path(bare).expanduser()
    if name.startswith(STUDENT) or Path(run).is_dir():
        if task is not None:
            raise InputError("A student has one level of theory; leave --task out.")
        yield by_student(run, device)
        return
    from hdistill.labeler.teacher_calculator import TeacherCalculator

    with TeacherCalculator(name, task, device=device, python=python) as teacher:
        yield by_teacher(teacher)


def by_student(run: Path | str, device: str = "cpu") -> Driver:
    """Structures of a batch in one call; unfamiliar is the domain distance of each atom, where the run has a domain."""
    import numpy as np

    from hdistill.data.sampling.driver import Driven
    from hdistill.trainer.force_field.calculator import HDistillCalculator
    from hdistill.trainer.force_field.engines.batched import BatchedStudent

    calculator = HDistillCalculator(run, device)
    student = BatchedStudent(calculator)

    def drive(structures: Sequence[Structure]) -> list[Driven]:
        outputs = student(structures)
        energies, forces = outputs.energies.cpu().numpy(), outputs.forces.cpu().numpy()
        stress = None if outputs.stress is None else outputs.stress.cpu().numpy()
        strange = None
        if calculator.domain is not None and outputs.features is not None:
            numbers = np.concatenate([s.numbers for s in structures])
            strange = calculator.domain.distances(numbers, outputs.features.cpu().numpy())
        driven, first = [], 0
        for k, s in enumerate(structures):
            atoms = slice(first, first + s.n_atoms)
            driven.append(
                Driven(
                    float(energies[atoms].sum()),
                    forces[atoms],
                    stress[k] if stress is not None and s.pbc.all() else None,
                    None if strange is None else strange[atoms],
                )
            )
            first += s.n_atoms
        return driven

    return drive


def by_teacher(teacher: Any) -> Driver:
    """A TeacherCalculator, which labels a batch in as few evaluations as fit."""
    from hdistill.data.sampling.driver import Driven

    def drive(structures: Sequence[Structure]) -> list[Driven]:
        return [Driven(labels.energy, labels.forces, labels.stress) for labels in teacher.label(list(structures))]

    return drive


def by_calculator(calculator: Any) -> Driver:
    """Any ASE calculator, one structure after the other."""
    from ase.calculators.calculator import PropertyNotImplementedError

    from hdistill.data.sampling.driver import Driven
    from hdistill.data.sampling.relax import as_atoms

    def drive(structures: Sequence[Structure]) -> list[Driven]:
        driven = []
        for structure in structures:
            atoms = as_atoms(structure)
            atoms.calc = calculator
            energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), None
            if structure.pbc.all():
                try:
                    stress = atoms.get_stress(voigt=False)
                except PropertyNotImplementedError:
                    stress = None
            driven.append(Driven(float(energy), forces, stress))
        return driven

    return drive
