"""What a --subset means: files (with slices), a named subset of a source, or the built-in one; all names are checked here."""

from __future__ import annotations

import difflib
import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import InputError, nearest
from . import perovskites, spice

SPICE_SUFFIXES = (".hdf5", ".h5")
SPICE_SITE = "doi.org/10.5281/zenodo.10975225 (release) or github.com/openmm/spice-dataset (input files)"
_SLICE = re.compile(r"-?\d+|(-?\d+)?:(-?\d+)?(:(\d+)?)?")


@dataclass(frozen=True)
class Located:
    """One --subset, found: which reader, its files in order, the slice of each file, the subset's own name or options."""

    reader: Literal["ase", "spice", "perovskites", "label set"]
    paths: tuple[Path, ...] = ()
    index: slice = field(default_factory=lambda: slice(None))
    name: str = ""
    options: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SubsetRow:
    """A line of `hdistill subsets`."""

    name: str
    what: str
    needs_data: bool
    n_structures: int | None
    license: str
    citation: str


def catalogue() -> list[SubsetRow]:
    """Every subset that has a name, and how files are given."""
    files = "any file that ASE reads, also FILE@START:STOP:STEP or 'FOLDER/*.xyz'"
    built_in = "strained, rattled cubic ABX3; options :5 :40 (atoms) and :by-chemistry (groups), joined with commas"
    paper = "P. Eastman et al., Sci. Data 10, 11 (2023); J. Chem. Theory Comput. 20, 8583 (2024)"
    return [
        SubsetRow("FILE", files, True, None, "unknown", ""),
        SubsetRow("LABELS", "the structures of a label set, by its directory", True, None, "unknown", ""),
        SubsetRow("perovskites", built_in, False, perovskites.N_STRUCTURES, "MIT", ""),
        *(
            SubsetRow(f"spice:{name}", s.what, True, s.n_structures, "CC0-1.0", paper)
            for name, s in spice.SUBSETS.items()
        ),
    ]


def locate(subset: str, data: Path | None = None) -> Located:
    """What one --subset means. Files must exist and not be empty; nothing is read yet. Raises InputError."""
    source, _, name = subset.partition(":")
    if source == "perovskites":
        return Located("perovskites", name="perovskites", options=perovskites.parse_options(name))
    if source == "spice":
        if name not in spice.SUBSETS:
            raise InputError(
                f"SPICE has no subset '{name}'; there are {', '.join(spice.SUBSETS)}.{nearest(name, spice.SUBSETS)}"
            )
        return Located("spice", _spice_files(name, data), name=name)
    return _located_files(subset)


def _located_files(text: str) -> Located:
    if (manifest := Path(text).expanduser() / "manifest.json").is_file():
        return Located("label set", (manifest,))
    path_text, index = _split_slice(text)
    paths = _expand(path_text)
    if not paths:
        raise InputError(_nothing_called(path_text))
    for path in paths:
        _check_file(path)
    suffixes = {path.suffix.lower() in SPICE_SUFFIXES for path in paths}
    if suffixes == {True, False}:
        raise InputError(f"'{path_text}' mixes HDF5 files with others; give them as two subsets.")
    if True in suffixes and index != slice(None):
        raise InputError(
            f"'{text}': a SPICE file has no order to slice by; use --where 'conformation < 10' or --limit."
        )
    if True in suffixes:
        return Located("spice", paths, name="all")
    return Located("ase", paths, index)


def _split_slice(text: str) -> tuple[str, slice]:
    """Path and slice of 'file.xyz@0:100:2'; a file that has '@' in its own name is taken whole."""
    if "@" not in Path(text).name or Path(text).exists():
        return text, slice(None)
    path, _, index = text.rpartition("@")
    if not _SLICE.fullmatch(index):
        raise InputError(
            f"'{index}' in '{text}' is no slice; write @5, @-1, @:100 or @0:100:2 (select by value with --where)."
        )
    parts = [int(part) if part else None for part in index.split(":")]
    if len(parts) == 1:
        number = int(index)
        return path, slice(number, number + 1 or None)
    if len(parts) == 3 and parts[2] == 0:
        raise InputError(f"The step in '{text}' is 0; it must be 1 or more.")
    return path, slice(*parts)


def _expand(text: str) -> tuple[Path, ...]:
    path = Path(text).expanduser()
    if path.exists():
        return (path,)
    return tuple(Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file())


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; name its files, for example '{path}/*.xyz' (in quotes).")
    try:
        with open(path, "rb") as stream:
            if not stream.read(1):
                raise InputError(f"{path} is empty; a file with structures is wanted.")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _nothing_called(text: str) -> str:
    """The sentence for a name that is neither a file nor a subset, with the nearest of both."""
    path = Path(text)
    names = [row.name for row in catalogue()[2:]]
    if path.parent.is_dir():
        names += [str(path.parent / other.name) for other in path.parent.iterdir()]
    near = difflib.get_close_matches(text, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"There is no file and no subset '{text}'.{hint} `hdistill subsets` lists the subsets that have names."


def _spice_files(name: str, data: Path | None) -> tuple[Path, ...]:
    """The files of a SPICE subset: the one that was named, or those in the folder that was."""
    if data is None:
        raise InputError(
            f"spice:{name} needs --data with the path of a SPICE HDF5 file or of its folder, from {SPICE_SITE}."
        )
    data = data.expanduser()
    if not data.exists():
        raise InputError(f"--data {data} does not exist; give the path of a SPICE HDF5 file or of its folder.")
    if not data.is_dir():
        _check_file(data)
        _check_input_file(data, name)
        return (data,)
    paths = tuple(_in_folder(data, name))
    if not paths:
        raise InputError(f"The folder {data} has no file of spice:{name} (wanted: {_wanted(name)}), from {SPICE_SITE}.")
    for path in paths:
        _check_file(path)
    return paths


def _in_folder(folder: Path, name: str) -> Iterator[Path]:
    """A release if there is one (it holds every subset, and labels), else the input files that may hold the subset."""
    releases = sorted(path for path in folder.iterdir() if re.fullmatch(r"SPICE.*\.(hdf5|h5)", path.name))
    if len(releases) > 1:
        raise InputError(
            f"The folder {folder} has {len(releases)} releases of SPICE ({', '.join(path.name for path in releases)}); "
            "name one of them with --data."
        )
    if releases:
        yield releases[0]
        return
    stem = spice.SUBSETS[name].file
    every = spice.SUBSETS[name].field is None  # all, iodine: any of the files
    known = [subset.file for subset in spice.SUBSETS.values() if subset.file]
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SPICE_SUFFIXES and (path.stem == stem or (every and path.stem in known)):
            yield path


def _check_input_file(path: Path, name: str) -> None:
    """An input file says by its name what it holds; another subset cannot be in it."""
    holds = next((known for known, subset in spice.SUBSETS.items() if subset.file == path.stem), None)
    if holds not in (None, name) and spice.SUBSETS[name].field is not None:
        raise InputError(
            f"{path} holds spice:{holds}, not spice:{name}; say --subset spice:{holds} or give another file."
        )


def _wanted(name: str) -> str:
    stem = spice.SUBSETS[name].file
    return f"{stem}.hdf5 or SPICE-*.hdf5" if stem else "SPICE-*.hdf5"
