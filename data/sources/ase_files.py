"""Structures from every file format that ASE reads, one at a time.

Extended XYZ is cut into frames here, so that one bad frame does not end the file; ASE parses each frame.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import HDistillError, InputError
from ..structure import Structure
from .from_atoms import Unusable, structure_of
from .report import Keys, SourceReport

if TYPE_CHECKING:
    from ase import Atoms

DATABASES = ("db", "json")
PAGE = 500  # rows of an ASE database that are in memory at a time
_T = TypeVar("_T")


def read(path: Path, index: slice, keys: Keys, report: SourceReport) -> Iterator[Structure]:
    """The structures of one file, in order; those that cannot be made are counted in the report.

    Raises InputError that names the file and the frame where the file itself cannot be read any further.
    """
    format = detect(path)
    items = {"extxyz": xyz_frames, "db": database_rows, "json": database_rows}.get(format)
    if items is None:

        def items(path: Path) -> Iterator[Atoms]:
            return other_frames(path, format)

    for number, item in take(lambda: _named(path, format, items(path)), index):
        place = f"{path.name}@{number}"
        try:
            atoms = parse_xyz(item) if isinstance(item, str) else item
            structure = structure_of(atoms, keys, report, place)
        except Unusable as unusable:
            report.skip(unusable.reason, f"{place}: {unusable}")
            continue
        report.n_read += 1
        yield structure


def detect(path: Path) -> str:
    """ASE's name of the file's format. Raises InputError."""
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    try:
        name = filetype(str(path), read=True)
    except UnknownFileTypeError:
        name = "unknown"
    except Exception as error:  # besides OSError: what gzip, bz2 and xz raise for a damaged file
        raise InputError(f"{path} cannot be read ({_one_line(error)}).") from error
    name = "extxyz" if name == "xyz" else name
    if name not in ioformats or not ioformats[name].can_read:
        raise InputError(
            f"{path} has no format that ASE reads (it looks like '{name}'); "
            "convert it to extended XYZ, for example with `ase convert`."
        )
    return name


def take(items: Callable[[], Iterator[_T]], index: slice) -> Iterator[tuple[int, _T]]:
    """Number and item of those in the slice. Bounds that count from the end cost one more pass over the items."""
    start, stop, step = index.start, index.stop, index.step
    if (start or 0) < 0 or (stop or 0) < 0:
        start, stop, step = index.indices(sum(1 for _ in items()))
    return islice(enumerate(items()), start, stop, step)


def xyz_frames(path: Path) -> Iterator[str]:
    """The text of each frame of an (extended) XYZ file. Raises InputError where a frame does not begin with its length."""
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "r") as stream:
        line_number = n_frames = 0
        pending = ""
        while line := pending or stream.readline():
            line_number += not pending
            pending = ""
            if not line.strip():
                continue
            if not line.strip().isdigit():
                raise InputError(
                    f"{path}, line {line_number}: frame {n_frames} should begin with its number of atoms, "
                    f"not with '{line.strip()[:40]}'; is the count of the frame before it right? "
                    f"'{path}@:{max(n_frames - 1, 0)}' takes the frames before that one."
                )
            body = list(islice(stream, int(line) + 1))
            line_number += len(body)
            while (
                (pending := stream.readline()).lstrip().startswith("VEC")
            ):  # old way to write the cell, after the atoms
                body.append(pending)
                line_number += 1
            line_number += bool(pending)
            yield line + "".join(body)
            n_frames += 1


def parse_xyz(text: str) -> Atoms:
    """One frame as Atoms. Raises Unusable."""
    from ase.io.extxyz import read_xyz

    n_lines = int(text.split("\n", 1)[0]) + 2
    if text.rstrip("\n").count("\n") + 1 < n_lines and n_lines > 2:
        raise Unusable("cut short", f"it has fewer than the {n_lines - 2} atoms that its first line says")
    try:
        return next(iter(read_xyz(io.StringIO(text), index=0)))
    except KeyError as error:
        raise Unusable("unknown element", f"there is no element or column {error}") from error
    except Exception as error:  # ASE's parser raises nearly everything
        raise Unusable("cannot be parsed", f"{type(error).__name__}: {_one_line(error)}") from error


def database_rows(path: Path) -> Iterator[Atoms]:
    """The rows of an ASE database (SQLite, JSON, LMDB), their key-value pairs and data in info."""
    import ase.db

    try:
        database = ase.db.connect(str(path), use_lock_file=False)
    except ModuleNotFoundError as error:
        raise InputError(f"{path} needs the package ase-db-backends: type `pip install ase-db-backends`.") from error
    with database:
        for row in _pages(database) if path.suffix == ".db" else database.select():
            atoms = row.toatoms()
            atoms.info.update({**(row.data or {}), **row.key_value_pairs})
            yield atoms


def _pages(database: Any) -> Iterator[Any]:
    """Rows of an SQLite database by ascending id; a plain select would hold all of them at once."""
    last = 0
    while page := list(database.select(f"id>{last}", limit=PAGE, sort="id")):
        yield from page
        last = page[-1].id


def other_frames(path: Path, format: str) -> Iterator[Atoms]:
    """The frames of any other format by ASE's own reader."""
    from ase.io import iread

    frames = iread(str(path), index=":", format=format, do_not_split_by_at_sign=True)
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # readers warn of what they drop, once a frame
            atoms = next(frames, None)
        if atoms is None:
            return
        yield atoms


def _named(path: Path, format: str, items: Iterator[_T]) -> Iterator[_T]:
    """The same items; what ASE raises becomes an InputError that names the file and the frame."""
    number = 0
    try:
        for item in items:
            yield item
            number += 1
    except HDistillError:
        raise
    except Exception as error:
        if isinstance(error, ImportError):
            raise InputError(f"{path}: reading the format '{format}' needs a package: {_one_line(error)}.") from error
        raise InputError(
            f"{path}: structure {number} cannot be read as '{format}' ({type(error).__name__}: {_one_line(error)}); "
            + (f"'{path}@:{number}' takes those before it." if number else "is the file complete and of that format?")
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
