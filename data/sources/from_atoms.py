"""One ASE Atoms object as a Structure: geometry, charge, spin, group, info and reference labels.

Only what cannot be stored at all is refused (Unusable); whether the physics makes sense is checked before labelling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..structure import Structure
from .formula import hill_formula
from .report import Keys, SourceReport
from .units import stress_matrix

if TYPE_CHECKING:
    from ase import Atoms

GROUP_KEYS = ("group", "mp_id", "material_id", "name")
CHARGE_KEYS = ("charge", "total_charge")
SPIN_KEYS = ("spin", "total_spin")
MAX_LIST = 16  # numbers of an info entry that are kept
MAX_TEXT = 2000  # characters of one
_PREFIXES = ("REF_", "", "dft_")  # "" are ASE's calculator results


class Unusable(Exception):
    """A structure that cannot be made. reason is a short phrase to count by; text tells of this one."""

    def __init__(self, reason: str, text: str):
        super().__init__(text)
        self.reason = reason


def structure_of(atoms: Atoms, keys: Keys, report: SourceReport, place: str) -> Structure:
    """A Structure of it; `place` (file@number) goes into info["source"]. Raises Unusable."""
    numbers = np.asarray(atoms.numbers, np.int64)
    _check_atoms(numbers, atoms.info)
    report.seen_keys.update(str(key) for key in (*atoms.info, *atoms.arrays))
    charge_key, charge = _whole(atoms.info, CHARGE_KEYS)
    _, spin = _whole(atoms.info, SPIN_KEYS)
    if spin < 0:
        raise Unusable("spin is no multiplicity", f"spin = {spin}, a multiplicity is 1 or more")
    used, labels = _reference_labels(atoms, keys, report)
    group_key, group = _group(atoms, numbers, keys)
    report.take("charge", charge_key)
    report.take("group", group_key)
    not_info = used | set(CHARGE_KEYS) | set(SPIN_KEYS) | {"group"}
    return Structure(
        numbers=numbers,
        positions=np.array(atoms.positions, np.float64),
        cell=np.array(atoms.cell.array, np.float64),
        pbc=np.array(atoms.pbc, bool),
        charge=charge,
        spin=spin or 1,  # 0 is fairchem's word for "not given"
        group=group,
        info={"source": place} | plain_info({k: v for k, v in atoms.info.items() if k not in not_info}),
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


def _check_atoms(numbers: NDArray[np.int64], info: Mapping[str, Any]) -> None:
    if len(numbers) == 0:
        raise Unusable("no atoms", "it has no atoms")
    if numbers.min() < 1 or numbers.max() > 118:
        bad = numbers[(numbers < 1) | (numbers > 118)][0]
        raise Unusable("unknown element", f"atomic number {bad} is no element ('X' is 0)")
    sites = info.get("occupancy")  # ASE's reader of CIF files; it has put the most likely species on each site
    if isinstance(sites, Mapping) and any(len(site) != 1 or min(site.values()) < 0.999 for site in sites.values()):
        raise Unusable("partly occupied sites", "make an ordered structure of it first")


def _whole(info: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str | None, int]:
    """The first of the names that info has, and its value as a whole number; (None, 0) where it has none."""
    for name in names:
        if info.get(name) is None:
            continue
        try:
            value = float(np.asarray(info[name]).item())
            if value == round(value) and abs(value) < 2**31:  # an infinity fails here with OverflowError
                return name, int(value)
        except (TypeError, ValueError, OverflowError):
            pass
        raise Unusable(f"{name} is not a whole number", f"{name} = {info[name]!r}")
    return None, 0


def _group(atoms: Atoms, numbers: NDArray[np.int64], keys: Keys) -> tuple[str, str]:
    """Where the group comes from, and the group: an info entry, else the formula (of a crystal: reduced)."""
    for name in (keys.group,) if keys.group else GROUP_KEYS:
        value = _plain(atoms.info.get(name))
        if value is not None and value != "" and not isinstance(value, list):
            return name, str(value)
    periodic = bool(np.any(atoms.pbc))
    return "reduced formula" if periodic else "formula", hill_formula(numbers.tolist(), reduced=periodic)


def _reference_labels(atoms: Atoms, keys: Keys, report: SourceReport) -> tuple[set[str], dict[str, Any]]:
    """The keys that are labels, and ref_energy, ref_forces, ref_stress. Counts in the report where each was found.

    Results are read as stored: get_forces() would set the forces on constrained atoms to zero. Virials are not taken: their
    sign differs between codes.
    """
    results: Mapping[str, Any] = getattr(atoms.calc, "results", None) or {}
    places = {"energy": (atoms.info, results), "forces": (atoms.arrays, results), "stress": (atoms.info, results)}
    labels: dict[str, Any] = {}
    used: set[str] = set()
    prefixes: set[str] = set()
    for quantity, containers in places.items():
        explicit = keys.of(quantity)
        candidates = (explicit,) if explicit else tuple(prefix + quantity for prefix in _PREFIXES)
        used.update(candidates)
        key, value = _first(containers, candidates)
        label = None if key is None else _label(quantity, value, len(atoms))
        labels[f"ref_{quantity}"] = label
        report.take(quantity, None if key is None else key if label is not None else f"{key} (unusable: left out)")
        if label is not None and quantity != "stress" and not explicit and key is not None:
            prefixes.add(key.removesuffix(quantity))
    report.n_mixed += len(prefixes) > 1
    return used, labels


def _first(containers: tuple[Mapping[str, Any], ...], names: tuple[str, ...]) -> tuple[str | None, Any]:
    for name in names:
        for container in containers:
            if container.get(name) is not None:
                return name, container[name]
    return None, None


def _label(quantity: str, value: Any, n_atoms: int) -> Any:
    """energy as a float, forces (N,3), stress (3,3); None where the shape is wrong or a number is not finite."""
    try:
        if quantity == "stress":
            array = stress_matrix(value)
        else:
            array = np.array(value, np.float64).reshape(() if quantity == "energy" else np.shape(value))
    except (TypeError, ValueError):
        return None
    if not np.isfinite(array).all() or (quantity == "forces" and array.shape != (n_atoms, 3)):
        return None
    return float(array) if quantity == "energy" else array
