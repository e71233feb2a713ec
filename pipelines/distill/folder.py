"""The result's folder: what is done has a record, written whole, and is not done again.

recipe.toml  start/  rounds/K/  labels/  run/  exam/  report/  rounds.csv
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import InputError, PlanMismatch
from hdistill.data.support.publish import publish

if TYPE_CHECKING:
    from ase import Atoms

    from .settings import DistillSettings

SETTINGS = "settings.json"
OF_THE_END = ("report",)  # settings that may be others when the same command is given again
Record = dict[str, Any]


def once(file: Path, make: Callable[[], Record]) -> Record:
    """The record in a file, made where it is missing. What `make` writes besides must bear being written again."""
    if not file.exists():
        publish(file, (json.dumps(make(), indent=1) + "\n").encode())
    try:
        record: Record = json.loads(file.read_bytes())
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error}); remove it, and the same command makes it anew.") from error
    return record


def claim(folder: Path, settings: DistillSettings, start: Sequence[str]) -> None:
    """Make the folder this run's own, or see that it is. Raises PlanMismatch where it belongs to something else."""
    file = folder / SETTINGS
    wanted = json.loads(json.dumps({"settings": settings.as_json(), "start": list(start)}))
    if not file.exists():
        if folder.exists() and (not folder.is_dir() or any(p.name != "lock" for p in folder.iterdir())):
            raise PlanMismatch(
                f"{folder} holds something that is not distillation (no {SETTINGS}); give another -o folder."
            )
        publish(file, (json.dumps(wanted, indent=1) + "\n").encode())
        return
    begun = once(file, dict)
    if begun["start"] != wanted["start"]:
        raise PlanMismatch(
            f"{folder} was begun from other structures; give the same ones to continue, or another -o folder."
        )
    for name, now in wanted["settings"].items():
        if name not in OF_THE_END and begun["settings"].get(name) != now:
            raise PlanMismatch(
                f"{folder} was begun with {name} = {begun['settings'].get(name)} and now it is {now}; give the same command to "
                "continue, or another -o folder."
            )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder; let go when the holder dies, however it dies. Raises InputError where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder} is being worked on by another process; wait for it, or give another -o folder."
            ) from None
        yield


def write_frames(file: Path, frames: Sequence[Atoms]) -> None:
    """Extended XYZ with all digits, published whole; calculators stay out of it."""
    from ..frames import extxyz_frame

    plain = [atoms.copy() for atoms in frames]
    publish(file, "".join(map(extxyz_frame, plain)).encode(), replace=True)


def read_frames(file: Path) -> list[Atoms]:
    from ase.io import read

    frames: list[Atoms] = read(file, ":", format="extxyz")
    return frames
