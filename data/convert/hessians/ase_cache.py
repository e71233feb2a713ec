"""Folders of ASE's Vibrations and Phonons: forces of an arrangement and of it with one atom moved along one axis, a JSON file each.

`cache.eq.json` is the arrangement, `cache.2y-.json` that with atom 2 moved by minus one step along y, `cache.2y--.json` by minus two
(nfree=4); `combined.json` has all of them. Forces are in eV/A. The length of the step is in none of them, nor are geometry and energy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...support.strict_json import loads
from .contract import Stated

Array = NDArray[np.float64]
NAME = re.compile(r"^cache\.(?P<key>eq|\d+[xyz](?:\+{1,2}|-{1,2}))\.json$")
KEY = re.compile(r"^(?P<atom>\d+)(?P<axis>[xyz])(?P<step>\+{1,2}|-{1,2})$")
COMBINED = "combined.json"
MOST_ATOMS = 1000
USUAL_STEP = 0.01  # A: ASE's own, of both classes


@dataclass(frozen=True)
class Cache:
    """still (N,3): forces of the arrangement; moved: (atom, axis, steps) to forces (N,3), steps being -2, -1, 1 or 2. All eV/A."""

    folder: Path
    still: Array
    moved: dict[tuple[int, int, int], Array]

    @property
    def n_moved(self) -> int:
        """Atoms that were moved: 0 to the last that was."""
        return 1 + max((atom for atom, _, _ in self.moved), default=-1)

    def rows(self, step: float) -> Array:
        """-dF/dR of the moved atoms, (n_moved,3,N,3) in eV/A^2, by central differences of two or four points."""
        rows = np.empty((self.n_moved, 3, *self.still.shape))
        for atom, axis in np.ndindex(self.n_moved, 3):
            below, above = self.moved[atom, axis, -1], self.moved[atom, axis, 1]
            if (atom, axis, 2) in self.moved:
                far = self.moved[atom, axis, 2] - self.moved[atom, axis, -2]
                rows[atom, axis] = (8 * (below - above) + far) / (12 * step)
            else:
                rows[atom, axis] = (below - above) / (2 * step)
        return rows


def folder_of(path: Path) -> Path | None:
    """The folder of a cache, of the folder itself or of a file in it; None for anything else."""
    if path.is_dir():
        is_one = (
            (path / "cache.eq.json").is_file() or (path / COMBINED).is_file() or any(path.glob("cache.[0-9]*.json"))
        )
        return path if is_one else None
    return path.parent if NAME.match(path.name) or path.name == COMBINED else None


def files_of(path: Path) -> tuple[Path, ...]:
    """The files of a cache, by name."""
    folder = folder_of(path)
    if folder is None:
        return ()
    if (combined := folder / COMBINED).is_file():
        return (combined,)
    return tuple(sorted(file for file in folder.iterdir() if NAME.match(file.name)))


def has_a_supercell(path: Path) -> bool:
    """Whether forces are of more atoms than were moved: by names and one file, since all are read later. False for what is no cache."""
    files = files_of(path)
    try:
        if not files:
            return False
        if files[0].name == COMBINED:
            cache = _combined(files[0])
            return cache.n_moved < len(cache.still)
        atoms = [int(re.match(r"\d+", file.name.split(".")[1])[0]) for file in files if ".eq." not in file.name]  # type: ignore[index]
        return max(atoms, default=-1) + 1 < len(_forces(_json(files[-1]), files[-1]))
    except InputError:
        return False  # the other reader says what is wrong


def read_cache(path: Path) -> Cache:
    """All forces of a cache. Raises InputError: a file is missing, cut short or of another number of atoms."""
    files = files_of(path)
    if files[0].name == COMBINED:
        cache = _combined(files[0])
    else:
        cache = _cache(files[0].parent, {NAME.match(file.name)["key"]: _forces(_json(file), file) for file in files})  # type: ignore[index]
    _require_all(cache)
    return cache


def step_of(path: Path, stated: Stated) -> float:
    """The length that atoms were moved by, A. Raises InputError where nobody states it: all elements of the Hessian are over it."""
    if stated.delta is None:
        raise InputError(
            f"{path} does not have the length that atoms were moved by; say --delta A as it was given to ASE, --delta {USUAL_STEP} where "
            "none was given."
        )
    if not 1e-5 <= stated.delta <= 0.5:
        raise InputError(f"--delta is in A, and was {stated.delta:g}; 0.00001 to 0.5 is taken.")
    return stated.delta


def _cache(folder: Path, forces: dict[str, Array]) -> Cache:
    moved = {}
    for key, value in forces.items():
        if match := KEY.match(key):
            steps = len(match["step"]) * (1 if match["step"][0] == "+" else -1)
            moved[int(match["atom"]), "xyz".index(match["axis"]), steps] = value
    if "eq" not in forces:
        raise InputError(
            f"{folder} has no cache.eq.json, the forces of the arrangement itself; let ASE run again, it adds what is missing."
        )
    return Cache(folder, forces["eq"], moved)


def _combined(file: Path) -> Cache:
    entries = _json(file)
    return _cache(
        file.parent, {key: _forces(entry, file) for key, entry in entries.items() if key == "eq" or KEY.match(key)}
    )


def _require_all(cache: Cache) -> None:
    n_atoms, n_moved = len(cache.still), cache.n_moved
    if n_atoms > MOST_ATOMS:
        raise InputError(
            f"{cache.folder} is of {n_atoms} atoms; the Hessian would be {9 * n_atoms**2} numbers, and {MOST_ATOMS} atoms are taken."
        )
    steps = (-2, -1, 1, 2) if any(abs(step) == 2 for _, _, step in cache.moved) else (-1, 1)
    wanted = [(atom, axis, step) for atom in range(n_moved) for axis in range(3) for step in steps]
    missing = [key for key in wanted if key not in cache.moved]
    if missing or not wanted:
        first = _name(*missing[0]) if missing else "cache.0x+.json"
        raise InputError(
            f"{cache.folder} has {len(cache.moved)} of {max(len(wanted), 6)} displacements; the first that is missing is {first}; "
            "let ASE run again, it adds what is missing."
        )
    for key, forces in cache.moved.items():
        if forces.shape != cache.still.shape:
            raise InputError(
                f"{cache.folder}: {_name(*key)} has forces of {len(forces)} atoms and cache.eq.json of {n_atoms}; they are of two runs."
            )


def _name(atom: int, axis: int, step: int) -> str:
    return f"cache.{atom}{'xyz'[axis]}{('+' if step > 0 else '-') * abs(step)}.json"


def _json(file: Path) -> dict[str, Any]:
    try:
        value = loads(file.read_bytes())
    except (OSError, ValueError) as error:  # an interrupted run leaves an empty file
        raise InputError(f"{file} is empty or cut short ({error}); delete it and let ASE run again.") from error
    return value if isinstance(value, dict) else {"forces": value}


def _forces(entry: Any, file: Path) -> Array:
    """(N,3) of what ASE writes of one calculation; its class names are not looked at, and nothing of it is run."""
    try:
        forces = array_of(entry["forces"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} has no forces as ASE writes them ({error!r}).") from error
    if forces.ndim != 2 or forces.shape[1] != 3 or not np.isfinite(forces).all():
        raise InputError(f"{file} has forces of shape {forces.shape}, or such as are not finite; (N, 3) were wanted.")
    return forces


def array_of(value: Any) -> Array:
    """Numbers that ASE writes as {"__ndarray__": [shape, dtype, numbers in a row]}, or as lists. Raises KeyError, TypeError, ValueError."""
    if isinstance(value, dict):
        shape, dtype, numbers = value["__ndarray__"]
        if np.dtype(dtype).kind not in "fiub":
            raise ValueError(f"an array of {dtype}")
        return np.asarray(numbers, np.float64).reshape([int(n) for n in shape])
    return np.asarray(value, np.float64)
