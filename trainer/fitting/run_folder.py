"""The folder of a fit: settings.json says whose it is, log.csv what happened, lock who is at work in it."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TextIO

from hdistill.data.errors import InputError, PlanMismatch
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.support.publish import publish
from hdistill.data.support.strict_json import loads

from .settings import ADDED, MAY_CHANGE, FitSettings, settings_from

SETTINGS = "settings.json"
LOG = "log.csv"
LOCK = "lock"
VERSION = 2  # of settings.json
COLUMNS = (
    "step",
    "cpu_seconds",
    "learning_rate",
    "loss",
    "energy",  # eV per atom
    "difference",  # eV per atom, of pairs of one composition
    "atom_energy",  # eV
    "forces",  # eV/A
    "stress",  # eV per atom
    "hessian",  # eV/A^2, times the scale of loss.py
    "node",  # no unit, see feature_loss.py
    "embedding",
    "gradient_norm",
    "energy_weight",  # of the step
    "hessian_weight",
    "val_energy_mae_mev_per_atom",
    "val_force_mae_mev_per_angstrom",
    "val_hessian_relative_error",
)


class Log(Protocol):
    def __call__(self, row: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Begun:
    """What settings.json says of a fit: where its label set was, its settings, the student that its first weights are of."""

    labels: str
    settings: FitSettings
    begun_from: str | None


def claim(run: Path, settings: FitSettings, labels: LabelSet, begun_from: str = "") -> None:
    """Make the folder this fit's own, or see that it already is. Raises PlanMismatch where it belongs to something else."""
    file = run / SETTINGS
    place = labels.address or str(labels.path.resolve())
    wanted = {"version": VERSION, "settings": settings.as_json(), "label_set": labels.digest, "labels": place}
    if file.exists():
        stored = _read(file)
        _check_same(run, stored, settings, labels)
        begun_from = begun_from or stored.get("begun_from", "")
    if begun_from:
        wanted["begun_from"] = begun_from
    publish(file, (json.dumps(wanted, indent=1) + "\n").encode(), replace=True)


def begun(run: Path) -> Begun:
    """What was begun in a folder. Raises InputError where no fit was."""
    file = run / SETTINGS
    if not file.exists():
        raise InputError(f"{run} holds no fit that was begun (it has no {SETTINGS}); begin one with `hdistill fit`.")
    stored = _read(file)
    return Begun(stored["labels"], settings_from(stored["settings"]), stored.get("begun_from"))


def _check_same(run: Path, stored: Mapping[str, Any], settings: FitSettings, labels: LabelSet) -> None:
    if stored["label_set"] != labels.digest:
        raise PlanMismatch(
            f"{run} was fitted to another label set ({stored['labels']}, {stored['label_set'][:12]}) than {labels.name} "
            f"({labels.digest[:12]}); give another -o folder."
        )
    for name in (f.name for f in fields(FitSettings)):
        before, now = stored["settings"].get(name), getattr(settings, name)
        if name == "steps" and before > now:
            raise PlanMismatch(f"{run} was begun with steps = {before}; that can be raised, not lowered to {now}.")
        if before != now and name not in MAY_CHANGE:
            raise PlanMismatch(
                f"{run} was begun with {name} = {before} and now {name} = {now} was asked for; "
                "use the same value to go on, or another -o folder."
            )


def _read(file: Path) -> dict[str, Any]:
    """A settings.json in today's version. Raises PlanMismatch where it is damaged or of a later version."""
    try:
        stored: dict[str, Any] = loads(file.read_bytes())
        _ = stored["settings"], stored["label_set"], stored["labels"]
        version = stored.get("version", 1)
        while version in MIGRATIONS:
            stored, version = MIGRATIONS[version](stored), version + 1
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise PlanMismatch(f"{file} is damaged ({error}); give another -o folder.") from error
    if version != VERSION:
        raise PlanMismatch(f"{file} has version {version}; this hdistill reads {VERSION}. Use the one that wrote it.")
    return stored


def _with_added_settings(stored: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had no version, and none of the settings that came with version 2: they were off, whatever is the default now."""
    return stored | {"version": 2, "settings": ADDED | stored["settings"]}


MIGRATIONS = {1: _with_added_settings}  # from a version to the next


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold a run's folder, which is made where it is missing. Raises InputError that names who holds it already, and PlanMismatch
    where the folder is something else.

    The lock is let go when its holder dies, however it dies. On file systems without locks there is none.
    """
    if not _is_free(run):
        raise PlanMismatch(f"{run} holds something that is not a fit (it has no {SETTINGS}); give another -o folder.")
    file = run / LOCK
    run.mkdir(parents=True, exist_ok=True)
    with _opened_lock(file) as stream:
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        stream.flush()
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _is_free(run: Path) -> bool:
    """Whether a fit may be here: there is one, or nothing."""
    if not run.is_dir():
        return not run.exists()
    return (run / SETTINGS).exists() or all(path.name == LOCK for path in run.iterdir())


@contextmanager
def _opened_lock(file: Path) -> Iterator[TextIO]:
    """The lock's file, open and locked: the one that has its name, not one that its last holder has just removed."""
    while True:
        with file.open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read(200) or "another process"
                raise InputError(
                    f"{file.parent} is being fitted by {holder}; wait for it, stop it, or give another -o folder."
                ) from None
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise
            if file.exists() and os.path.samestat(os.fstat(stream.fileno()), file.stat()):
                yield stream
                return


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
