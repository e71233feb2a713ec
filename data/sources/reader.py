"""What a reader of structures is. Each file in readers/ has one, READER; registry.py finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..structure import Structure
from .report import Keys, SourceReport


@dataclass(frozen=True)
class SubsetRow:
    """A line of `hdistill subsets`: what --subset takes. n_structures None: it depends."""

    name: str
    what: str
    needs_data: bool = True
    n_structures: int | None = None
    license: str = "unknown"
    citation: str = ""


@dataclass(frozen=True)
class Located:
    """One --subset: its files in order, the slice of each, the subset's own name or its options.

    reader None: that of each file is known when the file is opened.
    """

    reader: Reader | None = None
    paths: tuple[Path, ...] = ()
    index: slice = field(default_factory=lambda: slice(None))
    name: str = ""
    options: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reader:
    """One kind of source.

    read(path, located, keys, report): the structures of one file, in order, in eV and A; path is None where no file is needed.
    What cannot be made is counted with report.skip; what ends the file is an InputError.
    recognises(path): whether a file, or folder, is of this kind; the reader with the lowest `order` is asked first.
    locate(name, data): what `--subset READER:NAME --data PATH` means. Raises InputError.
    rows: its lines in `hdistill subsets`. sliced: why FILE@0:10 makes no sense, where it does not.
    """

    name: str
    what: str
    read: Callable[[Path | None, Located, Keys, SourceReport], Iterator[Structure]]
    recognises: Callable[[Path], bool] | None = None
    locate: Callable[[str, Path | None], Located] | None = None
    rows: tuple[SubsetRow, ...] = ()
    order: int = 50
    not_sliced: str = ""
