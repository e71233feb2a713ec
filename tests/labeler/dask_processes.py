"""Real `dask scheduler` and `dask worker` processes for tests, in any Python environment, ended with the test."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hdistill.labeler.teachers.environments import _uv_environment

HERE = Path(sys.executable)
Process = subprocess.Popen[bytes]


@contextmanager
def ended(process: Process) -> Iterator[Process]:
    """A process with all that it started, ended at the end, whatever state it is in."""
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def scheduler(folder: Path, python: Path = HERE) -> Iterator[tuple[str, Process]]:
    """A scheduler on a free port of this machine: its address and its process."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    with ended(_start(folder / "scheduler.log", python, "dask_scheduler", *options)) as process:
        wait_until(lambda: file.exists() and file.stat().st_size > 0)
        yield json.loads(file.read_text())["address"], process


@contextmanager
def worker(
    address: str,
    folder: Path,
    *options: str,
    python: Path = HERE,
    environment: Mapping[str, str] = {},
    prefix: str = "",
) -> Iterator[Process]:
    """A worker of one thread. prefix: a command that starts the rest of its command line, such as unshare."""
    command = ["--local-directory", str(folder), "--nthreads", "1", "--no-dashboard", "--no-nanny", *options]
    log = folder / f"worker-{time.monotonic_ns()}.log"
    with ended(
        _start(log, python, "dask_worker", address, *command, environment=environment, prefix=prefix)
    ) as process:
        yield process


def wait_for_workers(address: str, n: int = 1) -> None:
    """Until n workers have joined, which can take long where the machine is busy. By a call that every dask understands."""
    from distributed import rpc

    async def joined() -> int:
        async with rpc(address) as scheduler:
            return len(await scheduler.ncores())

    wait_until(lambda: asyncio.run(joined()) >= n)


def _start(
    log: Path, python: Path, module: str, *options: str, environment: Mapping[str, str] = {}, prefix: str = ""
) -> Process:
    command = [*prefix.split(), str(python), "-m", f"distributed.cli.{module}", *options]
    variables = {**os.environ, **environment}
    if python != HERE:
        variables.pop("PYTHONPATH", None)
    with log.open("wb") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=file, start_new_session=True, env=variables, cwd=log.parent
        )


def environment(folder: Path, *requirements: str) -> Path:
    """The interpreter of a new environment that has these packages alone; skips the test where they cannot be had."""
    uv = HERE.with_name("uv")
    actual = str(uv) if uv.exists() else shutil.which("uv")
    if actual is None:
        pytest.skip("uv is not installed")
    python = folder / "bin" / "python"
    for command in (
        [actual, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [actual, "pip", "install", "--quiet", "--python", str(python), *requirements],
    ):
        done = subprocess.run(command, capture_output=True, text=True, env=_uv_environment())
        if done.returncode:
            pytest.skip(f"no environment with {' '.join(requirements)}: {done.stderr.strip()[-300:]}")
    return python


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
