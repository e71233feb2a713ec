"""Where the rows of log.csv go besides: TensorBoard and Weights & Biases. Both are optional packages, imported where they are used.

run/tensorboard/   event files; `tensorboard --logdir run/` shows them
run/wandb/         what wandb writes; with WANDB_MODE=offline it needs no network
"""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hdistill.data.errors import InputError, nearest

from .rows import StepRow, ValidationRow, columns
from .run_folder import Log, open_log
from .settings import FitSettings
from .state import TrainState

LOGGERS = ("tensorboard", "wandb")
LOG_EVERY = 10  # steps


def check_loggers(names: Sequence[str]) -> None:
    """Raises InputError for a logger that is not known, or whose package is not installed."""
    for name in names:
        if name not in LOGGERS:
            raise InputError(f"There is no logger '{name}'; there are {', '.join(LOGGERS)}.{nearest(name, LOGGERS)}")
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                f"The logger '{name}' needs a package that is not installed here ({error}); "
                f'`pip install -c constraints.txt ".[{name}]"` brings it, and log.csv is written without it.'
            ) from error


@contextmanager
def open_loggers(names: Sequence[str], run: Path, settings: FitSettings, step: int) -> Iterator[Log]:
    """A function that gives a row to each logger; rows after `step`, of work that was lost, are overwritten where that can be."""
    opened = {"tensorboard": _tensorboard, "wandb": _wandb}
    with ExitStack() as stack:
        logs = [stack.enter_context(opened[name](run, settings, step)) for name in dict.fromkeys(names)]

        def write(row: Mapping[str, Any]) -> None:
            for log in logs:
                log(row)

        yield write


@contextmanager
def _tensorboard(run: Path, settings: FitSettings, step: int) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run / "tensorboard"), purge_step=step + 1) as writer:

        def write(row: Mapping[str, Any]) -> None:
            for name, value in _numbers(row).items():
                writer.add_scalar(name, value, int(row["step"]))

        yield write


@contextmanager
def _wandb(run: Path, settings: FitSettings, step: int) -> Iterator[Log]:
    import wandb

    place = run.resolve()
    own = wandb.init(
        project="hdistill",
        name=place.name,
        dir=str(place),
        id=hashlib.blake2b(str(place).encode(), digest_size=8).hexdigest(),  # the same when a run goes on
        resume="allow",
        config=settings.as_json(),
    )
    try:
        yield lambda row: own.log(_numbers(row), step=int(row["step"]))
    finally:
        own.finish()


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """What can be drawn: finite numbers, "val_..." as "validation/..." and all else as "train/..."."""
    numbers = {}
    for name, value in row.items():
        if name != "step" and isinstance(value, int | float) and math.isfinite(value):
            numbers[f"validation/{name[4:]}" if name.startswith("val_") else f"train/{name}"] = float(value)
    return numbers


@contextmanager
def open_logs(
    out: Path | None, settings: FitSettings, state: TrainState, loggers: Sequence[str]
) -> Iterator[Callable[[StepRow, ValidationRow | None], None]]:
    """A function that logs every LOG_EVERY-th step and those that were validated; out: the run, None on all ranks but the first."""
    with (
        open_log(out, state.step) as log_csv,
        open_loggers(() if out is None else loggers, out or Path(), settings, state.step) as log_elsewhere,
    ):

        def log(row: StepRow, validation: ValidationRow | None) -> None:
            if out is not None and (validation is not None or state.step % LOG_EVERY == 0):
                named = columns(state.step, state.seconds, row, validation)
                log_csv(named)
                log_elsewhere(named)

        yield log
