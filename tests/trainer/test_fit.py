"""The training loop: it learns, the Hessian term helps, and however it is stopped it goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hdistill.data.errors import HDistillError, InputError, LabelSetError, PlanMismatch
from hdistill.trainer.evaluation.errors import evaluate_student
from hdistill.trainer.fitting import fit as fit_module
from hdistill.trainer.fitting.fit import FitResult, fit, resume
from hdistill.trainer.fitting.settings import FitSettings, settings_from
from hdistill.trainer.fitting.state import learning_rate, new_state
from hdistill.trainer.force_field.checkpoint import LAST, STUDENT, load_student, read_tensors
from hdistill.trainer.force_field.domain import DOMAIN
from tests.data.samples import write_label_set
from tests.trainer.structures import argon_samples, student

QUICK = FitSettings(student="painn-small", steps=24, warmup=5, validate_every=10, batch_size=4)


def rows(run: Path) -> list[list[str]]:
    """The log without its times."""
    lines = [line.split(",") for line in (run / "log.csv").read_text().splitlines()]
    clock = lines[0].index("cpu_seconds")
    return [line[:clock] + line[clock + 1 :] for line in lines]


def same_state(one: Path, other: Path) -> bool:
    """Whether two runs stand at the same bits; seconds apart."""
    (a, header_a), (b, header_b) = read_tensors(one / LAST), read_tensors(other / LAST)
    times = {"seconds": 0.0}
    equal = set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)
    return equal and header_a | times == header_b | times


def test_fit_learns(argon: Path, fitted: FitResult) -> None:
    actual = evaluate_student(fitted.run, argon, "test")
    forces = np.concatenate([s.labels.forces for s in argon_samples(120) if s.split == "test"])
    assert actual["force_mae_mev_per_angstrom"] < 0.3 * 1e3 * np.abs(forces).mean()
    assert actual["hessian_relative_error"] < 0.5
    assert fitted.steps == 150
    assert fitted.n_train == 84
    assert fitted.n_val == 12
    assert fitted.seconds > 0
    assert fitted.validation["force_mae_mev_per_angstrom"] > 0


def test_the_run_folder_has_what_it_should(fitted: FitResult) -> None:
    assert {p.name for p in fitted.run.iterdir()} == {
        *("settings.json", "log.csv", "statistics.safetensors"),
        *(STUDENT, "student.json", LAST, DOMAIN),
    }
    lines = rows(fitted.run)
    assert lines[0][:3] == ["step", "learning_rate", "loss"]
    assert [int(line[0]) for line in lines[1:]] == list(range(10, 151, 10))
    validated = [line[0] for line in lines[1:] if line[-1]]
    assert validated == ["50", "100", "150"]
    messages = json.loads((fitted.run / "student.json").read_text())
    assert messages["references"]["elements"] == [18]
    assert messages["step"] == fitted.best_step
    assert messages["units"]["forces"] == "eV/A"


def test_the_hessian_term_lowers_the_hessian_error(argon: Path, fitted: FitResult, tmp_path: Path) -> None:
    settings = FitSettings(
        student="painn-small", steps=150, warmup=10, validate_every=50, batch_size=8, hessian_weight=0.0
    )
    plain = fit(argon, tmp_path / "plain", settings, progress=False)
    with_term, without = (evaluate_student(r.run, argon, "test")["hessian_relative_error"] for r in (fitted, plain))
    assert with_term < 0.8 * without


def test_the_same_call_gives_the_same_bits(argon: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    fit(argon, tmp_path / "one", QUICK, progress=False)
    torch.manual_seed(2)  # nothing may depend on the global state
    np.random.seed(3)  # noqa: NPY002
    fit(argon / "shards", tmp_path / "two", QUICK, progress=False)
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    assert same_state(tmp_path / "one", tmp_path / "two")
    other = fit(argon, tmp_path / "other", replace(QUICK, seed=1), progress=False)
    assert rows(other.run) != rows(tmp_path / "one")


@pytest.mark.parametrize("stop_after", [1, 10, 17])
def test_ctrl_c_and_resume_give_the_same_bits(
    argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    """A SIGINT in the middle of a step: the step is finished, everything is saved, and the same call goes on."""
    whole = fit(argon, tmp_path / "whole", QUICK, progress=False)
    before = signal.getsignal(signal.SIGINT)
    step = fit_module.train_step

    def interrupted(state, *rest):  # type: ignore[no-untyped-def]
        if state.step == stop_after - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(state, *rest)

    monkeypatch.setattr(fit_module, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt, match=f"stopped at step {stop_after} of 24"):
        fit(argon, tmp_path / "run", QUICK, progress=False)
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is before
    resumed = fit(argon, tmp_path / "run", QUICK, progress=False)
    assert rows(resumed.run) == rows(whole.run)
    assert same_state(resumed.run, whole.run)
    assert (resumed.run / STUDENT).read_bytes() == (whole.run / STUDENT).read_bytes()


def test_kill_9_and_resume_give_the_same_bits(argon: Path, tmp_path: Path) -> None:
    """Killed at a random moment of real life: what was logged after the last save is dropped and done again."""
    code = (
        "import sys, pathlib\nfrom hdistill.trainer.fitting import fit as f\nfrom hdistill.trainer.fitting.settings import FitSettings\n"
        "f.SAVE_EVERY_S = 0.05\n"
        "f.fit(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), FitSettings(student='painn-small', steps=24, warmup=5,"
        " validate_every=10, batch_size=4), progress=False)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(argon), str(tmp_path / "run")])
    log = tmp_path / "run" / "log.csv"
    deadline = time.monotonic() + 60
    while (not log.exists() or log.read_text().count("\n") < 2) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.kill()
    child.wait()
    with log.open("a") as stream:
        stream.write("23,9.9")  # half a row
    resumed = fit(argon, tmp_path / "run", QUICK, progress=False)
    whole = fit(argon, tmp_path / "whole", QUICK, progress=False)
    assert rows(resumed.run) == rows(whole.run)
    assert same_state(resumed.run, whole.run)


def test_a_finished_fit_is_not_repeated_but_can_be_made_longer(argon: Path, tmp_path: Path) -> None:
    first = fit(argon, tmp_path / "run", QUICK, progress=False)
    before = (tmp_path / "run" / LAST).read_bytes()
    assert fit(argon, tmp_path / "run", QUICK, progress=False) == first
    assert (tmp_path / "run" / LAST).read_bytes() == before
    longer = fit(argon, tmp_path / "run", replace(QUICK, steps=30), progress=False)
    assert longer.steps == 30
    assert [line[0] for line in rows(longer.run)[1:]] == ["10", "20", "24", "30"]


def test_another_fit_in_the_folder_is_refused(argon: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(argon, run, replace(QUICK, steps=2), progress=False)
    with pytest.raises(PlanMismatch, match=r"begun with batch_size = 4 and now batch_size = 5"):
        fit(argon, run, replace(QUICK, batch_size=5), progress=False)
    with pytest.raises(PlanMismatch, match=r"steps = 2; that can be raised, not lowered to 1"):
        fit(argon, run, replace(QUICK, steps=1), progress=False)
    other = write_label_set(tmp_path / "other", argon_samples(20, seed=5))
    with pytest.raises(PlanMismatch, match="fitted to another label set"):
        fit(other, run, replace(QUICK, steps=2), progress=False)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    with pytest.raises(PlanMismatch, match="something that is not a fit"):
        fit(argon, tmp_path / "thesis", QUICK, progress=False)


def test_a_time_budget_ends_the_fit_and_its_learning_rate(argon: Path, tmp_path: Path) -> None:
    settings = replace(QUICK, steps=100_000, max_seconds=0.4)
    result = fit(argon, tmp_path / "run", settings, progress=False)
    assert 0.4 <= result.seconds < 2.0
    assert 1 < result.steps < 100_000
    rates = [float(line[1]) for line in rows(result.run)[1:]]
    assert rates[-1] < 0.3 * settings.learning_rate


def test_learning_rate_rises_and_falls(argon: Path) -> None:
    settings = FitSettings(steps=1000, warmup=50, learning_rate=1.0)
    state = new_state(student("painn-small"), settings)
    actual = {}
    for state.step in (0, 24, 50, 525, 999):
        actual[state.step] = learning_rate(state, settings)
    assert actual[0] == pytest.approx(1 / 51, rel=1e-3)
    assert actual[24] == pytest.approx(25 / 51, rel=1e-2)
    assert actual[50] == pytest.approx(1.0, rel=1e-2)
    assert actual[525] == pytest.approx(0.47, abs=0.01)
    assert actual[999] == pytest.approx(0.01, rel=1e-2)


def test_labels_without_products_are_fitted_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = write_label_set(tmp_path / "labels", argon_samples(20, "none"))
    result = fit(labels, tmp_path / "run", replace(QUICK, steps=3))
    assert "no Hessian products: fitting energies and forces only" in capsys.readouterr().err
    assert result.validation["hessian_relative_error"] is None


def test_rows_and_several_products_per_step(tmp_path: Path) -> None:
    labels = write_label_set(tmp_path / "labels", argon_samples(20, "rows:4"))
    for method in ("exact", "difference"):
        settings = replace(QUICK, steps=3, products_per_step=3, product_method=method)
        assert fit(labels, tmp_path / method, settings, progress=False).steps == 3


def test_without_a_validation_split_the_last_student_is_kept(tmp_path: Path) -> None:
    samples = [replace(s, split="train") for s in argon_samples(10)]
    result = fit(write_label_set(tmp_path / "labels", samples), tmp_path / "run", QUICK, progress=False)
    assert (result.best_step, result.n_val, result.validation) == (24, 0, {})
    assert load_student(result.run).card.step == 24
    assert fit(tmp_path / "labels", tmp_path / "run", QUICK, progress=False) == result


def test_single_atoms_and_mixed_elements_train(tmp_path: Path) -> None:
    samples = argon_samples(12)
    mixed = []
    for i, sample in enumerate(samples):
        keep = 1 if i % 3 == 0 else 3
        numbers = np.array([18, 10, 36], np.uint8)[:keep]
        structure = replace(sample.structure, numbers=numbers, positions=sample.structure.positions[:keep])
        labels = replace(sample.labels, forces=sample.labels.forces[:keep], hessian=None)
        mixed.append(replace(sample, structure=structure, labels=labels))
    result = fit(write_label_set(tmp_path / "labels", mixed), tmp_path / "run", QUICK, progress=False)
    assert np.isfinite(result.validation["force_mae_mev_per_angstrom"])
    assert load_student(result.run).card.references.elements == (10, 18, 36)


def test_reference_targets_are_learned(tmp_path: Path) -> None:
    """The source's own labels differ from the teacher's: the student follows the ones that were asked for."""
    samples = []
    for s in argon_samples(20):
        own = replace(
            s.structure, ref_energy=s.labels.energy + 5.0 * s.structure.n_atoms, ref_forces=0 * s.labels.forces
        )
        samples.append(replace(s, structure=own))
    labels = write_label_set(tmp_path / "labels", samples)
    result = fit(labels, tmp_path / "run", replace(QUICK, targets="reference"), progress=False)
    assert load_student(result.run).card.references.energies == pytest.approx((5.0,), abs=0.05)
    assert evaluate_student(result.run, labels, "val")["targets"] == "reference"
    bare = write_label_set(tmp_path / "bare", argon_samples(20))
    with pytest.raises(InputError, match="without energies or forces of their own"):
        fit(bare, tmp_path / "no", replace(QUICK, targets="reference"), progress=False)


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path: Path) -> None:
    samples = [replace(s, labels=replace(s.labels, energy=float("inf"))) for s in argon_samples(10)]
    labels = write_label_set(tmp_path / "labels", samples)
    with pytest.raises(
        HDistillError, match=r"Loss or gradient was not finite in 20 steps in a row.*learning rate below 0.005"
    ):
        fit(labels, tmp_path / "run", QUICK, progress=False)


def test_a_changed_shard_is_refused(tmp_path: Path) -> None:
    labels = write_label_set(tmp_path / "labels", argon_samples(10))
    shard = next((labels / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(LabelSetError, match="has changed"):
        fit(labels, tmp_path / "run", QUICK, progress=False)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"student": "pain"}, r"no student 'pain'.*Did you mean 'painn'"),
        ({"steps": 0}, "steps was 0; it must be 1 or more"),
        ({"learning_rate": -1.0}, "learning_rate was -1.0; it must be more than 0"),
        ({"ema_decay": 1.0}, "ema_decay was 1.0"),
        ({"targets": "dft"}, "targets was dft; it must be teacher or reference"),
        ({"hesian_weight": 1.0}, r"'hesian_weight' is not a setting of fit. Did you mean 'hessian_weight'\?"),
    ],
)
def test_settings_that_cannot_be_meant(values: dict[str, object], wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        settings_from(values)


def test_an_unknown_device_is_refused(argon: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="device 'warp' cannot be used here"):
        fit(argon, tmp_path / "run", replace(QUICK, device="warp"), progress=False)
    assert not (tmp_path / "run").exists()


def test_resume_needs_no_more_than_the_folder(argon: Path, tmp_path: Path) -> None:
    first = fit(argon, tmp_path / "run", QUICK, progress=False)
    assert resume(tmp_path / "run", progress=False) == first
    moved = tmp_path / "moved"
    shutil.copytree(argon, moved)
    longer = resume(tmp_path / "run", moved, progress=False, steps=30)
    assert longer.steps == 30
    assert longer.n_train == first.n_train
    with pytest.raises(InputError, match=r"holds no fit that was begun"):
        resume(tmp_path / "nothing", progress=False)
