"""Students that installed packages offer by an entry point of the group `hdistill.students`.

    [project.entry-points."hdistill.students"]
    mine = "my_package.student:Mine"            # hdistill fit --student mine

The entry point names a class of nn.Module:

    class Mine(nn.Module):
        cutoff = 4.0                            # A
        options = {"width": 32}                 # optional: kept with each student and given to the constructor
        direct = False                          # optional: True where forward returns (energies, forces)
        def __init__(self, elements, scale, cutoff, **options): ...
        def forward(self, numbers, edge_index, vectors): ...

elements are atomic numbers, scale (eV) multiplies what it says of an atom; forward as PaiNN's: (A,) int64, (2,E) int64, (E,3) A ->
(A,) eV, three times differentiable by plain torch operations and smooth at the cutoff. All weights and buffers that are in
state_dict() are kept. For --compile, write x.shape[0] and not len(x), which would
fix a size. A package is imported when its student is used, no sooner. Our own names win over those of packages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import HDistillError, InputError

from .packaged import PACKAGED
from .sizes import SIZES, StudentSize

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from torch import nn

GROUP = "hdistill.students"


def offered() -> dict[str, EntryPoint]:
    """Students of packages by name. Raises InputError where two packages offer different ones under one name."""
    from importlib import metadata  # takes longer than the rest of this file

    entries: dict[str, EntryPoint] = {}
    for entry in metadata.entry_points(group=GROUP):
        other = entries.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise InputError(
                f"Two packages offer a student '{entry.name}', {_package(other)} ({other.value}) and {_package(entry)} "
                f"({entry.value}); uninstall one of them."
            )
    return {name: entry for name, entry in entries.items() if name not in SIZES | PACKAGED}


def size_of_offered(entry: EntryPoint) -> StudentSize:
    """What a package says of its student. Raises InputError where it does not load or has no cutoff."""
    made = _loaded(entry)
    cutoff = getattr(made, "cutoff", None)
    if not isinstance(cutoff, int | float) or not 0 < cutoff < float("inf"):
        raise InputError(
            f"The student '{entry.name}' of {_package(entry)} has the cutoff {cutoff!r}; it must be a number of A above 0."
        )
    return StudentSize(
        entry.name,
        cutoff=float(cutoff),
        direct=bool(getattr(made, "direct", False)),
        package=_package(entry),
        options=dict(getattr(made, "options", {})),
    )


def build_offered(size: StudentSize, elements: Sequence[int], scale: float) -> nn.Module:
    """A student of a package. Raises InputError where the package is gone, does not load or refuses what it is given."""
    entry = offered().get(size.architecture)
    if entry is None:
        raise InputError(
            f"This student is a '{size.architecture}' of the package {size.package}, which is not installed here; "
            "install it and try again."
        )
    made = _loaded(entry)
    try:
        model: nn.Module = made(elements=elements, scale=scale, cutoff=size.cutoff, **size.options)
    except HDistillError:
        raise
    except Exception as error:
        raise InputError(
            f"{_package(entry)} could not build its student '{entry.name}' (made by {size.package}): "
            f"{type(error).__name__}: {error}"
        ) from error
    if bool(getattr(model, "direct", False)) != size.direct:
        raise InputError(
            f"The student '{entry.name}' of {_package(entry)} has direct = {not size.direct}, but its class says "
            f"{size.direct}; the two must agree."
        )
    return model


def _loaded(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:
        raise InputError(
            f"The student '{entry.name}' of {_package(entry)} ({entry.value}) does not load: "
            f"{type(error).__name__}: {error}"
        ) from error


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value
