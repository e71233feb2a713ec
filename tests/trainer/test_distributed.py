"""Two and three processes by torchrun (gloo) against one: the same student, stopped in the middle and gone on with in another number."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hdistill.data.errors import InputError
from hdistill.trainer.fitting.fit import fit, resume
from hdistill.trainer.fitting.ranks import Ranks, all_ranks
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.force_field.checkpoint import LAST, read_tensors

RECIPE = 'student = "painn-small"\nsteps = 24\nwarmup = 5\nvalidate_every = 10\nbatch_size = 5\ndtype = "float64"\n'
SAME = FitSettings(student="painn-small", steps=24, warmup=5, validate_every=10, batch_size=5, dtype="float64")


def torchrun(count: int, *words: object, script: Path | None = None) -> subprocess.Popen[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rendezvous = ["--nproc-per-node", str(count), "--master-addr", "127.0.0.1", "--master-port", str(port)]
    what = ["-m", "hdistill.pipelines"] if script is None else [str(script)]
    command = [sys.executable, "-m", "torch.distributed.run", *rendezvous, *what, *map(str, words)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def weights(run: Path) -> torch.Tensor:
    tensors, _ = read_tensors(run / LAST)
    return torch.cat([t.reshape(-1).double() for name, t in tensors.items() if name.startswith("model.")])


@pytest.fixture(scope="module")
def alone(argon: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole fit in one process."""
    return fit(argon, tmp_path_factory.mktemp("alone") / "run", SAME, progress=False).run


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE)
    return file


def test_two_ranks_fit_the_same_student(argon: Path, alone: Path, recipe: Path, tmp_path: Path) -> None:
    """Batches of 5 on 2 ranks: shares of 3 and 2, every sample once, averages over all 5. One log, one student."""
    run = tmp_path / "run"
    child = torchrun(2, "fit", argon, "-o", run, "--recipe", recipe, "--quiet", "--json")
    messages, _ = child.communicate(timeout=300)
    assert child.returncode == 0, messages
    assert messages.count('"steps": 24') == 1  # one rank talks
    for one, two in zip(rows(alone), rows(run), strict=True):
        assert one["step"] == two["step"]
        for name in ("energy", "forces", "hessian", "gradient_norm"):
            assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-6)
    assert torch.allclose(weights(run), weights(alone), rtol=1e-6, atol=1e-9)


@pytest.mark.long
def test_sigterm_saves_and_another_number_of_ranks_goes_on(argon: Path, recipe: Path, tmp_path: Path) -> None:
    """As a batch system ends a job: two ranks stop at the same step, in the middle of an epoch; one process finishes."""
    run, steps = tmp_path / "run", 100
    recipe.write_text(RECIPE.replace("steps = 24", f"steps = {steps}"))
    child = torchrun(2, "fit", argon, "-o", run, "--recipe", recipe, "--quiet")
    deadline = time.monotonic() + 240
    while not (run / "log.csv").exists() or len(rows(run)) < 2:
        assert child.poll() is None, child.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGTERM)
    child.communicate(timeout=120)
    _, header = read_tensors(run / LAST)
    assert 20 <= header["step"] < steps
    resumed = resume(run, progress=False)  # settings and label set are the run's own
    whole = fit(argon, tmp_path / "whole", replace(SAME, steps=steps), progress=False)
    assert resumed.steps == whole.steps == steps
    assert len(rows(run)) == len(rows(whole.run))
    for one, several in zip(rows(whole.run), rows(run), strict=True):
        assert float(several["loss"]) == pytest.approx(float(one["loss"]), rel=1e-4)


OWN_FOLDERS = """
import os, sys
from dataclasses import replace
from pathlib import Path
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.settings import FitSettings

labels, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
settings = FitSettings(student="painn-small", steps=steps, warmup=5, validate_every=10, batch_size=5, dtype="float64")
fit(labels, out / os.environ["RANK"], settings, progress=False)
"""


@pytest.mark.long
def test_ranks_go_on_together_where_only_the_first_sees_the_run(argon: Path, alone: Path, tmp_path: Path) -> None:
    """Each machine has a disk of its own: what the first rank has saved is what all of them go on from."""
    (tmp_path / "own.py").write_text(OWN_FOLDERS)
    for steps in (12, 24):
        child = torchrun(2, argon, tmp_path, steps, script=tmp_path / "own.py")
        messages, _ = child.communicate(timeout=300)
        assert child.returncode == 0, messages
    one = fit(argon, tmp_path / "one", replace(SAME, steps=12), progress=False).run
    fit(argon, one, SAME, progress=False)
    assert [row["step"] for row in rows(tmp_path / "0")] == [row["step"] for row in rows(one)]
    assert torch.allclose(weights(tmp_path / "0"), weights(one), rtol=1e-6, atol=1e-9)
    assert not torch.allclose(weights(one), weights(alone), rtol=1e-6, atol=1e-9)  # the first twelve steps were others
    assert not (tmp_path / "1" / LAST).exists()


def test_more_ranks_than_structures_in_a_step_are_refused(argon: Path, recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(RECIPE.replace("batch_size = 5", "batch_size = 1"))
    child = torchrun(2, "fit", argon, "-o", tmp_path / "run", "--recipe", recipe, "--quiet")
    messages, _ = child.communicate(timeout=300)
    assert child.returncode != 0
    assert "batch_size was 1 for 2 ranks" in messages


def test_shares_hold_everything_once() -> None:
    things = list(range(11))
    for count in (1, 2, 3, 11):
        shares = [Ranks(index, count).share(things) for index in range(count)]
        assert sorted(x for share in shares for x in share) == things
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_rank_without_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "64")
    monkeypatch.setenv("LOCAL_RANK", "63")
    with pytest.raises(InputError, match="Rank 63 of this machine has no GPU of its own"), all_ranks("cuda"):
        pass
