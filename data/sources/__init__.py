"""Structures in: files of every kind, label sets, subsets that have names; one lazy stream of Structure.

locate.py        what a --subset means
registry.py      every reader, found by its file; `hdistill subsets`
reader.py        what a reader is
files.py         what readers of files share
record.py        one structure as a file has it
make.py          a record to a Structure: THE place for units, charge, spin, group, labels
units.py         words to factors; whose unit is whose
charge_spin.py   charge and spin under every usual name, and the check that they fit
labels.py        reference labels of a record
comment.py       the comment line of extended XYZ
hdf5.py          only what lies in the file itself
vasp_xml.py      what is in a vasprun.xml
pymatgen_json.py  a pymatgen Structure as its JSON has it; long JSON, entry by entry
smiles.py        elements and charge of a SMILES
formula.py       formulas
geometry.py      shortest distances against covalent radii
report.py        what was read, guessed and skipped
select.py        --where, duplicates, samples
names.py         what --where may call by name: volume, spacegroup, ...
readers/         one file a source
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError, nearest
from ..structure import Structure
from .locate import locate
from .reader import Located, SubsetRow
from .registry import reader_of, row_of, subset_rows
from .report import Keys, SourceReport

__all__ = [
    "Keys",
    "Located",
    "SourceReport",
    "SubsetRow",
    "files",
    "locate",
    "read",
    "row_of",
    "subset_rows",
]


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
        for structure in _read_one(one, keys, report):
            report.add(structure)
            yield structure
        if report.n_read == before:
            raise InputError(_nothing_in(subset, report))
    for quantity in ("energy", "forces", "stress", "group"):
        key = keys.of(quantity)
        if key is not None and not report.has(quantity, key):
            near = nearest(key, report.seen_keys)
            raise InputError(f"No structure has '{key}', which was named as the key of its {quantity}.{near}")


def _read_one(one: Located, keys: Keys, report: SourceReport) -> Iterator[Structure]:
    for path in one.paths or (None,):
        if path is not None:
            report.files.append(str(path))
        reader = one.reader or (None if path is None else reader_of(path))
        assert reader is not None
        yield from reader.read(path, one, keys, report)


def _nothing_in(subset: str, report: SourceReport) -> str:
    """The sentence for a subset that gave no structure, with the most frequent reason."""
    if not report.skipped:
        return f"'{subset}' has no structure; is it the right file, slice or subset?"
    reason, n = report.skipped.most_common(1)[0]
    return f"'{subset}' has no structure that can be used: {n} skipped, {reason} ({report.first_skipped[reason]})."


def _listed(subsets: str | Sequence[str]) -> Sequence[str]:
    return [subsets] if isinstance(subsets, str) else subsets
