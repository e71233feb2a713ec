"""HDF5 of strangers: only what lies in the file itself, by plain names; links and virtual data could lead anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .units import text_of


def is_here(group: Any, name: str) -> bool:
    """Whether the group has the name by a hard link: soft and external links could lead anywhere."""
    import h5py

    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def is_dataset(group: Any, name: str) -> bool:
    """Whether it is a dataset whose data lie in this very file."""
    import h5py

    if not is_here(group, name):
        return False
    child = group[name]
    return isinstance(child, h5py.Dataset) and not (child.is_virtual or child.external)


def dataset(group: Any, name: str) -> Any:
    """A dataset whose data lie in this file. Raises ValueError."""
    if not is_dataset(group, name):
        raise ValueError(f"'{name}' is not a plain dataset of this file")
    return group[name]


def text(group: Any, name: str) -> str | None:
    """The string in a dataset () or (1,), or None."""
    if not is_dataset(group, name) or group[name].size != 1:
        return None
    value = np.asarray(group[name][()]).reshape(-1)[0]
    return text_of(value) or str(value)


def unit_text(attributes: Mapping[str, Any]) -> str | None:
    """What the attribute `units` or `unit` of an array says, whatever its case; None where there is none, or it is empty.

    What is not text is shown as it is, so that it is refused as a unit and not passed over.
    """
    import h5py

    for key in attributes:
        if key.lower() in ("units", "unit"):
            value = attributes[key]
            stated = text_of(value)
            return (str(value) if stated is None and not isinstance(value, h5py.Empty) else stated) or None
    return None
