"""The students by name and size. Light to import: no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hdistill.data.errors import InputError, nearest


@dataclass(frozen=True)
class StudentSize:
    """Everything but elements, energy scale and weights that makes a student; cutoff in A.

    channels, layers and basis are of our own architectures. A student of an installed package (outside.py) has a `package`, and
    the `options` it is built with.
    """

    architecture: str
    channels: int = 0
    layers: int = 0
    cutoff: float = 0.0
    basis: int = 0
    direct: bool = False  # says forces itself: they are no gradient of its energy
    repulsion: bool = False  # stands on the short-range repulsion of repulsion.py
    package: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


SIZES = {
    "painn": StudentSize("painn", channels=64, layers=3, cutoff=5.0, basis=20),
    "painn-direct": StudentSize("painn", channels=64, layers=3, cutoff=5.0, basis=20, direct=True),
    "painn-small": StudentSize("painn", channels=32, layers=2, cutoff=4.5, basis=20),
    "painn-small-direct": StudentSize("painn", channels=32, layers=2, cutoff=4.5, basis=20, direct=True),
    "moment": StudentSize("moment", channels=16, layers=1, cutoff=4.5, basis=10),
    "moment-large": StudentSize("moment", channels=32, layers=1, cutoff=5.0, basis=12),
    "gemnet-t": StudentSize("gemnet", channels=72, layers=4, cutoff=5.0, basis=8),
    "gemnet-dt": StudentSize("gemnet", channels=64, layers=4, cutoff=5.0, basis=8, direct=True),
    "gemnet-dt-small": StudentSize("gemnet", channels=18, layers=4, cutoff=5.0, basis=8, direct=True),
}


def size_of(name: str, repulsion: bool = False) -> StudentSize:
    """The size of a student, ours or an installed package's, with or without the short-range repulsion.

    Raises InputError: no such student (with the nearest name), its package does not load, or a repulsion for direct forces.
    """
    size = SIZES[name] if name in SIZES else _outside(name)
    if repulsion and size.direct:
        raise InputError(
            f"'{name}' says forces itself, so that a repulsion in its energy would move no atom; leave the repulsion out, "
            "or take a student whose forces are the gradient of its energy."
        )
    return replace(size, repulsion=repulsion)


def catalogue() -> list[dict[str, Any]]:
    """Every student by name, with its size: ours, then those of installed packages, whose size is known once they are loaded."""
    from .outside import offered

    ours = [{"name": name, **size.as_json()} for name, size in SIZES.items()]
    return ours + [{"name": name, "package": entry.value} for name, entry in offered().items()]


def _outside(name: str) -> StudentSize:
    from .outside import offered, size_of_offered

    others = offered()
    if name in others:
        return size_of_offered(others[name])
    known = (*SIZES, *others)
    raise InputError(f"There is no student '{name}'; there are {', '.join(known)}.{nearest(name, known)}")
