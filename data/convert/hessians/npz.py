"""Numpy archives: the arrays of one structure, or of a stack (arrays.py). Pickled objects are never opened."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import InputError
from .arrays import MAX_BYTES, stack
from .contract import HessianReader, HessianRecord, Refused


def read(path: Path) -> Iterator[HessianRecord | Refused]:
    """The structures of an archive. Raises InputError."""
    try:
        with zipfile.ZipFile(path) as archive:
            too_large = [entry.filename for entry in archive.infolist() if entry.file_size > MAX_BYTES]
            if too_large:
                raise InputError(
                    f"{path}: {too_large[0]} is larger than {MAX_BYTES >> 30} GiB; write the data as HDF5."
                )
            fields = {
                entry.filename.removesuffix(".npy"): np.load(io.BytesIO(archive.read(entry)), allow_pickle=False)
                for entry in archive.infolist()
            }
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as npz without running code ({error}).") from error
    yield from stack(path, path.stem, fields)


READER = HessianReader("npz", lambda path: path.suffix == ".npz", read, order=20)
