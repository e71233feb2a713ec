"""A MACE student as the package's own .model file, which MACE's calculator and its LAMMPS and OpenMM interfaces read.

The file is a pickle of the package's ScaleShiftMACE with the student's weights, its reference energies as those of free atoms. It runs
only where mace-torch is: so does this.
"""

from __future__ import annotations

import io
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure

from ...students.mace import Mace, network
from ..checkpoint import TrainedStudent, load_student
from .outputs import Outputs
from .parity import Difference, NotExported, check_structures, made_structures

SUFFIX = ".model"


@dataclass(frozen=True)
class MaceExport:
    """A file that was written: how far it is from the eager float64 student, and the wall time it took in s."""

    path: Path
    dtype: str
    difference: Difference
    seconds: float


def export_mace(
    run: Path | str,
    path: Path | str,
    dtype: str | None = None,
    device: str = "cpu",
    structures: Sequence[Structure] = (),
) -> MaceExport:
    """The MACE student of a run folder or file as a .model file, once MACE's own calculator says with it what the eager float64 student
    says, on made structures and on `structures`. Raises InputError for another name, PackageMissing without the package, NotExported for
    other students and other numbers. dtype: float64 where none is given, for the file's energies have those of free atoms in them, of which
    float32 would lose digits."""
    began = time.monotonic()
    path = Path(path)
    if path.suffix != SUFFIX:
        raise InputError(f"{path} does not end in {SUFFIX}; give the file such a name.")
    trained = load_student(run, device, dtype or "float64")
    if not isinstance(trained.model, Mace):
        what = " with a repulsion of its own" if trained.card.size.repulsion else ""
        raise NotExported(
            f"A .model file holds a MACE alone, and this student is '{trained.card.student}'{what}; --to pt2, metatomic or lammps are for "
            "it, or fit --student mace-small."
        )
    model = _model(trained)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{SUFFIX}")
    try:
        torch.save(model, temporary)
        checked = [*made_structures(trained.card.references.elements), *structures]
        worst = check_structures(
            through_ase(temporary, trained, device), trained.model, checked, trained.cutoff, device
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    name = str(next(trained.model.parameters()).dtype).removeprefix("torch.")
    return MaceExport(path, name, worst, time.monotonic() - began)


def through_ase(path: Path, trained: TrainedStudent, device: str = "cpu") -> Callable[[Sequence[Structure]], Outputs]:
    """The Outputs of structures as MACE's own calculator has them of a file, reference energies taken off."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from mace.calculators import MACECalculator

        dtype = str(next(trained.model.parameters()).dtype).removeprefix("torch.")
        calculator: Any = MACECalculator(model_paths=str(path), device=device, default_dtype=dtype)
    references = trained.card.references

    def evaluate(structures: Sequence[Structure]) -> Outputs:
        energies, forces, stresses = [], [], []
        for s in structures:
            atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc, calculator=calculator)
            with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                forces.append(atoms.get_forces())
            energies.append(atoms.get_potential_energies() - [references.of(s.numbers[[i]]) for i in range(len(atoms))])
            stresses.append(atoms.get_stress(voigt=False) if s.pbc.all() else np.zeros((3, 3)))
        whole = all(s.pbc.all() for s in structures)
        stress = torch.from_numpy(np.stack(stresses)).to(device) if whole else None
        own = torch.from_numpy(np.concatenate(energies)).to(device), torch.from_numpy(np.concatenate(forces)).to(device)
        return Outputs(*own, stress, None)

    return evaluate


def _model(trained: TrainedStudent) -> Any:
    """The package's model with the student's weights, in the student's precision."""
    card = trained.card
    model = network(card.references.elements, card.size, card.scale, card.references.energies, scripted=True)
    dtype = next(trained.model.parameters()).dtype
    weights = {
        name.removeprefix("network."): value
        for name, value in trained.model.state_dict().items()
        if name.startswith("network.") and "atomic_energies_fn" not in name
    }
    own = {name: value for name, value in model.state_dict().items() if "atomic_energies_fn" in name}
    model.load_state_dict(weights | own)
    model = model.to(dtype)
    held = model.atomic_energies_fn.atomic_energies  # of the package, in float32 until here
    held.copy_(torch.tensor(card.references.energies, dtype=dtype).view_as(held))
    return model.requires_grad_(False).to(next(trained.model.parameters()).device)
