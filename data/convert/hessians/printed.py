"""What outputs for people have in common: mass-weighted Hessians, printed in blocks of columns with few digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...sources.record import Record
from ...sources.units import BOHR, HARTREE, parse
from .checks import asymmetry_problem
from .contract import HessianReader, HessianRecord, Refused, Stated
from .minimum import MOST_FORCE, OPTIONS, at_rest, forces_of_turns, require_stated_frequencies

Array = NDArray[np.float64]
HEAD = 1 << 16  # bytes in which a program says its name


@dataclass(frozen=True)
class Printed:
    """numbers (N,); positions bohr; masses u; weighted (3N,3N): H_ij / sqrt(m_i m_j) in hartree/bohr^2/u; frequencies cm^-1 that the
    output states; energy hartree, of the geometry of the Hessian; remarks: what should be said. forces (N,3) hartree/bohr, where they are
    printed; cell (3,3) bohr and pbc (3,), zeros of molecules."""

    numbers: NDArray[np.int64]
    positions: Array
    masses: Array
    weighted: Array
    frequencies: Array
    energy: float | None
    charge: int
    spin: int
    remarks: tuple[str, ...] = ()
    forces: Array | None = None
    cell: Array = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(3, bool))

    @property
    def hessian(self) -> Array:
        """hartree/bohr^2"""
        roots = np.repeat(np.sqrt(self.masses), 3)
        return self.weighted * np.outer(roots, roots)


def reader_of(name: str, marks: tuple[str, ...], printed: Callable[[str], Printed]) -> HessianReader:
    """The reader of a program's output: marks: words at its beginning; printed: what is in its text, raises ValueError, IndexError."""

    def recognises(path: Path) -> bool:
        try:
            with path.open("rb") as stream:
                head = stream.read(HEAD).decode("latin-1")
        except OSError:
            return False
        return any(mark in head for mark in marks)

    def read(path: Path, stated: Stated) -> Iterator[HessianRecord | Refused]:
        try:
            found = printed(path.read_text(encoding="latin-1"))
        except (ValueError, IndexError, KeyError) as error:
            raise InputError(
                f"{path} cannot be read as {name} ({error}); is it complete, and does it have a Hessian?"
            ) from error
        in_ev = found.hessian * HARTREE / BOHR**2
        if (problem := asymmetry_problem(in_ev)) is not None:
            raise InputError(f"{path}: {problem}; the run was not converged, or the file is damaged.")
        in_ev = 0.5 * (in_ev + in_ev.T)
        positions = found.positions * BOHR
        require_stated_frequencies(path, found.numbers, in_ev, found.frequencies, "the file", found.masses, positions)
        results, said = _results(path, found, in_ev, stated)
        units = {quantity: parse("au", quantity, name) for quantity in ("length", "energy", "forces", "hessian")}
        info = {"charge": found.charge, "spin": found.spin}
        record = Record(
            numbers=found.numbers,
            positions=found.positions,
            cell=found.cell,
            pbc=found.pbc,
            info=info,
            results=results,
            units=units,
            remarks=(*said, *found.remarks),
        )
        yield HessianRecord(f"{path.name}@0", record, in_ev / (HARTREE / BOHR**2))

    return HessianReader(name, recognises, read, OPTIONS, length_is_known=True, order=4)


def _results(path: Path, found: Printed, in_ev: Array, stated: Stated) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Energy and forces in hartree and bohr, and what is said of them. Raises InputError."""
    arms = found.positions * BOHR if not found.pbc.any() else np.zeros_like(found.positions)  # crystals have no turns
    if found.forces is None or found.energy is None:
        if stated.energy is None and found.energy is not None:
            stated = replace(stated, energy=found.energy * HARTREE)
        results, said = at_rest(path, arms, in_ev, stated, "a gradient")
        return {"energy": results["energy"] / HARTREE, "forces": results["forces"]}, said
    if stated.options:
        raise InputError(f"{path} has energy and forces: {', '.join(stated.options)} is not needed.")
    off = 0.0 if found.pbc.any() else forces_of_turns(arms, in_ev, found.forces * HARTREE / BOHR)
    if off > MOST_FORCE:
        raise InputError(
            f"{path}: turning its geometry and forces leaves forces of {off:.2g} eV/A; its Hessian is of another geometry, or damaged."
        )
    return {"energy": found.energy, "forces": found.forces}, ()


def number(word: str) -> float:
    """A number as Fortran writes it."""
    return float(word.replace("D", "E").replace("d", "e"))


def numbers_in(lines: list[str]) -> Array:
    """Of all lines, one after the other."""
    return np.array([float(word) for line in lines for word in line.split()])


def last_of(words: list[str]) -> float | None:
    return float(words[-1]) if words else None


def first_of(text: str, mark: str, hint: str = "") -> int:
    """Where `mark` stands for the first time. Raises ValueError that names it, with the hint."""
    place = text.find(mark)
    if place < 0:
        raise ValueError(f"no '{mark}'{hint}")
    return place


def last_before(text: str, mark: str, end: int) -> int:
    """Where `mark` stands for the last time before `end`. Raises ValueError that names it."""
    place = text.rfind(mark, 0, end)
    if place < 0:
        raise ValueError(f"no '{mark.strip()}'")
    return place
