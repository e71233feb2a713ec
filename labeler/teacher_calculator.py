"""Any teacher as an ASE calculator, over a process and environment of its own: relaxing, dynamics, scans and phonons with it.

    with TeacherCalculator("7net-0") as calculator:
        atoms.calc = calculator
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()   # eV, eV/A
        hessian = calculator.get_hessian(atoms)                             # (3N,N,3) eV/A^2, +d2E/dR2
        labels = calculator.label([atoms, atoms])                           # many structures, one call

The numbers are those that `hdistill label --teacher` stores. Charge and multiplicity come from atoms.info, as they do there.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

from hdistill.data.errors import InputError, TeacherError
from hdistill.data.sources import Keys, SourceReport
from hdistill.data.sources.charge_spin import role_of
from hdistill.data.sources.make import structure_of
from hdistill.data.sources.record import Unusable, record_of
from hdistill.data.structure import Directions, Labels, Structure

from .planning import checks
from .process.batching import default_edges, n_pairs, pack
from .process.host import DEADLINE_S, HostSettings, TeacherHost
from .teachers import registry
from .teachers.contract import TeacherInfo


class TeacherCalculator(Calculator):  # type: ignore[misc]  # ASE is not typed
    """A teacher by its name, as `hdistill teachers` lists them. Its process starts when it is first asked.

    task, dtype, device, arguments: as of `hdistill label`; python: an interpreter that has the teacher, else the family's own
    environment; threads: of one evaluation; deadline_s: how long a small structure may take; atom_energies: "energies", too.
    Close it, or use it as a context manager; at the latest its process ends with this one.
    Raises InputError for a name, an option or a structure that cannot be used, TeacherError for what the teacher cannot do;
    after a crash the next call starts it anew. Stress is defined where a structure is periodic in all directions.
    """

    def __init__(
        self,
        teacher: str,
        task: str | None = None,
        dtype: Literal["float32", "float64"] = "float32",
        device: str = "cpu",
        arguments: Mapping[str, Any] = MappingProxyType({}),
        python: str | Path | None = None,
        threads: int = 1,
        deadline_s: float = DEADLINE_S,
        atom_energies: bool = False,
    ):
        super().__init__()
        request = replace(registry.request(teacher, task, dtype, device, arguments), atom_energies=atom_energies)
        settings = HostSettings(request, None if python is None else Path(python), threads, deadline_s)
        self.implemented_properties = ["energy", "free_energy", "forces", "stress"]
        if atom_energies:
            self.implemented_properties.append("energies")
        self.pairs_at_once = default_edges(device)
        self._host = TeacherHost(settings)
        self._finalizer = weakref.finalize(self, self._host.close)  # at the end of the interpreter, too

    @property
    def info(self) -> TeacherInfo:
        """What the teacher says of itself: elements, level of theory, licence, versions; loads it."""
        return self._host.info

    def label(
        self, structures: Sequence[Atoms | Structure], directions: Sequence[Directions | None] | None = None
    ) -> list[Labels]:
        """Labels of many structures, in order, in as few evaluations as fit; Hessian products where directions are given."""
        given = [self._structure(s) for s in structures]
        wanted = [None] * len(given) if directions is None else list(directions)
        sizes = [n_pairs(s) for s in given]
        labels: dict[int, Labels] = {}
        for batch in pack(sizes, self.pairs_at_once):
            answer = self._host.label(
                [given[i] for i in batch], [wanted[i] for i in batch], sum(sizes[i] for i in batch)
            )
            labels |= zip(batch, answer, strict=True)
        for i, s in enumerate(given):
            problem = checks.labels_problem(labels[i], False, s.n_atoms)
            if problem is not None:
                raise TeacherError(f"{self.info.name} gave no labels of structure {s.id}: {problem}.")
        return [labels[i] for i in range(len(given))]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        (labels,) = self.label([self.atoms])
        self.results = {
            "energy": labels.energy,
            "free_energy": labels.energy,
            "forces": np.asarray(labels.forces, float),
        }
        if labels.stress is not None:
            from ase.stress import full_3x3_to_voigt_6_stress

            self.results["stress"] = full_3x3_to_voigt_6_stress(np.asarray(labels.stress, float))
        if labels.atom_energies is not None:
            self.results["energies"] = labels.atom_energies

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last evaluation: charge and spin count, too."""
        changes: list[str] = super().check_state(atoms, tol)
        if self.atoms is not None and not changes and _electrons(atoms) != _electrons(self.atoms):
            changes.append("info")
        return changes

    def get_hessian(self, atoms: Atoms) -> NDArray[np.floating[Any]]:
        """+d2E/dR2 (3N,N,3) eV/A^2: row 3*atom+axis is that coordinate's product with the Hessian.

        Of a teacher with direct forces it is -dF/dR, which is not symmetric.
        """
        rows = Directions("rows", coordinate=np.arange(3 * len(atoms), dtype=np.int32))
        (labels,) = self.label([atoms], [rows])
        assert labels.hessian is not None
        return np.asarray(labels.hessian.values)

    def close(self) -> None:
        """End the teacher's process."""
        self._host.close()

    def __enter__(self) -> TeacherCalculator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _structure(self, atoms: Atoms | Structure) -> Structure:
        """What the teacher is asked. Raises InputError."""
        try:
            s = atoms if isinstance(atoms, Structure) else structure_of(record_of(atoms), Keys(), SourceReport(), "")
        except Unusable as error:
            raise InputError(f"The structure cannot be used: {error}.") from error
        problem = checks.structure_problem(s, self.info.elements)
        if problem is not None:
            raise InputError(f"The structure {s.id} cannot be given to {self.info.name}: {problem}.")
        return s


def _electrons(atoms: Atoms) -> dict[str, Any]:
    """What its info says of charge and spin."""
    return {key: value for key, value in atoms.info.items() if isinstance(key, str) and role_of(key)}
