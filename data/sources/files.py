"""What the readers of files share: ASE's word for a format, slices, and a stream of records turned into structures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

from ..errors import HDistillError, InputError
from ..structure import Structure
from .make import structure_of
from .reader import Located
from .record import Record, Unusable
from .report import Keys, SourceReport

MANIFEST = "manifest.json"  # of a label set, which is given by its folder
_LAMMPS_BOX = re.compile(r"^[^#\n]*\bxlo\s+xhi\b", re.MULTILINE)
Item = Record | Callable[[], Record]  # a function makes it, or raises Unusable, when it is in the slice
_T = TypeVar("_T")


def frames_reader(
    records: Callable[[Path, Keys], Iterator[Item]],
) -> Callable[[Path | None, Located, Keys, SourceReport], Iterator[Structure]]:
    """A reader's `read` from a stream of records: slices, what cannot be made is counted, errors name file and structure."""

    def read(path: Path | None, located: Located, keys: Keys, report: SourceReport) -> Iterator[Structure]:
        assert path is not None
        try:
            for number, item in _sliced(lambda: _with_place(path, records(path, keys)), located.index):
                structure = _made(item, keys, report, f"{path.name}@{number}")
                if structure is not None:
                    yield structure
        except Unusable as unusable:  # of the whole file
            report.skip(unusable.reason, f"{path.name}: {unusable}")

    return read


def _made(item: Item, keys: Keys, report: SourceReport, place: str) -> Structure | None:
    """The structure of a record; None where there can be none, which the report counts."""
    try:
        return structure_of(item() if callable(item) else item, keys, report, place)
    except Unusable as unusable:
        report.skip(unusable.reason, f"{place}: {unusable}")
    except (ValueError, TypeError, LookupError, OverflowError) as error:  # what no reader foresaw, in this one
        report.skip("cannot be parsed", f"{place}: {type(error).__name__}: {one_line(error)}")
    return None


def files_below(folder: Path) -> tuple[Path, ...]:
    """Every file in a folder and in those below it, by name; without hidden ones and label sets. Links to folders are not followed."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            found.append(path)
        elif path.is_dir() and not path.is_symlink() and not (path / MANIFEST).exists():
            found += files_below(path)
    return tuple(found)


def check_file(path: Path) -> None:
    """Raises InputError for a file that is empty or cannot be opened."""
    try:
        with open(path, "rb") as stream:
            if not stream.read(1):
                raise InputError(f"{path} is empty; a file with structures is wanted.")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def ase_format(path: Path) -> str:
    """ASE's name of the file's format; 'unknown' where it has none. Raises InputError for a file that cannot be read."""
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    return _format(str(path), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _format(path: str, modified: int, size: int) -> str:
    from ase.io.formats import UnknownFileTypeError, filetype

    try:
        name: str = filetype(path, read=True)
    except UnknownFileTypeError:
        name = "unknown"
    except Exception as error:  # besides OSError: what gzip, bz2 and xz raise for a damaged file
        raise InputError(f"{path} cannot be read ({one_line(error)}).") from error
    if name in ("runnerdata", "unknown") and _LAMMPS_BOX.search(head(Path(path), 4096)):
        return "lammps-data"  # ASE takes every *.data for RuNNer's
    return name


def head(path: Path, n_bytes: int = 65536) -> str:
    """The beginning of a file as text, uncompressed. Raises InputError."""
    from ase.io.formats import open_with_compression

    try:
        with open_with_compression(str(path), "rb") as stream:
            block: bytes = stream.read(n_bytes)
    except Exception as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}).") from error
    return block.decode("latin-1")


def one_line(error: BaseException) -> str:
    """An exception's text, short."""
    return " ".join(str(error).split())[:200].rstrip(".")


def _sliced(items: Callable[[], Iterator[_T]], index: slice) -> Iterator[tuple[int, _T]]:
    """Number and item of those in the slice. Bounds that count from the end cost one more pass over the items."""
    start, stop, step = index.start, index.stop, index.step
    if (start or 0) < 0 or (stop or 0) < 0:
        start, stop, step = index.indices(sum(1 for _ in items()))
    return islice(enumerate(items()), start, stop, step)


def _with_place(path: Path, items: Iterator[_T]) -> Iterator[_T]:
    """The same items; what a reader raises becomes an InputError that names the file and the structure."""
    number = 0
    try:
        for item in items:
            yield item
            number += 1
    except (HDistillError, Unusable):
        raise
    except Exception as error:
        if isinstance(error, ImportError):
            raise InputError(f"{path}: reading this format needs a package: {one_line(error)}.") from error
        raise InputError(
            f"{path}: structure {number} cannot be read ({type(error).__name__}: {one_line(error)}); "
            + (
                f"'{path}@:{number}' takes those before it."
                if number
                else "is the file complete, and what its name says?"
            )
        ) from error
