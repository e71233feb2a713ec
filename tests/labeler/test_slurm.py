"""The labeler on a real Slurm of one node: jobs by dask-jobqueue, wall time reached, a job array.

Needs root and Debian's packages slurmctld, slurmd and munge (`make slurm`); skips with the reason where it has not got them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.files import files_of
from tests.labeler.dask_processes import ended, wait_until

pytestmark = pytest.mark.xdist_group("slurm")  # one Slurm a machine: munge has one socket

ROOT = Path(__file__).parents[2]
ONE_NODE = Path(__file__).with_name("slurm") / "one_node.sh"
SLOW = ("--teacher", "ase:tests.labeler.slow.Slow", "--hessian", "none", "--argument", "seconds=0.05")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm with four cores to give away, whatever the machine has."""
    missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"Slurm is not installed ({', '.join(missing)} missing): `make slurm` as root installs Debian's")
    if os.geteuid() != 0:
        pytest.skip("a Slurm can be started by root alone")
    folder = tmp_path_factory.mktemp("slurm")
    try:
        started = subprocess.run([ONE_NODE, "start", folder], capture_output=True, text=True, timeout=120)
        if started.returncode:
            pytest.skip(f"Slurm does not start here: {started.stderr[-500:]}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
            patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
            yield
            subprocess.run(["scancel", "--user=root"], timeout=30)
    finally:
        subprocess.run([ONE_NODE, "stop", folder], timeout=30)


def cluster_file(folder: Path, **settings: object) -> Path:
    """A cluster file of small jobs."""
    lines = {"kind": '"slurm"', "cores": 1, "memory": '"1GB"', "jobs": 2, "walltime": '"00:10:00"'} | settings
    file = folder / "slurm.toml"
    file.write_text("\n".join(f"{name} = {value}" for name, value in lines.items()))
    return file


def command(argon: Path, out: Path, *options: str) -> list[str]:
    begin = [sys.executable, "-m", "hdistill.pipelines", "label", "--subset", str(argon), "-o", str(out), "--quiet"]
    return [*begin, *options]


def run(argon: Path, out: Path, *options: str, seconds: float = 240) -> str:
    """Label to the end; returns what was said."""
    done = subprocess.run(command(argon, out, *options), capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def queued() -> list[str]:
    """Numbers of the jobs that Slurm has, waiting or running."""
    return subprocess.run(["squeue", "--noheader", "--format=%A"], capture_output=True, text=True).stdout.split()


def test_jobs_give_the_same_bytes_as_local_workers(slurm: None, argon: Path, tmp_path: Path) -> None:
    """Two jobs, one of them of two workers' worth; nothing is left in the queue."""
    lennard_jones = ("--teacher", "lennard-jones", "--hessian", "probes:2")
    file = cluster_file(tmp_path, cores=2, workers_per_job=2, local_directory=f'"{tmp_path}"')
    messages = run(argon, tmp_path / "labels", *lennard_jones, "--cluster", str(file))
    assert "Submitted 2 jobs" in messages
    run(argon, tmp_path / "local", *lennard_jones)
    assert files_of(tmp_path / "labels") == files_of(tmp_path / "local")
    assert any((tmp_path / "labels-jobs").iterdir())
    wait_until(lambda: not queued(), 30)


@pytest.mark.long
def test_a_job_at_its_wall_time_is_replaced_and_the_work_goes_on(slurm: None, argon: Path, tmp_path: Path) -> None:
    """One minute of wall time for a minute and a half of work: Slurm kills the job in the middle of a chunk."""
    slower = ("--teacher", "ase:tests.labeler.slow.Slow", "--hessian", "none", "--argument", "seconds=0.6")
    file = cluster_file(tmp_path, jobs=1, walltime='"00:01:00"', local_directory=f'"{tmp_path}"')
    messages = run(argon, tmp_path / "labels", *slower, "--cluster", str(file), seconds=600)
    assert messages.count("Submitted 1 job ") >= 2
    assert "DUE TO TIME LIMIT" in "".join(log.read_text() for log in (tmp_path / "labels-jobs").glob("*.err"))
    run(argon, tmp_path / "local", *slower)
    assert files_of(tmp_path / "labels") == files_of(tmp_path / "local")


@pytest.mark.long
def test_jobs_end_by_themselves_when_the_coordinator_is_killed(slurm: None, argon: Path, tmp_path: Path) -> None:
    """kill -9 of the coordinator: no job is left after death_timeout_s, and the same command completes the label set."""
    out = tmp_path / "labels"
    file = cluster_file(tmp_path, death_timeout_s=5, local_directory=f'"{tmp_path}"')
    options = (*SLOW, "--cluster", str(file))
    with ended(_start(command(argon, out, *options), tmp_path / "said")) as process:
        wait_until(lambda: any((out / "chunks").glob("*.h5")), 120)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    wait_until(lambda: not queued(), 60)
    run(argon, out, *options)
    run(argon, tmp_path / "local", *SLOW)
    assert files_of(out) == files_of(tmp_path / "local")


@pytest.mark.long
def test_a_job_that_fails_at_once_is_said(slurm: None, argon: Path, tmp_path: Path) -> None:
    file = cluster_file(tmp_path, jobs=3, python='"/nowhere/python"')
    done = subprocess.run(
        command(argon, tmp_path / "labels", *SLOW, "--cluster", str(file)), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 1
    assert "jobs ended before their workers came" in done.stderr
    assert "Traceback" not in done.stderr
    logs = "".join(file.read_text() for file in (tmp_path / "labels-jobs").glob("*.err"))
    assert "/nowhere/python" in logs


@pytest.mark.long
def test_a_partition_that_does_not_exist_is_said(slurm: None, argon: Path, tmp_path: Path) -> None:
    file = cluster_file(tmp_path, queue='"gpu"')
    done = subprocess.run(
        command(argon, tmp_path / "labels", *SLOW, "--cluster", str(file)), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "sbatch refused the job: " in done.stderr
    assert "partition" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_job_array_without_a_scheduler(slurm: None, argon: Path, tmp_path: Path) -> None:
    """--part from sbatch --array, then the last call, which makes shards and manifest of what the parts did."""
    out = tmp_path / "labels"
    lennard_jones = ("--teacher", "lennard-jones", "--hessian", "probes:2")
    part = " ".join(command(argon, out, *lennard_jones, "--workers", "1", "--part"))
    script = ["sbatch", "--wait", "--array=1-3", f"--output={tmp_path}/%a.log", f"--wrap={part} $SLURM_ARRAY_TASK_ID/3"]
    began = time.monotonic()
    done = subprocess.run(script, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, [log.read_text() for log in tmp_path.glob("*.log")]
    assert time.monotonic() - began < 240
    assert not (out / "manifest.json").exists()
    run(argon, out, *lennard_jones)
    run(argon, tmp_path / "local", *lennard_jones)
    assert files_of(out) == files_of(tmp_path / "local")


def _start(arguments: list[str], messages: Path) -> subprocess.Popen[bytes]:
    with messages.open("wb") as file:
        return subprocess.Popen(arguments, stdout=file, stderr=file, start_new_session=True)
