"""Structures in: every file that ASE reads, both SPICE layouts, label sets, a built-in subset; one lazy stream of Structure.

locate.py        what a --subset means
ase_files.py     any file that ASE reads
spice.py         SPICE, released and input layouts
perovskites.py   a built-in subset
label_sets.py    the structures of a label set
from_atoms.py    one ASE Atoms to a Structure
smiles.py        elements and charge of a SMILES
formula.py       formulas
units.py         units, converted once
report.py        what was taken, guessed and skipped
select.py        --where, duplicates, samples
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError, nearest
from ..structure import Structure
from . import ase_files, label_sets, perovskites, spice
from .locate import Located, SubsetRow, catalogue, locate
from .report import Keys, SourceReport

__all__ = ["Keys", "Located", "SourceReport", "SubsetRow", "catalogue", "files", "locate", "read"]


def files(subsets: str | Sequence[str], data: Path | None = None) -> list[Path]:
    """The files that `read` would read, in order, each once. Raises InputError."""
    located = [locate(subset, data) for subset in _listed(subsets)]
    return list(dict.fromkeys(path for one in located for path in one.paths))


def read(
    subsets: str | Sequence[str],
    data: Path | None = None,
    keys: Keys = Keys(),  # noqa: B008 (frozen)
    report: SourceReport | None = None,
) -> Iterator[Structure]:
    """The structures of one or more subsets, one after the other; nothing is held in memory but one molecule or frame.

    Names and files are checked at once, contents as they come; the report is complete when the stream has ended.
    Raises InputError: at once for what is not there, later for a file that cannot be read any further, a subset without
    any structure, and a key that no structure had.
    """
    located = [(subset, locate(subset, data)) for subset in _listed(subsets)]
    return _read(located, keys, SourceReport() if report is None else report)


def _read(located: Sequence[tuple[str, Located]], keys: Keys, report: SourceReport) -> Iterator[Structure]:
    for subset, one in located:
        before = report.n_read
        yield from _read_one(one, keys, report)
        if report.n_read == before:
            raise InputError(_nothing_in(subset, report))
    for quantity in ("energy", "forces", "stress", "group"):
        key = keys.of(quantity)
        if key is not None and not report.has(quantity, key):
            near = nearest(key, report.seen_keys)
            raise InputError(f"No structure has '{key}', which was named as the key of its {quantity}.{near}")


def _read_one(one: Located, keys: Keys, report: SourceReport) -> Iterator[Structure]:
    if one.reader == "perovskites":
        yield from perovskites.read(one.options, report)
    for path in one.paths:
        report.files.append(str(path))
        if one.reader == "label set":
            yield from label_sets.read(path.parent, report)
        elif one.reader == "ase":
            yield from ase_files.read(path, one.index, keys, report)
        else:
            yield from spice.read(path, one.name, keys, report)


def _nothing_in(subset: str, report: SourceReport) -> str:
    """The sentence for a subset that gave no structure, with the most frequent reason."""
    if not report.skipped:
        return f"'{subset}' has no structure; is it the right file, slice or subset?"
    reason, n = report.skipped.most_common(1)[0]
    return f"'{subset}' has no structure that can be used: {n} skipped, {reason} ({report.first_skipped[reason]})."


def _listed(subsets: str | Sequence[str]) -> Sequence[str]:
    return [subsets] if isinstance(subsets, str) else subsets
