"""What there is to choose from: teachers, students, subsets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..report import listing_tables
from .printed import Rows


def teachers() -> Rows:
    """Every teacher that has a name, with its licence, its elements, and where it is installed or the command that installs it."""
    return Rows(_teacher_rows(), listing_tables.teacher_table)


def install_teacher(family: str) -> Path:
    """Make the environment of a teacher family (mace, fairchem, sevennet, chgnet, torchani); returns its interpreter.

    Raises InputError for an unknown family, TeacherError where the installation fails.
    """
    from hdistill.labeler.teachers.environments import install

    return install(family)


def students(bundles: bool = False) -> Rows:
    """Every student that fit() can make, those of installed packages included; bundles: those that come fitted with the package, by the
    names that HDistillCalculator and md() take."""
    if bundles:
        return Rows(bundle_rows(), listing_tables.bundle_table)
    from hdistill.trainer.students.registry import catalogue

    return Rows(catalogue(), listing_tables.student_table)


def bundle_rows() -> list[dict[str, Any]]:
    """name, what its card says (student.json), bytes, and the folder of each bundle that comes with the package."""
    import json

    from hdistill.trainer.bundles import names, place_of

    rows = []
    for name in names():
        folder = place_of(name)
        card = json.loads((folder / "student.json").read_text())
        n_bytes = sum(file.stat().st_size for file in folder.iterdir())
        rows.append({"name": name, **card, "bytes": n_bytes, "folder": str(folder)})
    return rows


def subsets() -> Rows:
    """The subsets that have a name, with their sources and licences."""
    from hdistill.data.sources import subset_rows

    return Rows([asdict(row) for row in subset_rows()], listing_tables.subset_table)


def _teacher_rows() -> list[dict[str, Any]]:
    """Every known teacher with its family's interpreter, or the command that installs it."""
    from hdistill.labeler.teachers import environments, registry

    where = {family: environments.find(family) for family in registry.FAMILIES}
    return [
        {
            **asdict(entry),
            "python": str(where[entry.family]) if where[entry.family] else None,
            "install": None if where[entry.family] else f"hdistill teachers install {entry.family}",
        }
        for entry in registry.ENTRIES.values()
    ]
