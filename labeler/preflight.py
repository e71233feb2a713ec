"""The pre-flight check: before a run, does this teacher, here, on one structure of this run, give the derivatives it claims?

In float64 where the teacher can: a Hessian product against a central difference of forces, and, for a conservative teacher, a
force along a direction against a central difference of the energy. TF32, capped neighbour lists and compiled kernels break second
derivatives quietly; symmetry and sum rules do not notice, differences do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hdistill.data.errors import TeacherError
from hdistill.data.probes import HessianSpec, draw
from hdistill.data.structure import Labels, Structure

from .teacher_process import TeacherProcess
from .teachers.contract import TeacherRequest

STEP = {"float64": 1e-5, "float32": 1e-3}  # A; ANI's CELU and CHGNet's features are rough on the scale of 1e-3 A
TOLERANCE = {"float64": 1e-3, "float32": 5e-2}  # relative
FLOOR = 1e-2  # eV/A^2 and eV/A: what relative means where there is nothing
RUN_TOLERANCE = 5e-2  # the run's own precision against the check's


def check(teacher: TeacherProcess, python: Path, request: TeacherRequest, structure: Structure) -> dict[str, Any]:
    """The figures of the check. Raises TeacherError where they say that the labels would be wrong."""
    probe = HessianSpec("probes", 1)
    directions = draw(probe, 0, structure.id, structure.n_atoms)
    precise = request if teacher.info.dtype == "float64" else dataclasses.replace(request, dtype="float64")
    try:
        with TeacherProcess(python, precise) as twin:
            figures = _differences(twin, structure)
            labels = twin.label([structure], [directions])[0]
    except TeacherError:
        if precise == request:
            raise
        figures = _differences(teacher, structure)  # a teacher that has no float64
        labels = teacher.label([structure], [directions])[0]
    own = teacher.label([structure], [directions])[0]
    assert own.hessian is not None
    assert labels.hessian is not None
    figures["product_run_precision_error"] = _relative(own.hessian.values, labels.hessian.values)
    _judge(figures, teacher.info.name, teacher.info.conservative)
    return figures


def _differences(teacher: TeacherProcess, structure: Structure) -> dict[str, Any]:
    """Analytic product and force against central differences along one probe."""
    step = STEP[teacher.info.dtype]
    directions = draw(HessianSpec("probes", 1), 0, structure.id, structure.n_atoms)
    assert directions is not None
    vector = directions.vectors(structure.n_atoms)[0]

    def at(distance: float) -> Labels:
        moved = dataclasses.replace(structure, positions=structure.positions + distance * vector)
        return teacher.label([moved], [None])[0]

    labels = teacher.label([structure], [directions])[0]
    ahead, behind = at(step), at(-step)
    assert labels.hessian is not None
    figures: dict[str, Any] = {
        "structure": structure.id,
        "n_atoms": structure.n_atoms,
        "dtype": teacher.info.dtype,
        "step_angstrom": step,
    }
    slope = -(ahead.energy - behind.energy) / (2 * step)
    along = float((np.asarray(labels.forces, np.float64) * vector).sum())
    figures["force_difference_error"] = abs(slope - along) / max(abs(slope), abs(along), FLOOR)
    difference = -(np.asarray(ahead.forces, np.float64) - behind.forces) / (2 * step)
    if teacher.info.conservative:
        figures["product_difference_error"] = _relative(labels.hessian.values[0], difference)
    else:  # v . H against columns: compare the one number both know, v . H . v
        rows, columns = (labels.hessian.values[0] * vector).sum(), (difference * vector).sum()
        figures["product_difference_error"] = float(abs(rows - columns) / max(abs(rows), abs(columns), FLOOR))
    return figures


def _judge(figures: dict[str, Any], name: str, conservative: bool) -> None:
    tolerance = TOLERANCE[figures["dtype"]]
    product, run = figures["product_difference_error"], figures["product_run_precision_error"]
    force = figures["force_difference_error"] if conservative else 0.0
    figures["tolerance"] = tolerance
    if not product <= tolerance:
        raise TeacherError(
            f"Pre-flight check failed: {name}'s Hessian product differs from central differences of its forces by "
            f"{product:.2g} (relative; at most {tolerance:g}). Its second derivatives cannot be trusted; nothing was labelled."
        )
    if not force <= tolerance:
        raise TeacherError(
            f"Pre-flight check failed: {name}'s forces differ from -dE/dR by {force:.2g} (relative; at most {tolerance:g}). "
            "Nothing was labelled."
        )
    if not run <= RUN_TOLERANCE:
        raise TeacherError(
            f"Pre-flight check failed: {name}'s Hessian product in the run's precision differs from float64 by {run:.2g} "
            f"(relative; at most {RUN_TOLERANCE:g}). Label with --dtype float64."
        )


def _relative(values: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(values - truth) / max(float(np.linalg.norm(truth)), FLOOR))


def first_good(structures: list[Structure], problem: Callable[[Structure], str | None]) -> Structure | None:
    """The smallest structure that passes the structure checks, or None."""
    return min((s for s in structures if problem(s) is None), key=lambda s: (s.n_atoms, s.id), default=None)
