"""From start structures to a verified force field."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from hdistill.data.errors import InputError

from .arguments import Place, Subset, folder_of, numbers_of
from .labelling import run_settings
from .printed import result_of
from .results import Distilled


def distill(
    start: Subset = (),
    out: Place = "distilled",
    *,
    teacher: str | None = None,
    temperature: float | Sequence[float] | None = None,
    pressure: float | Sequence[float] | None = None,
    frames: Subset = (),
    budget: str | int | None = None,
    structures: int | None = None,
    accuracy: str | None = None,
    recipe: Place | None = None,
    device: str = "cpu",
    workers: int = 2,
    threads: int = 1,
    scheduler: str | None = None,
    cluster: Place | None = None,
    teacher_python: Place | None = None,
    memory: str | int | None = None,
    deadline: float = 120.0,
    progress: bool = True,
    say: Callable[[str], None] = print,
    **settings: Any,
) -> Distilled:
    """Distil a teacher into a student for given structures and conditions, in rounds of dynamics, labels and training, into `out`:
    labels/, run/, report/, rounds.csv, recipe.toml. The same call goes on where it was stopped, or finds it done.

    start: files, Atoms or SMILES, or a list of these. temperature: K, of the dynamics; pressure: GPa, of dynamics of crystals with a free
    cell, besides. frames: structures of your own that are labelled first. budget: of the teacher's time ("20min"; 5min where neither
    it nor `structures` is given), structures: labelled in all. accuracy: "30meV,5%,20ps": the force error in meV/A or as a share of the
    forces' root mean square, whichever is more, and how long every replica must stay whole. recipe: the recipe.toml of another run,
    or the name of one that comes with the package (organics); what is given beside it wins. settings: those of DistillSettings
    (docs/distill.md). device, workers to deadline: as of label().

    Raises InputError for what cannot be used, PlanMismatch where `out` holds something else, TeacherError.
    """
    from ..distill.rounds import run_rounds
    from ..distill.settings import parse_accuracy, read_recipe, settings_from
    from ..distill.start import read_start
    from ..distill.teach import Work, require_teacher
    from ..recipe import BUNDLES, recipe_file

    given, own = _listed(start), _listed(frames)
    values: dict[str, Any] = {}
    if recipe is not None:
        start_files, own_files, values = read_recipe(recipe_file(folder_of(recipe), BUNDLES))
        given, own = given or start_files, own or own_files
    named = {
        "teacher": teacher,
        "temperatures": None if temperature is None else numbers_of(temperature),
        "pressures": None if pressure is None else numbers_of(pressure),
        "structures": structures,
    }
    values |= {name: value for name, value in named.items() if value is not None}
    values |= settings
    if budget is not None:
        values["budget_s"] = _seconds(budget)
    if accuracy is not None:
        values |= parse_accuracy(accuracy)
    wanted = settings_from(values)
    run = run_settings(workers, threads, scheduler, cluster, teacher_python, memory, deadline, progress)
    require_teacher(wanted, run)
    starts = read_start(given, wanted.teacher, wanted.pressures)
    owned = read_start(own, wanted.teacher) if own else []
    figures = run_rounds(starts, owned, folder_of(out), wanted, Work(run, device, progress, say))
    return result_of(Distilled, figures)


def _listed(given: Subset) -> list[Any]:
    from ase import Atoms

    items: list[Any] = [given] if isinstance(given, str | os.PathLike | Atoms) else [*given]
    return [item if isinstance(item, Atoms) else os.fspath(item) for item in items]


def _seconds(budget: str | int) -> float:
    """'20min' or a number of seconds. Raises InputError."""
    from .arguments import parse_extent

    if isinstance(budget, int | float):
        return float(budget)
    extent = parse_extent(budget, "--budget")
    if isinstance(extent, int):
        raise InputError(f"--budget was '{budget}'; it takes the teacher's time, such as 90s, 20min or 2h.")
    return extent
