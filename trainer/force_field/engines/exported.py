"""What the exports to one file share: its name, that it is there whole or not at all, what is said of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hdistill.data.errors import InputError

from ..checkpoint import TrainedStudent
from .parity import Difference


@dataclass(frozen=True)
class Exported:
    """A file that was written: how far it is from the eager float64 student, and the wall time it took in s."""

    path: Path
    dtype: str
    difference: Difference
    seconds: float


def require_suffix(path: Path, suffix: str) -> None:
    """Raise InputError for another name: programs tell their files by it."""
    if path.suffix != suffix:
        raise InputError(f"{path} does not end in {suffix}; give the file such a name.")


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which takes its place at the end, and is gone where that does not come."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def dtype_name(trained: TrainedStudent) -> str:
    """float32 or float64: of a student as it was loaded."""
    return str(next(trained.model.parameters()).dtype).removeprefix("torch.")
