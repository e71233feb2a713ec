"""The training loop, from a label set to a run folder. `fit` first, then the pieces in the order it uses them."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hdistill.data.errors import HDistillError, InputError
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.labelsets.stream import shuffled
from hdistill.data.sharing.cache import ShardCache
from hdistill.data.sharing.push_pull import open_labels, remarks as remarks_on
from hdistill.data.support.progress import progress as progress_bar
from hdistill.data.support.typed import as_json

from ..evaluation.errors import errors_of, joined, summary
from ..force_field.checkpoint import LAST, STUDENT, StudentCard, device_named, save_student
from ..force_field.domain import fit_domain, load_domain
from ..inputs.neighbours import nearest_pairs
from ..students.build import build
from ..students.registry import size_of
from ..students.repulsion import WithRepulsion
from .allocator import keep_freed_memory
from .feature_loss import feature_gradients, feature_maps
from .interrupt import deferred_interrupt
from .loggers import check_loggers, open_loggers
from .ranks import Ranks, all_ranks
from .run_folder import begun, claim, open_log
from .settings import FitSettings
from .state import TrainState, finished, new_state, restore_state, save_state
from .step import Gradients, eager_gradients, train_step
from .task import Task, task_of

LOG_EVERY = 10  # steps
SAVE_EVERY_S = 60.0
NEAREST_OF = 10_000  # training structures, in which the shortest distances are looked for
VALIDATION_PRODUCTS = 1  # of each structure, always the same ones


@dataclass(frozen=True)
class FitResult:
    """Where a fit ended. seconds: CPU time of its training steps; validation: errors of the student that was kept, empty where
    the validation split is, and on all ranks but the first."""

    run: Path
    steps: int
    seconds: float
    best_step: int
    n_parameters: int
    n_train: int
    n_val: int
    validation: dict[str, Any]


def fit(
    labels: Path | str,
    out: Path,
    settings: FitSettings,
    progress: bool = True,
    cache: ShardCache | None = None,
    loggers: Sequence[str] = (),
) -> FitResult:
    """Fit a student to the training split of a label set; the best by validation is kept in the folder `out`.

    labels: a folder or an address (s3://, gs://, hf://, http(s)://), whose shards are read through the cache; loggers: where
    the rows of log.csv go, too (see loggers.py).

    The same call on the same folder goes on where it stopped (Ctrl-C, kill) and on a CPU gives the same losses, bit for bit;
    with more steps it goes on from its end. Raises LabelSetError, PlanMismatch, InputError; KeyboardInterrupt once all is saved.
    """
    check_loggers(loggers)
    with all_ranks(settings.device) as ranks:
        return _fit(open_labels(labels, cache), out, settings, progress and ranks.first, ranks, loggers)


def resume(
    run: Path,
    labels: Path | str | None = None,
    progress: bool = True,
    cache: ShardCache | None = None,
    loggers: Sequence[str] = (),
    **changes: int | float | str,
) -> FitResult:
    """Go on with a fit where it stopped, with the settings it was begun with.

    labels: where its label set is now, if it was moved; changes: steps, max_seconds or device, where others are wanted now.
    Raises InputError where no fit was begun in the folder.
    """
    place, settings = begun(run)
    found = place if labels is None else labels
    return fit(found, run, replace(settings, **changes), progress, cache, loggers)  # type: ignore[arg-type]


def _fit(
    label_set: LabelSet, out: Path, settings: FitSettings, progress: bool, ranks: Ranks, loggers: Sequence[str]
) -> FitResult:
    if settings.batch_size < ranks.count:
        raise InputError(
            f"batch_size was {settings.batch_size} for {ranks.count} ranks; each rank needs one structure a step at least."
        )
    task = task_of(label_set, settings)
    state = _fresh_state(task, settings, ranks)
    if ranks.first:
        claim(out, settings, label_set)
    ranks.wait()
    if (out / LAST).exists():
        restore_state(out / LAST, state)
    for remark in _remarks(task, settings) if progress else ():
        print(remark, file=sys.stderr)
    keep_freed_memory()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.tf32
    gradients = _gradients(state, settings, progress)
    saved_at = time.monotonic()
    with (
        deferred_interrupt() as stop_asked,
        open_log(out if ranks.first else None, state.step) as log_csv,
        open_loggers(loggers if ranks.first else (), out, settings, state.step) as log_elsewhere,
        progress_bar(*_extent(settings), "fit", progress, done=_done(state, settings)) as bar,
    ):
        samples = shuffled(label_set, "train", settings.seed, state.step * settings.batch_size, task.cache)
        stopped = False
        while not finished(state, settings) and not stopped:
            done, began = _done(state, settings), _training_seconds(gradients)
            some = list(islice(samples, settings.batch_size))
            row = train_step(state, some, task, settings, gradients, ranks)
            seconds, stopping = ranks.mean(_training_seconds(gradients) - began, float(stop_asked()))
            state.seconds, stopped = state.seconds + seconds, stopping > 0
            last = finished(state, settings)
            validate = last or state.step % settings.validate_every == 0
            if ranks.first and validate:
                row |= _validate_and_keep(out, state, task, settings, ranks.device)
            if validate:
                _halve_hessian(state, row, task, settings, ranks)
            if ranks.first and (validate or state.step % LOG_EVERY == 0):
                log_csv({"step": state.step, "cpu_seconds": f"{state.seconds:.2f}"} | row)
                log_elsewhere({"step": state.step, "cpu_seconds": state.seconds} | row)
            if ranks.first and (last or stopped or time.monotonic() - saved_at > SAVE_EVERY_S):
                save_state(out / LAST, state)
                saved_at = time.monotonic()
            bar.advance(_done(state, settings) - done, **_shown(row, state))
    ranks.wait()
    if not finished(state, settings):
        raise KeyboardInterrupt(
            f"stopped at step {state.step} of {settings.steps}; the same command goes on from there"
        )
    if ranks.first and not (out / STUDENT).exists():
        raise HDistillError(
            f"{out} has no student: at no validation were its errors finite numbers. A learning rate below "
            f"{settings.learning_rate} or clip below {settings.clip} may help, in another -o folder."
        )
    if ranks.first and load_domain(out) is None:
        fit_domain(out, label_set, ranks.device)
    return _result(out, state, task)


def _fresh_state(task: Task, settings: FitSettings, ranks: Ranks) -> TrainState:
    device, dtype = device_named(ranks.device), getattr(torch, settings.dtype)
    model = build(size_of(settings.student, settings.repulsion), task.references.elements, task.scale, settings.seed)
    if isinstance(model, WithRepulsion):
        some = islice(shuffled(task.labels, "train", 0, cache=task.cache), min(task.n_train, NEAREST_OF))
        nearest = nearest_pairs((sample.structure for sample in some), task.cutoff, task.edges)
        model.begin_below(torch.from_numpy(nearest))
    model, maps = model.to(device, dtype), None
    if task.features is not None:
        maps = feature_maps(model, settings, task.references.elements, task.features.width)
    return new_state(model, settings, maps)


def _gradients(state: TrainState, settings: FitSettings, progress: bool) -> Gradients:
    if settings.uses_features:
        assert isinstance(state.maps, nn.ModuleDict)
        return feature_gradients(state.maps, settings)
    eager = eager_gradients(settings.product_method, settings.hessian_norm)
    if not settings.compile:
        return eager
    from .compiled import CompiledGradients

    return CompiledGradients(settings, eager, lambda text: print(text, file=sys.stderr) if progress else None)


def _training_seconds(gradients: Gradients) -> float:
    """CPU time of this process but for what a compiler took of it."""
    return time.process_time() - getattr(gradients, "seconds", 0.0)


def _remarks(task: Task, settings: FitSettings) -> list[str]:
    """What a user should know before waiting for a fit."""
    remarks = remarks_on(task.labels)
    if settings.hessian_weight > 0 and not task.has_products:
        remarks.append(f"{task.labels.name} has no Hessian products: fitting energies and forces only.")
    if task.freaks:
        remarks.append(
            f"{len(task.freaks)} of {task.n_train} training structures have a Hessian element above {settings.max_hessian} eV/A^2: "
            "their Hessian is left out, their energies and forces are not."
        )
    if settings.targets == "mix":
        remarks.append(
            f"{task.n_own} of {task.n_train} training structures have labels of their own, which weigh "
            f"{settings.reference_share:g}; the energies of the student are on their scale, not the teacher's."
        )
    if settings.halve_hessian_within is not None and task.teacher_force_mae is None:
        remarks.append(
            "The Hessian's weight will not be halved: that needs targets 'reference' or 'mix' and validation structures that have "
            "labels of their own."
        )
    if settings.compile and settings.uses_features:
        remarks.append("Node features and embeddings are read in eager steps only: compile is left out.")
    if task.underdetermined:
        remarks.append(
            "The compositions of the training split do not tell the reference energies of all elements apart: "
            "forces are not touched, but energies of other compositions will be far off."
        )
    return remarks


def _validate_and_keep(out: Path, state: TrainState, task: Task, settings: FitSettings, device: str) -> dict[str, Any]:
    """Errors of the averaged student on the validation structures; it is kept where it is the best so far, or where there is
    nothing to tell, and never with weights or errors that are no numbers. The score is force MAE + energy MAE per atom, in meV and A."""
    model = state.average.module
    found: dict[str, Any] = {}
    if task.validation:
        rows = errors_of(model, task.cutoff, task.references, task.validation, task.judged, VALIDATION_PRODUCTS, device)
        found = summary(joined(list(rows)))
    score = sum(found.get(name, 0.0) for name in ("force_mae_mev_per_angstrom", "energy_mae_mev_per_atom"))
    finite = all(bool(torch.isfinite(p).all()) for p in model.parameters())
    if finite and (score < state.best_score or not found):
        state.best_step, state.best_score, state.best = state.step, score, found
        save_student(out, _card(state, task, settings), model)
    return {f"val_{name}": value for name, value in found.items()}


def _halve_hessian(state: TrainState, row: dict[str, Any], task: Task, settings: FitSettings, ranks: Ranks) -> None:
    """Halve the weight of the Hessian term, once, where the student's forces are about as good as the teacher's (section 4 of
    Amin et al.): what it could still learn is wrong from there on. All ranks hear of it from the first, which validates."""
    row["hessian_weight"] = settings.hessian_weight * state.hessian_factor
    if task.teacher_force_mae is None or settings.halve_hessian_within is None or state.hessian_factor < 1:
        return
    allowed = 1e3 * task.teacher_force_mae * (1 + settings.halve_hessian_within)
    near = ranks.first and row["val_force_mae_mev_per_angstrom"] <= allowed
    (said,) = ranks.mean(float(near))
    if said > 0:
        state.hessian_factor = 0.5


def _card(state: TrainState, task: Task, settings: FitSettings) -> StudentCard:
    manifest = task.labels.manifest
    return StudentCard(
        student=settings.student,
        size=size_of(settings.student, settings.repulsion),
        references=task.references,
        scale=task.scale,
        settings=settings.as_json(),
        label_set=task.labels.digest,
        teacher=as_json(manifest.teacher),
        licenses=as_json(manifest.licenses),
        step=state.step,
        validation=dict(state.best),
    )


def _extent(settings: FitSettings) -> tuple[int, str]:
    """How long the fit is, for the progress bar: in CPU seconds where those are limited, else in steps."""
    if settings.max_seconds is not None:
        return math.ceil(settings.max_seconds), "CPU s"
    return settings.steps, "steps"


def _done(state: TrainState, settings: FitSettings) -> int:
    return state.step if settings.max_seconds is None else int(state.seconds)


def _shown(row: dict[str, Any], state: TrainState) -> dict[str, float]:
    """What the progress bar shows: the parts of the loss, and the best validation so far."""
    names = ("energy", "forces", "stress", "hessian", "node", "embedding")
    shown: dict[str, float] = {name: row[name] for name in names if name in row}
    if state.best:
        shown["best val meV/A"] = state.best["force_mae_mev_per_angstrom"]
    return shown


def _result(out: Path, state: TrainState, task: Task) -> FitResult:
    return FitResult(
        run=out,
        steps=state.step,
        seconds=state.seconds,
        best_step=state.best_step,
        n_parameters=sum(p.numel() for p in state.model.parameters()),
        n_train=task.n_train,
        n_val=len(task.validation),
        validation=dict(state.best),
    )
