"""Processes killed for real, at random moments: the same command completes the label set, byte for byte the same.

RELIABILITY: coordinator, Dask worker, teacher child and scheduler; two and four labelers on one directory; SIGTERM at wall time.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ase import Atoms

from hdistill.data.errors import InputError
from hdistill.data.support.publish import publish
from hdistill.labeler.executors.share import parse
from hdistill.labeler.planning.plan import load, missing
from hdistill.labeler.run import RunSettings, label, label_share
from tests.files import files_of
from tests.labeler.conftest import write_extxyz

N_STRUCTURES = 160  # of 27 atoms: about 15 in a chunk
SETTINGS = ("--teacher", "lennard-jones", "--hessian", "probes:2", "--splits", "0.6,0.2,0.2", "--quiet")
VICTIMS = ("coordinator", "teacher")
PATIENCE_S = 120.0


def label_command(source: Path, out: Path, *more: str) -> list[str]:
    words = ("label", *SETTINGS, "--subset", str(source), "-o", str(out), *more)
    return [sys.executable, "-m", "hdistill.pipelines", *words]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(7)
    corners = np.stack(np.meshgrid(*[np.arange(3) * 3.7] * 3), -1).reshape(-1, 3)
    grains = [Atoms("Ar27", corners + rng.normal(scale=0.1, size=corners.shape)) for _ in range(N_STRUCTURES)]
    for number, atoms in enumerate(grains):
        atoms.info["group"] = f"grain-{number}"
    return write_extxyz(tmp_path_factory.mktemp("source") / "grains.xyz", grains)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a label set made without disturbance."""
    out = tmp_path_factory.mktemp("undisturbed") / "labels"
    subprocess.run(label_command(source, out, "--part", "1/1"), check=True, capture_output=True)
    assert load(out).n_chunks >= 8
    subprocess.run(label_command(source, out), check=True, capture_output=True)
    return files_of(out)


def start(command: list[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    # SIGTERM and SIGINT as in a shell: a test run in the background ignores them, and its children would inherit that.
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=pipe, text=True, start_new_session=True, preexec_fn=_listen
    )


def _listen() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def n_published(out: Path) -> int:
    return 10**6 if (out / "manifest.json").exists() else len(list((out / "chunks").glob("*.h5")))


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> bool:
    """Wait until the condition holds; False where the process ended before."""
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        if condition():
            return True
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
    return False


def victim(coordinator: int, which: str) -> psutil.Process | None:
    """A process of a run in this machine alone: the coordinator, whose threads are the workers, or one of its teachers."""
    root = psutil.Process(coordinator)
    if which == "coordinator":
        return root
    teachers = [p for p in root.children(recursive=True) if _is_teacher(p)]
    return random.choice(teachers) if teachers else None


def _is_teacher(process: psutil.Process) -> bool:
    try:
        return any(word.endswith("process/child.py") for word in process.cmdline())
    except psutil.Error:
        return False


def kill_something(process: subprocess.Popen[str], out: Path, which: str, moment: int) -> bool:
    """Kill -9 the victim once `moment` chunks are there (0: while planning, or later); False where the run was quicker."""
    if not wait_for(process, lambda: n_published(out) >= moment if moment else out.exists()):
        return False
    time.sleep(random.uniform(0, 0.2))
    try:
        actual = victim(process.pid, which)
        if actual is None:
            return False
        actual.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def complete(source: Path, out: Path, *more: str) -> None:
    done = subprocess.run(label_command(source, out, *more), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def kill_until_done(source: Path, out: Path, kills: int, seed: int) -> int:
    """Run the same command again and again, killing random processes at random moments; how many kills were done."""
    random.seed(seed)
    n_chunks, done = 11, 0
    for _ in range(10 * kills):
        if done >= kills or (out / "manifest.json").exists():
            break
        process = start(label_command(source, out))
        begun = n_published(out)
        for _ in range(3):  # more than one in a run: the work goes on after a worker or a teacher is gone
            which = random.choice(VICTIMS)
            killed = kill_something(process, out, which, min(begun + random.randrange(4), n_chunks))
            done += killed
            if which == "coordinator" and killed:
                break
        else:
            process.communicate(timeout=PATIENCE_S)
            continue
        process.communicate(timeout=PATIENCE_S)
    complete(source, out)
    return done


def kill_and_compare(source: Path, undisturbed: dict[str, bytes], folder: Path, seed: int, wanted: int) -> None:
    """So many kills over as many label sets as it takes; each of them, completed, is as if nothing had been."""
    kills = rounds = 0
    while kills < wanted:
        out = folder / f"labels-{rounds}"
        kills += kill_until_done(source, out, wanted - kills, 100 * seed + rounds)
        assert files_of(out) == undisturbed
        rounds += 1
        assert rounds < 2 * wanted, "processes end before they can be killed"


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3))])
def test_kill_nine_at_random_moments(source: Path, undisturbed: dict[str, bytes], tmp_path: Path, seed: int) -> None:
    kill_and_compare(source, undisturbed, tmp_path, seed, 5)  # four times five points


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 20))
def test_kill_nine_two_hundred_times(source: Path, undisturbed: dict[str, bytes], tmp_path: Path, seed: int) -> None:
    kill_and_compare(source, undisturbed, tmp_path, seed, 20)  # ten times twenty points


@contextmanager
def dask_cluster(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A scheduler and two workers as processes of their own; gives the scheduler's address and process."""
    file = folder / "scheduler.json"
    nothing: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "text": True, "cwd": folder}
    dask = [sys.executable, "-m", "dask"]
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    scheduler = subprocess.Popen([*dask, "scheduler", "--port", "0", *common], **nothing)
    worker = subprocess.Popen(
        [*dask, "worker", "--nworkers", "2", "--nthreads", "1", "--death-timeout", "20", *common], **nothing
    )
    try:
        end = time.monotonic() + PATIENCE_S
        while not (file.exists() and file.stat().st_size):
            assert time.monotonic() < end
            time.sleep(0.05)
        yield str(file), scheduler
    finally:
        for process in (worker, scheduler):
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.kill()
            process.wait()
            for child in children:
                child.kill() if child.is_running() else None


@pytest.mark.parametrize("moment", [0, pytest.param(2, marks=pytest.mark.long)])
def test_the_scheduler_is_killed(source: Path, undisturbed: dict[str, bytes], tmp_path: Path, moment: int) -> None:
    import json

    out = tmp_path / "labels"
    with dask_cluster(tmp_path) as (file, scheduler):
        address = json.loads(Path(file).read_text())["address"]
        process = start(label_command(source, out, "--scheduler", address))
        wait_for(process, lambda: n_published(out) >= moment if moment else out.exists())
        scheduler.kill()
        _, messages = process.communicate(timeout=PATIENCE_S)
    if process.returncode != 0:  # else it was done before
        assert process.returncode == 1, messages
        assert "Traceback" not in messages
        assert "error: " in messages
    complete(source, out)
    assert files_of(out) == undisturbed


def test_workers_of_a_cluster_are_killed(source: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """Two workers die with their teachers, at different moments, and are started again by their nanny."""
    import json

    out = tmp_path / "labels"
    with dask_cluster(tmp_path) as (file, _):
        address = json.loads(Path(file).read_text())["address"]
        process = start(label_command(source, out, "--scheduler", address))
        for moment in (1, 3):
            if not wait_for(process, lambda moment=moment: n_published(out) >= moment):  # type: ignore[misc]
                break
            teachers = [p for p in psutil.process_iter() if _is_teacher(p) and _is_below(p, os.getpid())]
            for worker in {p.parent() for p in teachers if p.ppid() != process.pid}:
                if worker is not None:
                    worker.kill()
                break
        _, stderr = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, stderr
    assert files_of(out) == undisturbed


def _is_below(process: psutil.Process, ancestor: int) -> bool:
    try:
        return any(parent.pid == ancestor for parent in process.parents())
    except psutil.Error:
        return False


@pytest.mark.parametrize("n", [2, pytest.param(4, marks=pytest.mark.long)])
def test_several_labelers_on_one_directory(source: Path, undisturbed: dict[str, bytes], tmp_path: Path, n: int) -> None:
    out = tmp_path / "labels"
    together = [start(label_command(source, out, "--workers", "1")) for _ in range(n)]
    if n == 4:  # and one of them is killed
        kill_something(together[0], out, "coordinator", 1)
    ends = [(process.communicate(timeout=2 * PATIENCE_S)[1], process.returncode) for process in together]
    for messages, code in ends[1 if n == 4 else 0 :]:
        assert code == 0, messages
    assert files_of(out) == undisturbed


@pytest.mark.parametrize("part", [None, pytest.param((1, 2), marks=pytest.mark.long)])
def test_a_labeler_that_is_slower_leaves_nothing(
    source: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: tuple[int, int] | None,
) -> None:
    """Another one finishes the set, and takes its chunks away, just before this one publishes one of its own."""
    out = tmp_path / "labels"
    complete(source, out, "--part", "0/2")

    def after_the_other(*arguments: Any) -> bool:
        if not (out / "manifest.json").exists():
            complete(source, out)
        return publish(*arguments)

    monkeypatch.setattr("hdistill.labeler.work.chunk.publish", after_the_other)
    settings = load(out).settings
    if part is None:
        label(settings, out, run=RunSettings(progress=False))
    else:
        assert label_share(settings, out, part, run=RunSettings(progress=False)).n_missing == 0
    assert files_of(out) == undisturbed


def test_what_a_killed_one_left_is_cleared_up(source: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """Killed after it wrote the manifest and before it removed what that replaces."""
    out = tmp_path / "labels"
    for name, data in undisturbed.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    for name in ("chunks", "spool"):
        (out / name).mkdir()
        (out / name / "000001.h5").write_bytes(b"of before")
    complete(source, out)
    assert files_of(out) == undisturbed


def test_sigterm_at_wall_time_stops_in_order(source: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """A batch system says SIGTERM to the coordinator, and a while later SIGKILL."""
    out = tmp_path / "labels"
    process = start(label_command(source, out))
    wait_for(process, lambda: n_published(out) >= 1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "run the same command again" in messages
    assert "Traceback" not in messages
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    complete(source, out)
    assert files_of(out) == undisturbed


def test_killed_parts_of_a_job_array(source: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """Three parts start at once, without a plan; one is killed and run again; a last call without --part finishes."""
    out = tmp_path / "labels"
    assert parse("0/3") == (0, 3)
    for wrong in ("4/3", "1", "-1/3", "0/0", "a/b"):
        with pytest.raises(InputError, match="--part was"):
            parse(wrong)
    parts = [f"{k}/3" for k in (1, 2, 3)]
    together = [start(label_command(source, out, "--part", part, "--workers", "1")) for part in parts]
    wait_for(together[0], lambda: n_published(out) >= 1)
    os.kill(together[0].pid, signal.SIGKILL)
    for process in together:
        process.communicate(timeout=PATIENCE_S)
    assert [process.returncode for process in together[1:]] == [0, 0]
    assert not (out / ".planning").exists()
    plan = load(out)
    assert all(chunk % 3 == 0 for chunk in missing(plan, out))
    complete(source, out, "--part", "1/3")
    assert missing(plan, out) == []
    assert not (out / "manifest.json").exists()
    complete(source, out)
    assert files_of(out) == undisturbed


def test_the_plan_alone(source: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "labels"
    complete(source, out, "--part", "0/3")
    assert len(missing(load(out), out)) == load(out).n_chunks
    assert n_published(out) == 0
    complete(source, out)
    assert files_of(out) == undisturbed
