"""Workers and schedulers that cannot label: real ones, in environments of their own, refused within 30 s with a sentence."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from hdistill.data.labelsets.label_set import verify
from hdistill.labeler.executors.admission import ClusterFailure
from hdistill.labeler.executors.cluster import connect
from hdistill.labeler.executors.inspection import WorkerTask, look_around
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.process.host import HostSettings
from hdistill.labeler.run import RunSettings, label
from hdistill.labeler.teachers import registry
from tests.labeler.dask_processes import HERE, environment, scheduler, wait_for_workers, wait_until, worker

pytestmark = pytest.mark.xdist_group("workers_refused")  # they share two environments

OLD = "2025.1.0"  # the oldest that hdistill works with at all
ROOT = Path(__file__).parents[2]
WITHIN_S = 30.0


def silent(_: str) -> None: ...


@pytest.fixture(scope="module")
def old_dask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with another dask, and no hdistill."""
    return environment(tmp_path_factory.mktemp("old"), f"dask=={OLD}", f"distributed=={OLD}")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with this dask and numpy, and no hdistill."""
    same = [f"{name}=={version(name)}" for name in ("dask", "distributed", "numpy")]
    return environment(tmp_path_factory.mktemp("bare"), *same)


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler of this environment, for all tests here."""
    with scheduler(tmp_path_factory.mktemp("scheduler")) as (address, _):
        yield address


@pytest.fixture
def task(tmp_path: Path) -> WorkerTask:
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "plan.json").write_text("{}")
    return WorkerTask.of(folder, HostSettings(registry.request("lennard-jones"), HERE))


def outcome(address: str, task: WorkerTask, n_workers: int = 1) -> str:
    """What becomes of a run on this cluster: 'admitted', or the sentence of its refusal, which must come in time."""
    if n_workers:
        wait_for_workers(address, n_workers)
    began = time.monotonic()
    try:
        with connect(task, silent, scheduler=address) as cluster:
            while not cluster.workers(1):
                time.sleep(0.05)
            return "admitted"
    except ClusterFailure as error:
        assert time.monotonic() - began < WITHIN_S
        return str(error)


def test_a_scheduler_with_another_dask(old_dask: Path, task: WorkerTask, tmp_path: Path) -> None:
    with scheduler(tmp_path, old_dask) as (address, _):
        messages = outcome(address, task, n_workers=0)
    assert (
        f"The Dask scheduler {address} is refused: it has dask {OLD} and this coordinator has {version('dask')}"
        in messages
    )


def test_a_scheduler_without_workers(dask: str, task: WorkerTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdistill.labeler.executors.admission.FIRST_S", 3.0)
    assert f"{dask} has no workers, and none came within 3 s; start some with `dask worker" in outcome(
        dask, task, n_workers=0
    )


def test_a_worker_with_another_dask(dask: str, old_dask: Path, task: WorkerTask, tmp_path: Path) -> None:
    with worker(dask, tmp_path, python=old_dask):
        messages = outcome(dask, task)
    assert f"it has dask {OLD} and this coordinator has {version('dask')}" in messages
    assert f"pip install dask=={version('dask')}" in messages


def test_a_worker_without_hdistill_or_with_another_one(dask: str, bare: Path, task: WorkerTask, tmp_path: Path) -> None:
    with worker(dask, tmp_path, python=bare):
        assert "it has no hdistill and this coordinator has" in outcome(dask, task)
    [packages] = (bare.parent.parent / "lib").glob("*/site-packages")
    metadata = packages / "hdistill-0.0.1.dist-info"
    metadata.mkdir()
    try:
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: hdistill\nVersion: 0.0.1\n")
        with worker(dask, tmp_path, python=bare):
            assert "it has hdistill 0.0.1 and this coordinator has" in outcome(dask, task)
        shutil.rmtree(metadata)
        metadata = packages / f"hdistill-{version('hdistill')}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: hdistill\nVersion: {version('hdistill')}\n")
        with worker(dask, tmp_path, python=bare):  # installed, so it says, and will not import
            assert "it cannot run hdistill" in outcome(dask, task)
    finally:
        shutil.rmtree(metadata)


@pytest.mark.long
def test_a_worker_with_edited_code_of_the_same_version(dask: str, task: WorkerTask, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "hdistill"
    for part in ("data", "labeler"):
        shutil.copytree(ROOT / part, copy / part)
    with worker(dask, tmp_path, environment={"PYTHONPATH": str(copy.parent)}):
        assert outcome(dask, task) == "admitted"
    checks = copy / "labeler" / "planning" / "checks.py"
    checks.write_text(checks.read_text() + "\nTOLERANT = True\n")
    with worker(dask, tmp_path, environment={"PYTHONPATH": str(copy.parent)}):
        assert "its hdistill has other code than this one" in outcome(dask, task)


def test_a_worker_that_does_not_see_the_output_directory(dask: str, task: WorkerTask, tmp_path: Path) -> None:
    """Its own mount namespace, with an empty disk where the label set is: a node without the shared file system."""
    script = tmp_path / "elsewhere.sh"
    script.write_text(f'mount -t tmpfs none {task.folder} && exec "$@"\n')
    prefix = f"unshare --map-root-user --mount sh {script}"
    if shutil.which("unshare") is None or subprocess.run([*prefix.split(), "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    with worker(dask, tmp_path, prefix=prefix):
        messages = outcome(dask, task)
    assert f"it does not see the output directory {task.folder}" in messages
    assert "file system that all workers share" in messages


def test_a_worker_with_another_plan_or_without_permission(task: WorkerTask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "holds another plan" in (look_around(replace(task, plan_sha256="0" * 64)).problem or "")

    def full(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", full)  # root may write anywhere, so nothing real stops these tests
    assert "cannot write" in (look_around(task).problem or "")


def test_a_worker_without_the_teacher(dask: str, task: WorkerTask, tmp_path: Path) -> None:
    host = HostSettings(registry.request("mace-mp:small"), Path("/nowhere/bin/python"))
    with worker(dask, tmp_path, environment={"HDISTILL_TEACHERS": str(tmp_path / "none")}):
        messages = outcome(dask, replace(task, host=host))
    assert "it has no mace teacher: /nowhere/bin/python does not exist there" in messages
    assert "hdistill teachers install mace" in messages


@pytest.mark.long
def test_a_frozen_worker(dask: str, task: WorkerTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdistill.labeler.executors.admission.ANSWER_S", 2.0)
    with worker(dask, tmp_path) as process:
        assert outcome(dask, task) == "admitted"
        process.send_signal(signal.SIGSTOP)
        assert "it does not answer within 4 s" in outcome(dask, task)


def test_bad_workers_that_join_late_stop_nothing(
    old_dask: Path, argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One good worker labels; two with another dask join in the middle; they are named and sent no work."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    gate = tmp_path / "gate"
    gate.touch()
    arguments = ("seconds=0.05", f"gate={gate}")
    wanted = LabelSettings("ase:tests.labeler.slow.Slow", (str(argon),), hessian="none", arguments=arguments)
    messages: list[str] = []
    with scheduler(tmp_path) as (address, _), worker(address, tmp_path), ThreadPoolExecutor() as pool:
        run = RunSettings(scheduler=address, progress=False)
        done = pool.submit(label, wanted, tmp_path / "labels", run=run, say=messages.append)
        wait_until(lambda: done.done() or (tmp_path / "labels" / "plan.json").exists())
        gate.unlink()
        with worker(address, tmp_path, python=old_dask), worker(address, tmp_path, python=old_dask):
            wait_until(lambda: done.done() or sum("is refused" in line for line in messages) == 2)
            gate.touch()
            done.result()
    refused = [line for line in messages if "is refused: it has dask" in line]
    assert len(refused) == 2, messages
    assert verify(tmp_path / "labels").manifest.counts.n_structures == 150
