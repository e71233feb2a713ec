"""Where training stands: weights, averaged weights, optimizer and counters, and how they are kept and restored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from hdistill.data.errors import InputError
from hdistill.data.support.publish import publish

from ..force_field.checkpoint import migrated, pack_tensors, unpack_tensors
from .settings import FitSettings

FORMAT = "hdistill training state"
VERSION = 3
COUNTERS = ("step", "seconds", "best_step", "best", "skipped", "hessian_factor")


@dataclass(frozen=True)
class Ending:
    """A fit that is to end early, with its learning rate brought down: from `step` and `seconds`, where `progress` of it was done,
    in n_steps more, or in n_seconds of CPU time. limits: the steps and max_seconds it had; with others this end is forgotten."""

    step: int
    seconds: float
    progress: float
    n_steps: int | None
    n_seconds: float | None
    limits: tuple[int, float | None]


@dataclass
class TrainState:
    """The only mutable thing of a fit. seconds: CPU time of the training steps, a mean over the ranks; best: validation of the
    best student so far; skipped: steps in a row, until now, whose gradient was not finite; hessian_factor: of the weight of the
    Hessian term, 0.5 once it is halved; ending: where the fit is to end early; maps: what is trained along and is not part of the
    student (feature_loss.py), as a rule nothing."""

    model: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_score: float = math.inf
    best: Mapping[str, Any] = field(default_factory=dict)
    skipped: int = 0
    hessian_factor: float = 1.0
    ending: Ending | None = None
    maps: nn.Module = field(default_factory=nn.ModuleDict)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that is trained: those of the student, in its order, then those of the maps."""
        return [*self.model.parameters(), *self.maps.parameters()]


def new_state(model: nn.Module, settings: FitSettings, maps: nn.Module | None = None) -> TrainState:
    """A state before its first step."""
    maps = nn.ModuleDict() if maps is None else maps
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *maps.parameters()],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        amsgrad=settings.amsgrad,
        fused=True,
    )
    return TrainState(model, AveragedModel(model, multi_avg_fn=_ema(settings.ema_decay)), optimizer, maps=maps)


def progress_of(state: TrainState, settings: FitSettings) -> float:
    """How much of the fit is done, 0 to 1: of its steps or, with max_seconds, of its seconds, whichever is more."""
    ending = state.ending
    if ending is None:
        done = state.step / settings.steps
        if settings.max_seconds is not None:
            done = max(done, state.seconds / settings.max_seconds)
        return min(1.0, done)
    if ending.n_steps is not None:
        part = (state.step - ending.step) / ending.n_steps
    else:
        assert ending.n_seconds is not None
        part = (state.seconds - ending.seconds) / ending.n_seconds
    return min(1.0, ending.progress + (1 - ending.progress) * part)


def learning_rate(state: TrainState, settings: FitSettings) -> float:
    """Linear warm-up, then a cosine of the progress, to 1 % at the end."""
    rise = min(1.0, (state.step + 1) / (settings.warmup + 1))
    return settings.learning_rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress_of(state, settings))))


def finished(state: TrainState, settings: FitSettings) -> bool:
    """Whether the steps or the seconds are used up."""
    ending = state.ending
    if ending is None:
        out_of_time = settings.max_seconds is not None and state.seconds >= settings.max_seconds
        return state.step >= settings.steps or out_of_time
    if ending.n_steps is not None:
        return state.step >= ending.step + ending.n_steps
    assert ending.n_seconds is not None
    return state.seconds >= ending.seconds + ending.n_seconds


def end_early(state: TrainState, settings: FitSettings, finish_in: int | float) -> None:
    """Let the fit end in so many steps (a whole number) or CPU seconds (a float), its learning rate falling from where it is.

    Raises InputError where it is finished, or has no time to end in.
    """
    if finished(state, settings):
        raise InputError(
            f"The fit is finished (step {state.step}); more steps make it longer, there is nothing to end early."
        )
    if not finish_in > 0:
        raise InputError(f"finish_in was {finish_in}; it must be more than 0 steps or seconds.")
    limits = settings.steps, settings.max_seconds
    steps, seconds = (finish_in, None) if isinstance(finish_in, int) else (None, finish_in)
    state.ending = Ending(state.step, state.seconds, progress_of(state, settings), steps, seconds, limits)


def packed_state(state: TrainState) -> bytes:
    """Everything needed to go on as if nothing had happened."""
    tensors = {f"model.{name}": t for name, t in state.model.state_dict().items()}
    tensors |= {f"maps.{name}": t for name, t in state.maps.state_dict().items()}
    tensors |= {f"average.{name}": t for name, t in state.average.state_dict().items()}
    for index, slots in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": t for name, t in slots.items()}
    counters = {name: getattr(state, name) for name in COUNTERS}
    score = None if math.isinf(state.best_score) else state.best_score  # JSON has no infinity
    ending = None if state.ending is None else asdict(state.ending)
    more = {"best_score": score, "ending": ending}
    return pack_tensors(tensors, {"format": FORMAT, "version": VERSION, **counters, **more})


def save_state(path: Path, state: TrainState) -> None:
    """Publish it in a file."""
    publish(path, packed_state(state), replace=True)


def restore_state(path: Path, data: bytes, state: TrainState, settings: FitSettings) -> None:
    """Put a saved state, the bytes of the file `path`, into one that new_state has just made. Raises InputError where the file is
    damaged or foreign."""
    tensors, header = unpack_tensors(data, str(path))
    header = migrated(header, FORMAT, VERSION, MIGRATIONS, str(path))
    try:
        state.model.load_state_dict(_under(tensors, "model."))
        state.average.load_state_dict(_under(tensors, "average."))
        state.maps.load_state_dict(_under(tensors, "maps."))
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _under(tensors, "optimizer.").items():
            index, slot = name.split(".")
            slots.setdefault(int(index), {})[slot] = tensor
        groups = state.optimizer.state_dict()["param_groups"]
        state.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        state.step, state.seconds = int(header["step"]), float(header["seconds"])
        state.best_step, state.best = int(header["best_step"]), dict(header["best"])
        state.skipped, state.hessian_factor = int(header["skipped"]), float(header["hessian_factor"])
        state.best_score = math.inf if header["best_score"] is None else float(header["best_score"])
        ending = header["ending"] and Ending(**header["ending"] | {"limits": tuple(header["ending"]["limits"])})
        state.ending = ending if ending and ending.limits == (settings.steps, settings.max_seconds) else None
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} does not fit this student ({reason}); remove its folder to start anew.") from error


def _without_ending(header: dict[str, Any]) -> dict[str, Any]:
    """Version 2 knew no early end."""
    return header | {"ending": None}


MIGRATIONS = {2: _without_ending}  # from a version to the next


def _under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _ema(decay: float) -> Any:
    """Exponential moving average whose memory grows with the run (a tenth of it) up to 1 / (1 - decay) steps."""

    @torch.no_grad()
    def update(averaged: list[torch.Tensor], current: list[torch.Tensor], n_averaged: torch.Tensor | int) -> None:
        n = int(n_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update
