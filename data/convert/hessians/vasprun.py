"""vasprun.xml of a VASP run with the Hessian (IBRION = 5 to 8): geometry, free energy, forces and force constants.

VASP writes h_ij = -H_ij / sqrt(m_i m_j) (`<dynmat><varray name="hessian">`), in eV/(A^2 u), or in THz^2 where a later version states
that: w^2 / (2 pi)^2 of 1 eV/(A^2 u) is (15.6333 THz)^2. The energy is the free one, e_fr_energy, of which the forces are the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import ase.units
import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...sources.record import Record
from ...sources.units import parse
from ...sources.vasp_xml import atoms_of, geometry_of, numbers_of, rows_of
from .contract import HessianReader, HessianRecord, Refused

THZ_PER_ROOT = float(np.sqrt(ase.units._e / ase.units._amu)) * 1e-2 / (2 * np.pi)  # THz of sqrt(eV / (A^2 u)) / 2 pi
UNITS = {"": 1.0, "eV/Angst^2/amu": 1.0, "eV/A^2/amu": 1.0, "THz^2": 1 / THZ_PER_ROOT**2}
ENDS_IN = ".xml"
Array = NDArray[np.float64]


def read(path: Path) -> Iterator[HessianRecord | Refused]:
    """The structure of the last ionic step that has forces. Raises InputError for a file that is cut short, that is not a vasprun.xml, and
    for one without a Hessian."""
    symbols: list[str] = []
    masses: list[float] = []
    geometry: tuple[Array, Array] | None = None
    energy, forces, hessian, unit = None, None, None, ""
    try:
        for _, node in ElementTree.iterparse(path, events=("end",)):
            if node.tag == "atominfo":
                symbols, masses = atoms_of(node)
            elif node.tag == "calculation":
                geometry = geometry_of(node.find("structure")) or geometry
                forces = rows_of(node.find("varray[@name='forces']"), forces)
                free = node.find("energy/i[@name='e_fr_energy']")
                energy = float(free.text or "nan") if free is not None else energy
                node.clear()
            elif node.tag == "structure" and node.get("name") == "initialpos":
                geometry = geometry_of(node)
            elif node.tag == "dynmat":
                hessian = rows_of(node.find("varray[@name='hessian']"), None)
                stated = node.find("i[@name='unit']")
                unit = (stated.text or "").strip() if stated is not None else ""
    except ElementTree.ParseError as error:
        raise InputError(
            f"{path} is cut short or no XML ({error}); a run that has ended leaves a whole one."
        ) from error
    except ValueError as error:
        raise InputError(f"{path} has what is not a number ({error}).") from error
    if not symbols or geometry is None:
        raise InputError(f"{path} is not a vasprun.xml: it has no atoms.")
    if hessian is None:
        raise InputError(f"{path} has no Hessian; VASP writes it with IBRION = 5 to 8 (finite differences or DFPT).")
    if unit not in UNITS:
        raise InputError(f"{path} states its Hessian in '{unit}'; known are {', '.join(filter(None, UNITS))}.")
    n = len(symbols)
    if hessian.shape != (3 * n, 3 * n) or len(geometry[1]) != n:
        raise InputError(
            f"{path} has a Hessian of {hessian.shape} numbers for {n} atoms; all atoms must be free to move."
        )
    cell, scaled = geometry
    roots = np.repeat(np.sqrt(masses), 3)
    record = Record(
        numbers=numbers_of(path, symbols),
        positions=scaled @ cell,
        cell=cell,
        pbc=np.ones(3, bool),
        info={},
        results={"energy": energy, "forces": forces},
        units={
            name: parse(text, name, "vasprun.xml")
            for name, text in (("length", "A"), ("energy", "eV"), ("forces", "eV/A"), ("hessian", "eV/A^2"))
        },
    )
    yield HessianRecord(f"{path.name}@0", record, -hessian * UNITS[unit] * np.outer(roots, roots))


READER = HessianReader(
    "vasprun.xml",
    lambda path: path.name.lower().endswith(ENDS_IN) and "vasprun" in path.name.lower(),
    read,
    length_is_known=True,
    order=4,
)
