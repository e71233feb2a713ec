"""`distill` with the Lennard-Jones teacher: rounds that really label, fit and simulate; stopped anywhere; the same run twice."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

import hdistill
from hdistill.pipelines.distill import folder as folder_module
from hdistill.pipelines.distill.measure import is_accurate
from hdistill.pipelines.distill.settings import parse_accuracy

SMALL: dict[str, Any] = {
    **{"teacher": "lennard-jones", "temperature": 12, "structures": 34, "accuracy": "0.001meV,0.01%,1ps"},
    **{
        "student": "moment",
        "steps": 60,
        "first": 16,
        "per_round": 8,
        "rounds": 2,
        "replicas": 2,
        "workers": 1,
        "timestep_fs": 5,
    },
    **{"progress": False, "say": lambda _: None},
}


def cluster() -> Atoms:
    """Five argon atoms, a little off the minimum."""
    corners = 3.9 * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.87, 0], [0.5, 0.29, 0.82], [0.5, 0.29, -0.82]])
    return Atoms("Ar5", corners)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return hdistill.distill(cluster(), tmp_path_factory.mktemp("distill") / "ar", **SMALL)


def test_the_folder_has_what_it_should(done: Any) -> None:
    out = done.path
    for name in (
        "recipe.toml",
        "rounds.csv",
        "labels/manifest.json",
        "run/student.safetensors",
        "rounds/1/errors.json",
    ):
        assert (out / name).exists(), name
    assert hdistill.verify(out / "labels")
    rows = list(csv.DictReader((out / "rounds.csv").open()))
    assert [int(row["round"]) for row in rows] == list(range(len(rows)))
    assert len(rows) == 3
    assert done.why in ("budget", "rounds")
    assert hdistill.info(out / "labels")["n_structures"] == int(rows[-1]["n_labelled"]) == done.n_structures <= 34
    assert json.loads(json.dumps(done.as_json()))["why"] == done.why
    assert "met" in str(done)
    assert "hdistill md" in str(done)


def test_rounds_measure_before_they_train(done: Any) -> None:
    """The errors of a round are those of the student before it: the same numbers come out of that student and the label set now."""
    from hdistill.pipelines.distill.measure import on_policy

    chosen = json.loads((done.path / "rounds" / "1" / "chosen.json").read_text())
    assert len(chosen["random_ids"]) == round(8 / 3)
    again = on_policy(done.path / "rounds" / "0" / "run", done.path / "labels", chosen["random_ids"])
    assert again["force_mae"] == done.rounds[1]["force_mae"]
    after = on_policy(done.path / "run", done.path / "labels", chosen["random_ids"])
    assert after["force_mae"] < again["force_mae"]


def test_rounds_lower_the_error_on_the_students_own_dynamics(done: Any) -> None:
    assert done.exam["force_mae"] < 0.5 * done.on_policy[0]


def test_the_command_that_it_prints_runs(done: Any, tmp_path: Path) -> None:
    words = done.command.split()
    place = {word: words[i + 1] for i, word in enumerate(words) if word.startswith("-")}
    moved = hdistill.md(
        words[2], words[3], tmp_path / "md", steps=20, temperature=float(place["--temperature"]),
        friction=float(place["--friction"]), progress=False,
    )  # fmt: skip
    assert moved.stable


class Interrupted(BaseException):
    pass


@pytest.mark.long
def test_stopped_at_every_step_it_ends_the_same(done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record is lost the first time, after its work was done; what comes out has the same bytes, labels and student."""
    real, lost = folder_module.publish, set()

    def publish(path: Path, data: bytes, replace: bool = False) -> bool:
        if path.suffix == ".json" and path not in lost:
            lost.add(path)
            raise Interrupted
        return bool(real(path, data, replace))

    monkeypatch.setattr(folder_module, "publish", publish)
    for _ in range(100):
        try:
            again = hdistill.distill(cluster(), tmp_path / "ar", **SMALL)
            break
        except Interrupted:
            continue
    assert len(lost) > 15
    assert same(again.path, done.path)


def same(one: Path, other: Path) -> bool:
    """Whether two results have the same structures, labels and student, to the last bit."""
    digests = [json.loads((out / "labels" / "manifest.json").read_text())["shards"] for out in (one, other)]
    students = [hdistill.load_student(out / "run").model.state_dict() for out in (one, other)]
    equal = all(bool((students[0][name] == students[1][name]).all()) for name in students[0])
    return equal and [s["sha256"] for s in digests[0]] == [s["sha256"] for s in digests[1]]


def test_kill_9_and_the_same_command(done: Any, tmp_path: Path) -> None:
    """The process dies in the middle of the second round; the same command, as a process of its own, ends as the undisturbed run."""
    write(tmp_path / "ar.xyz", cluster())
    out = tmp_path / "ar"
    words = [sys.executable, "-m", "hdistill.pipelines", "distill", "ar.xyz", "-o", "ar", "--json", "--quiet"]
    for name, value in SMALL.items():
        if name not in ("progress", "say"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (out / "rounds" / "1" / "explored.json").exists() and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    result = json.loads(ended.stdout)
    assert result["why"] == done.why
    assert same(out, done.path)
    assert result["on_policy"] == done.on_policy


def test_the_recipe_repeats_it(done: Any, tmp_path: Path) -> None:
    quiet = {"progress": False, "workers": 1, "say": lambda _: None}
    again = hdistill.distill(recipe=done.recipe, out=tmp_path / "again", **quiet)
    assert same(again.path, done.path)


def test_done_is_done_and_other_settings_are_refused(done: Any) -> None:
    began = time.monotonic()
    again = hdistill.distill(cluster(), done.path, **SMALL)
    assert time.monotonic() - began < 3
    assert again.as_json() == done.as_json()
    with pytest.raises(hdistill.HDistillError, match="begun with seed = 0 and now it is 1"):
        hdistill.distill(cluster(), done.path, **SMALL, seed=1)
    other = cluster()
    other.positions[0] -= 0.1
    with pytest.raises(hdistill.HDistillError, match="begun from other structures"):
        hdistill.distill(other, done.path, **SMALL)


def test_it_stops_when_it_is_accurate(tmp_path: Path) -> None:
    """A limit that the first student meets: one round of dynamics, as long as must hold, is enough."""
    loose = SMALL | {"accuracy": "1000meV,0.2ps"}
    result = hdistill.distill(cluster(), tmp_path / "ar", **loose)
    assert result.why == "accuracy"
    assert len(result.rounds) == 2
    assert result.passed


def test_without_rounds_it_is_one_sampling_and_one_fit(tmp_path: Path) -> None:
    result = hdistill.distill(cluster(), tmp_path / "ar", **SMALL | {"rounds": 0})
    assert result.why == "rounds"
    assert len(result.rounds) == 1
    assert result.exam["n"] > 0


def test_accuracy_is_a_force_error_or_a_share() -> None:
    assert parse_accuracy("20meV/A, 4%,10 ps") == {
        "force_error": 20.0,
        "force_share": pytest.approx(0.04),
        "stable_ps": 10.0,
    }
    with pytest.raises(hdistill.HDistillError, match="30meV,5%,20ps"):
        parse_accuracy("30")
    errors = {"force_mae": 40.0, "force_rms": 1000.0}
    assert is_accurate(errors, 30.0, 0.05)
    assert not is_accurate(errors, 30.0, 0.03)
    assert not is_accurate({"force_mae": None, "force_rms": None}, 30.0, 0.05)


@pytest.mark.long
def test_the_page_says_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "distill.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example, "docs/distill.md", "exec"), names)
    for name in ("labels", "run", "rounds.csv", "exam", "report", "recipe.toml"):
        assert (tmp_path / "argon" / name).exists()
    assert names["result"].n_structures >= 16
