"""Validation while fitting: a fixed choice of structures, the errors of the averaged student, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import nn

from hdistill.data.format.shard import Sample
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.labelsets.stream import n_samples, shuffled

from ..choices import TargetKind
from ..evaluation.errors import errors_of, joined, summary
from ..inputs.batch import has_reference
from ..inputs.references import References
from ..students.registry import size_of
from .rows import ValidationRow
from .settings import FitSettings
from .statistics import Statistics

PRODUCTS = 1  # of each structure, always the same ones


@dataclass(frozen=True, eq=False)
class Validation:
    """At most settings.validate_at_most samples of the validation split that are of use, judged by labels of a kind.

    teacher_force_mae: of the teacher's forces against the sources' own on them, eV/A; None where it decides nothing.
    """

    samples: Sequence[Sample]
    references: References
    cutoff: float
    kind: TargetKind
    teacher_force_mae: float | None = None

    def row(self, model: nn.Module, device: str) -> ValidationRow:
        """The errors of a student now."""
        finite = all(bool(torch.isfinite(p).all()) for p in model.parameters())
        if not self.samples:
            return ValidationRow(None, finite)
        batches = errors_of(model, self.cutoff, self.references, self.samples, self.kind, PRODUCTS, device)
        return ValidationRow(summary(joined(list(batches))), finite)

    def near_teacher(self, row: ValidationRow, within: float | None) -> bool:
        """Whether the forces are within a share of the teacher's error: what the Hessian could still teach is wrong from there on
        (section 4 of Amin et al.)."""
        if self.teacher_force_mae is None or within is None or row.errors is None:
            return False
        return row.errors.force_mae_mev_per_angstrom <= 1e3 * self.teacher_force_mae * (1 + within)


NOTHING_TO_VALIDATE = Validation((), References((), ()), 0.0, "teacher")


def validation_of(labels: LabelSet, settings: FitSettings, statistics: Statistics) -> Validation:
    """Samples from all over the split; those of no use are left out: they have an element that the training split lacks, or no
    label of the kind that a student is judged by."""
    kind: TargetKind = "teacher" if settings.targets == "teacher" else "reference"
    candidates = islice(shuffled(labels, "val", 0), min(n_samples(labels, "val"), settings.validate_at_most))
    samples = [
        sample
        for sample in candidates
        if not statistics.references.unknown(sample.structure.numbers) and (kind == "teacher" or has_reference(sample))
    ]
    wanted = settings.halve_hessian_within is not None and kind == "reference" and samples
    return Validation(
        samples=samples,
        references=statistics.references,
        cutoff=size_of(settings.student).cutoff,
        kind=kind,
        teacher_force_mae=_teacher_force_mae(samples) if wanted else None,
    )


def _teacher_force_mae(samples: Sequence[Sample]) -> float:
    errors = [
        np.abs(np.asarray(s.labels.forces, np.float64) - s.structure.ref_forces).ravel()
        for s in samples
        if s.structure.ref_forces is not None
    ]
    return float(np.concatenate(errors).mean())
