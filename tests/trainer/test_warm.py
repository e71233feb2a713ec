"""A fit that begins from a student that has learned already."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hdistill.data.errors import InputError
from hdistill.trainer.fitting.fit import FitResult, fit, resume
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.force_field.checkpoint import LAST, load_student, read_tensors
from tests.data.samples import write_label_set
from tests.trainer.structures import argon_samples

QUICK = FitSettings(student="painn-small", steps=12, warmup=2, validate_every=6, batch_size=4)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other structures of the same element, so that their own reference energy is another one."""
    folder = tmp_path_factory.mktemp("others") / "labels"
    write_label_set(folder, argon_samples(40, seed=7))
    return folder


def test_first_weights_references_and_scale_are_those_of_the_student(
    others: Path, fitted: FitResult, tmp_path: Path
) -> None:
    """With next to no learning rate the student that comes out says what the first one says."""
    still = replace(QUICK, steps=1, warmup=0, learning_rate=1e-12, weight_decay=0.0)
    went_on = fit(others, tmp_path / "run", still, progress=False, begin_from=fitted.run)
    before, after = load_student(fitted.run), load_student(went_on.run)
    assert after.card.references == before.card.references
    assert after.card.scale == before.card.scale
    for name, weights in before.model.state_dict().items():
        torch.testing.assert_close(after.model.state_dict()[name], weights, atol=1e-6, rtol=1e-5)
    anew = fit(others, tmp_path / "anew", still, progress=False)
    assert load_student(anew.run).card.references != before.card.references


def test_it_begins_where_the_other_ended(others: Path, fitted: FitResult, tmp_path: Path) -> None:
    """A few steps from there are better than the same steps from nothing."""
    warm = fit(others, tmp_path / "warm", QUICK, progress=False, begin_from=fitted.run)
    cold = fit(others, tmp_path / "cold", QUICK, progress=False)
    errors = [run.validation["force_mae_mev_per_angstrom"] for run in (warm, cold)]
    assert errors[0] < 0.7 * errors[1]


def test_resume_before_anything_was_saved_knows_where_it_began(others: Path, fitted: FitResult, tmp_path: Path) -> None:
    whole = fit(others, tmp_path / "run", QUICK, progress=False, begin_from=fitted.run)
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("settings.json", "statistics.safetensors"):
        shutil.copy(whole.run / name, killed / name)
    resume(killed, progress=False)
    one, other = (read_tensors(run / LAST)[0] for run in (whole.run, killed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_student_is_refused(others: Path, fitted: FitResult, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same kind and size"):
        fit(others, tmp_path / "run", replace(QUICK, student="moment"), progress=False, begin_from=fitted.run)
    with pytest.raises(InputError, match="holds no student"):
        fit(others, tmp_path / "run", QUICK, progress=False, begin_from=tmp_path)
    assert not (tmp_path / "run").exists()
