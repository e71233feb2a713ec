"""The first reading of a file of Hessians: which structures are good, why the others are not, what the report says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..format.codec import Codec
from ..format.records import QuarantineRow
from ..sources import Keys, SourceReport
from ..sources.make import structure_of
from ..sources.record import Unusable
from ..sources.units import UnitError, Units, combine, derived, parse, parse_energy_over_length
from ..structure import Structure
from .hessians.checks import defects, hessian_problem, structure_problem
from .hessians.contract import HessianRecord, Refused, Stated, reading
from .hessians.layout import as_matrix


@dataclass(frozen=True)
class ImportSettings:
    """What is stated of a file and what is made of it.

    units: of energies over lengths, as in hartree/bohr, for energies, forces and Hessians; None: the file says so.
    length: of positions, A, bohr or nm; None: the file says so, or A. negate: the file's Hessians have the sign of dF/dR.
    geometry, energy (eV), at_minimum, delta (A): of formats that leave them out, see Stated.
    """

    hessian: str = "probes:4"
    units: str | None = None
    length: str | None = None
    negate: bool = False
    codec: Codec = "compact"
    seed: int = 0
    splits: str = "0.8,0.1,0.1"
    level_of_theory: str = ""
    licence: str = "unknown"
    citation: str = ""
    group_key: str | None = None
    geometry: Path | None = None
    energy: float | None = None
    at_minimum: bool = False
    delta: float | None = None

    @property
    def stated(self) -> Stated:
        return Stated(self.geometry, self.energy, self.at_minimum, self.delta)


@dataclass(frozen=True, eq=False)
class Labelled:
    """A structure with ref_energy and ref_forces, and its Hessian (3N,3N) eV/A^2, or why they cannot be used."""

    place: str
    structure: Structure
    matrix: NDArray[np.float64] | None
    problem: str | None


@dataclass
class Survey:
    """The first reading: the good structures in order, the others with a reason, and what the source report counts."""

    report: SourceReport = field(default_factory=SourceReport)
    ids: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    elements: set[int] = field(default_factory=set)
    quarantine: list[QuarantineRow] = field(default_factory=list)
    n_read: int = 0
    n_duplicates: int = 0
    n_negative: int = 0  # traces
    asymmetry: float = 0.0  # largest, relative
    drift: float = 0.0
    stiffest: list[float] = field(default_factory=list)  # largest diagonal elements, eV/A^2

    def refuse(self, place: str, reason: str, text: str, structure_id: str = "") -> None:
        """Put a structure into quarantine."""
        row = QuarantineRow(id=structure_id, reason=reason, text=f"{place}: {text}", attempts=0)
        self.quarantine.append(row)


def option_units(settings: ImportSettings) -> Units:
    """The units that the user states. Raises InputError."""
    units: Units = {}
    try:
        if settings.units is not None:
            units = parse_energy_over_length(settings.units, "--units")
        if settings.length is not None:
            units = {**units, "length": parse(settings.length, "length", "--length")}
    except UnitError as error:
        raise InputError(f"{'--units' if not units and settings.units else '--length'}: {error}.") from error
    return units


def survey_of(file: Path, settings: ImportSettings) -> Survey:
    survey = Survey(SourceReport(files=[str(file)]))
    seen: set[str] = set()
    for item in labelled(file, settings, survey):
        structure, matrix, problem = item.structure, item.matrix, item.problem
        if structure.id in seen:
            survey.n_duplicates += 1
            continue
        if matrix is not None and problem is None and np.trace(matrix) < 0:
            survey.n_negative += 1
            problem = (
                f"the trace of its Hessian is {np.trace(matrix):.3g} eV/A^2, below zero: +d2E/dR2 was wanted, "
                "not dF/dR (--negate changes the sign)"
            )
        survey.report.add(structure)
        if problem is not None or matrix is None:
            survey.refuse(item.place, "bad labels", problem or "it has no Hessian", structure.id)
            continue
        seen.add(structure.id)
        survey.ids.append(structure.id)
        survey.groups.append(structure.group)
        survey.elements |= set(structure.numbers.tolist())
        asymmetry, drift = defects(matrix)
        survey.asymmetry, survey.drift = max(survey.asymmetry, asymmetry), max(survey.drift, drift)
        survey.stiffest.append(float(np.diag(matrix).max()))
    return survey


def labelled(file: Path, settings: ImportSettings, survey: Survey) -> Iterator[Labelled]:
    """The structures of a file with labels in eV and A and the sign of +d2E/dR2; what cannot be read goes to quarantine."""
    reader, items = reading(file, settings.stated)
    options = option_units(settings)
    keys = Keys(group=settings.group_key, units=options)
    for item in items:
        survey.n_read += 1
        if isinstance(item, Refused):
            survey.refuse(item.place, item.why.reason, str(item.why))
            continue
        units = _units(file, item, options)
        try:
            structure = structure_of(item.record, keys, survey.report, item.place)
        except Unusable as unusable:
            survey.refuse(item.place, unusable.reason, str(unusable))
            continue
        if "length" not in units and not reader.length_is_known:
            survey.report.remark("the unit of positions is not stated: taken as A (--length)", item.place)
        unit = units["hessian"]
        survey.report.units[("hessian", unit.text, unit.where)] += 1
        factor = unit.factor * (-1 if settings.negate else 1)
        matrix, problem = _matrix(item.hessian, factor, structure, item.place, survey.report)
        yield Labelled(item.place, structure, matrix, problem)


def _units(file: Path, item: HessianRecord, options: Units) -> Units:
    """The units of this structure's labels. Raises InputError where nobody states them, or two differently."""
    try:
        units = derived(combine(item.record.units, options))
    except UnitError as error:
        raise InputError(f"{item.place}: {error}.") from error
    if not {"energy", "forces", "hessian"} <= set(units):
        raise InputError(
            f"{file} does not say in which units its energies, forces and Hessians are; "
            "say --units eV/A, hartree/bohr, hartree/A or kcal/mol/A."
        )
    return units


def _matrix(
    hessian: Any, factor: float, structure: Structure, place: str, report: SourceReport
) -> tuple[NDArray[np.float64] | None, str | None]:
    """The Hessian (3N,3N) eV/A^2, or None, and why it or its structure cannot be used."""
    problem = structure_problem(structure)
    if problem is not None:
        return None, problem
    if hessian is None:
        return None, "it has no Hessian"
    try:
        matrix, remark = as_matrix(hessian, structure.n_atoms)
    except (TypeError, ValueError) as error:
        return None, str(error)
    if remark is not None:
        report.remark(remark, place)
    matrix = matrix * factor
    return matrix, hessian_problem(matrix, structure)
