"""Students and training states on disk."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch

from hdistill.data.errors import InputError
from hdistill.trainer.fitting.fit import FitResult
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.fitting.state import new_state, restore_state
from hdistill.trainer.force_field import checkpoint
from hdistill.trainer.force_field.checkpoint import LAST, STUDENT, load_student, read_tensors, write_tensors
from hdistill.trainer.force_field.predict import predict
from hdistill.trainer.inputs.batch import batch_of
from hdistill.trainer.students.sizes import SIZES
from tests.trainer.structures import argon_samples, saved_student, student


def test_round_trip(fitted: FitResult, tmp_path: Path) -> None:
    first = load_student(fitted.run)
    checkpoint.save_student(tmp_path, first.card, first.model)
    second = load_student(tmp_path / STUDENT)
    assert second.card == first.card
    assert (tmp_path / STUDENT).read_bytes() == (fitted.run / STUDENT).read_bytes()
    structure = argon_samples(1)[0].structure
    a, b = (predict(s.model, batch_of([structure], s.cutoff)) for s in (first, second))
    assert torch.equal(a.energy, b.energy)
    assert torch.equal(a.forces, b.forces)


def test_the_readable_header_is_the_one_inside(fitted: FitResult) -> None:
    _, header = read_tensors(fitted.run / STUDENT)
    assert json.loads((fitted.run / "student.json").read_text()) == header


def test_the_student_that_is_kept_is_the_averaged_one(fitted: FitResult) -> None:
    kept, _ = read_tensors(fitted.run / STUDENT)
    last, _ = read_tensors(fitted.run / LAST)
    assert fitted.best_step == fitted.steps  # else the two are of different steps
    for name, tensor in kept.items():
        assert torch.equal(tensor, last[f"average.module.{name}"])
    assert any(not torch.equal(kept[name], last[f"model.{name}"]) for name in kept)


def test_dtype_can_be_chosen(fitted: FitResult) -> None:
    structure = argon_samples(1)[0].structure
    rough, fine = (load_student(fitted.run, dtype=name) for name in ("float32", "float64"))
    a, b = (predict(s.model, batch_of([structure], s.cutoff)).forces for s in (rough, fine))
    assert not torch.equal(a, b)
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_what_is_no_student_is_refused(fitted: FitResult, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no student.*hdistill fit"):
        load_student(tmp_path)
    with pytest.raises(InputError, match="is a 'hdistill training state'"):
        load_student(fitted.run / LAST)
    whole = (fitted.run / STUDENT).read_bytes()
    for name, data in {"empty": b"", "cut": whole[:-100], "text": b"hello" * 100, "head": whole[:50]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match="damaged or was not written by hdistill"):
            load_student(tmp_path / name)


def test_another_version_and_missing_weights_are_refused(fitted: FitResult, tmp_path: Path) -> None:
    tensors, header = read_tensors(fitted.run / STUDENT)
    write_tensors(tmp_path / "new.safetensors", tensors, header | {"version": 99})
    with pytest.raises(InputError, match="of version 99; this hdistill reads"):
        load_student(tmp_path / "new.safetensors")
    tensors.popitem()
    write_tensors(tmp_path / "less.safetensors", tensors, header)
    with pytest.raises(InputError, match="is damaged"):
        load_student(tmp_path / "less.safetensors")
    size = header["size"] | {"architecture": "transformer"}
    write_tensors(tmp_path / "other.safetensors", tensors, header | {"size": size})
    with pytest.raises(InputError, match="no student architecture 'transformer'"):
        load_student(tmp_path / "other.safetensors")


def test_a_state_of_another_student_is_refused(fitted: FitResult) -> None:
    state = new_state(student("painn", elements=(18,)), FitSettings())
    with pytest.raises(InputError, match="does not fit this student"):
        restore_state(fitted.run / LAST, (fitted.run / LAST).read_bytes(), state, FitSettings())
    with pytest.raises(InputError, match="this hdistill reads 'hdistill training state'"):
        restore_state(fitted.run / STUDENT, (fitted.run / STUDENT).read_bytes(), state, FitSettings())


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"size": {"layers": 10**7}}, "layers = 10000000, at most 64 can be"),
        ({"size": {"layers": 60}}, r"60 layers, but \d+ tensors"),
        ({"size": {"channels": 4096}}, "is missing, or not of the shape that its card says"),
        ({"size": {"channels": "many"}}, "channels = 'many'"),
        ({"size": {"cutoff": float("nan")}}, "cutoff = nan"),
        ({"size": {"depth": 3}}, "unexpected keyword argument 'depth'"),
        ({"references": {"elements": [18, 1], "energies": [0, 0]}}, "not atomic numbers in ascending order"),
        ({"references": {"elements": [18], "energies": []}}, "not finite numbers, one for each element"),
        ({"references": None}, "is damaged"),
        ({"scale": "big"}, "is damaged"),
        ({"settings": []}, "is damaged"),
        ({"settings": {"dtype": "float7"}}, "dtype = 'float7'"),
    ],
)
def test_odd_cards_are_one_sentence(fitted: FitResult, tmp_path: Path, change: dict[str, Any], wanted: str) -> None:
    """Before memory is taken for what they ask for."""
    tensors, header = read_tensors(fitted.run / STUDENT)
    for name, value in change.items():
        header[name] = header[name] | value if name == "size" else value
    write_tensors(tmp_path / "odd.safetensors", tensors, header)
    tracemalloc.start()
    with pytest.raises(InputError, match=rf"is damaged \(.*{wanted}|{wanted}"):
        load_student(tmp_path / "odd.safetensors")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize("name", SIZES)
def test_every_student_is_compared_before_it_is_built(name: str, tmp_path: Path) -> None:
    saved_student(tmp_path / "run", SIZES[name], name)
    assert load_student(str(tmp_path / "run")).card.student == name
