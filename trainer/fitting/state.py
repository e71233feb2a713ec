"""Where training stands: weights, averaged weights, optimizer and counters, and how they are kept and found again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from hdistill.data.errors import InputError

from ..force_field.checkpoint import read_tensors, write_tensors
from .settings import FitSettings

FORMAT = "hdistill training state"
VERSION = 2


@dataclass
class TrainState:
    """The only mutable thing of a fit. seconds: CPU time of the training steps, a mean over the ranks; best: validation of the
    best student so far; skipped: steps in a row, until now, whose gradient was no number; hessian_factor: of the weight of the
    Hessian term, 0.5 once it is halved; maps: what is trained along and is no part of the student (features.py), as a rule nothing."""

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


def learning_rate(state: TrainState, settings: FitSettings) -> float:
    """Linear warm-up, then a cosine to 1 % at the last step or, with max_seconds, at the last second, whichever is nearer."""
    done = state.step / settings.steps
    if settings.max_seconds is not None:
        done = max(done, state.seconds / settings.max_seconds)
    rise = min(1.0, (state.step + 1) / (settings.warmup + 1))
    return settings.learning_rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def finished(state: TrainState, settings: FitSettings) -> bool:
    """Whether the steps or the seconds are used up."""
    out_of_time = settings.max_seconds is not None and state.seconds >= settings.max_seconds
    return state.step >= settings.steps or out_of_time


def save_state(path: Path, state: TrainState) -> None:
    """Publish everything needed to go on as if nothing had happened."""
    tensors = {f"model.{name}": t for name, t in state.model.state_dict().items()}
    tensors |= {f"maps.{name}": t for name, t in state.maps.state_dict().items()}
    tensors |= {f"average.{name}": t for name, t in state.average.state_dict().items()}
    for index, slots in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": t for name, t in slots.items()}
    names = ("step", "seconds", "best_step", "best", "skipped", "hessian_factor")
    counters = {name: getattr(state, name) for name in names}
    score = None if math.isinf(state.best_score) else state.best_score  # JSON has no infinity
    write_tensors(path, tensors, {"format": FORMAT, "version": VERSION, **counters, "best_score": score})


def restore_state(path: Path, state: TrainState) -> None:
    """Put a saved state into one that new_state has just made. Raises InputError where the file is damaged or foreign."""
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise InputError(f"{path} is no {FORMAT} of version {VERSION}; remove its folder to start anew.")
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
        state.best_step, state.best = int(header["best_step"]), header["best"]
        state.skipped, state.hessian_factor = int(header["skipped"]), float(header["hessian_factor"])
        state.best_score = math.inf if header["best_score"] is None else float(header["best_score"])
    except (KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} does not fit this student ({reason}); remove its folder to start anew.") from error


def _under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _ema(decay: float) -> Any:
    """Exponential moving average whose memory grows with the run (a tenth of it) up to 1 / (1 - decay) steps."""

    @torch.no_grad()
    def update(averaged: list[torch.Tensor], current: list[torch.Tensor], n_averaged: torch.Tensor | int) -> None:
        n = int(n_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update
