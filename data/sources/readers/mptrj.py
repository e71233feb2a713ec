"""MPtrj (Deng et al., Nat. Mach. Intell. 5, 1031 (2023); 1.58 million frames of Materials Project relaxations, 12 GB of JSON on one
line): {mp_id: {frame_id: {structure, uncorrected_total_energy, corrected_total_energy, force, stress, bandgap, ...}}}, one material
in memory at a time, by ijson.

Energies are the uncorrected ones of DFT; `--energy-key corrected_total_energy` takes those with the Materials Project's corrections.
Stress is in kbar with VASP's sign: minus a tenth of it is GPa.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...errors import InputError, nearest
from ...structure import Structure
from ..files import Item, check_file, frames_reader, head
from ..names import NAMES
from ..pymatgen_json import geometry_of, streamed
from ..reader import Located, Reader, SubsetRow
from ..record import Record
from ..report import Keys, SourceReport
from ..units import as_vasp

SITE = "https://figshare.com/articles/dataset/23713842"
PAPER = "Deng et al., Nat. Mach. Intell. 5, 1031 (2023)"
CUBIC_PEROVSKITE = 221  # Pm-3m
UNITS = as_vasp("MPtrj")
PLAIN = "energies are uncorrected_total_energy, DFT's own; --energy-key corrected_total_energy has the Materials Project's corrections"


def is_perovskite(s: Structure) -> bool:
    """Cubic ABX3 in one cell: Pm-3m, five atoms of three elements."""
    counts = sorted(Counter(s.numbers.tolist()).values())
    return counts == [1, 1, 3] and NAMES["spacegroup"](s) == CUBIC_PEROVSKITE


def has_wide_gap(s: Structure) -> bool:
    return float(s.info.get("band_gap", 0.0)) >= 5.0


SUBSETS: dict[str, tuple[str, Callable[[Structure], bool]]] = {
    "all": ("everything", lambda s: True),
    "perovskites": ("cubic ABX3, Pm-3m", is_perovskite),
    "yttrium": ("everything that contains yttrium", lambda s: bool((s.numbers == 39).any())),
    "band-gap>=5": ("band gap of 5 eV or more", has_wide_gap),
}


def records(path: Path, keys: Keys) -> Iterator[Item]:
    """All frames, material by material. Raises InputError for what is not MPtrj, or is cut short."""

    def frames_of(ijson: Any, stream: BinaryIO) -> Iterator[tuple[str, str, Any]]:
        for mp_id, frames in ijson.kvitems(stream, "", use_float=True):
            if not isinstance(frames, dict):
                raise InputError(f"{path}: {mp_id} holds no frames; MPtrj is {{mp_id: {{frame_id: {{...}}}}}}.")
            for name, frame in frames.items():
                yield mp_id, name, frame

    for mp_id, name, frame in streamed(path, frames_of, "frames"):
        yield partial(_record, mp_id, name, frame)


def _record(mp_id: str, name: str, frame: Mapping[str, Any]) -> Record:
    """Raises LookupError, TypeError, ValueError for a frame of another layout, which is counted."""
    numbers, positions, cell, pbc = geometry_of(frame["structure"])
    info: dict[str, Any] = {"group": mp_id, "mp_id": mp_id, "frame": name}
    info |= {"corrected_total_energy": frame.get("corrected_total_energy"), "band_gap": frame.get("bandgap")}
    results = {
        "energy": frame.get("uncorrected_total_energy"),
        "forces": frame.get("force"),
        "stress": frame.get("stress"),
    }
    if results["stress"] is not None:
        results["stress"] = -np.array(results["stress"], float)
    if results["forces"] is not None:
        results["forces"] = np.array(results["forces"], float)
    return Record(
        numbers=numbers,
        positions=positions,
        cell=cell,
        pbc=pbc,
        info={key: value for key, value in info.items() if value is not None},
        results={key: value for key, value in results.items() if value is not None},
        units=UNITS,
        remarks=(PLAIN,),
    )


def locate(name: str, data: Path | None) -> Located:
    """The file of mptrj:NAME: the one that was named, or that in the folder that was. Raises InputError."""
    if name not in SUBSETS:
        raise InputError(
            f"MPtrj has no subset '{name}'; there are {', '.join(SUBSETS)}; with mptrj:all, --where selects.{nearest(name, SUBSETS)}"
        )
    if data is None or not data.expanduser().exists():
        what = "needs --data with" if data is None else f"found no {data}; give"
        raise InputError(f"mptrj:{name} {what} the path of MPtrj_2022.9_full.json, or of its folder, from {SITE}.")
    path = data.expanduser()
    if path.is_dir():
        found = sorted(path.glob("MPtrj*.json*"))
        if not found:
            raise InputError(f"The folder {path} has no MPtrj*.json, from {SITE}.")
        path = found[0]
    check_file(path)
    return Located(READER, (path,), name=name)


_frames = frames_reader(records)


def read(path: Path | None, located: Located, keys: Keys, report: SourceReport) -> Iterator[Structure]:
    """The frames of a file, or of the subset of it that has a name."""
    assert path is not None
    wanted = SUBSETS[located.name or "all"][1]
    yield from (structure for structure in _frames(path, located, keys, report) if wanted(structure))


def _recognises(path: Path) -> bool:
    if not path.is_file() or ".json" not in path.name.lower():
        return False
    start = head(path, 4096).lstrip()
    return start.startswith('{"mp-') and '"structure"' in start


READER = Reader(
    name="mptrj",
    what="MPtrj's JSON",
    read=read,
    recognises=_recognises,
    locate=locate,
    rows=tuple(
        SubsetRow(f"mptrj:{name}", what, True, 1_580_395 if name == "all" else None, "MIT", PAPER)
        for name, (what, _) in SUBSETS.items()
    ),
    order=20,
)
