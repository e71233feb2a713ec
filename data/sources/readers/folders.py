"""A folder as a source: every file below it by its own reader. One that cannot be read is counted, and the others are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...errors import InputError
from ...structure import Structure
from ..files import check_file
from ..reader import Located, Reader
from ..registry import reader_of
from ..report import Keys, SourceReport


def read(path: Path | None, located: Located, keys: Keys, report: SourceReport) -> Iterator[Structure]:
    """The structures of one file of the folder, up to where it cannot be read any further; the report counts those that have an end
    before their time, or no structure, and says why of the first."""
    assert path is not None
    try:
        check_file(path)
        reader = reader_of(path)
        if located.index != slice(None) and reader.not_sliced:
            raise InputError(f"{path}: {reader.not_sliced}.")
        n, before = 0, report.skipped.total()
        for structure in reader.read(path, replace(located, reader=reader), keys, report):
            n += 1
            yield structure
        if n == 0 and report.skipped.total() == before:
            raise InputError(f"{path} has no structure.")
    except InputError as error:
        report.skip("file without structures", str(error))


READER = Reader(
    name="folder",
    what="a folder, with every file below it",
    recognises=lambda path: path.is_dir(),
    read=read,
    order=90,
)
