"""The students by name and size. Light to import: no torch here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hdistill.data.errors import InputError, nearest


@dataclass(frozen=True)
class StudentSize:
    """cutoff in A; reach of an atom's influence is layers * cutoff."""

    architecture: str
    channels: int
    layers: int
    cutoff: float
    basis: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


SIZES = {
    "painn": StudentSize("painn", channels=64, layers=3, cutoff=5.0, basis=20),
    "painn-small": StudentSize("painn", channels=32, layers=2, cutoff=4.5, basis=20),
}


def size_of(name: str) -> StudentSize:
    """The size of a student. Raises InputError with the nearest name."""
    if name not in SIZES:
        raise InputError(f"There is no student '{name}'; there are {', '.join(SIZES)}.{nearest(name, SIZES)}")
    return SIZES[name]
