"""Every student by name, ours and those of installed packages. Light to import: no torch here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hdistill.data.errors import InputError, nearest

from .outside import offered, size_of_offered
from .packaged import PACKAGED
from .sizes import SIZES, StudentSize

OURS = SIZES | PACKAGED


def size_of(name: str, repulsion: bool = False) -> StudentSize:
    """The size of a student, ours or an installed package's, with or without the short-range repulsion.

    Raises InputError: no such student (with the nearest name), its package does not load, or a repulsion for direct forces.
    """
    size = OURS[name] if name in OURS else _outside(name)
    if repulsion and size.direct:
        raise InputError(
            f"'{name}' says forces itself, so that a repulsion in its energy would move no atom; leave the repulsion out, "
            "or take a student whose forces are the gradient of its energy."
        )
    return replace(size, repulsion=repulsion)


def catalogue() -> list[dict[str, Any]]:
    """Every student by name, with its size: ours, then those of installed packages, whose size is known once they are loaded."""
    ours = [{"name": name, **size.as_json()} for name, size in OURS.items()]
    return ours + [{"name": name, "package": entry.value} for name, entry in offered().items()]


def _outside(name: str) -> StudentSize:
    others = offered()
    if name in others:
        return size_of_offered(others[name])
    known = (*OURS, *others)
    raise InputError(f"There is no student '{name}'; there are {', '.join(known)}.{nearest(name, known)}")
