"""The training loop, from a label set to a run folder. `fit` first, then the pieces in the order it uses them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hdistill.data.errors import HDistillError, InputError
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.sharing.cache import ShardCache
from hdistill.data.support.typed import as_json

from ..force_field.checkpoint import LAST, STUDENT, StudentCard, device_named, save_student
from ..force_field.domain import fit_domain, load_domain
from ..students.build import build
from ..students.packaged import require
from ..students.registry import size_of
from ..students.repulsion import WithRepulsion
from .data import TrainingData
from .feature_loss import feature_maps
from .gradients import gradients_for
from .interrupt import Interrupt, deferred_interrupt
from .loggers import check_loggers, open_logs
from .process_settings import TrainingClock, freed_memory_kept, tf32_allowed
from .ranks import Ranks, all_ranks, labels_of_all
from .report import Reporter, remarks_on, say
from .rows import ValidationRow
from .run_folder import begun, claim, locked
from .settings import FitSettings
from .state import TrainState, end_early, finished, new_state, restore_state, save_state
from .statistics import Statistics, keep_statistics, statistics_for
from .step import train_step
from .validation import NOTHING_TO_VALIDATE, Validation, validation_of
from .warm import FirstStudent, first_student

SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class FitResult:
    """Where a fit ended. seconds: CPU time of its training steps; n_val and validation, errors of the student that was kept: none
    where the validation split is empty, and on all ranks but the first."""

    run: Path
    steps: int
    seconds: float
    best_step: int
    n_parameters: int
    n_train: int
    n_val: int
    validation: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Run:
    """What a fit works with, all of it constant but the state."""

    out: Path
    settings: FitSettings
    ranks: Ranks
    labels: LabelSet
    statistics: Statistics
    validation: Validation
    state: TrainState
    reporter: Reporter
    begun_from: str = ""  # the student that it went on from


def fit(
    labels: Path | str,
    out: Path | str,
    settings: FitSettings,
    progress: bool = True,
    cache: ShardCache | None = None,
    loggers: Sequence[str] = (),
    finish_in: int | float | None = None,
    begin_from: Path | str | None = None,
) -> FitResult:
    """Fit a student to the training split of a label set; the best by validation is kept in the folder `out`.

    labels: a folder or an address (s3://, gs://, hf://, http(s)://), whose shards are read through the cache; loggers: where
    the rows of log.csv go, too (see loggers.py); finish_in: end in so many steps (a whole number) or CPU seconds (a float) from
    where the fit stands, with the learning rate brought down; begin_from: a run, or student file, of the same student and
    elements, whose weights and reference energies are the first ones here (warm.py).

    The same call on the same folder goes on where it stopped (Ctrl-C, kill) and on a CPU gives the same losses, bit for bit;
    with more steps it goes on from its end. Raises LabelSetError, PlanMismatch, InputError; KeyboardInterrupt once all is saved.
    """
    check_loggers(loggers)
    require(size_of(settings.student))
    with all_ranks(settings.device) as ranks, freed_memory_kept(), tf32_allowed(settings.tf32):
        run = _prepared(labels, Path(out), settings, ranks, cache, progress, first_student(begin_from))
        with _claimed(run, finish_in), deferred_interrupt() as interrupt:
            _train(run, interrupt, loggers)
            if ranks.first:
                _fit_domain(run)
        _check_end(run)
        return _result(run)


def resume(
    run: Path | str,
    labels: Path | str | None = None,
    progress: bool = True,
    cache: ShardCache | None = None,
    loggers: Sequence[str] = (),
    finish_in: int | float | None = None,
    **changes: int | float | str,
) -> FitResult:
    """Go on with a fit where it stopped, with the settings it was begun with.

    labels: where its label set is now, if it was moved; finish_in: see fit; changes: steps, max_seconds, max_edges or device,
    where others are wanted now. Raises InputError where no fit was begun in the folder.
    """
    stored = begun(Path(run))
    settings = replace(stored.settings, **changes)  # type: ignore[arg-type]
    place = stored.labels if labels is None else labels
    first = None if (Path(run) / LAST).exists() else stored.begun_from
    return fit(place, run, settings, progress, cache, loggers, finish_in, first)


def _prepared(
    labels: Path | str,
    out: Path,
    settings: FitSettings,
    ranks: Ranks,
    cache: ShardCache | None,
    progress: bool,
    first: FirstStudent | None,
) -> Run:
    """Everything a fit needs, before anything is written."""
    if settings.batch_size < ranks.count:
        raise InputError(
            f"batch_size was {settings.batch_size} for {ranks.count} ranks; each rank needs one structure a step at least."
        )
    label_set = labels_of_all(labels, cache, ranks)
    statistics = statistics_for(label_set, settings, out, ranks)
    if first is not None:
        statistics = first.statistics(statistics, settings)
    validation = validation_of(label_set, settings, statistics) if ranks.first else NOTHING_TO_VALIDATE
    state = _fresh_state(statistics, settings, ranks)
    if first is not None:
        first.give_weights(state)
    place = "" if first is None else str(first.path)
    reporter = Reporter(progress and ranks.first, settings)
    return Run(out, settings, ranks, label_set, statistics, validation, state, reporter, place)


def _fresh_state(statistics: Statistics, settings: FitSettings, ranks: Ranks) -> TrainState:
    """A student with weights drawn from the seed, before its first step."""
    device, dtype = device_named(ranks.device), getattr(torch, settings.dtype)
    size = size_of(settings.student, settings.repulsion)
    model = build(size, statistics.elements, statistics.scale, settings.seed)
    if isinstance(model, WithRepulsion) and statistics.nearest is not None:
        model.begin_below(torch.from_numpy(statistics.nearest))
    model, maps = model.to(device, dtype), None
    if statistics.features is not None:
        maps = feature_maps(model, settings, statistics.elements, statistics.features.width)
    return new_state(model, settings, maps)


@contextmanager
def _claimed(run: Run, finish_in: int | float | None) -> Iterator[None]:
    """The run's folder held by this fit alone, with what it holds of an earlier start restored on all ranks."""
    with ExitStack() as stack:

        def claimed() -> bytes:
            stack.enter_context(locked(run.out))
            claim(run.out, run.settings, run.labels, run.begun_from)
            keep_statistics(run.statistics, run.labels, run.settings, run.out)
            return (run.out / LAST).read_bytes() if (run.out / LAST).exists() else b""

        saved = run.ranks.from_first(claimed)
        if saved:
            restore_state(run.out / LAST, saved, run.state, run.settings)
        if finish_in is not None:
            end_early(run.state, run.settings, finish_in)
        yield


def _train(run: Run, interrupt: Interrupt, loggers: Sequence[str]) -> None:
    """Steps until the fit is finished or an end is asked for; validated, logged and saved on the way."""
    state, settings, ranks = run.state, run.settings, run.ranks
    if finished(state, settings):
        return
    clock, data = TrainingClock(), TrainingData(run.labels, run.statistics, settings, ranks)

    @contextmanager
    def aside() -> Iterator[None]:
        with clock.paused(), interrupt.at_once():
            yield

    gradients = gradients_for(settings, state.maps, say if ranks.first else lambda text: None, aside)
    out = run.out if ranks.first else None
    with (
        open_logs(out, settings, state, loggers) as log,
        run.reporter.bar(state) as show,
        closing(data.steps(state.step)) as steps,
    ):
        if ranks.first:
            run.reporter.remarks(remarks_on(run.labels, run.statistics, run.validation, settings))
        saved_at = time.monotonic()
        for inputs in steps:
            row = train_step(state, inputs, settings, gradients, ranks)
            stopped = _advance(state, clock, interrupt, ranks)
            with clock.paused():
                last = finished(state, settings)
                validation = _validate(run) if last or state.step % settings.validate_every == 0 else None
                log(row, validation)
                if ranks.first and (last or stopped or time.monotonic() - saved_at > SAVE_EVERY_S):
                    save_state(run.out / LAST, state)
                    saved_at = time.monotonic()
                show(row)
            if last or stopped:
                break


def _advance(state: TrainState, clock: TrainingClock, interrupt: Interrupt, ranks: Ranks) -> bool:
    """Count the CPU time of a step; returns whether any rank was asked to stop."""
    seconds, asked = ranks.mean(clock.lap(), float(interrupt.asked))
    state.seconds += seconds
    return asked > 0


def _validate(run: Run) -> ValidationRow | None:
    """Errors of the averaged student on the first rank, which keeps it where it is the best so far, or where there is nothing to
    compare, and never with weights or errors that are not finite. Where the student is as good as its teacher the Hessian's
    weight is halved, once, on all ranks."""
    state, settings, ranks = run.state, run.settings, run.ranks
    row, near = None, False
    if ranks.first:
        row = run.validation.row(state.average.module, ranks.device)
        near = run.validation.near_teacher(row, settings.halve_hessian_within)
        if row.finite and (row.errors is None or row.score < state.best_score):
            best = {} if row.errors is None else row.errors.as_json()
            state.best_step, state.best_score, state.best = state.step, row.score, best
            save_student(run.out, _card(run), state.average.module)
    if settings.halve_hessian_within is not None and state.hessian_factor == 1 and ranks.mean(float(near))[0] > 0:
        state.hessian_factor = 0.5
    return row


def _card(run: Run) -> StudentCard:
    state, settings, manifest = run.state, run.settings, run.labels.manifest
    return StudentCard(
        student=settings.student,
        size=size_of(settings.student, settings.repulsion),
        references=run.statistics.references,
        scale=run.statistics.scale,
        settings=settings.as_json(),
        label_set=run.labels.digest,
        teacher=as_json(manifest.teacher),
        licenses=as_json(manifest.licenses),
        step=state.step,
        validation=dict(state.best),
    )


def _fit_domain(run: Run) -> None:
    """The domain of the student that was kept, of a fit that was stopped, too; unless it is there."""
    if (run.out / STUDENT).exists() and load_domain(run.out) is None:
        fit_domain(run.out, run.labels, run.ranks.device, run.reporter.enabled)


def _check_end(run: Run) -> None:
    """Raise where a fit did not come to its end, or to no student."""
    run.ranks.wait()
    state, settings = run.state, run.settings
    if not finished(state, settings):
        raise KeyboardInterrupt(
            f"stopped at step {state.step} of {settings.steps}; the same command goes on from there"
        )
    if run.ranks.first and not (run.out / STUDENT).exists():
        raise HDistillError(
            f"{run.out} has no student: at no validation were its errors finite numbers. A learning rate below "
            f"{settings.learning_rate} or clip below {settings.clip} may help, in another -o folder."
        )


def _result(run: Run) -> FitResult:
    state = run.state
    return FitResult(
        run=run.out,
        steps=state.step,
        seconds=state.seconds,
        best_step=state.best_step,
        n_parameters=sum(p.numel() for p in state.model.parameters()),
        n_train=run.statistics.n_train,
        n_val=len(run.validation.samples),
        validation=dict(state.best),
    )
