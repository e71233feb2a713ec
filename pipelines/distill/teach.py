"""What is asked of the teacher and of the student's fit: labels in one set that grows, weights that go on from round to round."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .settings import DistillSettings

if TYPE_CHECKING:
    from hdistill.labeler.run import RunSettings

WITHOUT_ATOM_ENERGIES = ("ase", "outside")  # families that may have none
# Forces first, then the order of conformers: on 400 structures of N-acetyltyramine a rank correlation of 0.87 for 0.73 and the same
# force error (docs/results.md).
LATE_ENERGY_WEIGHT, DIFFERENCE_WEIGHT = 10.0, 1.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """How it is done; none of it changes the results. device: of the student and the teacher."""

    run: RunSettings
    device: str = "cpu"
    progress: bool = True
    say: Say = print


def label_frames(file: Path, labels: Path, settings: DistillSettings, work: Work, extend: bool) -> dict[str, Any]:
    """Label the frames of a file into the set, or extend it by them; what it cost. The same call again continues."""
    from hdistill.labeler.extend import extend as extend_set
    from hdistill.labeler.run import label

    began, cpu = time.monotonic(), _children_cpu()
    wanted = label_settings(file, settings, work.device)
    say = _only_news if extend else work.say  # what a source is has been said once
    done = (extend_set if extend else label)(wanted, labels, run=work.run, say=say)
    counts = done.manifest.counts
    return {
        "seconds": time.monotonic() - began,
        "cpu_seconds": _children_cpu() - cpu,
        "n_labelled": counts.n_structures,
        "n_quarantined": counts.n_quarantined,
    }


def label_settings(file: Path, settings: DistillSettings, device: str) -> Any:
    """LabelSettings for the frames of a file."""
    from hdistill.labeler.planning.plan import LabelSettings
    from hdistill.labeler.teachers.registry import entry

    return LabelSettings(
        teacher=settings.teacher,
        subset=(str(file),),
        hessian=settings.hessian,
        seed=settings.seed,
        splits=settings.splits,
        task=settings.task,
        dtype=settings.dtype,
        arguments=settings.arguments,
        atom_energies=entry(settings.teacher).family not in WITHOUT_ATOM_ENERGIES,
        device=device,
    )


def fit_student(
    labels: Path, run: Path, settings: DistillSettings, work: Work, steps: int, begin_from: Path | None, rate: float
) -> dict[str, Any]:
    """Fit to all labels there are, from nothing or from the last weights, with that share of the learning rate."""
    from hdistill.trainer.fitting.fit import fit

    wanted = fit_settings(settings, work.device, steps, rate)
    done = fit(labels, run, wanted, work.progress, begin_from=begin_from)
    return {"steps": done.steps, "cpu_seconds": done.seconds, "n_train": done.n_train, "validation": done.validation}


def fit_settings(settings: DistillSettings, device: str, steps: int, rate: float = 1.0) -> Any:
    """FitSettings of a fit with that share of the learning rate."""
    from hdistill.trainer.fitting.settings import FitSettings

    return FitSettings(
        student=settings.student,
        steps=steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate * rate,
        energy_weight_end=LATE_ENERGY_WEIGHT,
        difference_weight=DIFFERENCE_WEIGHT,
        product_method="difference",
        validate_every=max(1, min(100, steps // 4)),
        seed=settings.seed,
        device=device,
    )


def _only_news(_: str) -> None:
    """The same remarks on the same kind of frames, round for round; what went to quarantine is in the table."""


def _children_cpu() -> float:
    """CPU seconds of this process's children that have ended: teachers on this machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def require_teacher(settings: DistillSettings, run: RunSettings) -> None:
    """Raise InputError for a teacher or task that does not exist, or is not installed where it would run; and for a student."""
    from hdistill.labeler.planning.early import check_settings
    from hdistill.labeler.teachers import environments, registry

    family = registry.entry(settings.teacher).family
    check_settings(label_settings(Path("frames.xyz"), settings, "cpu"))
    fit_settings(settings, "cpu", settings.steps)
    if not run.is_elsewhere:
        environments.interpreter(family, run.teacher_python)
