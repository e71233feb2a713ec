"""Every reader, found by the files of readers/: a new source is one file there."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from .reader import Reader, SubsetRow


@cache
def readers() -> tuple[Reader, ...]:
    """All readers, in the order in which a file is shown to them."""
    package = importlib.import_module(f"{__package__}.readers")
    modules = [
        importlib.import_module(f"{package.__name__}.{info.name}") for info in pkgutil.iter_modules(package.__path__)
    ]
    return tuple(sorted((module.READER for module in modules), key=lambda reader: (reader.order, reader.name)))


def named(name: str) -> Reader | None:
    """The reader of `--subset NAME:...`."""
    return next((reader for reader in readers() if reader.locate is not None and reader.name == name), None)


def reader_of(path: Path) -> Reader:
    """The first reader that recognises the file or folder; the last one, ASE's, takes every file. Raises InputError."""
    return next(reader for reader in readers() if reader.recognises is not None and reader.recognises(path))


def subset_rows() -> list[SubsetRow]:
    """What --subset takes: files first, then every subset that has a name."""
    files = [reader for reader in readers() if reader.recognises is not None and not reader.rows]
    what = f"files: {'; '.join(reader.what for reader in files)}. FILE@START:STOP:STEP and 'FOLDER/*.xyz', too"
    rows = [row for reader in sorted(readers(), key=lambda reader: reader.name) for row in reader.rows]
    return [SubsetRow("FILE", what), *rows]


def row_of(subset: str) -> SubsetRow | None:
    """The row of a --subset that has a name: licence, citation."""
    known = {row.name: row for row in subset_rows()}
    return known.get(subset) or known.get(subset.partition(":")[0])
