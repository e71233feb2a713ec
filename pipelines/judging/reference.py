"""The teacher as a calculator that is asked once: its answers are kept in the report's folder.

A part that was interrupted does the same again up to where it was (same seeds, same structures), at no cost. When the teacher says that it
is another one than before (version, weights), what was kept is thrown away.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from numpy.typing import NDArray
from safetensors.numpy import load, save

from hdistill.data.errors import InputError
from hdistill.data.hessian import products_by_differences
from hdistill.data.sources.charge_spin import role_of

STEP = 1e-3  # A, where a calculator has no Hessian of its own


def reference_of(
    teacher: Any,
    file: Path | None,
    task: str | None = None,
    device: str = "cpu",
    python: Path | None = None,
    **settings: Any,
) -> Reference:
    """The teacher, by its name or an ASE calculator, with answers kept in `file`; its process starts when it is first asked.

    python and settings: as of TeacherCalculator. Raises InputError for a name that is none and for an environment that is not there,
    before anything is loaded.
    """
    if not isinstance(teacher, str):
        return Reference(lambda: teacher, type(teacher).__name__, file)
    from hdistill.labeler.teacher_calculator import TeacherCalculator
    from hdistill.labeler.teachers import environments, registry

    environments.interpreter(registry.request(teacher, task, device=device).family, python)
    calculator = TeacherCalculator(teacher, task, device=device, python=python, **settings)
    return Reference(lambda: calculator, teacher if task is None else f"{teacher}, {task}", file)


class Reference(Calculator):  # type: ignore[misc]  # ASE is not typed
    """make: starts the teacher, when it is first needed; name: what is shown and kept; file: where answers are kept, None: in memory.

    Energies eV, forces eV/A, stress eV/A^3 (Voigt, where it is periodic in all directions). n_asked counts what was not kept.
    """

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, make: Callable[[], Any], name: str, file: Path | None = None):
        super().__init__()
        self.teacher, self.n_asked = name, 0
        self._make, self._inner, self._file = make, None, file
        self._memory: dict[str, bytes] = {}
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as table:
                table.execute("create table if not exists answers (key text primary key, data blob)")

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        answer = self._answer(self.atoms, "labels", self._labels)
        self.results = {"energy": float(answer["energy"]), "free_energy": float(answer["energy"])}
        self.results |= {name: answer[name] for name in ("forces", "stress") if name in answer}

    def get_hessian(self, atoms: Atoms) -> NDArray[np.float64]:
        """(3N,N,3) eV/A^2, +d2E/dR2: the teacher's own, else central differences of its forces."""
        return np.asarray(self._answer(atoms, "hessian", self._hessian)["hessian"], np.float64)

    def ask_anew(self) -> Any:
        """The teacher itself, whose answers are not kept: to see how long it takes."""
        return self._teacher()

    def close(self) -> None:
        if self._inner is not None and hasattr(self._inner, "close"):
            self._inner.close()
        self._inner = None

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _labels(self, atoms: Atoms) -> dict[str, Any]:
        at = atoms.copy()
        at.calc = self._teacher()
        answer: dict[str, Any] = {"energy": at.get_potential_energy(), "forces": at.get_forces()}
        if atoms.pbc.all():
            with suppress(PropertyNotImplementedError):
                answer["stress"] = at.get_stress()
        return answer

    def _hessian(self, atoms: Atoms) -> dict[str, Any]:
        teacher = self._teacher()
        if hasattr(teacher, "get_hessian"):
            return {"hessian": teacher.get_hessian(atoms)}
        return {"hessian": hessian_by_differences(atoms, teacher)}

    def _teacher(self) -> Any:
        if self._inner is None:
            self._inner = self._make()
            says = getattr(self._inner, "info", None)
            text = json.dumps(_identity(says) if says is not None else {"name": self.teacher}, sort_keys=True)
            kept = self._get("teacher")
            if kept is not None and kept.decode() != text:
                self._forget()
            self._put("teacher", text.encode())
        return self._inner

    def _answer(self, atoms: Atoms, what: str, ask: Callable[[Atoms], dict[str, Any]]) -> Mapping[str, Any]:
        key = f"{what} {_key(atoms, self.teacher)}"
        data = self._get(key)
        if data is None:
            answer = ask(atoms)
            self.n_asked += 1
            data = save({name: np.asarray(value, np.float64) for name, value in answer.items()})
            self._put(key, data)
        return load(data)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        assert self._file is not None
        try:
            with closing(sqlite3.connect(self._file, isolation_level=None)) as table:
                yield table
        except sqlite3.Error as error:
            raise InputError(
                f"{self._file} cannot be used ({error}); remove it, and the teacher is asked again."
            ) from error

    def _get(self, key: str) -> bytes | None:
        if self._file is None:
            return self._memory.get(key)
        with self._open() as table:
            row = table.execute("select data from answers where key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def _put(self, key: str, data: bytes) -> None:
        if self._file is None:
            self._memory[key] = data
            return
        with self._open() as table:
            table.execute("insert or replace into answers values (?, ?)", (key, data))

    def _forget(self) -> None:
        self._memory.clear()
        if self._file is not None:
            with self._open() as table:
                table.execute("delete from answers")


def hessian_by_differences(atoms: Atoms, calculator: Any, step: float = STEP) -> NDArray[np.float64]:
    """-dF/dR (3N,N,3) by central differences of forces."""
    at = atoms.copy()
    at.calc = calculator

    def forces_at(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        at.positions = positions
        return np.asarray(at.get_forces(), np.float64)

    n = 3 * len(at)
    return products_by_differences(forces_at, atoms.positions.copy(), np.eye(n).reshape(n, -1, 3), step)


def _identity(says: Any) -> dict[str, Any]:
    names = ("name", "task", "dtype", "level_of_theory", "weights_sha256", "versions")
    return {name: getattr(says, name) for name in names if hasattr(says, name)}


def _key(atoms: Atoms, teacher: str) -> str:
    electrons = sorted((key, str(value)) for key, value in atoms.info.items() if isinstance(key, str) and role_of(key))
    digest = hashlib.sha256(repr((teacher, electrons, atoms.pbc.tolist())).encode())
    for array in (atoms.numbers, atoms.positions, atoms.cell.array):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
