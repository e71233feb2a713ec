"""Every other file that ASE reads, by ASE's own reader."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..charge_spin import role_of
from ..files import ase_format, frames_reader
from ..reader import Reader
from ..record import Record, record_of
from ..report import Keys

# Outputs of programs whose charge and spin ASE's readers drop and nobody reads here.
DROPS_CHARGE = {
    *("aims-output", "castep-castep", "gpaw-out", "acemolecule-out", "onetep-out", "demon-nano", "dmol-arc", "qbox"),
    *("turbomole", "turbomole-gradient", "gamess-us-punch", "octopus-in", "crystal", "gromacs", "dftb"),
}


def records(path: Path, keys: Keys) -> Iterator[Record]:
    """The structures of a file. Raises InputError for a format that ASE cannot read."""
    from ase.io.formats import ioformats

    name = ase_format(path)
    if name not in ioformats or not ioformats[name].can_read:
        raise InputError(
            f"{path} has no format that ASE reads (it looks like '{name}'); "
            "convert it to extended XYZ, for example with `ase convert`."
        )
    yield from records_by_ase(path, name, {}, DROPS_CHARGE_REMARK if name in DROPS_CHARGE else ())


DROPS_CHARGE_REMARK = (
    "a charge or spin that this format may state is not read: write extended XYZ with charge= and spin=",
)


def records_by_ase(path: Path, name: str, info: Mapping[str, Any], remarks: tuple[str, ...] = ()) -> Iterator[Record]:
    """The structures of a file by ASE's reader of that format, with more info on top of each."""
    from ase.io import iread

    frames = iread(str(path), index=":", format=name, do_not_split_by_at_sign=True)
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # readers warn of what they drop, once a frame
            atoms = next(frames, None)
        if atoms is None:
            return
        parameters = getattr(atoms.calc, "parameters", None) or {}  # an input file's charge and multiplicity are there
        stated = {key: parameters[key] for key in parameters if isinstance(key, str) and role_of(key)}
        record = record_of(atoms, info={**{key: v for key, v in stated.items() if key not in atoms.info}, **info})
        yield Record(**{**vars(record), "remarks": remarks})


READER = Reader(
    name="ase",
    what="every other format of ASE (POSCAR, CIF, trajectories, OUTCAR, ...)",
    recognises=lambda path: path.is_file(),
    read=frames_reader(records),
    order=100,
)
