"""What there is to choose from: teachers, students, subsets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ..report import tables
from .results import Rows


def teachers() -> Rows:
    """Every teacher that has a name, with its licence, its elements, and where it is installed or the command that installs it."""
    return Rows(tables.teacher_rows(), tables.teacher_table)


def install_teacher(family: str) -> Path:
    """Make the environment of a teacher family (mace, fairchem, sevennet, chgnet, torchani); returns its interpreter.

    Raises InputError for an unknown family, TeacherError where the installation fails.
    """
    from hdistill.labeler.teachers.environments import install

    return install(family)


def students() -> Rows:
    """Every student that fit() can make, those of installed packages included."""
    from hdistill.trainer.students.registry import catalogue

    return Rows(catalogue(), tables.student_table)


def subsets() -> Rows:
    """The subsets that have a name, with their sources and licences."""
    from hdistill.data.sources import subset_rows

    return Rows([asdict(row) for row in subset_rows()], tables.subset_table)
