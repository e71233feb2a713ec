"""TensorBoard and wandb get the numbers of log.csv, in files beside it; a missing package is one sentence."""

from __future__ import annotations

import csv
import importlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from hdistill.data.errors import InputError
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.loggers import check_loggers
from hdistill.trainer.fitting.settings import FitSettings

QUICK = FitSettings(student="painn-small", steps=20, warmup=5, validate_every=10, batch_size=4)


def test_tensorboard_gets_the_rows(argon: Path, tmp_path: Path) -> None:
    """Of a run in two parts: each step once, with the values of log.csv."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    fit(argon, run, QUICK, progress=False, loggers=["tensorboard"])
    fit(argon, run, replace(QUICK, steps=30), progress=False, loggers=["tensorboard"])
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    with (run / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    for column, tag in (
        ("loss", "train/loss"),
        ("hessian", "train/hessian"),
        ("val_force_mae_mev_per_angstrom", "validation/force_mae_mev_per_angstrom"),
    ):
        actual = [(e.step, e.value) for e in events.Scalars(tag)]
        assert actual == [(int(row["step"]), pytest.approx(float(row[column]), rel=1e-6)) for row in rows]
    assert len(rows) == 3


def test_wandb_writes_offline(argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb brings 17 packages and is not part of the dev extra")
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    fit(argon, tmp_path / "run", QUICK, progress=False, loggers=["wandb"])
    (written,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"train/loss" in written.read_bytes()


def test_what_is_not_installed_is_said_before_anything_is_done(
    argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> object:
        if name in ("tensorboard", "wandb"):
            raise ImportError(f"No module named '{name}'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(InputError, match=r"No module named 'wandb'.*pip install -c constraints.txt \"\.\[wandb\]\""):
        fit(argon, tmp_path / "run", QUICK, progress=False, loggers=["wandb"])
    assert not os.path.exists(tmp_path / "run")
    with pytest.raises(InputError, match=r"no logger 'tensorbord'.*Did you mean 'tensorboard'"):
        check_loggers(["tensorbord"])


def test_without_a_logger_none_is_imported(argon: Path, tmp_path: Path) -> None:
    fit(argon, tmp_path / "run", QUICK, progress=False)
    assert not (tmp_path / "run" / "tensorboard").exists()
