"""The folder of a fit: settings.json says whose it is, log.csv what happened."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from hdistill.data.errors import InputError, PlanMismatch
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.support.publish import publish

from .settings import MAY_CHANGE, FitSettings, settings_from

SETTINGS = "settings.json"
LOG = "log.csv"
COLUMNS = (
    "step",
    "cpu_seconds",
    "learning_rate",
    "loss",
    "energy",  # eV per atom
    "forces",  # eV/A
    "stress",  # eV per atom
    "hessian",  # eV/A^2, times the scale of loss.py
    "node",  # no unit, see feature_loss.py
    "embedding",
    "gradient_norm",
    "hessian_weight",  # that now holds
    "val_energy_mae_mev_per_atom",
    "val_force_mae_mev_per_angstrom",
    "val_hessian_relative_error",
)


class Log(Protocol):
    def __call__(self, row: Mapping[str, Any]) -> None: ...


def claim(run: Path, settings: FitSettings, labels: LabelSet) -> None:
    """Make the folder this fit's own, or see that it already is. Raises PlanMismatch where it belongs to something else."""
    file = run / SETTINGS
    place = labels.address or str(labels.path.resolve())
    wanted = {"settings": settings.as_json(), "label_set": labels.digest, "labels": place}
    if not file.exists() and run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise PlanMismatch(f"{run} holds something that is no fit (it has no {SETTINGS}); give another -o folder.")
    if file.exists():
        _check_same(run, _read(file), settings, labels)
    publish(file, (json.dumps(wanted, indent=1) + "\n").encode(), replace=True)


def begun(run: Path) -> tuple[str, FitSettings]:
    """Where the label set of a run was, and its settings. Raises InputError where no fit was begun."""
    file = run / SETTINGS
    if not file.exists():
        raise InputError(f"{run} holds no fit that was begun (it has no {SETTINGS}); begin one with `hdistill fit`.")
    found = _read(file)
    return found["labels"], settings_from(found["settings"])


def _check_same(run: Path, found: Mapping[str, Any], settings: FitSettings, labels: LabelSet) -> None:
    if found["label_set"] != labels.digest:
        raise PlanMismatch(
            f"{run} was fitted to another label set ({found['labels']}, {found['label_set'][:12]}) than {labels.name} "
            f"({labels.digest[:12]}); give another -o folder."
        )
    for name in (f.name for f in fields(FitSettings)):
        before, now = found["settings"].get(name), getattr(settings, name)
        if name == "steps" and before > now:
            raise PlanMismatch(f"{run} was begun with steps = {before}; that can be raised, not lowered to {now}.")
        if before != now and name not in MAY_CHANGE:
            raise PlanMismatch(
                f"{run} was begun with {name} = {before} and now {name} = {now} was asked for; "
                "use the same value to go on, or another -o folder."
            )


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
        _ = found["settings"], found["label_set"], found["labels"]
        return found
    except (ValueError, KeyError, TypeError) as error:
        raise PlanMismatch(f"{file} is damaged ({error}); give another -o folder.") from error


@contextmanager
def open_log(run: Path | None, step: int) -> Iterator[Log]:
    """A function that appends a row to run/log.csv, or to nothing; rows after `step`, of work that was lost, are dropped first."""
    if run is None:
        yield lambda row: None
        return
    file = run / LOG
    kept = ",".join(COLUMNS) + "\n"
    if file.exists():
        header, *rows = file.read_text().splitlines(keepends=True) or [""]
        names = header.strip().split(",")  # of an earlier version, perhaps
        for row in rows:
            cells = dict(zip(names, row.strip().split(","), strict=False))
            if row.endswith("\n") and len(cells) == len(names) and int(cells["step"]) <= step:
                kept += ",".join(cells.get(name, "") for name in COLUMNS) + "\n"
    publish(file, kept.encode(), replace=True)
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")

        def write(row: Mapping[str, Any]) -> None:
            writer.writerow(row)
            stream.flush()

        yield write
