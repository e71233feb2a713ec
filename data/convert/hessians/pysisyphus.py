"""HDF5 of pysisyphus (its io/hessian.py): `hessian` in hartree/bohr^2, `coords3d` in bohr, `masses`, `vibfreqs`; energy, no gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from ...errors import InputError
from ...sources.hdf5 import is_dataset
from ...sources.record import Record
from ...sources.units import BOHR, HARTREE, parse
from .contract import HessianReader, HessianRecord, Refused, Stated
from .minimum import OPTIONS, at_rest, require_stated_frequencies

WANTED = ("hessian", "coords3d", "masses", "vibfreqs")
MOST_ATOMS = 1000


def read(path: Path, stated: Stated) -> Iterator[HessianRecord | Refused]:
    """The one structure. Raises InputError: damaged, other shapes than its atoms want, other frequencies than it states."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as root:
            n = len(root.attrs["atoms"])
            shapes = {"hessian": (3 * n, 3 * n), "coords3d": (n, 3), "masses": (n,), "vibfreqs": (3 * n,)}
            for name in WANTED:
                if root[name].shape != shapes[name]:
                    raise InputError(
                        f"{path} has {name} of shape {root[name].shape} for {n} atoms; {shapes[name]} was wanted."
                    )
            if n > MOST_ATOMS:
                raise InputError(f"{path} is of {n} atoms; {MOST_ATOMS} are taken.")
            arrays = {name: np.asarray(root[name][:], np.float64) for name in WANTED}
            info = {"charge": int(root.attrs["charge"]), "spin": int(root.attrs["mult"])}
            energy = float(root.attrs["energy"])
            numbers = np.array([atomic_numbers[_text(name).capitalize()] for name in root.attrs["atoms"]])
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not what pysisyphus writes, or is damaged ({error!r}).") from error
    positions, in_ev = arrays["coords3d"] * BOHR, arrays["hessian"] * HARTREE / BOHR**2
    require_stated_frequencies(path, numbers, in_ev, arrays["vibfreqs"], "the file", arrays["masses"], positions)
    if stated.energy is not None:
        raise InputError(f"{path} has the energy: --energy is not needed.")
    results, said = at_rest(path, positions, in_ev, replace(stated, energy=energy * HARTREE), "a gradient")
    record = Record(
        numbers=numbers,
        positions=arrays["coords3d"],
        info=info,
        results={"energy": energy, "forces": results["forces"]},
        units={name: parse("au", name, "pysisyphus") for name in ("length", "energy", "forces", "hessian")},
        remarks=said,
    )
    yield HessianRecord(f"{path.name}@0", record, arrays["hessian"])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _recognises(path: Path) -> bool:
    import h5py

    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r", locking=False) as root:
            return "atoms" in root.attrs and all(is_dataset(root, name) for name in WANTED)
    except (OSError, RuntimeError):
        return False  # the reader of any HDF5 says what is wrong


READER = HessianReader("pysisyphus's HDF5", _recognises, read, OPTIONS, length_is_known=True, order=9)
