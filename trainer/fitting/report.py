"""What a user is told: remarks before the first step, a bar with the terms of the loss, and how long it will take."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.sharing.remote import remarks as remarks_on_labels
from hdistill.data.support.progress import progress

from .rows import StepRow
from .settings import FitSettings
from .state import TrainState
from .statistics import Statistics
from .validation import Validation

WARM, MEASURED = 3, 10  # steps before the rate is measured, and over which it is
SOON_S = 10.0  # what is over sooner is not foretold


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Reporter:
    """Talks where it is enabled."""

    def __init__(self, enabled: bool, settings: FitSettings):
        self.enabled, self.settings = enabled, settings

    def remarks(self, remarks: Sequence[str]) -> None:
        for remark in remarks if self.enabled else ():
            say(remark)

    @contextmanager
    def bar(self, state: TrainState) -> Iterator[Callable[[StepRow], None]]:
        """A function that shows each step, in steps or, where those are limited, in CPU seconds."""
        total, unit = _extent(state, self.settings)
        clock = _Forecast(state, self.settings)
        done = _done(state, unit)
        with progress(total, unit, "fit", self.enabled, done=done) as bar:

            def show(row: StepRow) -> None:
                nonlocal done
                before, done = done, _done(state, unit)
                bar.advance(done - before, **_shown(row, state))
                if self.enabled and (text := clock.text()):
                    say(text)

            yield show


class _Forecast:
    """Says once, after the first steps, how long the fit will take."""

    def __init__(self, state: TrainState, settings: FitSettings):
        self.state, self.settings = state, settings
        self.first = state.step
        self.began = (0.0, 0.0)  # wall and CPU time

    def text(self) -> str:
        """The sentence, when it can be said; else nothing."""
        done = self.state.step - self.first
        now = (time.monotonic(), self.state.seconds)
        if done == WARM:
            self.began = now
        if done != WARM + MEASURED:
            return ""
        wall, cpu = ((b - a) / MEASURED for a, b in zip(self.began, now, strict=True))
        total, unit = _extent(self.state, self.settings)
        left = total - self.state.step if unit == "steps" else (total - self.state.seconds) / max(cpu, 1e-6)
        if left * wall < SOON_S:
            return ""
        return (
            f"fit: about {duration(left * wall)} for the {left:,.0f} steps that are left ({1e3 * wall:.0f} ms a step)."
        )


def remarks_on(labels: LabelSet, statistics: Statistics, validation: Validation, settings: FitSettings) -> list[str]:
    """What a user should know before waiting for a fit."""
    remarks = remarks_on_labels(labels)
    n_train = statistics.n_train
    if settings.hessian_weight > 0 and not statistics.n_products:
        remarks.append(f"{labels.name} has no Hessian products: fitting energies and forces only.")
    if statistics.outlier_ids:
        remarks.append(
            f"{len(statistics.outlier_ids)} of {n_train} training structures have a Hessian element above "
            f"{settings.max_hessian} eV/A^2: their Hessian is left out, their energies and forces are not."
        )
    if settings.targets == "mix":
        remarks.append(
            f"{statistics.n_own} of {n_train} training structures have labels of their own, which weigh "
            f"{settings.reference_share:g}; the energies of the student are on their scale, not the teacher's."
        )
    if settings.halve_hessian_within is not None and validation.teacher_force_mae is None:
        remarks.append(
            "The Hessian's weight will not be halved: that needs targets 'reference' or 'mix' and validation structures that have "
            "labels of their own."
        )
    if settings.compile and settings.uses_features:
        remarks.append("Node features and embeddings are read in eager steps only: compile is left out.")
    if statistics.underdetermined and len(statistics.elements) > 1:
        remarks.append(
            "The compositions of the training split do not tell the reference energies of all elements apart: "
            "forces and energy differences are not touched, but energies of other compositions will be far off."
        )
    return remarks


def duration(seconds: float) -> str:
    """Seconds for people: 40 s, 3 min, 2.5 h."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"


def _extent(state: TrainState, settings: FitSettings) -> tuple[int, str]:
    """At which step a fit ends, or after how many CPU seconds where those are limited."""
    ending = state.ending
    if ending is not None and ending.n_steps is not None:
        return ending.step + ending.n_steps, "steps"
    if ending is not None and ending.n_seconds is not None:
        return math.ceil(ending.seconds + ending.n_seconds), "CPU s"
    if settings.max_seconds is not None:
        return math.ceil(settings.max_seconds), "CPU s"
    return settings.steps, "steps"


def _done(state: TrainState, unit: str) -> int:
    return state.step if unit == "steps" else int(state.seconds)


def _shown(row: StepRow, state: TrainState) -> dict[str, float]:
    """The terms of the loss, and the best validation so far."""
    best = {"best val meV/A": state.best["force_mae_mev_per_angstrom"]} if state.best else {}
    return {**row.terms, **best}
