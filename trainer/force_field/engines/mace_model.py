"""A MACE student as the package's own .model file, which MACE's calculator and its LAMMPS and OpenMM interfaces read.

The file is a pickle of the package's ScaleShiftMACE with the student's weights, its reference energies as those of free atoms. It runs
only where mace-torch is: so does this.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from hdistill.data.structure import Structure

from ...students.mace import Mace, network
from ..checkpoint import TrainedStudent, load_student
from .exported import Exported, dtype_name, require_suffix, unfinished
from .outputs import Outputs, reference_energies
from .parity import NotExported, check_structures, made_structures

SUFFIX = ".model"


def export_mace(
    run: Path | str,
    path: Path | str,
    dtype: str | None = None,
    device: str = "cpu",
    structures: Sequence[Structure] = (),
) -> Exported:
    """The MACE student of a run folder or file as a .model file, once MACE's own calculator says with it what the eager float64 student
    says, on made structures and on `structures`. Raises InputError for another name, PackageMissing without the package, NotExported for
    other students and other numbers. dtype: float64 where none is given, for the file's energies have those of free atoms in them, of which
    float32 would lose digits."""
    began = time.monotonic()
    path = Path(path)
    require_suffix(path, SUFFIX)
    trained = load_student(run, device, dtype or "float64")
    if not isinstance(trained.model, Mace):
        what = " with a repulsion of its own" if trained.card.size.repulsion else ""
        raise NotExported(
            f"A .model file holds a MACE alone, and this student is '{trained.card.student}'{what}; --to pt2, metatomic or lammps are for "
            "it, or fit --student mace-small."
        )
    model = _model(trained)
    with unfinished(path) as temporary:
        torch.save(model, temporary)
        checked = [*made_structures(trained.card.references.elements), *structures]
        worst = check_structures(
            through_ase(temporary, trained, device), trained.model, checked, trained.cutoff, device
        )
    return Exported(path, dtype_name(trained), worst, time.monotonic() - began)


def through_ase(path: Path, trained: TrainedStudent, device: str = "cpu") -> Callable[[Sequence[Structure]], Outputs]:
    """The Outputs of structures as MACE's own calculator has them of a file, reference energies taken off."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from mace.calculators import MACECalculator

        calculator: Any = MACECalculator(model_paths=str(path), device=device, default_dtype=dtype_name(trained))
    references = trained.card.references

    def evaluate(structures: Sequence[Structure]) -> Outputs:
        energies, forces, stresses = [], [], []
        for s in structures:
            atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc, calculator=calculator)
            with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                forces.append(atoms.get_forces())
            energies.append(atoms.get_potential_energies())
            stresses.append(atoms.get_stress(voigt=False) if s.pbc.all() else np.zeros((3, 3)))
        whole = all(s.pbc.all() for s in structures)
        stress = torch.from_numpy(np.stack(stresses)).to(device) if whole else None
        own = np.concatenate(energies) - reference_energies(structures, references)
        values = torch.from_numpy(own).to(device), torch.from_numpy(np.concatenate(forces)).to(device)
        return Outputs(*values, stress, None)

    return evaluate


def _model(trained: TrainedStudent) -> Any:
    """The package's model with the student's weights, in the student's precision."""
    card = trained.card
    model = network(card.references.elements, card.size, card.scale, scripted=True)
    dtype = next(trained.model.parameters()).dtype
    model = model.to(dtype)
    model.load_state_dict(trained.model.network.state_dict())  # type: ignore[union-attr]
    held = model.atomic_energies_fn.atomic_energies  # none until here, as in the student
    held.copy_(torch.tensor(card.references.energies, dtype=dtype).view_as(held))
    return model.requires_grad_(False).to(next(trained.model.parameters()).device)
