"""Going on with a plan that stands: the teacher must be the one that began it, in name, versions and in what it says."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from hdistill.data.errors import LabelSetError, PlanMismatch, TeacherError
from hdistill.data.format.shard import decode, select
from hdistill.data.format.shard_file import read_arrays
from hdistill.data.labelsets import agreement

from ..process.batching import n_pairs
from ..process.host import TeacherHost
from .differences import widened
from .plan import Plan, chunk_path, missing, require_same_teacher
from .prepare import loaded

TRIES = 3  # published structures, where the teacher fails on one


def require_same_labels(plan: Plan, folder: Path, host: TeacherHost, say: Callable[[str], None]) -> None:
    """Compare the loaded teacher with the plan's, and its labels of one published structure with those that are stored.

    Names and versions do not show everything: a calculator's own file, or one that it reads, may have been edited.
    Raises PlanMismatch, TeacherError.
    """
    require_same_teacher(plan, loaded(host).as_json(), folder)
    left = missing(plan, folder)
    done = sorted(set(range(plan.n_chunks)) - set(left))
    if not done:
        return
    say(f"Continuing {folder.name}/: {len(done)} of {plan.n_chunks} chunks are done.")
    allowed = widened(
        agreement.tolerance_of(plan.teacher["dtype"], plan.settings.codec),
        plan.teacher["hessian_method"],
        plan.teacher["dtype"],
    )
    for chunk in random.sample(done, min(TRIES, len(done))):
        try:
            arrays, attributes = read_arrays(chunk_path(folder, chunk))
            if attributes.get("plan") != plan.digest or not len(arrays["id"]):
                continue  # what is foreign or damaged is found, and made again, at the end
            (stored,) = decode(select(arrays, [random.randrange(len(arrays["id"]))]), 0, 1)
        except LabelSetError:
            continue
        products = stored.labels.hessian
        wanted = None if products is None else products.directions
        try:
            (again,) = plan.asking(host.label)([stored.structure], [wanted], n_pairs(stored.structure))
        except TeacherError:
            continue
        for difference in agreement.compare(stored.labels, again, allowed):
            if not difference.agrees:
                raise PlanMismatch(
                    f"{folder} was begun with a teacher that gave other labels: of structure {stored.structure.id} "
                    f"({stored.structure.group}) the {difference}. Use the teacher as it was, or another -o directory."
                )
        return
