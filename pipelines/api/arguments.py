"""What users hand over (str, Path, ASE Atoms, the result of another call) as what the packages below take."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from hdistill.data.errors import InputError

from ..frames import extxyz_frame

if TYPE_CHECKING:
    from ase import Atoms

    from hdistill.data.labelsets.label_set import LabelSet
    from hdistill.data.sharing.cache import ShardCache

Place: TypeAlias = str | os.PathLike[str]
Labels: TypeAlias = Union[Place, "LabelSet"]
Subset: TypeAlias = Union[Place, "Atoms", Sequence[Union[Place, "Atoms"]]]


def folder_of(place: Place) -> Path:
    return Path(os.fspath(place)).expanduser()


def run_place(run: Place) -> Path | str:
    """A run folder, a student file, a .pt2 or a bundle by name as a path; a bundle at an address (hf://...) as that."""
    text = os.fspath(run)
    return text if "://" in text else folder_of(run)


def labels_place(labels: Labels) -> Path | str:
    """A label set as a folder, or as an address (s3://..., https://...)."""
    from hdistill.data.labelsets.label_set import LabelSet

    if isinstance(labels, LabelSet):
        return labels.address or labels.path
    text = os.fspath(labels)
    return text if "://" in text else Path(text).expanduser()


def cache_of(labels: Path | str, folder: Place | None, size: str | int) -> ShardCache | None:
    """The cache for a label set that lies elsewhere; None for one that is here, which needs none."""
    if isinstance(labels, Path):
        return None
    from hdistill.data.sharing.cache import ShardCache, default_folder

    return ShardCache(default_folder() if folder is None else folder_of(folder), parse_size(size, "--cache-size"))


def parse_extent(extent: int | str, option: str) -> int | float:
    """500 or '500' as a number of steps (int); '60s', '10min' or '2h' as seconds (float). Raises InputError that names the option."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h)?", str(extent).strip())
    if match is None or (match[2] is None and "." in match[1]):
        raise InputError(f"{option} was '{extent}'; it takes a number of steps, or a time such as 60s or 10min.")
    if match[2] is None:
        return int(match[1])
    return float(match[1]) * {"s": 1, "min": 60, "h": 3600}[match[2]]


def parse_size(size: str | int, option: str) -> int:
    """'8GB', '500 MiB' or a number of bytes, as bytes. Raises InputError that names the option."""
    match = re.fullmatch(r"([0-9.]+)\s*([kKMGT]?)(i?)B?", str(size).strip())
    try:
        if match is None:
            raise ValueError
        return int(float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " "))
    except ValueError:
        raise InputError(f"{option} was '{size}'; it takes a size such as 8GB or 500MiB.") from None


def subset_names(subset: Subset, folder: Path) -> tuple[str, ...]:
    """The subset as the labeler takes it: names and files. Atoms are written into a file in `folder`, which is named by its
    contents: the same Atoms continue what was begun. Raises InputError."""
    from ase import Atoms

    items: list[Any] = [subset] if isinstance(subset, str | os.PathLike | Atoms) else list(subset)
    in_memory = [item for item in items if isinstance(item, Atoms)]
    if not in_memory:
        return tuple(os.fspath(item) for item in items)
    if len(in_memory) < len(items):
        raise InputError("The subset mixes Atoms with names of files; give either, or read the files into Atoms.")
    return (str(write_atoms(in_memory, folder)),)


def write_atoms(structures: Sequence[Atoms], folder: Path) -> Path:
    """Extended XYZ of Atoms with all digits of their positions, DIR/atoms-<hash>.xyz; a file that is there already is kept."""
    from hdistill.data.support.publish import publish

    data = "".join(map(extxyz_frame, structures)).encode()
    path = folder.resolve() / f"atoms-{hashlib.sha256(data).hexdigest()[:12]}.xyz"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        publish(path, data)
    return path


def numbers_of(given: float | Sequence[float]) -> list[float]:
    """One number or several, as floats."""
    return [float(given)] if isinstance(given, int | float) else [float(x) for x in given]


def temperatures_of(given: float | Sequence[float]) -> tuple[float, ...]:
    """One or several, K. Raises InputError for what is no temperature."""
    kelvins = tuple(numbers_of(given))
    if not kelvins or not all(0 < t < 1e5 for t in kelvins):
        raise InputError(f"--temperature was {list(kelvins)}; it takes kelvins above 0, such as 300,900.")
    return kelvins


def parse_numbers(text: str, option: str) -> tuple[float, ...]:
    """'300,900' as numbers. Raises InputError that names the option."""
    try:
        return tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise InputError(
            f"{option} was '{text}'; it takes numbers with commas between them, such as 300,900."
        ) from None
