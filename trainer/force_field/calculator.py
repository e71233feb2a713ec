"""A student as an ASE calculator, with the Hessian, and with how far each atom is from what the student has learned."""

from __future__ import annotations

import subprocess
import threading
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure

from ..bundles import place_of
from ..bundles.index import require_whole_bundle
from ..inputs.batch import batch_of
from .checkpoint import load_student
from .domain import hook_readout, load_domain
from .engines.compiled import build_in_background, load_compiled, load_pt2
from .engines.outputs import Arguments, Outputs, outputs_of
from .engines.pt2 import SUFFIX, CompiledStudent, OtherMachine, unpacked_student
from .predict import is_direct, predict
from .verlet import VerletLists

LOOK_EVERY = 10  # calculations of compiled students between two looks for atoms outside the domain


Compiled = bool | Literal["auto", "background"]


class HDistillCalculator(Calculator):  # type: ignore[misc]
    """energy, free_energy (eV, reference energies included), forces (eV/A), and stress (eV/A^3, Voigt) of fully periodic atoms.

    path: a run folder, a student file, a bundle (a folder, an address such as hf://OWNER/NAME, or the name of one that comes with the
    package: `hdistill students --bundles`), or a .pt2 of `hdistill export` (whose machine code is then run). dtype None: as it was
    trained; geometry is float64 in any case. Charge and spin of the atoms are ignored: the students do not know them.

    compiled: "auto" takes the machine code that was built on this machine before, else torch's eager operations; True builds it
    now where it is not there (20 to 30 s, once), "background" builds it in another process and takes it from then on; False is
    eager. skin (A): neighbour lists are made for so much more than the cutoff and kept while they hold (verlet.py).

    Where the run has a domain (domain.py), `domain_distance` (N,) says how far each atom's surroundings were from the
    training set in the last calculation: below 1 they are like what was learned. The first time that an atom is beyond `warn_beyond`,
    a warning says so; of compiled students every tenth calculation is looked at. A direct-force student has no stress, and its
    "Hessian" -dF/dR is not symmetric. Several threads may share a calculator: they take turns.

    Raises InputError for an element the student was not trained on, NotExported where compiled=True cannot be had.
    """

    implemented_properties: tuple[str, ...] = ("energy", "free_energy", "forces", "stress")

    def __init__(
        self,
        path: str | Path,
        device: str = "cpu",
        dtype: str | None = None,
        warn_beyond: float | None = 2.0,
        compiled: Compiled = "auto",
        skin: float = 0.5,
    ):
        super().__init__()
        self.path, self.device = place_of(path), device
        if compiled not in (True, False, "auto", "background"):
            raise InputError(f"compiled was {compiled!r}; it takes True, False, 'auto' or 'background'.")
        if not skin >= 0:
            raise InputError(f"skin was {skin} A; it must be 0 or more.")
        with ExitStack() as stack:
            is_pt2 = self.path.suffix == SUFFIX
            run = stack.enter_context(unpacked_student(self.path)) if is_pt2 else self.path
            require_whole_bundle(run)
            code = self._load_pt2(dtype) if is_pt2 and compiled else None
            self.student = load_student(run, device, dtype if code is None else code.dtype)
            self.domain = load_domain(run)
        self.readout_hook = None if self.domain is None else hook_readout(self.student)
        self.dtype = str(next(self.student.model.parameters()).dtype).removeprefix("torch.")
        self.warn_beyond = warn_beyond
        self.conservative = not is_direct(self.student.model)
        if not self.conservative:
            self.implemented_properties = ("energy", "free_energy", "forces")
        self.lists = VerletLists(self.student.cutoff, skin)
        self.n_calculations = 0
        self._turn = threading.RLock()
        self._reference: tuple[bytes, float] | None = None
        self._features: NDArray[np.floating[Any]] | None = None
        self._builder: subprocess.Popen[bytes] | None = None
        self._compiled = code
        if code is None and compiled and not is_pt2:
            self._find_compiled(compiled)

    @property
    def compiled(self) -> bool:
        """Whether calculations run as machine code."""
        return self._compiled is not None

    @property
    def domain_distance(self) -> NDArray[np.float64] | None:
        """Of each atom of the last calculation (N,); None where there was none, or the run has no domain."""
        if self.domain is None or self._features is None:
            return None
        return self.domain.distances(self.atoms.numbers, self._features)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        with self._turn:
            return super().get_property(name, atoms, allow_calculation)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        structure = self._structure(self.atoms)
        outputs = self.evaluate(*self._arguments(structure))
        energy = float(outputs.energies.sum()) + self._reference_energy(structure)
        self.results = {"energy": energy, "free_energy": energy, "forces": outputs.forces.cpu().numpy()}
        if outputs.stress is not None and structure.pbc.all():
            self.results["stress"] = full_3x3_to_voigt_6_stress(outputs.stress[0].cpu().numpy())
        self._features = None if outputs.features is None else outputs.features.cpu().numpy()
        if self._compiled is None or self.n_calculations % LOOK_EVERY == 0:
            self._warn()
        self.n_calculations += 1

    def evaluate(
        self,
        numbers: torch.Tensor,
        edge_index: torch.Tensor,
        vectors: torch.Tensor,
        structure_index: torch.Tensor,
        volume: torch.Tensor,
    ) -> Outputs:
        """The student alone, as machine code or eagerly; arguments as outputs.INPUTS, energies without reference energies."""
        if self._builder is not None and self._builder.poll() is not None:
            self._builder = None
            self._compiled = load_compiled(self.path, self.dtype, self.device)
        arguments = numbers, edge_index, vectors, structure_index, volume
        if self._compiled is not None:
            return self._compiled(*arguments)
        return outputs_of(self.student.model, self.readout_hook, *arguments)

    def _arguments(self, structure: Structure) -> Arguments:
        edge_index, vectors = self.lists.of(structure)
        volume = abs(np.linalg.det(structure.cell)) if structure.pbc.all() else 0.0
        arrays = (
            structure.numbers.astype(np.int64),
            edge_index,
            vectors,
            np.zeros(structure.n_atoms, np.int64),
            np.array([volume]),
        )
        numbers, index, edges, owner, volumes = (torch.from_numpy(a).to(self.device) for a in arrays)
        return numbers, index, edges, owner, volumes

    def _reference_energy(self, structure: Structure) -> float:
        """Of the elements, eV; the sum of the last structure is kept, for it changes with the numbers alone."""
        key = structure.numbers.tobytes()
        if self._reference is None or self._reference[0] != key:
            self._reference = key, self.student.card.references.of(structure.numbers)
        return self._reference[1]

    def _load_pt2(self, dtype: str | None) -> CompiledStudent | None:
        try:
            code = load_pt2(self.path)
        except OtherMachine as error:
            warnings.warn(f"{error} Until then it runs without.", stacklevel=3)
            return None
        if dtype not in (None, code.dtype) or code.device != torch.device(self.device):
            raise InputError(
                f"{self.path} is {code.dtype} on {code.device}, not {dtype or code.dtype} on {self.device}; export another."
            )
        return code

    def _find_compiled(self, compiled: Compiled) -> None:
        try:
            self._compiled = load_compiled(self.path, self.dtype, self.device, build=compiled is True)
        except InputError as error:  # a cache folder that others may write to
            if compiled is True:
                raise
            warnings.warn(f"The student runs without machine code: {error}", stacklevel=3)
            return
        if self._compiled is None and compiled == "background":
            self._builder = build_in_background(self.path, self.dtype, self.device)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last call, of all that a student knows: ASE's own way compares charges and magnetic moments,
        too, three times in a step of dynamics, which for few atoms is a tenth of its time."""
        if self.atoms is None:
            return list(all_changes)
        return [
            name
            for name, now, before in (
                ("positions", atoms.positions, self.atoms.positions),
                ("numbers", atoms.numbers, self.atoms.numbers),
                ("cell", atoms.cell.array, self.atoms.cell.array),
                ("pbc", atoms.pbc, self.atoms.pbc),
            )
            if not np.array_equal(now, before)
        ]

    def get_hessian(self, atoms: Atoms | None = None) -> NDArray[np.float64]:
        """+d2E/dR2 as (3N, N, 3) eV/A^2: row 3*atom + axis, as MACE's calculator gives it. One backward pass a row.

        Of a direct-force student it is -dF/dR: row i has how the force on i changes with all positions.
        """
        structure = self._structure(atoms if atoms is not None else self.atoms)
        batch = batch_of([structure], self.student.cutoff, self.device)
        rows = torch.eye(3 * structure.n_atoms, dtype=batch.positions.dtype, device=batch.positions.device)
        prediction = predict(self.student.model, batch, rows.view(-1, structure.n_atoms, 3))
        assert prediction.products is not None
        array: NDArray[np.float64] = prediction.products.detach().cpu().numpy()
        return array

    def _structure(self, atoms: Any) -> Structure:
        references = self.student.card.references
        unknown = references.unknown(atoms.numbers)
        if unknown:
            names = ", ".join(chemical_symbols[z] for z in unknown)
            known = ", ".join(chemical_symbols[z] for z in references.elements)
            raise InputError(f"This student was not trained on {names}; it knows {known}.")
        return Structure(atoms.numbers, np.array(atoms.positions), np.array(atoms.cell), np.array(atoms.pbc))

    def _warn(self) -> None:
        if self.warn_beyond is None:
            return
        distances = self.domain_distance
        if distances is None or not (distances > self.warn_beyond).any():
            return
        atom = int(distances.argmax())
        warnings.warn(
            f"The surroundings of {self.atoms.symbols[atom]} (atom {atom}) are unlike those this student learned from "
            f"(distance {distances[atom]:.1f}; 95 of 100 atoms of held-out structures are below 1): do not trust it there. "
            "`domain_distance` has all of them; this is said once.",
            stacklevel=5,
        )
        self.warn_beyond = None
