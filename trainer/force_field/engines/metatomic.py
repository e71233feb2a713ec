"""A student as a metatomic model: one TorchScript file for ASE, torch-sim, i-PI and the builds of LAMMPS and GROMACS that read it
(https://docs.metatensor.org/metatomic).

The engine hands over positions, cells and neighbour lists in float64 and takes forces and stress as gradients of the energy. Inside is
the student in its own precision, traced into plain operations for all numbers of atoms and edges; that its numbers are right is
checked through metatomic's own ASE calculator.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from torch import nn

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure

from ..checkpoint import TrainedStudent, load_student
from ..predict import is_direct
from .exported import Exported, dtype_name, require_suffix, unfinished
from .metatomic_module import module_of
from .outputs import Outputs, arguments_of, reference_energies
from .parity import NotExported, check_structures, made_structures, repelled_pair

SUFFIX = ".pt"
MISSING = "metatomic is not installed here; type `pip install -c constraints.txt metatomic-torch`."
CHAIN = 32  # atoms in a row, along which messages are followed


def export_metatomic(
    run: Path | str,
    path: Path | str,
    dtype: str | None = None,
    device: str = "cpu",
    structures: Sequence[Structure] = (),
) -> Exported:
    """The student of a run folder or file as a metatomic model for `device`, once its energies of atoms, forces and stress are those of
    the eager float64 student, on made structures and on `structures`. Raises InputError where metatomic is missing, NotExported for
    direct forces, for what cannot be traced and for other numbers."""
    began = time.monotonic()
    path = Path(path)
    require_suffix(path, SUFFIX)
    trained = load_student(run, device, dtype)
    if is_direct(trained.model):
        raise NotExported(
            "metatomic's engines take forces as the gradient of the energy, and this student predicts other ones (direct forces); "
            "export a student without `direct` in its name."
        )
    model = _model(trained, device)
    with unfinished(path) as temporary:
        with _quietly():
            model.save(temporary)
        evaluate = through_ase(temporary, trained, device)
        elements = trained.card.references.elements
        checked = [*made_structures(elements), *structures]
        worst = check_structures(evaluate, trained.model, checked, trained.cutoff, device)
        check_structures(evaluate, trained.model, [repelled_pair(elements)], trained.cutoff, device)
    return Exported(path, dtype_name(trained), worst, time.monotonic() - began)


def through_ase(path: Path, trained: TrainedStudent, device: str = "cpu") -> Callable[[Sequence[Structure]], Outputs]:
    """The Outputs of structures as metatomic's ASE calculator has them of a file, reference energies taken off."""
    from metatomic_ase import MetatomicCalculator

    with _quietly():
        calculator = MetatomicCalculator(path, device=device, check_consistency=True)
    references = trained.card.references

    def evaluate(structures: Sequence[Structure]) -> Outputs:
        atoms = [Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc) for s in structures]
        with _quietly():
            results = calculator.compute_energy(atoms, compute_forces_and_stresses=True, per_atom=True)
        energies, forces = np.concatenate(results["energies"]), np.concatenate(results["forces"])
        energies -= reference_energies(structures, references)
        stress = np.stack(results["stress"]) if all(s.pbc.all() for s in structures) else None
        own = torch.from_numpy(energies).to(device), torch.from_numpy(forces).to(device)
        return Outputs(*own, None if stress is None else torch.from_numpy(stress).to(device), None)

    return evaluate


def interaction_range(trained: TrainedStudent) -> float:
    """How far the atoms are on which an atom's energy can depend, A: links of a chain along which it has a gradient, times the cutoff.
    metatomic's engines that divide space among processes ask for it."""
    positions = np.random.default_rng(0).normal(scale=0.05, size=(CHAIN, 3)) * trained.cutoff
    positions[:, 0] += 0.7 * trained.cutoff * np.arange(CHAIN)
    row = Structure(np.full(CHAIN, trained.card.references.elements[0]), positions)
    numbers, index, vectors, _, _ = arguments_of([row], trained.cutoff, str(next(trained.model.parameters()).device))
    with torch.enable_grad():
        edges = vectors.detach().requires_grad_()
        energies = deepcopy(trained.model).to(torch.float64)(numbers, index, edges)
        (gradient,) = torch.autograd.grad(energies[0], edges)
    reached = index[:, gradient.abs().sum(1) > 0]
    return trained.cutoff * max(1, int(reached.max()) if reached.numel() else 1)


class _InOwnPrecision(nn.Module):
    """The student of float64 vectors, and float64 energies of it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.dtype = next(model.parameters()).dtype

    def forward(self, numbers: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        energies: torch.Tensor = self.model(numbers, edge_index, vectors.to(self.dtype)).double()
        return energies


def _model(trained: TrainedStudent, device: str) -> Any:
    """metatomic's AtomisticModel of a student. Raises InputError, NotExported."""
    try:
        from metatomic.torch import AtomisticModel, ModelCapabilities, ModelMetadata, ModelOutput
    except ImportError:
        raise InputError(MISSING) from None
    card = trained.card
    elements = card.references.elements
    dense = arguments_of([made_structures(elements)[2]], trained.cutoff, device)[:3]
    try:
        with _quietly():
            energies_of = torch.jit.trace(_InOwnPrecision(trained.model).eval(), dense, check_trace=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # a student of another package may do anything
        reason = " ".join(str(error).split())[:300]
        raise NotExported(
            f"This student cannot be traced into TorchScript ({type(error).__name__}: {reason})."
        ) from error
    references = torch.full((119,), float("nan"), dtype=torch.float64)
    references[list(elements)] = torch.tensor(card.references.energies, dtype=torch.float64)
    known = " ".join(chemical_symbols[z] for z in elements)
    teacher, citation = (str(card.teacher.get(name, "unknown")) for name in ("name", "citation"))
    metadata = ModelMetadata(
        name=f"{card.student} for {known}",
        description=f"A student of {teacher}, distilled with hdistill; it knows {known}. Label set: digest {card.label_set or 'unknown'}.",
        references={"model": [citation]},
    )
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV", sample_kind="atom", description="potential energy")},
        atomic_types=list(elements),
        interaction_range=interaction_range(trained),
        length_unit="angstrom",
        supported_devices=[torch.device(device).type],
        dtype="float64",
    )
    return AtomisticModel(module_of(energies_of, trained.cutoff, references.to(device)), metadata, capabilities)


class _quietly(warnings.catch_warnings):
    """torch says at each use that TorchScript is deprecated and that taking (centre, neighbour) apart is a loop; metatomic knows."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
