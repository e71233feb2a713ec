"""A fit that goes on from a student that has learned already: its weights, and the reference energies and scale they stand on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hdistill.data.errors import InputError

from ..force_field.checkpoint import TrainedStudent, load_student
from ..students.registry import size_of
from .settings import FitSettings
from .state import TrainState
from .statistics import Statistics


@dataclass(frozen=True, eq=False)
class FirstStudent:
    """The student whose weights are the first ones of a fit, and where it is."""

    path: Path
    trained: TrainedStudent

    def statistics(self, statistics: Statistics, settings: FitSettings) -> Statistics:
        """Those of the new label set with the student's reference energies and scale: with others its weights would be wrong.

        Raises InputError for another student, other elements, or energies that the weights do not stand on.
        """
        card = self.trained.card
        wanted = size_of(settings.student, settings.repulsion)
        if card.size != wanted:
            raise InputError(
                f"{self.path} is a '{card.student}' and {settings.student} was asked for; the student that a fit begins from "
                "must be of the same kind and size."
            )
        if card.references.elements != statistics.elements:
            raise InputError(
                f"{self.path} knows the elements {card.references.elements} and the label set has {statistics.elements} "
                "(atomic numbers); a fit can begin from a student of the same elements alone."
            )
        if settings.targets != "teacher" or card.settings["targets"] != "teacher":
            raise InputError(
                "A fit can begin from another student where both learn the teacher's labels (targets 'teacher')."
            )
        atomic = None if statistics.atom_references is None else card.references
        return replace(
            statistics,
            references=card.references,
            teacher_references=card.references,
            atom_references=atomic,
            scale=card.scale,
        )

    def give_weights(self, state: TrainState) -> None:
        """The student's weights into a state before its first step, and into its averages."""
        weights = self.trained.model.state_dict()
        state.model.load_state_dict(weights)
        state.average.module.load_state_dict(weights)


def first_student(path: Path | str | None) -> FirstStudent | None:
    """The student of a run folder or a file; None for None. Raises InputError where there is none."""
    if path is None:
        return None
    return FirstStudent(Path(path).resolve(), load_student(path))
