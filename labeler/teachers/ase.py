"""Any ASE calculator, as `ase:module.Class`: whatever gives an energy and forces can be a teacher.

Its forces cannot be differentiated from outside, so products are central differences: two force evaluations each, and one
structure at a time. A displacement gives a column of -dF/dR; that is a row only where the forces are the gradient of an energy,
which is checked on the first structure of which products are wanted.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

from hdistill.data.errors import TeacherError, nearest
from hdistill.data.hessian import products_by_differences
from hdistill.data.structure import Directions, HessianProducts, Labels, Structure
from hdistill.data.support.publish import sha256_of

from .about import describe
from .contract import TeacherRequest, check_elements, check_no_task, check_signals, check_sums, real_array

STEP = {"float64": 1e-3, "float32": 5e-3}  # A; the request says how precise the calculator's forces are
ENERGY_STEP = 5e-3  # A
RATTLE = 0.05  # A: where forces vanish by symmetry nothing can be checked
N_CHECKS = 4
TOLERANCE = 0.02  # of |F|
FLOOR = 0.01  # eV/A per coordinate: below it there is too little force to tell
ELEMENTS = tuple(range(1, 119))  # a calculator does not say what it knows


class AnyCalculator:
    def __init__(self, request: TeacherRequest):
        check_no_task(request)
        # Its atom energies only if asked for: they may be another call, and need not add up to the energy.
        self.request = request
        self.calculator = _build(request)
        self.offers = tuple(getattr(self.calculator, "implemented_properties", ()))
        check_signals(request, atom_energies="energies" in self.offers, node_features=False)
        self.step = STEP[request.dtype]
        self.checked = False
        package = request.model.partition(".")[0]
        self.info = describe(
            request,
            ELEMENTS,
            ("ase", *metadata.packages_distributions().get(package, [])),
            has_stress="stress" in self.offers,
            hessian_method="central differences",
        )  # conservative until the check says otherwise
        # A calculator of the user's own has no version that changes with it: the hash of its file is one.
        module = request.model.rpartition(".")[0]
        self.info = replace(self.info, versions=self.info.versions | _source_of(module))

    def label(self, structures: Sequence[Structure], directions: Sequence[Directions | None]) -> list[Labels]:
        check_elements(structures, ELEMENTS, self.info.name)
        return [self._label(s, wanted) for s, wanted in zip(structures, directions, strict=True)]

    def _label(self, structure: Structure, directions: Directions | None) -> Labels:
        if directions is not None and not self.checked:
            self._check_forces(structure)
        self._forget()
        here = structure.positions
        energy, forces = self._energy(structure, here), self._forces(structure, here)
        with_stress = self.info.has_stress and structure.pbc.all()
        stress = self._atoms(structure, here).get_stress(voigt=False) if with_stress else None
        products = None if directions is None else HessianProducts(directions, self._products(structure, directions))
        per_atom = None
        if self.request.atom_energies:
            per_atom = real_array(
                self._atoms(structure, here).get_potential_energies(), (structure.n_atoms,), "atom energies", structure
            )
        labels = Labels(energy, forces, stress, products, per_atom)
        check_sums([structure], [labels])
        return labels

    def _products(self, structure: Structure, directions: Directions) -> np.ndarray:
        """v . H of each direction (K,N,3) eV/A^2."""

        full = directions.coordinate is not None and len(set(directions.coordinate.tolist())) == 3 * structure.n_atoms
        if not (self.info.conservative or full):
            raise TeacherError(
                f"The forces of {self.info.name} are not the gradient of its energy: displaced forces are columns of a Jacobian "
                "that is not symmetric, and rows and probes of it cannot be had that way. Use --hessian full (all columns, "
                "which make all rows) or --hessian none."
            )
        vectors = directions.vectors(structure.n_atoms)
        columns = products_by_differences(partial(self._forces, structure), structure.positions, vectors, self.step)
        if self.info.conservative:
            return columns
        assert directions.coordinate is not None
        flat = columns.reshape(len(vectors), -1)
        jacobian = np.empty_like(flat)
        jacobian[:, directions.coordinate] = flat.T
        return jacobian[directions.coordinate].reshape(columns.shape)

    def _check_forces(self, structure: Structure) -> None:
        """Compare forces with -dE/dR along a few random +-1 directions, near this structure; sets info.conservative.

        The mean square over +-1 directions of a vector's component along them is the vector's own square.
        """
        generator = np.random.default_rng(0)
        centre = structure.positions + generator.normal(scale=RATTLE, size=structure.positions.shape)
        self._forget()
        forces = np.asarray(self._forces(structure, centre), np.float64)
        size = float(np.linalg.norm(forces))
        if not size >= FLOOR * np.sqrt(forces.size):
            return  # too small, or not a number: ask the next structure
        errors = []
        for _ in range(N_CHECKS):
            vector = generator.choice([-1.0, 1.0], size=forces.shape)
            ahead, behind = (self._energy(structure, centre + h * vector) for h in (ENERGY_STEP, -ENERGY_STEP))
            errors.append((ahead - behind) / (2 * ENERGY_STEP) + float((forces * vector).sum()))
        if not np.isfinite(errors).all():
            return
        conservative = bool(np.sqrt(np.mean(np.square(errors))) < TOLERANCE * size)
        self.info = replace(self.info, conservative=conservative)
        self.checked = True

    def _atoms(self, structure: Structure, positions: np.ndarray) -> Atoms:
        """New ones for every question: a calculator may change those that it is given."""
        cell = complete_cell(structure.cell) if structure.pbc.any() else structure.cell
        atoms = Atoms(structure.numbers, positions, cell=cell, pbc=structure.pbc)
        atoms.info.update(charge=structure.charge, spin=structure.spin)
        atoms.calc = self.calculator
        return atoms

    def _energy(self, structure: Structure, positions: np.ndarray) -> float:
        """The energy that the forces belong to: the free energy where the calculator has one (smeared electrons)."""
        atoms = self._atoms(structure, positions)
        value = atoms.get_potential_energy(force_consistent="free_energy" in self.offers)
        return float(real_array(value, (), "energy", structure))

    def _forces(self, structure: Structure, positions: np.ndarray) -> np.ndarray:
        """(N,3) eV/A."""
        value = self._atoms(structure, positions).get_forces()
        return np.array(real_array(value, (structure.n_atoms, 3), "forces", structure))

    def _forget(self) -> None:
        """Labels of a structure must not depend on which ones came before (neighbour lists with a skin, say)."""
        if hasattr(self.calculator, "reset"):
            self.calculator.reset()


def _source_of(module: str) -> dict[str, str]:
    """The module's own file by its sha256, unless the version of an installed package says what it is."""
    file = getattr(sys.modules[module], "__file__", None)
    if module.partition(".")[0] in metadata.packages_distributions() or file is None:
        return {}
    return {module: f"sha256:{sha256_of(Path(file))[:16]}"}


def _build(request: TeacherRequest) -> Any:
    """The calculator. Raises TeacherError for a module or class that is not there and for arguments it does not take."""
    module_name, _, class_name = request.model.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise TeacherError(
            f"The module {module_name} cannot be imported ({error}); name an interpreter that has it with --teacher-python."
        ) from error
    if not hasattr(module, class_name):
        raise TeacherError(f"{module_name} has no class '{class_name}'.{nearest(class_name, dir(module))}")
    try:
        return getattr(module, class_name)(**request.arguments)
    except Exception as error:
        given = ", ".join(f"{name}={value!r}" for name, value in request.arguments.items()) or "no arguments"
        raise TeacherError(f"{request.model} cannot be made with {given}: {type(error).__name__}: {error}") from error


load = AnyCalculator
