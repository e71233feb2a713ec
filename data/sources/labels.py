"""The reference labels of a record: under which key they are, their shape, their unit, and whether matter can have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .record import Record
from .report import Keys, SourceReport
from .units import factor_of, stress_matrix

PREFIXES = ("REF_", "", "dft_")  # "" are the results of the calculation
MAX_STRESS = 5.0  # eV/A^3, 800 GPa: twice what the centre of the Earth bears
MAX_FORCE = 1e4  # eV/A


def reference_labels(record: Record, keys: Keys, report: SourceReport) -> tuple[set[str], dict[str, Any]]:
    """The keys that are labels, and ref_energy, ref_forces, ref_stress. Counts in the report where each is from.

    Virials are not taken: their sign differs between codes.
    """
    places = {
        "energy": (record.info, record.results),
        "forces": (record.arrays, record.results),
        "stress": (record.info, record.results),
    }
    labels: dict[str, Any] = {}
    used: set[str] = set()
    prefixes: set[str] = set()
    for quantity, containers in places.items():
        explicit = keys.of(quantity)
        candidates = (explicit,) if explicit else _CANDIDATES[quantity]
        used.update(candidates)
        key, value = _first(containers, candidates)
        label, problem = (None, "") if key is None else _label(quantity, value, record)
        labels[f"ref_{quantity}"] = label
        report.take(quantity, None if key is None else f"{key} ({problem}: left out)" if problem else key)
        if label is not None and quantity != "stress" and not explicit and key is not None:
            prefixes.add(key.removesuffix(quantity))
    report.n_mixed += len(prefixes) > 1
    return used, labels


_CANDIDATES = {quantity: tuple(prefix + quantity for prefix in PREFIXES) for quantity in ("energy", "forces", "stress")}


def _first(containers: tuple[Mapping[str, Any], ...], names: tuple[str, ...]) -> tuple[str | None, Any]:
    for name in names:
        for container in containers:
            value = container.get(name)
            if value is not None:
                return name, value
    return None, None


def _label(quantity: str, value: Any, record: Record) -> tuple[float | NDArray[np.float64] | None, str]:
    """energy in eV as a float, forces (N,3) eV/A, stress (3,3) eV/A^3; or None and why it cannot be used."""
    if quantity == "stress" and record.units and "stress" not in record.units and "energy" in record.units:
        return None, "its unit is not stated, though that of the energy is"
    factor = factor_of(record.units, quantity)
    try:
        if quantity == "energy":
            energy = float(np.asarray(value, np.float64).reshape(())) * factor
            return (energy, "") if np.isfinite(energy) else (None, "unusable")
        array = stress_matrix(value) if quantity == "stress" else np.array(value, np.float64)
    except (TypeError, ValueError):
        return None, "unusable"
    if quantity == "forces" and array.shape != (len(record.numbers), 3):
        return None, "unusable"
    if factor != 1.0:
        array = array * factor
    largest = np.abs(array).max()
    if not np.isfinite(largest):
        return None, "unusable"
    if quantity == "stress" and largest > MAX_STRESS:
        return None, "above 800 GPa; is it in kbar?"
    if quantity == "forces" and largest > MAX_FORCE:
        return None, f"above {MAX_FORCE:.0f} eV/A; are the units right?"
    return array, ""
