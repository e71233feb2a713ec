"""What is judged, against what, and on which structures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from hdistill.data.errors import InputError
from hdistill.data.support.progress import Progress, progress

from .reference import Reference

if TYPE_CHECKING:
    from hdistill.trainer.force_field.calculator import HDistillCalculator


@dataclass(frozen=True)
class Subject:
    """A run, a label set and a split of it; structures: looked at in place of held-out ones; teacher: the reference, where one is
    given; phonopy: a file or folder of displaced supercells with their forces."""

    run: Path
    labels: Path | str
    split: str
    device: str = "cpu"
    structures: tuple[Atoms, ...] = ()
    teacher: Reference | None = None
    phonopy: Path | None = None
    progress: bool = False

    def student(self) -> HDistillCalculator:
        from hdistill.trainer.force_field.calculator import HDistillCalculator

        return HDistillCalculator(self.run, self.device, warn_beyond=None)

    def require_teacher(self) -> Reference:
        if self.teacher is None:
            raise InputError("It compares with the teacher; give one with --teacher.")
        return self.teacher

    def atoms(self, most: int) -> list[Atoms]:
        """Up to so many structures of the student's elements: those that were given, else one of each held-out group.

        Raises InputError where there is none.
        """
        from hdistill.trainer.force_field.checkpoint import load_student

        known = set(load_student(self.run).card.references.elements)
        chosen: list[Atoms] = []
        for atoms in self.structures or self._held_out():
            if set(atoms.numbers.tolist()) <= known:
                chosen.append(atoms.copy())
            if len(chosen) == most:
                break
        if not chosen:
            where = "--structures has" if self.structures else f"Split '{self.split}' has"
            raise InputError(f"{where} no structure of the student's elements.")
        return chosen

    def bar(self, total: int | None, unit: str, what: str) -> AbstractContextManager[Progress]:
        return progress(total, unit, what, self.progress)

    def _held_out(self) -> Iterator[Atoms]:
        from hdistill.data.sharing.remote import open_labels
        from hdistill.trainer.evaluation.errors import samples_of

        seen: set[str] = set()
        for sample in samples_of(open_labels(self.labels), self.split):
            s = sample.structure
            if s.group in seen:
                continue
            seen.add(s.group)
            info = {"charge": s.charge, "spin": s.spin}
            yield Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc, info=info)
