"""The folder of a run: what earlier versions left is read, one fit at a time works in it, and a fit can be ended early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hdistill.data.errors import InputError, PlanMismatch
from hdistill.trainer.fitting import fit as fit_module, statistics as statistics_module
from hdistill.trainer.fitting.fit import fit, resume
from hdistill.trainer.fitting.ranks import Ranks
from hdistill.trainer.fitting.run_folder import LOCK, SETTINGS, locked
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.fitting.state import end_early, finished, learning_rate, new_state, progress_of
from hdistill.trainer.fitting.statistics import STATISTICS, Statistics, statistics_for
from hdistill.trainer.force_field.checkpoint import LAST, STUDENT, read_tensors, write_tensors
from hdistill.trainer.force_field.domain import DOMAIN, load_domain
from tests.trainer.structures import prepared, student

QUICK = FitSettings(student="painn-small", steps=24, warmup=5, validate_every=10, batch_size=4)
EARLIER = Path(__file__).parent / "earlier_runs"


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """SIGINT in the middle of a step, so that the fit is stopped after it."""
    take = fit_module.train_step

    def interrupted(state, *rest):  # type: ignore[no-untyped-def]
        if state.step == step - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return take(state, *rest)

    monkeypatch.setattr(fit_module, "train_step", interrupted)


def stopped(argon: Path, run: Path, settings: FitSettings, step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            fit(argon, run, settings, progress=False)


def test_a_run_of_an_earlier_version_goes_on(argon: Path, tmp_path: Path) -> None:
    """Its settings had no version and lacked what came later, its state knew no early end: same bits as a run of today."""
    whole = fit(argon, tmp_path / "whole", QUICK, progress=False)
    run = tmp_path / "run"
    stopped(argon, run, QUICK, 17)
    earlier = json.loads((EARLIER / "settings-1.json").read_text())
    today = json.loads((run / SETTINGS).read_text())
    assert "version" not in earlier
    assert "difference_weight" not in earlier["settings"]
    (run / SETTINGS).write_text(json.dumps(earlier | {"label_set": today["label_set"], "labels": today["labels"]}))
    tensors, header = read_tensors(run / LAST)
    stored = json.loads((EARLIER / "state-2.json").read_text())
    assert stored["version"] == 2
    assert set(stored) == set(header) - {"ending"}
    write_tensors(run / LAST, tensors, {name: header[name] for name in stored} | {"version": 2})
    resumed = resume(run, progress=False)
    (one, _), (other, _) = read_tensors(whole.run / LAST), read_tensors(resumed.run / LAST)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_runs_of_a_later_version_are_refused(argon: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(argon, run, replace(QUICK, steps=2), progress=False)
    stored = json.loads((run / SETTINGS).read_text())
    (run / SETTINGS).write_text(json.dumps(stored | {"version": 99}))
    with pytest.raises(PlanMismatch, match="has version 99; this hdistill reads 2"):
        resume(run, progress=False)
    (run / SETTINGS).write_text(json.dumps(stored))
    tensors, header = read_tensors(run / LAST)
    write_tensors(run / LAST, tensors, header | {"version": 99})
    with pytest.raises(InputError, match="of version 99; this hdistill reads 'hdistill training state' of version 3"):
        resume(run, progress=False)


def test_a_second_fit_is_told_who_holds_the_folder(argon: Path, tmp_path: Path) -> None:
    """Another process holds it; once that is killed, however it is, the folder is free."""
    run = tmp_path / "run"
    code = (
        "import sys, time, pathlib; from hdistill.trainer.fitting.run_folder import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"is being fitted by process {holder.pid} on .* since 20.*; wait for it"):
            fit(argon, run, replace(QUICK, steps=1), progress=False)
        holder.kill()
    assert (run / LOCK).exists()
    assert fit(argon, run, replace(QUICK, steps=1), progress=False).steps == 1
    assert not (run / LOCK).exists()
    with locked(run), pytest.raises(InputError, match=f"by process {os.getpid()}"), locked(run):
        pass


def test_statistics_are_computed_once(argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that goes on reads them from its folder; other settings, another set or a damaged file have them made anew."""
    first = fit(argon, tmp_path / "run", replace(QUICK, steps=2, repulsion=True, max_hessian=1e3), progress=False)
    made: list[Statistics] = []
    compute = statistics_module.compute_statistics

    def counted(*arguments: object) -> Statistics:
        made.append(compute(*arguments))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(statistics_module, "compute_statistics", counted)
    assert resume(first.run, progress=False) == first
    assert not made
    settings = replace(QUICK, repulsion=True, max_hessian=1e3)
    labels = prepared(argon, settings).labels
    kept = statistics_for(labels, settings, first.run, Ranks())
    assert not made
    fresh = compute(labels, settings)
    assert (kept.references, kept.scale, kept.n_products) == (fresh.references, fresh.scale, fresh.n_products)
    assert (kept.nearest == fresh.nearest).all()  # type: ignore[union-attr]
    statistics_for(labels, replace(settings, max_hessian=2.0), first.run, Ranks())
    (first.run / STATISTICS).write_bytes(b"what a full disk left")
    statistics_for(labels, settings, first.run, Ranks())
    assert len(made) == 2


@pytest.mark.parametrize("finish_in", [8, 0.2])
def test_a_fit_is_ended_early_with_its_rate_brought_down(argon: Path, tmp_path: Path, finish_in: int | float) -> None:
    """From where it stands, in steps or seconds; stopped on the way it still ends there; with more steps it goes on."""
    settings = replace(QUICK, steps=4000)
    stopped(argon, tmp_path / "run", settings, 12)
    done = resume(tmp_path / "run", progress=False, finish_in=finish_in)
    assert done.steps == 20 if isinstance(finish_in, int) else done.steps < 200
    last = (done.run / "log.csv").read_text().splitlines()[-1].split(",")
    assert float(last[2]) < 0.2 * settings.learning_rate
    assert resume(done.run, progress=False) == done
    with pytest.raises(InputError, match="The fit is finished"):
        resume(done.run, progress=False, finish_in=5)
    stopped(argon, tmp_path / "run", replace(settings, steps=4001), done.steps + 2)


def test_the_rate_falls_from_where_it_is() -> None:
    settings = FitSettings(steps=1000, warmup=0, learning_rate=1.0)
    state = new_state(student("painn-small"), settings)
    state.step = 300
    before, done = learning_rate(state, settings), progress_of(state, settings)
    end_early(state, settings, 50)
    assert (learning_rate(state, settings), progress_of(state, settings)) == (before, done)
    state.step = 349
    assert learning_rate(state, settings) < 0.02
    assert not finished(state, settings)
    state.step = 350
    assert finished(state, settings)
    with pytest.raises(InputError, match="must be more than 0"):
        end_early(new_state(student("painn-small"), settings), settings, 0)


def test_a_fit_that_was_stopped_has_a_domain(argon: Path, tmp_path: Path) -> None:
    stopped(argon, tmp_path / "run", replace(QUICK, steps=60), 15)
    assert (tmp_path / "run" / STUDENT).exists()
    assert load_domain(tmp_path / "run") is not None
    before = (tmp_path / "run" / DOMAIN).read_bytes()
    resume(tmp_path / "run", progress=False)
    assert load_domain(str(tmp_path / "run")) is not None
    assert (tmp_path / "run" / DOMAIN).read_bytes() != before  # of the student that is there now


def test_names_of_files_are_paths(argon: Path, tmp_path: Path) -> None:
    done = fit(str(argon), str(tmp_path / "run"), replace(QUICK, steps=2), progress=False)
    assert resume(str(done.run), str(argon), progress=False) == done


def test_nothing_of_the_process_is_left_changed(argon: Path, tmp_path: Path) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    seen: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        take: Callable[..., object] = fit_module.train_step
        patch.setattr(
            fit_module,
            "train_step",
            lambda *arguments: (seen.append(torch.backends.cuda.matmul.allow_tf32), take(*arguments))[1],
        )
        fit(argon, tmp_path / "run", replace(QUICK, steps=1, tf32=True), progress=False)
    assert seen == [True]
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_how_long_it_takes_is_said(argon: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 14)
        with pytest.raises(KeyboardInterrupt):
            fit(argon, tmp_path / "run", replace(QUICK, steps=100_000))
    assert "for the 99,987 steps that are left (" in capsys.readouterr().err
