"""The pre-flight check: before a run, does this teacher, here, on one structure of this run, give the derivatives it claims?

In float64 where the teacher can: a Hessian product against a central difference of forces, and, for a conservative teacher, a
force along a direction against a central difference of the energy. TF32, capped neighbour lists and compiled kernels break second
derivatives quietly; symmetry and sum rules do not notice, differences do.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from hdistill.data.errors import TeacherError
from hdistill.data.probes import HessianSpec, draw
from hdistill.data.structure import Directions, Labels, Structure

from ..process.host import HostSettings
from ..process.parent import TeacherProcess

STEP = {"float64": 1e-5, "float32": 1e-3}  # A; ANI's CELU and CHGNet's features are rough on the scale of 1e-3 A
TOLERANCE = {"float64": 1e-3, "float32": 5e-2}  # relative
STEP_OF_DIFFERENCES = (
    2e-3  # A, for a teacher whose products are differences: not its own step, to see whether that matters
)
FLOOR = 1e-2  # eV/A^2 and eV/A: what relative means where there is nothing
PROBE_SEEDS = 64
RUN_TOLERANCE = 5e-2  # the run's own precision against the check's


def check(teacher: TeacherProcess, host: HostSettings, structure: Structure, spec: HessianSpec) -> dict[str, Any]:
    """The figures of the check. Raises TeacherError where they say that the labels would be wrong."""
    by_differences = teacher.info.hessian_method == "central differences"
    precise = dataclasses.replace(host.request, dtype="float64")
    figures: dict[str, Any] | None = None
    if host.request != precise and not by_differences:
        try:
            with dataclasses.replace(host, request=precise).start() as twin:
                figures, truth = _differences(twin, structure, spec)
        except TeacherError:
            figures = None  # a teacher that has no float64
    if figures is None:
        figures, truth = _differences(teacher, structure, spec)
    own = _product(teacher, structure, spec)
    figures["product_run_precision_error"] = None if own is None or truth is None else _relative(own, truth)
    _judge(figures, teacher.info.name, teacher.info.conservative)
    return figures


def _differences(
    teacher: TeacherProcess, structure: Structure, spec: HessianSpec
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Analytic product and force against central differences along one probe: the figures, and the product."""
    by_differences = teacher.info.hessian_method == "central differences"
    dtype = "float32" if by_differences else teacher.info.dtype  # nobody knows a calculator's precision: be lenient
    step = STEP_OF_DIFFERENCES if by_differences else STEP[dtype]
    vector = _probe(structure).vectors(structure.n_atoms)[0]

    def at(distance: float) -> Labels:
        moved = dataclasses.replace(structure, positions=structure.positions + distance * vector)
        return teacher.label([moved], [None])[0]

    product = _product(teacher, structure, spec)
    ahead, behind, here = at(step), at(-step), at(0.0)
    slope = -(ahead.energy - behind.energy) / (2 * step)
    along = float((np.asarray(here.forces, np.float64) * vector).sum())
    figures: dict[str, Any] = {
        "structure": structure.id,
        "n_atoms": structure.n_atoms,
        "dtype": dtype,
        "step_angstrom": step,
        "force_difference_error": abs(slope - along) / max(abs(slope), abs(along), FLOOR),
        "product_difference_error": None,
    }
    difference = -(np.asarray(ahead.forces, np.float64) - behind.forces) / (2 * step)
    if product is not None and teacher.info.conservative:
        figures["product_difference_error"] = _relative(product, difference)
    elif product is not None:  # v . H against columns: compare the one number both know, v . H . v
        rows, columns = (product * vector).sum(), (difference * vector).sum()
        figures["product_difference_error"] = float(abs(rows - columns) / max(abs(rows), abs(columns), FLOOR))
    return figures, product


def _product(teacher: TeacherProcess, structure: Structure, spec: HessianSpec) -> np.ndarray | None:
    """v . H of one probe, (N,3); made of all rows where the run labels those; None where it labels no products."""
    if spec.kind == "none":
        return None
    wanted = draw(spec, 0, structure.id, structure.n_atoms) if spec.kind == "full" else _probe(structure)
    labels = teacher.label([structure], [wanted])[0]
    assert labels.hessian is not None
    if spec.kind == "full":
        vector = _probe(structure).vectors(structure.n_atoms)[0]
        return np.tensordot(vector.ravel(), np.asarray(labels.hessian.values, np.float64), axes=1)
    return np.asarray(labels.hessian.values[0], np.float64)


def _probe(structure: Structure) -> Directions:
    """A probe that is no mere translation, along which energy, forces and products would all stand still."""
    found = None
    for seed in range(PROBE_SEEDS):
        found = draw(HessianSpec("probes", 1), seed, structure.id, structure.n_atoms)
        assert found is not None
        vector = found.vectors(structure.n_atoms)[0]
        if np.linalg.norm(vector - vector.mean(axis=0)) ** 2 > 0.5 * vector.size:
            break
    assert found is not None
    return found


def _judge(figures: dict[str, Any], name: str, conservative: bool) -> None:
    tolerance = figures["tolerance"] = TOLERANCE[figures["dtype"]]
    product, run = figures["product_difference_error"], figures["product_run_precision_error"]
    force = figures["force_difference_error"]
    if product is not None and not product <= tolerance:
        raise TeacherError(
            f"Pre-flight check failed: {name}'s Hessian product differs from central differences of its forces by "
            f"{product:.2g} (relative; at most {tolerance:g}). Its second derivatives cannot be trusted; nothing was labelled."
        )
    if conservative and not force <= tolerance:
        raise TeacherError(
            f"Pre-flight check failed: {name}'s forces differ from -dE/dR by {force:.2g} (relative; at most {tolerance:g}). "
            "Nothing was labelled."
        )
    if run is not None and not run <= RUN_TOLERANCE:
        raise TeacherError(
            f"Pre-flight check failed: {name}'s Hessian product in the run's precision differs from float64 by {run:.2g} "
            f"(relative; at most {RUN_TOLERANCE:g}). Label with --dtype float64."
        )


def _relative(values: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(values - truth) / max(float(np.linalg.norm(truth)), FLOOR))


def choose(structures: list[Structure]) -> Structure:
    """The smallest structure of at least 3 atoms, else the largest."""
    return min(structures, key=lambda s: (s.n_atoms < 3, s.n_atoms if s.n_atoms >= 3 else -s.n_atoms, s.id))
