"""What a --subset means: files (with slices), a label set, or a subset that has a name; all names are checked here."""

from __future__ import annotations

import difflib
import glob
import re
from pathlib import Path

from ..errors import InputError
from .files import MANIFEST, check_file, files_below
from .reader import Located
from .registry import named, reader_of, readers, subset_rows

_SLICE = re.compile(r"-?\d+|(-?\d+)?:(-?\d+)?(:(\d+)?)?")


def locate(subset: str, data: Path | None = None) -> Located:
    """What one --subset means. Files must exist and not be empty; nothing is read yet. Raises InputError."""
    name, _, rest = subset.partition(":")
    reader = named(name)
    if reader is not None and reader.locate is not None:
        return reader.locate(rest, data)
    return _located_files(subset)


def _located_files(text: str) -> Located:
    if (manifest := Path(text).expanduser() / MANIFEST).is_file():
        return Located(paths=(manifest,))
    path_text, index = _split_slice(text)
    if (folder := Path(path_text).expanduser()).is_dir():
        return _located_folder(folder, index)
    paths = _expand(path_text)
    if not paths:
        raise InputError(_nothing_called(path_text))
    for path in paths:
        check_file(path)
    if index != slice(None) and (why := reader_of(paths[0]).not_sliced):
        raise InputError(f"'{text}': {why}.")
    return Located(paths=paths, index=index)


def _located_folder(folder: Path, index: slice) -> Located:
    try:
        paths = files_below(folder)
    except OSError as error:
        raise InputError(f"{error.filename or folder} cannot be read: {error.strerror}.") from error
    if not paths:
        raise InputError(f"There are no files in {folder}; a folder with files of structures is wanted.")
    return Located(reader_of(folder), paths, index)


def _split_slice(text: str) -> tuple[str, slice]:
    """Path and slice of 'file.xyz@0:100:2'; a file that has '@' in its own name is taken whole."""
    if "@" not in Path(text).name or Path(text).exists():
        return text, slice(None)
    path, _, index = text.rpartition("@")
    if not _SLICE.fullmatch(index):
        raise InputError(
            f"'{index}' in '{text}' is not a slice; write @5, @-1, @:100 or @0:100:2 (select by value with --where)."
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


def _nothing_called(text: str) -> str:
    """The sentence for a name that is neither a file nor a subset, with the nearest of both."""
    path = Path(text)
    names = [row.name for row in subset_rows() if row.name != row.name.upper()]
    names += [reader.name for reader in readers() if reader.locate is not None]
    if path.parent.is_dir():
        names += [str(path.parent / other.name) for other in path.parent.iterdir()]
    near = difflib.get_close_matches(text, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"There is no file and no subset '{text}'.{hint} `hdistill subsets` lists the subsets that have names."
