"""A teacher runs once over a subset: label, one share of it for a job array, and what it would take."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from hdistill.data.errors import InputError
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.run import LabelResult, RunSettings

from .arguments import Place, Subset, folder_of, parse_size, subset_names
from .before import check_label
from .options import LabelOptions, showing
from .printed import result_of
from .results import Estimate, Labelled, Share

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

Say = Callable[[str], None]


@showing(LabelSettings)
def label(
    subset: Subset,
    out: Place,
    *,
    teacher: str | Calculator,
    data: Place | None = None,
    add: str | None = None,
    extend: bool = False,
    workers: int = 2,
    threads: int = 1,
    scheduler: str | None = None,
    cluster: Place | None = None,
    teacher_python: Place | None = None,
    memory: str | int | None = None,
    deadline: float = 120.0,
    progress: bool = True,
    say: Say = print,
    **settings: Unpack[LabelOptions],
) -> Labelled:
    """Label a subset with a teacher into the directory `out`; the same call again continues what was begun, or finds it done.

    teacher: a name from teachers(), a checkpoint file, "ase:module.Class", or an ASE calculator, which is pickled for a process of its
    own. subset: files (with slices, "my.xyz@0:100"), a name from subsets(), Atoms, or a list of these. data: where the files of a named
    subset are. add: "probes:4" more of each structure than `hessian` says. extend: put the structures that the finished set in `out`
    lacks into it. cluster: a cluster file, scheduler: the address of a Dask cluster; else `workers` teachers on this machine.
    deadline: seconds that a small batch may take. say: called with each remark.

    Structures that the teacher cannot label are in quarantine, and do not raise. Raises InputError for what cannot be used,
    PlanMismatch where `out` holds something else, TeacherError.
    """
    from hdistill.labeler.extend import add as add_products, extend as extend_set
    from hdistill.labeler.run import label as label_subset

    if add is not None and extend:
        raise InputError("add and extend exclude one another; use one after the other.")
    folder = folder_of(out)
    wanted = label_settings(subset, folder, teacher, settings)
    run = run_settings(workers, threads, scheduler, cluster, teacher_python, memory, deadline, progress)
    where = None if data is None else folder_of(data)
    check_label(wanted, folder, where, run, is_new=not (add or extend))
    if add is not None:
        done = add_products(wanted, add, folder, where, run, say)
    elif extend:
        done = extend_set(wanted, folder, where, run, say)
    else:
        done = label_subset(wanted, folder, where, run, say)
    return _labelled(done)


@showing(LabelSettings)
def label_share(
    subset: Subset,
    out: Place,
    share: str,
    *,
    teacher: str | Calculator,
    data: Place | None = None,
    workers: int = 2,
    threads: int = 1,
    teacher_python: Place | None = None,
    memory: str | int | None = None,
    deadline: float = 120.0,
    progress: bool = True,
    say: Say = print,
    **settings: Unpack[LabelOptions],
) -> Share:
    """Label one share, "3/64", of a plan without a scheduler, as a task of a job array does; "0/64" makes the plan alone.

    When all shares are done, label() with the same settings finishes the set. Raises what label() raises.
    """
    from hdistill.labeler.executors.share import parse
    from hdistill.labeler.run import label_share as label_share_of

    folder = folder_of(out)
    parsed = parse(share)
    wanted = label_settings(subset, folder, teacher, settings)
    run = run_settings(workers, threads, None, None, teacher_python, memory, deadline, progress)
    where = None if data is None else folder_of(data)
    check_label(wanted, folder, where, run)
    return result_of(Share, asdict(label_share_of(wanted, folder, parsed, where, run, say)))


@showing(LabelSettings)
def estimate(
    subset: Subset,
    *,
    teacher: str | Calculator,
    data: Place | None = None,
    workers: int = 2,
    threads: int = 1,
    teacher_python: Place | None = None,
    **settings: Unpack[LabelOptions],
) -> Estimate:
    """What labelling would take, in seconds and bytes, from a few structures that are labelled; nothing is kept."""
    from hdistill.labeler.estimate import estimate as estimate_of

    with tempfile.TemporaryDirectory(prefix="hdistill-") as folder:
        wanted = label_settings(subset, Path(folder), teacher, settings)
        run = run_settings(workers, threads, None, None, teacher_python, None, 120.0, False)
        where = None if data is None else folder_of(data)
        check_label(wanted, None, where, run)
        return result_of(Estimate, estimate_of(wanted, where, run))


def label_settings(subset: Subset, folder: Path, teacher: str | Calculator, settings: LabelOptions) -> LabelSettings:
    """Raises InputError for a name that is not a setting, with the nearest one, and for a calculator that cannot be stored."""
    from hdistill.data.errors import nearest

    known = set(LabelSettings.__dataclass_fields__)
    for name in settings:
        if name not in known:
            raise InputError(f"'{name}' is not a setting of label.{nearest(name, known)}")
    given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    if not isinstance(teacher, str):
        if given.get("arguments"):
            raise InputError("arguments are for teacher='ase:module.Class'; this calculator has its own.")
        from ..live_calculator import TEACHER, stored

        given["arguments"] = stored(teacher)
        teacher = TEACHER
    return LabelSettings(teacher=teacher, subset=subset_names(subset, folder), **given)


def run_settings(
    workers: int,
    threads: int,
    scheduler: str | None,
    cluster: Place | None,
    teacher_python: Place | None,
    memory: str | int | None,
    deadline: float,
    progress: bool,
) -> RunSettings:
    """How a plan is run. Raises InputError."""
    from hdistill.labeler.executors.cluster_file import read as read_cluster

    for name, value in (("workers", workers), ("threads", threads)):
        if value < 1:
            raise InputError(f"--{name} was {value}; it must be 1 or more.")
    if not deadline > 0:
        raise InputError(f"--deadline was {deadline:g} s; it must be more than 0.")
    if scheduler is not None and cluster is not None:
        raise InputError("--scheduler is a cluster that runs, --cluster makes one; give one of them.")
    return RunSettings(
        workers=workers,
        threads=threads,
        scheduler=scheduler,
        teacher_python=None if teacher_python is None else folder_of(teacher_python),
        deadline_s=deadline,
        memory_bytes=None if memory is None else parse_size(memory, "--memory"),
        progress=progress,
        jobs=None if cluster is None or cluster == "local" else read_cluster(folder_of(cluster)),
    )


def _labelled(done: LabelResult) -> Labelled:
    from hdistill.data.support.typed import as_json

    counts, report = done.manifest.counts, done.manifest.subset.report
    return result_of(
        Labelled,
        {
            "path": done.path,
            "seconds": done.seconds,
            "n_labelled_now": done.n_labelled_now,
            "source": None if report is None else as_json(report),
            **{name: getattr(counts, name) for name in ("n_structures", "n_atoms", "n_groups", "n_quarantined")},
        },
    )
