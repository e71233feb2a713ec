"""Units of other people's files: words to factors, and which unit each array has. Converted with these, and nowhere else.

Inside hdistill: eV, A, eV/A, eV/A^2, eV/A^3 (stress as a 3x3 matrix in ASE's sign), velocities A/fs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

HARTREE = 27.211386245988  # eV, CODATA 2018
BOHR = 0.529177210903  # A, CODATA 2018
ATOMIC_TIME = 0.024188843265857  # fs, CODATA 2018
GPA = 0.0062415090744607626  # eV/A^3
TO_INVERSE_CM = 521.4709004010551  # of sqrt(eV / A^2 / u), as ASE has it: mass-weighted Hessians have the squares

ENERGIES = {
    **dict.fromkeys(("ev", "electronvolt", "electronvolts"), 1.0),
    "mev": 1e-3,
    **dict.fromkeys(("hartree", "hartrees", "ha", "eh", "e_h", "au", "a.u."), HARTREE),
    **dict.fromkeys(("ry", "rydberg", "rydbergs"), HARTREE / 2),
    "kcal/mol": 0.04336410390059322,
    "kj/mol": 0.010364269574711573,
}  # eV
LENGTHS = {
    **dict.fromkeys(("a", "ang", "angs", "angstrom", "angstroms", "angstroem"), 1.0),
    **dict.fromkeys(("bohr", "bohrs", "a0", "a_0", "au", "a.u."), BOHR),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 10.0),
    **dict.fromkeys(("pm", "picometer", "picometers", "picometre", "picometres"), 0.01),
}  # A
_SHOWN = {"ev": "eV", "a": "A", "mev": "meV", "kj/mol": "kJ/mol", "ha": "hartree", "eh": "hartree"}
TIMES = {"fs": 1.0, "ps": 1e3, "s": 1e15, "au": ATOMIC_TIME}  # fs
PRESSURES = {"gpa": GPA, "kbar": GPA / 10, "kb": GPA / 10, "mpa": GPA / 1e3, "bar": GPA / 1e4, "pa": GPA / 1e9}
ATOMIC = frozenset(("au", "a.u.", "atomic", "atomic_unit", "atomic_units", "atomic unit", "atomic units"))

DIMENSIONS = {  # powers of energy, length and time
    "length": (0, 1, 0),
    "cell": (0, 1, 0),
    "energy": (1, 0, 0),
    "forces": (1, -1, 0),
    "hessian": (1, -2, 0),
    "stress": (1, -3, 0),
    "velocities": (0, 1, -1),
}
EXAMPLES = {
    **dict.fromkeys(("length", "cell"), "A, bohr or nm"),
    "energy": "eV, hartree, kcal/mol or kJ/mol",
    "forces": "eV/A, hartree/bohr or kcal/mol/A",
    "hessian": "eV/A^2 or hartree/bohr^2",
    "stress": "eV/A^3, GPa or kbar",
    "velocities": "A/fs, A/ps or au",
}
_NAMES = {  # what the keys of unit statements call an array, without "unit", "REF_", "dft_" and underscores
    **dict.fromkeys(("length", "lengths", "distance", "distances", "position", "positions", "pos"), "length"),
    **dict.fromkeys(("coordinate", "coordinates", "coord", "coords", "geometry", "conformations"), "length"),
    **dict.fromkeys(("cell", "lattice", "box"), "cell"),
    **dict.fromkeys(("energy", "energies", "e", "u0", "energyu0"), "energy"),
    **dict.fromkeys(("force", "forces", "f", "gradient", "gradients", "grad"), "forces"),
    **dict.fromkeys(("hessian", "hessians"), "hessian"),
    **dict.fromkeys(("stress", "pressure"), "stress"),
    **dict.fromkeys(("vel", "velo", "velocity", "velocities"), "velocities"),
}
_CELLS = ("unit_cell", "unitcell")  # not the unit of a cell, but a cell
_LAMMPS = {"metal": ("eV", "A"), "real": ("kcal/mol", "A"), "electron": ("hartree", "bohr")}  # energies and lengths
_REMARK = re.compile(r"\s+\([^()]*\)$")  # 'eV/A^3 (ASE sign)'
_MOLAR = re.compile(r"(kcal|kj)\s*(?:/\s*mol|mol\^?-1|\s+mol\^?-1)")
_FACTOR = re.compile(r"(a0|a_0|a\.u\.|[a-z_]*[a-z](?:@mol)?)(?:\^?\(?([+-]?\d)\)?)?")


class UnitError(ValueError):
    """A unit that is not understood, of another dimension, or stated twice differently."""


@dataclass(frozen=True)
class Unit:
    """One unit: what multiplies its numbers, the words for energy and length that it is made of, and who states it."""

    text: str
    factor: float
    energy: str | None = None  # of ENERGIES
    length: str | None = None  # of LENGTHS
    where: str = ""


Units = Mapping[str, Unit]  # keys of DIMENSIONS; what is absent is in eV and A as the reader gives it
NONE: Units = {}


def factor_of(units: Units, quantity: str) -> float:
    """What the numbers of this quantity are multiplied by; a cell has the unit of the positions, if it has none of its own."""
    unit = units.get(quantity) or (units.get("length") if quantity == "cell" else None)
    return 1.0 if unit is None else unit.factor


@lru_cache(maxsize=1024)
def parse(text: str, quantity: str, where: str = "") -> Unit:
    """A unit of a quantity, such as 'hartree/bohr' of forces. Raises UnitError."""
    try:
        factor, powers, energy, length = _parsed(text)
    except KeyError as error:
        raise UnitError(
            f"'{text}' is not a known unit ({error.args[0]}); of {quantity} it is {EXAMPLES[quantity]}"
        ) from None
    wanted = DIMENSIONS[quantity]
    if powers is None:  # atomic units of whatever it is
        energy, length = "hartree", "bohr"
        factor = HARTREE ** wanted[0] * BOHR ** wanted[1] * ATOMIC_TIME ** wanted[2]
    elif powers != wanted:
        raise UnitError(f"'{text}' is not a unit of {quantity}, which is {EXAMPLES[quantity]}")
    return Unit(text, factor, energy, length, where)


def parse_energy_over_length(text: str, where: str = "") -> dict[str, Unit]:
    """'eV/A', 'hartree/bohr', 'kcal/mol/A', ...: of energies, forces, Hessians and stress. Raises UnitError."""
    forces = parse(text, "forces", where)
    assert forces.energy is not None
    assert forces.length is not None
    return {name: _of_same(forces, name) for name in ("energy", "forces", "hessian", "stress")}


def as_vasp(where: str) -> dict[str, Unit]:
    """Angstrom, eV, eV/A and kbar; what stress counts as positive, compression, is the reader's to turn."""
    of_forces = parse_energy_over_length("eV/A", where)
    return {**of_forces, "length": parse("A", "length", where), "stress": parse("kbar", "stress", where)}


def stated_in(entries: Mapping[Any, Any], where: str) -> dict[str, Unit]:
    """The units that keys such as `units`, `length_unit`, `units_of_forces` or `_property_unit_dict` state. Raises UnitError.

    Units of other things (dipole_unit) are left alone.
    """
    units: dict[str, Unit] = {}
    for key in entries:
        if isinstance(key, str) and "unit" in (low := key.lower()) and low not in _CELLS:
            _add(units, _stated_by(key, entries[key], where), where)
    return units


def names_units(key: str) -> bool:
    """Whether a key states the unit of something that is read."""
    return (
        "unit" in key.lower()
        and key.lower() not in _CELLS
        and (_subject(key) in ("", "property", "dict") or _subject(key) in _NAMES)
    )


def combine(stated: Units, option: Units) -> Units:
    """What the file states with what the user does; both must agree where both speak. Raises UnitError."""
    units = dict(stated)
    _add(units, option, "the options")
    return units


def derived(units: Units) -> Units:
    """The same with energy, forces and Hessians that are not stated filled in from those that are.

    Forces beside a Hessian in hartree/bohr^2 are in hartree/bohr, beside an energy in kcal/mol and positions in A they are in
    kcal/mol/A. Nothing is derived where neither an energy nor anything with an energy in it is stated.
    """
    whole = dict(units)
    source = next((units[name] for name in ("hessian", "forces") if name in units), None)
    if source is None and "energy" in units:
        length = units["length"].length if "length" in units else "A"
        source = Unit(units["energy"].text, 0.0, units["energy"].energy, length, units["energy"].where)
    if source is not None and source.energy is not None and source.length is not None:
        for name in ("energy", "forces", "hessian"):
            whole.setdefault(name, _of_same(source, name, f"from the unit of its {_name_of(source, units)}"))
    return whole


def stress_matrix(stress: Any) -> NDArray[np.float64]:
    """(3,3) eV/A^3 from ASE's Voigt order xx yy zz yz xz xy, from 9 numbers or from 3x3. Raises ValueError."""
    values = np.asarray(stress, np.float64)
    if values.shape == (6,):
        xx, yy, zz, yz, xz, xy = values
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if values.shape not in ((9,), (3, 3)):
        raise ValueError(f"a stress has 6, 9 or 3x3 numbers, not {values.shape}")
    return values.reshape(3, 3)


def text_of(value: Any) -> str | None:
    """The text of an attribute that h5py, numpy or JSON gave: str, bytes, or an array of one of them; None for others."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value) if isinstance(value, str) else None


def _name_of(source: Unit, units: Units) -> str:
    return next((name for name in ("hessian", "forces") if units.get(name) is source), "energy")


def _of_same(unit: Unit, quantity: str, how: str = "") -> Unit:
    """The unit of another quantity that is made of the same energy and length."""
    assert unit.energy is not None
    assert unit.length is not None
    energy, length, _ = DIMENSIONS[quantity]
    factor = ENERGIES[unit.energy.lower()] ** energy * LENGTHS[unit.length.lower()] ** length
    over = {0: "", -1: f"/{unit.length}"}.get(length, f"/{unit.length}^{-length}")
    text = f"{unit.energy}{over}" if energy else unit.length
    return Unit(text, factor, unit.energy, unit.length, ", ".join(part for part in (unit.where, how) if part))


def _add(units: dict[str, Unit], more: Units, where: str) -> None:
    for name, unit in more.items():
        other = units.setdefault(name, unit)
        if not np.isclose(other.factor, unit.factor, rtol=1e-4, atol=0):
            raise UnitError(
                f"the unit of {'positions' if name == 'length' else name} is '{other.text}' ({other.where or where}) and "
                f"'{unit.text}' ({unit.where or where}); one of them is wrong"
            )


def _subject(key: str) -> str:
    """'length' of 'length_unit', 'units_of_length', 'REF_length_units'; '' of 'units'."""
    name = re.sub(r"units?", "", key.lower())
    return re.sub(r"^(ref|dft)_", "", name.strip("_")).replace("_of_", "").removeprefix("of_").replace("_", "")


def _stated_by(key: str, value: Any, where: str) -> dict[str, Unit]:
    subject = _subject(key)
    if isinstance(value, Mapping):
        if subject not in ("", "property", "dict", "propertydict"):
            return {}
        named = {_NAMES.get(_subject(str(name))): text_of(text) for name, text in value.items()}
        return {name: parse(text, name, where) for name, text in named.items() if name and text}
    text = text_of(value)
    if text is None or not text.strip():
        return {}
    if subject:
        name = _NAMES.get(subject)
        return {name: parse(text, name, where)} if name else {}
    return _bare(text, where)


def _bare(text: str, where: str) -> dict[str, Unit]:
    """What `units=...` says by itself: by its dimension, or of everything for atomic units and LAMMPS's styles."""
    word = text.strip().lower()
    if word in ATOMIC:
        return {name: parse(text, name, where) for name in DIMENSIONS}
    if word in _LAMMPS:
        energy, length = _LAMMPS[word]
        unit = Unit(text, 0.0, energy, length, where)
        return {name: _of_same(unit, name) for name in ("length", "energy", "forces")}
    for name in ("length", "forces", "energy", "hessian"):
        try:
            unit = parse(text, name, where)
        except UnitError:
            continue
        return {"energy": _of_same(unit, "energy"), name: unit} if name in ("forces", "hessian") else {name: unit}
    raise UnitError(
        f"'{text}' is not a known unit ({where}); say for example A, bohr, eV, hartree, eV/A or hartree/bohr"
    )


def _parsed(text: str) -> tuple[float, tuple[int, int, int] | None, str | None, str | None]:
    """Factor, powers of energy, length and time (None: atomic units), words for energy and length. Raises KeyError."""
    plain = _REMARK.sub("", text.strip()).lower().replace("\u00e5", "a").replace("\u212b", "a").replace("**", "^")
    for sign in "\u00b2\u00b3":
        plain = plain.replace(sign, "^2" if sign == "\u00b2" else "^3")
    plain = re.sub(r"[\u00b7*\u22c5]", " ", plain.replace(" per ", "/"))
    if plain in ATOMIC:
        return 1.0, None, None, None
    if plain in PRESSURES:
        return PRESSURES[plain], DIMENSIONS["stress"], None, None
    factor, powers = 1.0, [0, 0, 0]
    parts: list[str | None] = [None, None]
    for number, term in enumerate(_MOLAR.sub(r"\1@mol ", plain).replace("(", " ").replace(")", " ").split("/")):
        for word in term.split() or [""]:
            match = _FACTOR.fullmatch(word)
            if match is None:
                raise KeyError(word or "nothing before or after '/'")
            name = match[1].replace("@", "/")
            power = int(match[2] or 1) * (-1 if number else 1)
            axis = next((axis for axis, table in enumerate((ENERGIES, LENGTHS, TIMES)) if name in table), None)
            if axis is None:
                raise KeyError(name)
            factor *= (ENERGIES, LENGTHS, TIMES)[axis][name] ** power
            powers[axis] += power
            if axis < 2:
                parts[axis] = _SHOWN.get(name, name)
    return factor, (powers[0], powers[1], powers[2]), parts[0], parts[1]


def describe(units: Iterable[tuple[str, Unit]]) -> str:
    """'positions bohr, energy hartree (attribute of the file)'."""
    by_place: dict[str, list[str]] = {}
    for name, unit in units:
        by_place.setdefault(unit.where, []).append(f"{'positions' if name == 'length' else name} {unit.text}")
    return "; ".join(f"{', '.join(names)}{f' ({place})' if place else ''}" for place, names in by_place.items())
