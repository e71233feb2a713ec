"""Students and training states on disk: safetensors with a JSON header inside, written whole or not at all. No pickle.

run/student.safetensors   the best student so far: weights and everything needed to use them; student.json is its header, for people
run/last.safetensors      where training stands: weights, averaged weights, optimizer state, counters
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hdistill.data.errors import InputError, nearest
from hdistill.data.support.publish import publish
from hdistill.data.support.strict_json import loads

from ..bundles import names, place_of
from ..inputs.references import References
from ..students.build import build
from ..students.sizes import StudentSize

STUDENT = "student.safetensors"
LAST = "last.safetensors"
FORMAT = "hdistill student"
VERSION = 1
MOST = {"channels": 4096, "layers": 64, "basis": 1024, "cutoff": 50.0, "max_l": 12}  # of a student's size
Migration = Callable[[dict[str, Any]], dict[str, Any]]
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


def load_student(path: Path | str, device: str = "cpu", dtype: str | None = None) -> TrainedStudent:
    """The student of a run folder, a student file or a bundle by name. Raises InputError: no student there, damaged, another version."""
    path = place_of(path)
    file = path / STUDENT if path.is_dir() else path
    if not file.exists():
        raise InputError(
            f"{path} holds no student ({STUDENT}); make one with `hdistill fit`.{nearest(str(path), names())}"
        )
    tensors, header = read_tensors(file)
    header = migrated(header, FORMAT, VERSION, {}, str(file))
    try:
        card = _card(header)
        _check_shapes(card, tensors)
        model = build(card.size, card.references.elements, card.scale)
        model.load_state_dict(tensors)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = (str(error) or repr(error)).splitlines()[0][:200]
        raise InputError(f"{file} is damaged ({reason}); restore it or fit again.") from error
    model = model.to(device_named(device), getattr(torch, dtype or card.settings["dtype"]))
    return TrainedStudent(card, model.eval().requires_grad_(False))


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> None:
    """One safetensors file that holds tensors and a JSON header, atomically replacing what was there."""
    publish(path, pack_tensors(tensors, header), replace=True)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the JSON header of a file. Raises InputError where it is damaged or not ours."""
    try:
        return unpack_tensors(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error


def pack_tensors(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> bytes:
    """The bytes of a safetensors file with these tensors and a JSON header."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(plain, {"hdistill": json.dumps(header, default=str)})


def unpack_tensors(data: bytes, name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What pack_tensors made into bytes; `name` is that of their file. Raises InputError where they are damaged or not ours."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        header = loads(loads(data[8 : 8 + length])["__metadata__"]["hdistill"])
        if not isinstance(header, dict):
            raise ValueError("its header is not an object")
        return dict(sorted(tensors.items())), header
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{name} is damaged or was not written by hdistill ({error}).") from error


def migrated(
    header: dict[str, Any], format: str, version: int, migrations: Mapping[int, Migration], name: str
) -> dict[str, Any]:
    """The header of a file in the version that is read today, by the migrations from each version to the next.

    Raises InputError for another format, and for a version that is newer or too old.
    """
    stored = header.get("version")
    while header.get("format") == format and header.get("version") in migrations:
        before = header["version"]
        header = migrations[before](header) | {"version": before + 1}
    if header.get("format") != format or header.get("version") != version:
        raise InputError(
            f"{name} is a '{header.get('format')}' of version {stored}; this hdistill reads '{format}' of version {version}."
        )
    return header


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
    """The card in a header. Raises what odd values raise, and ValueError for numbers that no student has."""
    references = header["references"]
    values = {name: header[name] for name in StudentCard.__dataclass_fields__}
    values["size"] = size = StudentSize(**header["size"])
    values["references"] = References(tuple(references["elements"]), tuple(map(float, references["energies"])))
    card = StudentCard(**values)
    for name, most in MOST.items():
        value = getattr(size, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ValueError(f"{name} = {value!r:.50}, at most {most} can be")
    elements, energies = card.references.elements, card.references.energies
    if sorted(set(elements)) != list(elements) or not set(elements) <= set(range(1, 119)):
        raise ValueError("its elements are not atomic numbers in ascending order")
    if len(energies) != len(elements) or not all(map(math.isfinite, (*energies, float(card.scale)))):
        raise ValueError("its reference energies or its scale are not finite numbers, one for each element")
    if card.settings["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype = {card.settings['dtype']!r:.50}")
    return card


def _check_shapes(card: StudentCard, tensors: Mapping[str, torch.Tensor]) -> None:
    """Compare a student of this card, built without memory for its weights, with the tensors in the file: a small file must not
    ask for gigabytes. Raises ValueError. Students of installed packages are built by their own code."""
    if card.size.package:
        return
    if card.size.layers > len(tensors):
        raise ValueError(f"{card.size.layers} layers, but {len(tensors)} tensors")
    with torch.device("meta"):
        wanted = {
            name: t.shape for name, t in build(card.size, card.references.elements, card.scale).state_dict().items()
        }
    odd = {name for name in {*wanted, *tensors} if name not in tensors or tensors[name].shape != wanted.get(name)}
    if odd:
        raise ValueError(f"{sorted(odd)[0]} is missing, or not of the shape that its card says")
