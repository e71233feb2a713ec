"""The errors that are reported are the errors there are."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from hdistill.data.errors import InputError
from hdistill.data.format.shard import read_samples
from hdistill.data.structure import HessianProducts
from hdistill.trainer.evaluation import errors as evaluate
from hdistill.trainer.evaluation.errors import evaluate_student
from hdistill.trainer.fitting.fit import FitResult
from hdistill.trainer.force_field.checkpoint import load_student
from hdistill.trainer.force_field.predict import predict
from hdistill.trainer.inputs.batch import batch_of, packed_by_atoms
from tests.data.samples import write_label_set
from tests.trainer.structures import argon_samples, crystal


def test_errors_by_hand(argon: Path, fitted: FitResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "packed_by_atoms", partial(packed_by_atoms, most=20))
    actual = evaluate_student(fitted.run, argon, "test")
    stored = [s for shard in sorted((argon / "shards").iterdir()) for s in read_samples(shard) if s.split == "test"]
    student = load_student(fitted.run)
    energies, forces, error, norm = [], [], 0.0, 0.0
    for sample in stored:
        products = sample.labels.hessian
        assert products is not None
        vectors = torch.from_numpy(products.directions.vectors(sample.structure.n_atoms))
        messages = predict(student.model, batch_of([sample.structure], student.cutoff), vectors)
        energy = messages.energy.item() + student.card.references.of(sample.structure.numbers)
        energies.append(abs(energy - sample.labels.energy) / sample.structure.n_atoms)
        forces.append(np.abs(messages.forces.numpy(force=True) - sample.labels.forces).ravel())
        assert messages.products is not None
        error += float(np.square(messages.products.numpy(force=True) - products.values).sum())
        norm += float(np.square(products.values).sum())
    assert actual["n_structures"] == len(stored) == 24
    assert actual["energy_mae_mev_per_atom"] == pytest.approx(1e3 * np.mean(energies), rel=1e-5)
    assert actual["force_mae_mev_per_angstrom"] == pytest.approx(1e3 * np.concatenate(forces).mean(), rel=1e-5)
    assert actual["hessian_relative_error"] == pytest.approx((error / norm) ** 0.5, rel=1e-5)
    assert actual["stress_mae_mev_per_angstrom3"] is None
    groups = actual["by_group"]
    assert sum(group["n_structures"] for group in groups.values()) == 24
    assert {s.structure.group for s in stored} == set(groups)


def test_a_perfect_student_has_no_errors(fitted: FitResult, tmp_path: Path) -> None:
    """Labels made by the student itself, stress included."""
    student = load_student(fitted.run)
    samples = []
    for sample in argon_samples(10):
        numbers = np.full(3, 18, np.uint8)
        structure = replace(crystal(size=5.0), numbers=numbers, group=sample.structure.group)
        products = sample.labels.hessian
        assert products is not None
        directions = replace(products.directions, signs=products.directions.signs[:, :3])  # type: ignore[index]
        vectors = torch.from_numpy(directions.vectors(3))
        messages = predict(student.model, batch_of([structure], student.cutoff), vectors, stress=True)
        assert messages.products is not None
        assert messages.stress is not None
        labels = replace(
            sample.labels,
            energy=messages.energy.item() + student.card.references.of(numbers),
            forces=messages.forces.numpy(force=True),
            stress=messages.stress[0].numpy(force=True),
            hessian=HessianProducts(directions, messages.products.numpy(force=True)),
        )
        samples.append(replace(sample, structure=structure, labels=labels))
    actual = evaluate_student(fitted.run, write_label_set(tmp_path / "labels", samples, "exact"), "train")
    assert actual["energy_mae_mev_per_atom"] < 1e-3
    assert actual["force_mae_mev_per_angstrom"] < 1e-3
    assert actual["hessian_relative_error"] < 1e-5
    assert actual["stress_mae_mev_per_angstrom3"] < 1e-4


def test_an_empty_or_unknown_split_is_refused(fitted: FitResult, tmp_path: Path) -> None:
    samples = [replace(s, split="train") for s in argon_samples(5)]
    labels = write_label_set(tmp_path / "labels", samples)
    with pytest.raises(InputError, match=r"Split 'test' of .* is empty \(structures: train 5, val 0, test 0\)"):
        evaluate_student(fitted.run, labels, "test")
    with pytest.raises(InputError, match=r"no split 'tset'.*Did you mean 'test'"):
        evaluate_student(fitted.run, labels, "tset")


def test_unknown_elements_are_left_out_and_counted(fitted: FitResult, tmp_path: Path) -> None:
    samples = argon_samples(10)
    foreign = [replace(s, structure=replace(s.structure, numbers=s.structure.numbers * 0 + 10)) for s in samples]
    mixed = write_label_set(tmp_path / "mixed", [*samples, *foreign[:3]])
    actual = evaluate_student(fitted.run, mixed, "train")
    assert actual["n_unknown_elements"] == 3
    assert actual["n_structures"] == sum(s.split == "train" for s in samples)
    with pytest.raises(InputError, match=r"element that .* was not trained on"):
        evaluate_student(fitted.run, write_label_set(tmp_path / "foreign", foreign), "train")


def test_labels_without_products(fitted: FitResult, tmp_path: Path) -> None:
    labels = write_label_set(tmp_path / "labels", argon_samples(10, "none"))
    assert evaluate_student(fitted.run, labels, "train")["hessian_relative_error"] is None
