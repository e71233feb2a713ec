"""`distill` with the Lennard-Jones teacher: rounds that really label, fit and simulate; stopped anywhere; the same run twice."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

import hdistill
from hdistill.pipelines.distill import folder as folder_module
from hdistill.pipelines.distill.measure import is_accurate
from hdistill.pipelines.distill.settings import parse_accuracy

pytestmark = pytest.mark.xdist_group("distill")  # what its fixtures make is made once

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
    "report": "quick",
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
    assert "replicas whole for 1 ps" in str(done)
    assert "hdistill md" in str(done)


def test_it_ends_with_the_report_of_evaluate(done: Any) -> None:
    """Its page has the verdicts and the rounds; its figures are those of the student on the label set; no path of this machine in it."""
    folder = done.path / "report"
    content = json.loads((folder / "report.json").read_text())
    assert (content["format"], content["verdicts"]) == ("hdistill report", done.verdicts)
    assert content["distill"]["rounds"] == done.rounds
    assert set(content["parts"]) == set(done.parts) == {"accuracy", "smoothness", "cost"}
    split = content["errors"]["split"]
    again = hdistill.evaluate(done.run, done.path / "labels", split=split)
    assert content["errors"]["force_mae_mev_per_angstrom"] == again.force_mae_mev_per_angstrom
    page = (folder / "report.html").read_text()
    for title in ("Verdict", "How it was made", "Accuracy", "Cost"):
        assert f"<h2>{title}</h2>" in page
    assert str(done.path.parent) not in (folder / "report.json").read_text() + page


def test_a_longer_report_of_a_run_that_is_done(done: Any, tmp_path: Path) -> None:
    """The rounds stay done, the parts that were there are read back, and the teacher is asked. A part that is none is said at once."""
    copy = shutil.copytree(done.path, tmp_path / "ar")
    longer = hdistill.distill(cluster(), copy, **SMALL | {"report": "accuracy,cost,curvature,scans"})
    assert longer.rounds == done.rounds
    assert longer.parts["accuracy"] == done.parts["accuracy"]
    (molecule,) = longer.parts["curvature"]["molecules"]
    assert molecule.get("own_mae") is not None or "why" in molecule
    assert "No bond of these molecules" in longer.parts["scans"]["does_not_apply"]
    assert (copy / "report" / "teacher.sqlite").exists()
    with pytest.raises(hdistill.HDistillError, match="Did you mean 'curvature'"):
        hdistill.distill(cluster(), tmp_path / "new", **SMALL | {"report": "curvatur"})
    assert not (tmp_path / "new").exists()


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


def test_kill_9_and_the_same_command_from_the_recipe(done: Any, tmp_path: Path) -> None:
    """The process dies in the middle of the second round; the same command, as a process of its own, ends as the undisturbed run did
    whose recipe it follows."""
    out = tmp_path / "ar"
    words = [sys.executable, "-m", "hdistill.pipelines", "distill", "--recipe", str(done.recipe), "-o", "ar"]
    words += ["--temperature", "12", "--accuracy", SMALL["accuracy"], "--workers", "1", "--json", "--quiet"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (out / "rounds" / "1" / "explored.json").exists() and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    result = json.loads(ended.stdout)
    assert result["why"] == done.why
    assert same(out, done.path)
    assert result["on_policy"] == done.on_policy


def test_done_is_done_and_other_settings_are_refused(done: Any) -> None:
    again = hdistill.distill(cluster(), done.path, **SMALL)
    assert again.as_json() == done.as_json()
    with pytest.raises(hdistill.HDistillError, match="begun with seed = 0 and now it is 1"):
        hdistill.distill(cluster(), done.path, **SMALL, seed=1)
    other = cluster()
    other.positions[0] -= 0.1
    with pytest.raises(hdistill.HDistillError, match="begun from other structures"):
        hdistill.distill(other, done.path, **SMALL)


def test_conformers_at_the_students_minima_are_among_a_rounds_structures(tmp_path: Path) -> None:
    """Butane by the student that comes with the package: its anti and its gauche conformer, 180 and 65 degrees, are among those found;
    others are on the flat ways between them, where forces are as small as was asked for."""
    from ase.build import molecule

    from hdistill.data.sampling.torsions import rotatable_bonds
    from hdistill.data.structure import geometry_of
    from hdistill.pipelines.distill.minima import find_minima
    from hdistill.pipelines.distill.settings import settings_from
    from hdistill.pipelines.distill.teach import Work

    butane = molecule("trans-butane")
    butane.info = {"group": "butane", "charge": 0, "spin": 1}
    folder_module.write_frames(tmp_path / "start" / "dynamics.xyz", [butane, cluster()])
    work = Work(None, "cpu", False, lambda _: None)  # type: ignore[arg-type]
    settings = settings_from({"teacher": "ani-1x"})
    done = find_minima(Path("organics"), tmp_path, tmp_path / "round", 40, 1, settings, work)
    found = folder_module.read_frames(tmp_path / "round" / "minima.xyz")
    assert done["n"] == len(found) >= 2
    assert len(rotatable_bonds(geometry_of(butane))) == 3
    carbons = [i for i, symbol in enumerate(butane.symbols) if symbol == "C"]
    ends = [i for i in carbons if sum(butane.get_distance(i, j) < 1.7 for j in carbons) == 2]  # itself among them
    middle = [i for i in carbons if i not in ends]
    ordered = [
        min(ends, key=lambda e: butane.get_distance(e, middle[0])),
        *middle,
        min(ends, key=lambda e: butane.get_distance(e, middle[1])),
    ]
    angles = [min(a := atoms.get_dihedral(*ordered), 360 - a) for atoms in found]
    for minimum in (65, 180):
        assert min(abs(angle - minimum) for angle in angles) < 7
    for atoms in found:
        assert atoms.info["move"] == "minimum"
        assert not atoms.info["asked"]
        atoms.calc = hdistill.HDistillCalculator("organics", warn_beyond=None, compiled=False)
        assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 0.2


def test_it_stops_when_it_is_accurate(tmp_path: Path) -> None:
    """A limit that the first student meets: one round of dynamics, as long as must hold, is enough."""
    loose = SMALL | {"accuracy": "1000meV,0.2ps"}
    result = hdistill.distill(cluster(), tmp_path / "ar", **loose)
    assert result.why == "accuracy"
    assert len(result.rounds) == 2
    assert result.passed


def test_a_student_too_poor_for_dynamics_learns_more_around_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every replica is stopped at the first look, so that nothing was visited: the round goes on without it, and says so."""
    monkeypatch.setattr("hdistill.pipelines.distill.explore.BEYOND", -1.0)
    said: list[str] = []
    result = hdistill.distill(cluster(), tmp_path / "ar", **SMALL | {"rounds": 1, "steps": 10, "say": said.append})
    assert "round 1: dynamics ended too soon to give more than 0 structures; 8 more are made around the start." in said
    (first, second) = result.rounds
    assert (second["force_mae"], second["n_whole"], result.exam["n"]) == (None, 0, 0)
    assert second["n_labelled"] == first["n_labelled"] + 8
    assert not result.passed


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
