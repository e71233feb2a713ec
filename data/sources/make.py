"""THE place where a record of any file becomes a Structure: units, charge and spin, occupancy, group, info, reference labels.

Only what cannot be stored at all, or would be stored wrong, is refused (Unusable); whether a teacher can do it is checked
before labelling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..structure import Structure
from .charge_spin import UnfitError, charge_and_spin, role_of
from .formula import hill_formula
from .labels import reference_labels
from .record import Record, Unusable
from .report import Keys, SourceReport
from .units import UnitError, combine, derived, factor_of, names_units

GROUP_KEYS = ("group", "mp_id", "material_id", "name")
VELOCITY_KEYS = ("velocities", "vel", "velo", "velocity")  # A/fs where no unit is stated; ASE's momenta are its own
MAX_LIST = 16  # numbers of an info entry that are kept
MAX_TEXT = 2000  # characters of one
FULL = 0.999  # occupancy of a site that is always there


def structure_of(record: Record, keys: Keys, report: SourceReport, place: str) -> Structure:
    """A Structure of it; `place` (file@number) goes into info["source"]. Raises Unusable."""
    _check_atoms(record)
    record = _with_units(record, keys)
    report.see(record.info, record.arrays)
    periodic = bool(record.pbc.any())
    try:
        stated = charge_and_spin(record.info, record.numbers, periodic)
    except UnfitError as error:
        raise Unusable(error.reason, str(error)) from error
    used, labels = reference_labels(record, keys, report)
    group_key, group = _group(record, keys, periodic)
    report.take("charge", stated.charge_key)
    report.take("spin", stated.spin_key)
    report.take("group", group_key)
    for quantity, unit in record.units.items():
        has = {"length": True, "cell": record.cell.any()}.get(quantity, labels.get(f"ref_{quantity}") is not None)
        if has:
            report.units[(quantity, unit.text, unit.where)] += 1
    for remark in record.remarks:
        report.remark(remark, place)
    if not stated.fits:
        report.remark("spin does not fit the number of electrons (a crystal: kept as stated)", place)
    kept = {
        key: value
        for key, value in record.info.items()
        if key not in used and key != "group" and not (isinstance(key, str) and (role_of(key) or names_units(key)))
    }
    moving = _velocities(record, report, place) if keys.velocities else {}
    length, cell = factor_of(record.units, "length"), factor_of(record.units, "cell")
    return Structure(
        numbers=record.numbers,
        positions=record.positions if length == 1.0 else record.positions * length,
        cell=record.cell if cell == 1.0 else record.cell * cell,
        pbc=record.pbc,
        charge=stated.charge,
        spin=stated.spin,
        group=group,
        info={"source": place} | plain_info(kept) | moving,
        **labels,
    )


def plain_info(info: Mapping[Any, Any]) -> dict[str, Any]:
    """The entries that are JSON scalars or short lists of them, numpy values converted; the rest is left out."""
    plain = {key: _plain(value) for key, value in info.items() if isinstance(key, str)}
    return {key: value for key, value in plain.items() if value is not None}


def _plain(value: Any) -> Any:
    """A JSON value, or None where it is not one (also for NaN and infinity, which JSON does not have)."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist() if value.size <= MAX_LIST else None
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else None
    if isinstance(value, list | tuple) and len(value) <= MAX_LIST:
        items = [_plain(item) for item in value]
        return None if any(item is None for item in items) else items
    return None


def _check_atoms(record: Record) -> None:
    numbers = record.numbers
    if len(numbers) == 0:
        raise Unusable("no atoms", "it has no atoms")
    if numbers.min() < 1 or numbers.max() > 118:
        bad = numbers[(numbers < 1) | (numbers > 118)][0]
        raise Unusable("unknown element", f"atomic number {bad} is not an element ('X' is 0, a ghost or dummy atom)")
    if record.positions.shape != (len(numbers), 3):
        raise Unusable("no positions", f"its positions have the shape {record.positions.shape}")
    sites = record.info.get("occupancy")  # ASE's reader of CIF files; it has put the most likely species on each site
    if isinstance(sites, Mapping) and any(len(site) != 1 or min(site.values()) < FULL for site in sites.values()):
        raise Unusable("partly occupied sites", "make an ordered structure of it first")
    occupancy = record.arrays.get("occupancy")
    if occupancy is not None and np.shape(occupancy) == numbers.shape:
        least = float(np.min(occupancy))
        if float(np.max(occupancy)) > 0 and least < FULL:  # all zero: the program that wrote it knows of none
            raise Unusable(
                "partly occupied sites",
                f"an atom has the occupancy {least:.2f}; keep one alternate location, or make an ordered structure of it",
            )


def _with_units(record: Record, keys: Keys) -> Record:
    """The record with the units that its file and the user state, and what follows from them. Raises Unusable."""
    if not record.units and not keys.units:
        return record
    try:
        units = derived(combine(record.units, keys.units))
    except UnitError as error:
        raise Unusable("units that contradict", str(error)) from error
    return Record(**{**vars(record), "units": units})


def _group(record: Record, keys: Keys, periodic: bool) -> tuple[str, str]:
    """Where the group comes from, and the group: an info entry, else the formula (of a crystal: reduced)."""
    for name in (keys.group,) if keys.group else GROUP_KEYS:
        value = _plain(record.info.get(name))
        if value is not None and value != "" and not isinstance(value, list):
            return name, str(value)
    return "reduced formula" if periodic else "formula", hill_formula(record.numbers.tolist(), reduced=periodic)


def _velocities(record: Record, report: SourceReport, place: str) -> dict[str, Any]:
    """info["velocities"], N lists of 3 numbers in A/fs, of a record that has any; a unit that is not stated is remarked on."""
    for key in VELOCITY_KEYS:
        value = record.arrays.get(key)
        if value is None:
            continue
        array = np.asarray(value, np.float64)
        if array.shape != record.positions.shape or not np.isfinite(array).all():
            raise Unusable("velocities that cannot be used", f"'{key}' has the shape {array.shape}")
        if "velocities" not in record.units:
            report.remark(f"velocities '{key}' are taken as A/fs: no unit is stated (velocities_unit=)", place)
        return {"velocities": (array * factor_of(record.units, "velocities")).tolist(), "velocities_unit": "A/fs"}
    momenta = record.arrays.get("momenta")
    if momenta is not None:
        from ase.data import atomic_masses
        from ase.units import fs

        masses = np.asarray(record.arrays.get("masses", atomic_masses[record.numbers]), np.float64)
        array = np.asarray(momenta, np.float64) / masses[:, None] * fs
        return {"velocities": array.tolist(), "velocities_unit": "A/fs"}
    return {}
