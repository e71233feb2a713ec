"""HDF5: groups at any depth, each one structure or a stack of structures of the same atoms (arrays.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...sources.hdf5 import is_dataset, is_here
from .arrays import NAMES, stack
from .contract import HessianReader, HessianRecord, Refused

MAX_DEPTH = 6


def read(path: Path) -> Iterator[HessianRecord | Refused]:
    """Every structure of every group that holds a Hessian. Attributes of outer groups hold for the inner ones."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as root:
            for name, group, attributes in _groups(root, {}):
                fields = {key: group[key] for key in group if is_dataset(group, key)}
                yield from stack(path, name, {**attributes, **fields})
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read any further ({error}); fetch it again.") from error


def _groups(
    group: Any, outer: dict[str, Any], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name, group and attributes of every group that holds a Hessian; links that lead elsewhere are not followed."""
    import h5py

    attributes = {**outer, **{key: np.asarray(value) for key, value in group.attrs.items()}}
    if any(is_dataset(group, key) for key in NAMES["hessian"]):
        yield prefix.rstrip("/"), group, attributes
    for key in group if depth < MAX_DEPTH else ():
        if is_here(group, key) and isinstance(group[key], h5py.Group):
            yield from _groups(group[key], attributes, f"{prefix}{key}/", depth + 1)


def _recognises(path: Path) -> bool:
    import h5py

    return bool(h5py.is_hdf5(path))


READER = HessianReader("HDF5", _recognises, read, order=10)
