"""What can be seen to be wrong before a teacher is loaded or a large file is read: settings, tasks, an expression, splits."""

from __future__ import annotations

from hdistill.data.errors import InputError, nearest
from hdistill.data.labelsets.split import parse_fractions
from hdistill.data.probes import parse_spec
from hdistill.data.sources.select import parse_where

from ..teachers import registry
from .plan import LabelSettings
from .space_group import require_spglib
from .spool import Spool

ONE_LEVEL_OF_THEORY = (
    "lennard_jones",
    "sevennet",
    "chgnet",
    "torchani",
    "ase",
    "outside",
)  # unless the registry lists tasks


def check_settings(settings: LabelSettings) -> None:
    """Raise InputError for settings that are wrong whatever the structures are. Takes milliseconds."""
    if parse_spec(settings.hessian).kind in ("rows", "full"):
        require_spglib()
    parse_fractions(settings.splits)
    if settings.where is not None:
        parse_where(settings.where)
    if settings.limit is not None and settings.limit < 1:
        raise InputError(f"--limit was {settings.limit}; it takes a number of structures, 1 or more.")
    if settings.diverse is not None and settings.diverse < 1:
        raise InputError(f"--diverse was {settings.diverse}; it takes a number of structures, 1 or more.")
    if settings.diverse is not None and settings.limit is not None:
        raise InputError("--limit takes structures at random and --diverse those that differ most; give one of them.")
    if settings.products not in (None, "autograd", "difference", "auto"):
        raise InputError(f"--products was '{settings.products}'; it takes autograd, difference or auto.")
    if settings.batch_edges is not None and settings.batch_edges < 1:
        raise InputError(f"--batch-edges was {settings.batch_edges}; it takes a number of pairs, 1 or more.")
    if not settings.subset:
        raise InputError("No --subset was given; name a file, or a subset from `hdistill subsets`.")
    check_task(settings.teacher, settings.task)


def check_task(teacher: str, task: str | None) -> None:
    """Raise InputError for a task that a known teacher does not have, or lacks where it must be chosen."""
    entry = registry.entry(teacher)
    tasks = [name.strip() for name in entry.task.split(",") if name.strip()]
    if not tasks:
        if task is not None and entry.family in ONE_LEVEL_OF_THEORY and teacher in registry.ENTRIES:
            raise InputError(f"{teacher} has one task only, {entry.level_of_theory}; leave out --task {task}.")
        return
    if task is None:
        raise InputError(f"{teacher} has several tasks; choose one with --task: {entry.task}.")
    if task not in tasks:
        same = [name for name in tasks if name.lower() == task.lower()]
        hint = f" Did you mean '{same[0]}'?" if same else nearest(task, tasks)
        raise InputError(f"{teacher} has no task '{task}'; there are {entry.task}.{hint}")


def require_splits(spool: Spool, settings: LabelSettings) -> None:
    """Raise InputError where the selection is too small to be split as --splits says: a student could not be fitted to it."""
    fractions = parse_fractions(settings.splits)
    n = spool.n_structures
    empty = [name for name, f in zip(("train", "val"), fractions, strict=False) if f > 0 and not spool.splits[name]]
    if empty:
        raise InputError(
            f"There {'is 1 structure' if n == 1 else f'are {n} structures'}, so the {' and '.join(empty)} split would be empty "
            "and nothing could be fitted to the set. Make more structures of it (`hdistill sample`), give more files, or say "
            "--splits 1,0,0 to label what there is, without a validation set."
        )


def charge_lines(settings: LabelSettings, n_charged: int) -> list[str]:
    """What is said where structures have a charge that the teacher does not know."""
    if not n_charged or not registry.ignores_charge(settings.teacher, settings.task):
        return []
    what = "structure is" if n_charged == 1 else "structures are"
    return [
        f"{n_charged} {what} charged, and {settings.teacher} ignores charge: it labels the same atoms without one. "
        "--where 'charge == 0' leaves them out."
    ]
