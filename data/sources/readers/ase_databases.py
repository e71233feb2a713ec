"""ASE databases (SQLite, JSON, LMDB): key-value pairs and data of a row, units in the metadata as SchNetPack keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ..files import ase_format, frames_reader
from ..reader import Reader
from ..record import Record, Unusable, record_of
from ..report import Keys
from ..units import UnitError, Units, stated_in

FORMATS = ("db", "json", "aselmdb")
PAGE = 500  # rows of an SQLite database that are in memory at a time


def records(path: Path, keys: Keys) -> Iterator[Callable[[], Record]]:
    """The rows of a database. Raises InputError."""
    import ase.db

    try:
        database = ase.db.connect(str(path), use_lock_file=False)
    except ModuleNotFoundError as error:
        raise InputError(f"{path} needs the package ase-db-backends: type `pip install ase-db-backends`.") from error
    with database:
        try:
            units = stated_in(database.metadata, "metadata of the database")
        except UnitError as error:
            raise InputError(f"{path}: {error}.") from error
        for row in _pages(database) if path.suffix == ".db" else database.select():
            yield partial(_record, row, units)


def _record(row: Any, units: Units) -> Record:
    data = row.data or {}
    if not isinstance(data, Mapping):
        raise Unusable("cannot be parsed", f"its data are {type(data).__name__}, not names with values")
    atoms = row.toatoms()
    per_atom = {key: value for key, value in data.items() if np.ndim(value) == 2 and len(value) == len(atoms)}
    return record_of(atoms, units, info={**data, **row.key_value_pairs}, arrays=per_atom)


def _pages(database: Any) -> Iterator[Any]:
    """Rows by ascending id; a plain select would hold all of them at once."""
    last = 0
    while page := list(database.select(f"id>{last}", limit=PAGE, sort="id")):
        yield from page
        last = page[-1].id


READER = Reader(
    name="database",
    what="ASE databases (.db, .json, .aselmdb), SchNetPack's among them",
    recognises=lambda path: path.suffix == ".aselmdb" or ase_format(path) in FORMATS,
    read=frames_reader(records),
)
