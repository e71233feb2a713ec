"""Formats of Hessians that are recognised by name or first lines and not read: one sentence each, with what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

from ...errors import InputError
from .contract import HessianReader

PICKLES = (".lmdb", ".pt", ".pth", ".pkl", ".pickle", ".pckl")
BY_NAME = (
    (re.compile(r"^OUTCAR"), "an output of VASP (its vasprun.xml is read)"),
    (re.compile(r"\.(out|log)$"), "the text output of a program"),
)


def read(path: Path) -> NoReturn:
    """Raises InputError."""
    what = _what(path)
    if path.suffix.lower() == ".pckl":
        raise InputError(
            f"{path} is a pickle of an old ASE, which runs code when it is opened; whoever trusts it writes the JSON that is read here: "
            "python -m ase.vibrations.pickle2json."
        )
    if path.suffix.lower() in PICKLES:
        raise InputError(
            f"{path} holds pickled objects, which run code when they are opened; whoever trusts it writes it as extended XYZ or "
            "HDF5 first (docs/label-sets.md has the lines for HORM)."
        )
    raise InputError(
        f"{path} is {what}; import takes extended XYZ, HDF5, npz, .fchk or vasprun.xml with positions, energy, forces and Hessian of each "
        "structure, ORCA's .hess, outputs of NWChem, Q-Chem and CP2K, xTB's and Turbomole's hessian, phonopy's files, and folders of ASE's "
        "Vibrations and Phonons (docs/label-sets.md has the layouts)."
    )


def _what(path: Path) -> str | None:
    return next((what for pattern, what in BY_NAME if pattern.search(path.name)), None)


READER = HessianReader(
    "not read", lambda path: path.suffix.lower() in PICKLES or _what(path) is not None, read, order=5
)
