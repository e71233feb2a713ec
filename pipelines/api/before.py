"""What can be seen to be wrong before a teacher or torch is loaded: said within a second or two, and nothing is written."""

from __future__ import annotations

import time
from pathlib import Path

from hdistill.data import sources
from hdistill.data.errors import InputError, nearest
from hdistill.data.format.manifest import MANIFEST
from hdistill.data.format.schema import SPLITS
from hdistill.data.sources import Keys
from hdistill.data.sources.select import select
from hdistill.labeler.planning.early import check_settings
from hdistill.labeler.planning.plan import PLAN, LabelSettings, request_of
from hdistill.labeler.run import RunSettings
from hdistill.labeler.teachers import environments

READ_AHEAD_S = 1.0  # of CPU time: small files are read to their end, of large ones the beginning


def check_label(
    settings: LabelSettings, out: Path | None, data: Path | None, run: RunSettings, is_new: bool = True
) -> None:
    """Raise what label() would raise after loading the teacher. out None: nothing will be written."""
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; -o takes a directory.")
    request = request_of(settings)
    check_settings(settings)
    sources.files(settings.subset, data)
    begun = out is not None and is_new and ((out / PLAN).exists() or (out / MANIFEST).exists())
    if begun:  # what it was begun with is compared with the plan, which needs no teacher either
        return
    if run.scheduler is None and run.jobs is None:
        environments.interpreter(request.family, run.teacher_python)
    check_source(settings, data)


def check_source(settings: LabelSettings, data: Path | None, seconds: float = READ_AHEAD_S) -> None:
    """Read the source for so long and apply --where: formats, keys and names that are wrong are known early. Raises InputError."""
    keys = Keys(settings.energy_key, settings.forces_key, settings.stress_key, settings.group_key)
    began: float | None = None  # once the packages that read are loaded
    for _ in select(sources.read(settings.subset, data, keys), settings.where):
        began = time.process_time() if began is None else began
        if time.process_time() - began > seconds:
            return


def check_split(split: str) -> None:
    """Raise InputError for a split that no label set has."""
    if split not in SPLITS:
        raise InputError(f"There is no split '{split}'; there are {', '.join(SPLITS)}.{nearest(split, SPLITS)}")


def check_labels(labels: Path | str) -> None:
    """Raise LabelSetError where a local folder is not a label set; its bytes are hashed when it is read."""
    from hdistill.data.labelsets.label_set import open_label_set

    if isinstance(labels, Path):
        open_label_set(labels, check=False)
