"""Clusters: their files and the jobs these make, one GPU for each teacher, and a scheduler or coordinator that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from distributed.client import ClosedClientError

from hdistill.data.errors import InputError
from hdistill.data.sources import Keys, SourceReport
from hdistill.data.sources.make import structure_of
from hdistill.data.sources.record import record_of
from hdistill.labeler.executors import admission, cluster_file, jobs
from hdistill.labeler.executors.admission import ClusterFailure
from hdistill.labeler.executors.cluster import _address_for_nodes
from hdistill.labeler.executors.pool import TeacherPool
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.process import gpus
from hdistill.labeler.process.host import HostSettings
from hdistill.labeler.run import RunSettings, label
from hdistill.labeler.teachers import registry
from hdistill.pipelines.cli.main import main
from tests.labeler.conftest import clusters
from tests.labeler.dask_processes import ended, scheduler, wait_until, worker

ROOT = Path(__file__).parents[2]
KINDS = list(cluster_file.SYSTEMS)
LEAST = {"kind": "slurm", "cores": 8, "memory": "32GB"}


def silent(_: str) -> None: ...


# --- cluster files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_example_makes_a_job(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"{kind}.toml"
    file.write_text(CliRunner().invoke(main, ["clusters", "example", kind]).output)
    script = CliRunner().invoke(main, ["clusters", "script", str(file)]).output
    assert "distributed.cli.dask_worker tcp://SCHEDULER:PORT --name hdistill-0" in script
    assert script.index("source ~/hdistill") < script.index("dask_worker")
    assert script.rindex("--nthreads 1") > script.index("--nthreads 8"), "one teacher a worker"
    assert "SCHEDULER" not in script.partition("dask_worker")[0]


def test_what_a_slurm_file_says_is_in_the_job(tmp_path: Path) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text(
        'kind = "slurm"\ncores = 16\nmemory = "64GB"\nworkers_per_job = 4\ngpus_per_job = 4\nqueue = "gpu"\n'
        'account = "me"\nwalltime = "12:00:00"\njob_extra_directives = ["--constraint=a100"]\n'
        'prologue = ["module load cuda"]\npython = "/shared/python"\ninterface = "ib0"\nlocal_directory = "/scratch"\n'
    )
    script = jobs.job_script(cluster_file.read(file)).splitlines()
    for line in (
        "-p gpu",
        "-A me",
        "--cpus-per-task=16",
        "--mem=60G",
        "-t 12:00:00",
        "--gres=gpu:4",
        "--constraint=a100",
    ):
        assert f"#SBATCH {line}" in script
    assert "module load cuda" in script
    command = script[-1]
    assert command.startswith("/shared/python -m distributed.cli.dask_worker")
    for option in ("--nworkers 4", "--interface ib0", "--local-directory /scratch", "--death-timeout 60"):
        assert option in command


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"wall_time": "1:00"}, "no setting is called 'wall_time'. Did you mean 'walltime'?"),
        ({"cores": "8"}, "cores was '8'; it takes a whole number"),
        ({"cores": True}, "cores was True; it takes a whole number"),
        ({"memory": 32}, 'memory was 32; it takes a text in quotes, such as "32GB"'),
        ({"memory": "much"}, 'memory was "much"; it takes a size'),
        ({"prologue": "module load"}, "prologue was 'module load'; it takes a list of texts"),
        ({"kind": "slrum"}, "kind was 'slrum'. Did you mean 'slurm'?"),
        ({"jobs": 0}, "jobs was 0; it must be 1 or more"),
        ({"workers_per_job": 9}, "9 workers in a job of 8 cores"),
        ({"kind": "sge", "gpus_per_job": 1}, "differs from site to site"),
        ({"kind": "htcondor"}, "htcondor wants to know disk"),
        ({"resource_spec": "x"}, "resource_spec is of pbs, sge, oar"),
    ],
)
def test_a_bad_cluster_file_says_what_is_wrong(change: dict[str, object], messages: str) -> None:
    with pytest.raises(InputError) as caught:
        cluster_file.settings_from(LEAST | change, "my.toml")
    assert messages in str(caught.value)
    assert str(caught.value).startswith("my.toml: ")


def test_what_must_be_given_and_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cores and memory must be given"):
        cluster_file.settings_from({"kind": "slurm"}, "my.toml")
    with pytest.raises(InputError, match="clusters example slurm"):
        cluster_file.read(Path("slurm"))
    (tmp_path / "broken.toml").write_text("cores = ")
    with pytest.raises(InputError, match="is not TOML"):
        cluster_file.read(tmp_path / "broken.toml")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no command sbatch here, which slurm needs; run hdistill on a login node"):
        jobs.require_commands(cluster_file.settings_from(LEAST, "my.toml"))


def test_a_network_interface_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"interface cannot be used here.*ib77"):
        _address_for_nodes("ib77")
    assert _address_for_nodes("lo") == "127.0.0.1"


def test_options_that_exclude_each_other(argon: Path, tmp_path: Path) -> None:
    command = ["label", "--teacher", "lennard-jones", "--subset", str(argon), "-o", str(tmp_path / "labels")]
    messages = CliRunner().invoke(main, [*command, "--scheduler", "tcp://127.0.0.1:1", "--cluster", "slurm.toml"])
    assert messages.exit_code == 2
    assert "give one of them" in messages.output


# --- GPUs --------------------------------------------------------------------------------------------------------------------


def test_visible_gpus_are_those_of_the_variable_or_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, seen in (("2,0", ["2", "0"]), ("GPU-8f, 1", ["GPU-8f", "1"]), ("", []), ("1,-1,2", ["1"])):
        monkeypatch.setenv(gpus.VARIABLE, value)
        assert gpus.visible() == seen
    monkeypatch.delenv(gpus.VARIABLE)
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "none")
    tool = tmp_path / "nvidia-smi"  # what it prints on a machine with two GPUs, one of them cut in two
    tool.write_text("#!/bin/sh\necho 'GPU 0: X (UUID: GPU-1)'\necho '  MIG 1g'\necho 'GPU 1: X (UUID: GPU-2)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpus.visible() == ["0", "1"]


def test_each_worker_takes_the_gpu_that_is_used_least() -> None:
    shares = gpus.Shares()
    both = ["0", "1"]
    assert [shares.take(f"w{i}", "node1/", both) for i in range(5)] == ["0", "1", "0", "1", "0"]
    assert shares.take("other", "node2/", both) == "0"  # another machine's
    assert [shares.take(f"j{i}", f"node3/job{i}", ["0"]) for i in range(2)] == ["0", "0"]  # each job numbers from 0
    assert [shares.take(f"c{i}", "node4/", both[i:] + both[:i]) for i in range(2)] == [
        "0",
        "1",
    ]  # lists begin at their own
    shares.give_back("w1")
    assert shares.take("w5", "node1/", both) == "1"
    assert shares.take("none", "node5/", []) is None


def test_the_teachers_of_one_task_of_a_job_array_share_its_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv(gpus.VARIABLE, "3,5")
    assert gpus.one_each("cuda", 3) == ["3", "5", "3"]
    assert gpus.one_each("cuda:1", 2) == gpus.one_each("cpu", 2) == [None, None]
    asked = registry.request("ase:tests.labeler.slow.TellsItsGpu", arguments={"folder": str(tmp_path)})
    assert what_its_teacher_sees(HostSettings(asked, gpu="5"), tmp_path) == "5"
    assert what_its_teacher_sees(HostSettings(asked), tmp_path) == "3,5"


def what_its_teacher_sees(host: HostSettings, reported: Path) -> str:
    """Runs on a worker: start a teacher there, and ask it for labels, as for a chunk."""
    structure = structure_of(record_of(clusters(1)[0]), Keys(), SourceReport(), "one")
    with host.start() as teacher:
        teacher.label([structure], [None])
        return (reported / f"{os.getpid()}-{teacher.pid}").read_text()


def test_each_local_teacher_sees_one_gpu(tmp_path: Path, argon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the children see it: three workers and the two GPUs that CUDA_VISIBLE_DEVICES leaves."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv(gpus.VARIABLE, "4,7")
    (tmp_path / "plan.json").write_text("{}")
    asked = registry.request("ase:tests.labeler.slow.TellsItsGpu", arguments={"folder": str(tmp_path)})
    with TeacherPool(HostSettings(replace(asked, device="cuda")), 3) as teachers, ExitStack() as borrowed:
        seen = []
        for _ in range(3):  # each while the others are at work
            host = borrowed.enter_context(teachers.lend())
            seen.append(what_its_teacher_sees(replace(host.settings, request=asked), tmp_path))
    assert Counter(seen) == {"4": 2, "7": 1}
    assert os.environ[gpus.VARIABLE] == "4,7"


# --- a scheduler or a coordinator that is gone -----------------------------------------------------------------------------


def slow(argon: Path, monkeypatch: pytest.MonkeyPatch) -> LabelSettings:
    """A plan of 12 chunks of half a second."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr("hdistill.labeler.planning.plan.CHUNK_STRUCTURES", 5)
    return LabelSettings(
        "ase:tests.labeler.slow.Slow", (str(argon),), limit=60, hessian="none", arguments=("seconds=0.1",)
    )


@pytest.mark.parametrize("how", [pytest.param(signal.SIGKILL, marks=pytest.mark.long), signal.SIGSTOP])
def test_a_scheduler_that_dies_or_freezes_stops_the_run(
    how: signal.Signals, argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "SILENCE_S", 3.0)
    wanted, out = slow(argon, monkeypatch), tmp_path / "labels"
    moment: list[float] = []

    with scheduler(tmp_path) as (address, process), worker(address, tmp_path):
        begun = admission.Admission.workers

        def strike(self: admission.Admission) -> set[str]:
            if not moment and any((out / "chunks").glob("*.h5")):
                process.send_signal(how)
                moment.append(time.monotonic())
            return begun(self)

        monkeypatch.setattr(admission.Admission, "workers", strike)
        with pytest.raises(
            ClusterFailure, match="does not answer any more; all finished chunks are kept: run the same"
        ):
            label(wanted, out, run=RunSettings(scheduler=address, progress=False), say=silent)
        assert time.monotonic() - moment[0] < 25
    n_done = len(list((out / "chunks").glob("*.h5")))
    assert 0 < n_done < 12
    result = label(wanted, out, run=RunSettings(workers=1, progress=False), say=silent)
    assert result.manifest.counts.n_structures == 60
    assert result.n_labelled_now <= 60 - 5 * n_done


@pytest.mark.parametrize("moment", ["before a look", "after it"])
def test_a_client_that_gives_up_stops_the_run(
    moment: str, argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask's client closes itself when its scheduler stays away, at any moment."""
    monkeypatch.setattr(admission, "SILENCE_S", 3.0)
    wanted, out = slow(argon, monkeypatch), tmp_path / "labels"
    begun = admission.Admission.workers

    def strike(self: admission.Admission) -> set[str]:
        gone = bool(list((out / "chunks").glob("*.h5")))
        if gone and moment == "before a look":
            self.client.sync(self.client._close)
        admitted = begun(self)
        if gone and moment == "after it":
            self.client.sync(self.client._close)
            self.client.status = "running"  # as the submitter saw it a moment ago
            monkeypatch.setattr(self.client, "submit", closed)
        return admitted

    def closed(*_: object, **__: object) -> None:
        raise ClosedClientError

    monkeypatch.setattr(admission.Admission, "workers", strike)
    with (
        scheduler(tmp_path) as (address, _),
        worker(address, tmp_path),
        pytest.raises(ClusterFailure, match="does not answer any more; all finished chunks are kept"),
    ):
        label(wanted, out, run=RunSettings(scheduler=address, progress=False), say=silent)


def test_nothing_outlives_a_killed_coordinator(argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask workers and teachers end by themselves when the coordinator, and it alone, is killed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    mark = (
        f"seconds=0.{os.getpid()}"  # in the command line of the coordinator, in the environment of all its descendants
    )
    monkeypatch.setenv("HDISTILL_TEST_MARK", mark)
    command = [sys.executable, "-m", "hdistill.pipelines", "label", "--teacher", "ase:tests.labeler.slow.Slow"]
    command += [
        "--argument",
        "seconds=0.1",
        "--hessian",
        "none",
        "--subset",
        str(argon),
        "-o",
        str(tmp_path / "labels"),
    ]
    null = subprocess.DEVNULL
    with ended(subprocess.Popen(command, start_new_session=True, stdout=null, stderr=null)) as process:
        wait_until(lambda: any((tmp_path / "labels" / "chunks").glob("*.h5")))
        assert len(_marked(mark)) >= 3  # the coordinator and two teachers
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not _marked(mark), 20)


def _marked(mark: str) -> list[int]:
    """Processes that have the mark in their environment."""
    actual = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"HDISTILL_TEST_MARK={mark}\0".encode() in (folder / "environ").read_bytes():
                actual.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in actual if pid != os.getpid()]
