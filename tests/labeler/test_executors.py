"""Where chunks are run: in this process without a port, in a notebook and a plain script, on clusters that speak TLS."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from hdistill.data.errors import InputError
from hdistill.labeler.executors import cluster, cluster_file
from hdistill.labeler.executors.in_process import client_in_process
from hdistill.labeler.executors.servers import quiet_logs
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.run import RunSettings, label
from tests.files import files_of
from tests.labeler.conftest import clusters, write_extxyz
from tests.labeler.dask_processes import HERE, ended, wait_until

QUIET = RunSettings(progress=False)
ROOT = Path(__file__).parents[2]


def silent(_: str) -> None: ...


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_extxyz(tmp_path_factory.mktemp("few") / "few.xyz", clusters(40))


def settings(few: Path) -> LabelSettings:
    return LabelSettings("lennard-jones", (str(few),), hessian="probes:1")


@pytest.fixture(scope="module")
def local(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label(settings(few), tmp_path_factory.mktemp("local") / "labels", run=QUIET, say=silent).path


# --- in this process ---------------------------------------------------------------------------------------------------------

# No `__main__` guard, and an event loop that runs, as in a notebook; slow enough to be looked at.
SCRIPT = """
import asyncio, sys
from pathlib import Path
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.run import RunSettings, label

async def cell():
    wanted = LabelSettings("ase:tests.labeler.slow.Slow", (sys.argv[1],), hessian="none", arguments=("seconds=0.05",))
    result = label(wanted, Path(sys.argv[2]), run=RunSettings(progress=False), say=lambda _: None)
    print(result.manifest.counts.n_structures)

asyncio.run(cell())
"""


def listening(pid: int) -> list[str]:
    """Addresses on which a process or what it started listens, any kind of network socket."""
    actual = []
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        try:
            actual += [str(c.laddr) for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        except psutil.Error:
            continue
    return actual


def test_a_plain_script_in_an_event_loop_labels_and_listens_on_nothing(few: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert listening(os.getpid()), "this test sees who listens"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    out = tmp_path / "labels"
    looks = 0
    command = [sys.executable, str(script), str(few), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        while run.poll() is None:
            try:
                assert listening(run.pid) == []
                looks += (out / "plan.json").exists()
            except psutil.NoSuchProcess:
                break
            time.sleep(0.02)
        stdout, stderr = run.communicate()
    assert stdout.split() == ["40"], stderr
    assert looks > 5


def test_nothing_of_this_process_is_left_changed(few: Path, tmp_path: Path) -> None:
    """The level of Dask's log, its configuration and its default client are the user's."""
    import dask
    from distributed import client

    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    loggers[0].setLevel(logging.INFO)
    before = [logger.level for logger in loggers], dask.config.get("distributed.worker.profile.enabled")
    label(settings(few), tmp_path / "labels", run=QUIET, say=silent)
    assert ([logger.level for logger in loggers], dask.config.get("distributed.worker.profile.enabled")) == before
    assert client._get_global_client() is None


# --- clusters that are started here ------------------------------------------------------------------------------------------

# A batch system of one machine: a job is a shell in the background, its number that of its process.
SBATCH = """#!/bin/sh
for last in "$@"; do :; done
script=$(cat "$last")  # it is removed when this returns
setsid sh -c "$script" > /dev/null 2>&1 &
echo "Submitted batch job $!"
"""


@pytest.fixture
def batch_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (
        ("sbatch", SBATCH),
        ("scancel", '#!/bin/sh\nkill -- "-$1" 2> /dev/null\nexit 0\n'),
        ("squeue", "#!/bin/sh\nps -e -o pid=\n"),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize("tls", [True, False])
def test_jobs_talk_to_their_scheduler_and_with_tls_nobody_else_does(
    few: Path, local: Path, tmp_path: Path, batch_system: None, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    lines = 'kind = "slurm"\ncores = 1\nmemory = "1GB"\n' + ("" if tls else "tls = false\n")
    (tmp_path / "slurm.toml").write_text(lines)
    jobs = cluster_file.read(tmp_path / "slurm.toml")
    begun = cluster._client
    addresses: list[str] = []
    strangers: list[BaseException | None] = []

    def look(address: str, security: object) -> object:
        addresses.append(address)
        strangers.append(stranger(address))
        keys = list((tmp_path / "labels-jobs").glob(".tls-*/*"))
        assert len(keys) == (3 if tls else 0)
        assert all(path.stat().st_mode & 0o077 == 0 for path in keys)
        assert all(path.parent.stat().st_mode & 0o077 == 0 for path in keys)
        return begun(address, security)  # type: ignore[arg-type]

    monkeypatch.setattr(cluster, "_client", look)
    result = label(settings(few), tmp_path / "labels", run=replace(QUIET, jobs=jobs), say=silent)
    assert files_of(result.path) == files_of(local)
    assert addresses[0].startswith("tls://" if tls else "tcp://")
    assert (strangers[0] is not None) == tls
    assert not list((tmp_path / "labels-jobs").glob(".tls-*"))


def stranger(address: str) -> BaseException | None:
    """What becomes of one who speaks to the scheduler without its keys; None where it answers."""
    from distributed import rpc

    async def ask() -> None:
        async with asyncio.timeout(5), rpc(address.replace("tls://", "tcp://")) as scheduler:
            await scheduler.identity()

    try:
        asyncio.run(ask())
    except Exception as error:
        return error
    return None


def test_a_scheduler_of_the_site_with_tls(
    few: Path, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the keys of Dask's own configuration, which workers and coordinator read; without them, a sentence."""
    import dask
    from distributed import Security

    keys = Security.temporary()
    options = []
    for name, text in (
        ("ca-file", keys.tls_ca_file),
        ("cert", keys.tls_scheduler_cert),
        ("key", keys.tls_scheduler_key),
    ):
        (tmp_path / f"{name}.pem").write_text(text)
        options += [f"--tls-{name}", str(tmp_path / f"{name}.pem")]
    port = free_port()
    address = f"tls://127.0.0.1:{port}"
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nothing = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True, "cwd": tmp_path}
    scheduler = ["dask_scheduler", "--host", address, "--no-dashboard", *options]
    worker = ["dask_worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny", *options]
    with (
        ended(subprocess.Popen([HERE, "-m", f"distributed.cli.{scheduler[0]}", *scheduler[1:]], **nothing)),  # type: ignore[call-overload]
        ended(subprocess.Popen([HERE, "-m", f"distributed.cli.{worker[0]}", *worker[1:]], **nothing)),  # type: ignore[call-overload]
    ):
        run = replace(QUIET, scheduler=address)
        with pytest.raises(InputError, match=r"speaks TLS, and no certificates are configured here"):
            label(settings(few), tmp_path / "labels", run=run, say=silent)
        wait_until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
        files = {"ca-file": "ca-file", "client.cert": "cert", "client.key": "key"}
        site = {f"distributed.comm.tls.{key}": str(tmp_path / f"{name}.pem") for key, name in files.items()}
        with dask.config.set(site):
            result = label(settings(few), tmp_path / "labels", run=run, say=silent)
    assert files_of(result.path) == files_of(local)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_line_break_in_a_cluster_file_is_refused() -> None:
    least = {"kind": "slurm", "cores": 1, "memory": "1GB"}
    for change in ({"queue": "gpu\nrm -rf ~"}, {"prologue": ["module load x\nevil"]}, {"account": "a\x1b[2J"}):
        with pytest.raises(InputError, match="one line without control characters"):
            cluster_file.settings_from(least | change, "my.toml")
    with pytest.raises(InputError, match="tls was 'yes'; it takes true or false"):
        cluster_file.settings_from(least | {"tls": "yes"}, "my.toml")


def test_a_connection_that_closes_after_the_end_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("distributed.batched")
    logger.addHandler(caplog.handler)  # Dask's do not reach the root
    try:
        with quiet_logs():
            logger.error("Error in batched write")
        logger.info("Batched Comm Closed", exc_info=True)
        assert not caplog.records
        logger.error("of the user's own Dask, later")
        assert {record.getMessage() for record in caplog.records} == {"of the user's own Dask, later"}
    finally:
        logger.removeHandler(caplog.handler)


def test_what_ctrl_c_breaks_in_dasks_loop_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Its sync() asks for a future that is not there yet, in a callback, and tornado would print the traceback."""
    done = threading.Event()

    def broken() -> None:
        done.set()
        raise NameError("future")

    logger = logging.getLogger("tornado.application")
    logger.addHandler(caplog.handler)
    try:
        with client_in_process(1) as client:
            client.loop.add_callback(broken)
            assert done.wait(10)
            client.submit(int).result()  # the loop has gone on
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records
