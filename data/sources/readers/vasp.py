"""vasprun.xml of VASP: every ionic step whose electronic loop converged, one at a time.

The energy is the free one (e_fr_energy, TOTEN), of which the forces are the gradient: the one extrapolated to zero smearing is not, and
some versions write 0 for it. Stress is written in kbar and counts compression as positive: minus a tenth of a GPa is ours. A loop that
ended at NELM with its last change above EDIFF did not converge (VASP wiki, "NELM", "vasprun.xml"). Charge is the sum of the valences
minus NELECT.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np

from ...errors import InputError
from ..files import Item, frames_reader, head
from ..reader import Reader
from ..record import Record, Unusable
from ..report import Keys
from ..units import as_vasp
from ..vasp_xml import atoms_of, geometry_of, kinds_of, numbers_of, rows_of

UNITS = as_vasp("VASP")
SETTINGS = ("NELM", "EDIFF", "NELECT", "IBRION")
FREE = "energies are VASP's free energies (TOTEN), of which the forces are the gradient"
NOT_CONVERGED = "electronic loop did not converge"


def records(path: Path, keys: Keys) -> Iterator[Item]:
    """The converged ionic steps of a file; the others raise Unusable when they are made."""
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "rb") as stream:
        yield from _steps(path, stream)


def _steps(path: Path, stream: BinaryIO) -> Iterator[Item]:
    settings: dict[str, float] = {}
    symbols: list[str] = []
    valence, n = 0.0, 0
    try:
        for _, node in ElementTree.iterparse(stream, events=("end",)):
            if (
                node.tag == "i" and node.get("name") in SETTINGS
            ):  # the first; linear response has others of the same names
                settings.setdefault(str(node.get("name")), float(node.text or "nan"))
            elif node.tag == "atominfo":
                symbols, _masses = atoms_of(node)
                valence = sum(float(kind[0]) * float(kind[3]) for kind in kinds_of(node))
            elif node.tag == "calculation":
                yield _step(path, node, symbols, settings, valence, n)
                node.clear()
                n += 1
    except (ElementTree.ParseError, EOFError) as error:  # EOFError: of a compressed file
        raise Unusable(
            "cut short", f"it ends in the middle of ionic step {n} ({error}); those before it were read"
        ) from error
    if not symbols:
        raise InputError(f"{path} is not a vasprun.xml: it has no atoms.")


def _step(path: Path, node: Any, symbols: list[str], settings: dict[str, float], valence: float, n: int) -> Item:
    loop = [_number(step.find("energy/i[@name='e_fr_energy']")) for step in node.findall("scstep")]
    geometry = geometry_of(node.find("structure"))
    if geometry is None:
        return _unusable("without a structure", f"ionic step {n} has none")
    last_change = abs(loop[-1] - loop[-2]) if len(loop) > 1 else np.inf
    is_response = settings.get("IBRION") in (7, 8)  # whose loops are among those of the ground state
    if (
        not is_response
        and len(loop) >= settings.get("NELM", np.inf)
        and not last_change <= settings.get("EDIFF", np.inf)
    ):
        return _unusable(
            NOT_CONVERGED,
            f"ionic step {n}: {len(loop)} steps of the electronic loop (NELM), the last changed {last_change:.1e} eV",
        )
    results: dict[str, Any] = {"energy": _number(node.find("energy/i[@name='e_fr_energy']"))}
    for name, sign in (("forces", 1), ("stress", -1)):
        rows = rows_of(node.find(f"varray[@name='{name}']"), None)
        if rows is not None:
            results[name] = sign * rows
    charge = valence - settings.get("NELECT", valence)
    return Record(
        numbers=numbers_of(path, symbols),
        positions=geometry[1] @ geometry[0],
        cell=geometry[0],
        pbc=np.ones(3, bool),
        info={"ionic_step": n, "charge": round(charge) if abs(charge - round(charge)) < 1e-3 else charge},
        results=results,
        units=UNITS,
        remarks=(FREE,),
    )


def _number(node: Any) -> float:
    return float("nan") if node is None else float(node.text or "nan")


def _unusable(reason: str, text: str) -> Item:
    def make() -> Record:
        raise Unusable(reason, text)

    return make


def _recognises(path: Path) -> bool:
    return path.is_file() and "<modeling>" in head(path, 2048)


READER = Reader(
    name="vasp",
    what="vasprun.xml of VASP, every ionic step that converged",
    read=frames_reader(records),
    recognises=_recognises,
    order=40,
)
