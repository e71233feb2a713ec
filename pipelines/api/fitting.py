"""Students from label sets: fit one, go on with it, load it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Unpack

from hdistill.trainer.fitting.settings import FitSettings

from ..recipe import fit_settings
from .arguments import Labels, Place, cache_of, folder_of, labels_place, parse_extent, run_place
from .before import check_labels
from .options import FitOptions, ResumeOptions, showing
from .printed import result_of
from .results import Fitted

if TYPE_CHECKING:
    from hdistill.trainer.force_field.checkpoint import TrainedStudent


@showing(FitSettings)
def fit(
    labels: Labels,
    out: Place,
    *,
    recipe: Place | None = None,
    log: Sequence[str] = (),
    cache: Place | None = None,
    cache_size: str | int = "10GB",
    progress: bool = True,
    begin_from: Place | None = None,
    **settings: Unpack[FitOptions],
) -> Fitted:
    """Fit a student to a label set into the run folder `out`; the same call again goes on where it stopped.

    labels: a folder, the result of label(), or an address (s3://, gs://, hf://, https://), whose shards are kept in `cache` up to
    `cache_size`. recipe: "paper", "paper-mptrj" or a TOML file; settings given here win. log: "tensorboard", "wandb", where the
    rows of log.csv go, too. begin_from: a run of the same student and elements, whose weights are the first ones.

    Raises InputError, LabelSetError, PlanMismatch; KeyboardInterrupt once all is saved.
    """
    place = labels_place(labels)
    wanted = fit_settings(None if recipe is None else str(folder_of(recipe)), dict(settings))
    check_labels(place)
    from hdistill.trainer.fitting.fit import fit as run_fit

    first = None if begin_from is None else folder_of(begin_from)
    at_hand = cache_of(place, cache, cache_size)
    done = run_fit(place, folder_of(out), wanted, progress, at_hand, log, begin_from=first)
    return result_of(Fitted, asdict(done))


def resume(
    run: Place,
    labels: Labels | None = None,
    *,
    log: Sequence[str] = (),
    cache: Place | None = None,
    cache_size: str | int = "10GB",
    progress: bool = True,
    finish_in: int | str | None = None,
    **changes: Unpack[ResumeOptions],
) -> Fitted:
    """Go on with a fit where it stopped, with the settings it was begun with.

    labels: where its label set is now, if it was moved; finish_in: end in so many more steps, or in "60s", "10min" of CPU time, with
    the learning rate brought down; changes: steps, max_seconds, max_edges, device, where others are wanted. Raises InputError where
    no fit was begun in the folder.
    """
    place = None if labels is None else labels_place(labels)
    if place is not None:
        check_labels(place)
    from hdistill.trainer.fitting.fit import resume as run_resume

    at_hand = None if place is None else cache_of(place, cache, cache_size)
    given: dict[str, Any] = dict(changes)
    if finish_in is not None:
        given["finish_in"] = parse_extent(finish_in, "--finish-in")
    return result_of(Fitted, asdict(run_resume(folder_of(run), place, progress, at_hand, log, **given)))


def load_student(run: Place, device: str = "cpu", dtype: str | None = None) -> TrainedStudent:
    """The student of a run folder or a student file or a bundle: its card (settings, elements, teacher, licences) and its torch module.

    Raises InputError: no student there, damaged, of another version. For energies and forces use HDistillCalculator.
    """
    from hdistill.trainer.force_field.checkpoint import load_student as load

    return load(run_place(run), device, dtype)
