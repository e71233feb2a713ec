"""What a package's own ASE calculator says of some structures; independent of our adapters. Run by the family's interpreter.

    python tests/labeler/own_calculators/run.py < requests.json

Reads a JSON list of {family, model, task, dtype, structures: [{numbers, positions, cell, pbc, charge, spin}]}, and prints, as
the last line of standard output, a list that has for each of them [{energy, forces, stress or null}] in eV, eV/A, eV/A^3 (3,3).
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Python put this script's folder first, where `import chgnet` would find the file beside this one.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]


def calculator(request: dict[str, Any]) -> Any:
    """calculator(model, task, dtype, device) of the family's file in this folder."""
    family = request["family"]
    spec = importlib.util.spec_from_file_location(f"own_{family}", HERE / f"{family}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.calculator(request["model"], request["task"], request["dtype"], "cpu")


def answer(request: dict[str, Any]) -> list[dict[str, Any]]:
    from ase import Atoms

    own = calculator(request)
    answers = []
    for s in request["structures"]:
        atoms = Atoms(s["numbers"], s["positions"], cell=s["cell"], pbc=s["pbc"])
        atoms.info.update(charge=s["charge"], spin=s["spin"])
        atoms.calc = own
        stress = atoms.get_stress(voigt=False) if atoms.pbc.all() and "stress" in own.implemented_properties else None
        answers.append(
            {
                "energy": float(atoms.get_potential_energy()),
                "forces": atoms.get_forces().tolist(),
                "stress": None if stress is None else stress.tolist(),
            }
        )
    return answers


if __name__ == "__main__":
    result = [answer(request) for request in json.load(sys.stdin)]
    print("\n" + json.dumps(result))
