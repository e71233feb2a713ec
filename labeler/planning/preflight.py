"""The pre-flight check: before a run, does this teacher, here, on one structure of this run, give the derivatives it claims?

In float64 where the teacher can: a Hessian product against a central difference of forces, and, for a conservative teacher, a
force along a direction against a central difference of the energy. TF32, capped neighbour lists and compiled kernels break second
derivatives quietly; symmetry and sum rules do not notice, differences do.

A structure on which the teacher fails is passed over, as a later one would be put in quarantine: it says nothing of the teacher.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from hdistill.data.errors import TeacherCrashed, TeacherError
from hdistill.data.probes import HessianSpec, draw
from hdistill.data.structure import Directions, Labels, Structure

from ..process.batching import n_pairs
from ..process.host import TeacherHost, TeacherWillNotStart
from ..process.parent import TeacherBadLabels
from ..teachers.contract import TeacherInfo
from .checks import labels_problem
from .roughness import ROUGH, roughness

STEP = {"float64": 1e-5, "float32": 1e-3}  # A; ANI's CELU and CHGNet's features are rough on the scale of 1e-3 A
TOLERANCE = {"float64": 1e-3, "float32": 5e-2}  # relative
STEP_OF_DIFFERENCES = (
    2e-3  # A, for a teacher whose products are differences: not its own step, to see whether that matters
)
FLOOR = 1e-2  # eV/A^2 and eV/A: what relative means where there is nothing
PROBE_SEEDS = 64
RUN_TOLERANCE = 5e-2  # the run's own precision against the check's
N_ROUGH = 5  # structures that a rough teacher is tried on
MAX_CRASHES = 8  # structures that may crash or hang the teacher, each of which costs a start or a deadline
ENOUGH_WRONG = 2  # structures with wrong derivatives: one may lie on a kink of the energy


class WrongDerivatives(TeacherError):
    """The teacher answered, and its derivatives are not those of its energy or forces."""


def check_one_of(
    host: TeacherHost, structures: Sequence[Structure], spec: HessianSpec
) -> tuple[dict[str, Any], TeacherInfo]:
    """The figures of the check on the best of some structures that the teacher can do, and what it says of itself then.

    Raises TeacherError where the derivatives of two structures are wrong, or of the only one; where the teacher does no structure;
    and TeacherWillNotStart.
    """
    failures: list[tuple[Structure, TeacherError]] = []
    wrong: list[WrongDerivatives] = []
    twin = _Twin(host, spec)
    try:
        for structure in in_order_of_trial(structures):
            try:
                figures = check(host, structure, spec, twin)
                figures["roughness"] = _confirmed(figures["roughness"], twin.host or host, structures, structure, spec)
                return figures, host.info  # an ASE calculator is known to be conservative only now
            except WrongDerivatives as error:
                wrong.append(error)
                if len(wrong) == ENOUGH_WRONG:
                    raise
            except TeacherError as error:
                failures.append((structure, error))
                if sum(isinstance(e, TeacherCrashed) for _, e in failures) == MAX_CRASHES:
                    break
    finally:
        twin.close()
    if wrong:
        raise wrong[0]
    structure, reason = failures[0]
    raise TeacherError(
        f"The teacher did none of {len(failures)} structures that it was tried on, so nothing was labelled. The first, "
        f"{structure.id} ({structure.group}): {reason}"
    ) from reason


def _confirmed(
    rough: float | None, host: TeacherHost, structures: Sequence[Structure], first: Structure, spec: HessianSpec
) -> float | None:
    """The roughness on the first structure; where that is rough, the median of a few, for one structure may lie on a jump."""
    if rough is None or rough <= ROUGH:
        return rough
    values = [rough]
    for structure in [s for s in in_order_of_trial(structures) if s is not first][: N_ROUGH - 1]:
        try:
            product = _product(host, structure, spec)
            assert product is not None
            values.append(_roughness(host, structure, spec, product))
        except TeacherCrashed:
            break
        except TeacherError:
            continue
    return float(np.median(values))


def _roughness(host: TeacherHost, structure: Structure, spec: HessianSpec, product: np.ndarray) -> float:
    return roughness(lambda moved: _product(host, moved, spec, structure), structure, product)


class _Twin:
    """The same teacher in float64, started when it is first asked."""

    def __init__(self, host: TeacherHost, spec: HessianSpec):
        precise = dataclasses.replace(host.settings.request, dtype="float64")
        self.host = None if host.settings.request == precise else TeacherHost(_with(host, precise))

    def differences(self, structure: Structure, spec: HessianSpec) -> tuple[dict[str, Any], np.ndarray | None] | None:
        """What _differences finds; None where the teacher cannot do it in float64. Raises TeacherCrashed."""
        if self.host is None:
            return None
        try:
            return _differences(self.host, structure, spec)
        except TeacherCrashed:
            raise
        except (TeacherError, TeacherWillNotStart):
            self.close()
            self.host = None
            return None

    def close(self) -> None:
        if self.host is not None:
            self.host.close()


def _with(host: TeacherHost, request: Any) -> Any:
    return dataclasses.replace(host.settings, request=request)


def check(host: TeacherHost, structure: Structure, spec: HessianSpec, twin: _Twin | None = None) -> dict[str, Any]:
    """The figures of the check on one structure.

    Raises WrongDerivatives, and other TeacherErrors where the teacher does not label this structure.
    """
    own_twin = twin or _Twin(host, spec)
    try:
        precise = None if host.info.hessian_method == "central differences" else own_twin.differences(structure, spec)
    finally:
        if twin is None:
            own_twin.close()
    figures, truth = _differences(host, structure, spec) if precise is None else precise
    own = _product(host, structure, spec)
    figures["product_run_precision_error"] = None if own is None or truth is None else _relative(own, truth)
    _judge(figures, host.info.name, host.info.conservative)
    return figures


def _label(host: TeacherHost, structure: Structure, wanted: Directions | None) -> Labels:
    """Labels of one structure, as they could be stored. Raises TeacherError."""
    (labels,) = host.label([structure], [wanted], n_pairs(structure))
    problem = labels_problem(labels, conservative=False, n_atoms=structure.n_atoms)
    if problem is not None:
        raise TeacherBadLabels(problem)
    return labels


def _differences(
    host: TeacherHost, structure: Structure, spec: HessianSpec
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Analytic product and force against central differences along one probe: the figures, and the product."""
    by_differences = host.info.hessian_method == "central differences"
    dtype = "float32" if by_differences else host.info.dtype  # nobody knows a calculator's precision: be lenient
    step = STEP_OF_DIFFERENCES if by_differences else STEP[dtype]
    vector = _probe(structure).vectors(structure.n_atoms)[0]

    def at(distance: float) -> Labels:
        return _label(host, dataclasses.replace(structure, positions=structure.positions + distance * vector), None)

    product = _product(host, structure, spec)
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
        "roughness": None,
        "atom_energies": here.atom_energies is not None,
    }
    if product is not None:
        figures["roughness"] = _roughness(host, structure, spec, product)
    difference = -(np.asarray(ahead.forces, np.float64) - behind.forces) / (2 * step)
    if product is not None and host.info.conservative:
        figures["product_difference_error"] = _relative(product, difference)
    elif product is not None:  # v . H against columns: compare the one number both know, v . H . v
        rows, columns = (product * vector).sum(), (difference * vector).sum()
        figures["product_difference_error"] = float(abs(rows - columns) / max(abs(rows), abs(columns), FLOOR))
    return figures, product


def _product(
    host: TeacherHost, structure: Structure, spec: HessianSpec, probe_of: Structure | None = None
) -> np.ndarray | None:
    """v . H of one probe, (N,3); made of all rows where the run labels those; None where it labels no products. probe_of: the structure
    that the probe is drawn for, where this one is it moved."""
    if spec.kind == "none":
        return None
    probe = _probe(probe_of or structure)
    wanted = draw(spec, 0, structure.id, structure.n_atoms) if spec.kind == "full" else probe
    labels = _label(host, structure, wanted)
    assert labels.hessian is not None
    if spec.kind == "full":
        vector = probe.vectors(structure.n_atoms)[0]
        return np.tensordot(vector.ravel(), np.asarray(labels.hessian.values, np.float64), axes=1)
    return np.asarray(labels.hessian.values[0], np.float64)


def _probe(structure: Structure) -> Directions:
    """A probe that is not a mere translation, along which energy, forces and products would all stand still."""
    probe = None
    for seed in range(PROBE_SEEDS):
        probe = draw(HessianSpec("probes", 1), seed, structure.id, structure.n_atoms)
        assert probe is not None
        vector = probe.vectors(structure.n_atoms)[0]
        if np.linalg.norm(vector - vector.mean(axis=0)) ** 2 > 0.5 * vector.size:
            break
    assert probe is not None
    return probe


def _judge(figures: dict[str, Any], name: str, conservative: bool) -> None:
    tolerance = figures["tolerance"] = TOLERANCE[figures["dtype"]]
    product, run = figures["product_difference_error"], figures["product_run_precision_error"]
    force = figures["force_difference_error"]
    if product is not None and not product <= tolerance:
        raise WrongDerivatives(
            f"Pre-flight check failed: {name}'s Hessian product differs from central differences of its forces by "
            f"{product:.2g} (relative; at most {tolerance:g}). Its second derivatives cannot be trusted; nothing was labelled."
        )
    if conservative and not force <= tolerance:
        raise WrongDerivatives(
            f"Pre-flight check failed: {name}'s forces differ from -dE/dR by {force:.2g} (relative; at most {tolerance:g}). "
            "Nothing was labelled."
        )
    if run is not None and not run <= RUN_TOLERANCE:
        raise WrongDerivatives(
            f"Pre-flight check failed: {name}'s Hessian product in the run's precision differs from float64 by {run:.2g} "
            f"(relative; at most {RUN_TOLERANCE:g}). Label with --dtype float64."
        )


def _relative(values: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(values - truth) / max(float(np.linalg.norm(truth)), FLOOR))


def in_order_of_trial(structures: Sequence[Structure]) -> list[Structure]:
    """The smallest structure of at least 3 atoms, or else the largest; then the others at random, those of at least 3 atoms first.

    At random, by their ids: what makes one structure poisonous is often its size.
    """

    def cost(structure: Structure) -> tuple[bool, int, str]:
        n = structure.n_atoms
        return n < 3, n if n >= 3 else -n, structure.id

    first = min(structures, key=cost)
    return [first, *sorted((s for s in structures if s is not first), key=lambda s: (s.n_atoms < 3, s.id))]
