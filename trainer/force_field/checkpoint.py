"""Students and training states on disk: safetensors with a JSON header inside, written whole or not at all. No pickle.

run/student.safetensors   the best student so far: weights and everything needed to use them; student.json is its header, for people
run/last.safetensors      where training stands: weights, averaged weights, optimizer state, counters
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hdistill.data.errors import InputError
from hdistill.data.support.publish import publish

from ..inputs.references import References
from ..students.build import build
from ..students.sizes import StudentSize

STUDENT = "student.safetensors"
LAST = "last.safetensors"
FORMAT = "hdistill student"
VERSION = 1
UNITS = {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3", "hessian": "eV/A^2, +d2E/dR2"}


@dataclass(frozen=True)
class StudentCard:
    """What is known of a trained student besides its weights; scale in eV; validation as in evaluate.py."""

    student: str
    size: StudentSize
    references: References
    scale: float
    settings: Mapping[str, Any]
    label_set: str  # digest
    teacher: Mapping[str, Any]
    licenses: Any
    step: int
    validation: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class TrainedStudent:
    """A student that is ready for use: its weights ask for no gradients."""

    card: StudentCard
    model: nn.Module

    @property
    def cutoff(self) -> float:
        return self.card.size.cutoff


def save_student(run: Path, card: StudentCard, model: nn.Module) -> None:
    """Publish run/student.safetensors and its readable header."""
    header = {"format": FORMAT, "version": VERSION, "units": UNITS, **asdict(card)}
    write_tensors(run / STUDENT, dict(model.state_dict()), header)
    publish(run / "student.json", (json.dumps(header, indent=1, default=str) + "\n").encode(), replace=True)


def load_student(path: Path, device: str = "cpu", dtype: str | None = None) -> TrainedStudent:
    """The student of a run folder or a student file. Raises InputError: no student there, damaged, another version."""
    file = path / STUDENT if path.is_dir() else path
    if not file.exists():
        raise InputError(f"{path} holds no student ({STUDENT}); make one with `hdistill fit`.")
    tensors, header = read_tensors(file)
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise InputError(
            f"{file} is a '{header.get('format')}' of version {header.get('version')}; "
            f"this hdistill reads '{FORMAT}' of version {VERSION}."
        )
    try:
        card = _card(header)
        model = build(card.size, card.references.elements, card.scale)
        model.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{file} is damaged ({str(error).splitlines()[0]}); restore it or fit again.") from error
    model = model.to(device_named(device), getattr(torch, dtype or card.settings["dtype"]))
    return TrainedStudent(card, model.eval().requires_grad_(False))


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> None:
    """One safetensors file that holds tensors and a JSON header, atomically replacing what was there."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    publish(path, save(plain, {"hdistill": json.dumps(header, default=str)}), replace=True)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the JSON header of a file. Raises InputError where it is damaged or not ours."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header: dict[str, Any] = json.loads(file.metadata()["hdistill"])
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118  not a dict
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged or was not written by hdistill ({error}).") from error


def device_named(name: str) -> torch.device:
    """The device, after making sure that it is there. Raises InputError."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises AssertionError where it was built without CUDA
        reason = str(error).splitlines()[0]
        raise InputError(f"The device '{name}' cannot be used here ({reason}); 'cpu' always can.") from error
    return device


def _card(header: Mapping[str, Any]) -> StudentCard:
    references = header["references"]
    values = {name: header[name] for name in StudentCard.__dataclass_fields__}
    values["size"] = StudentSize(**header["size"])
    values["references"] = References(tuple(references["elements"]), tuple(references["energies"]))
    return StudentCard(**values)
