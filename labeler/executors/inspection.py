"""What is asked of a Dask worker before it gets work, and what it answers: can it do this run's chunks?

A worker with another dask joins and then every task on it hangs in silence; one without hdistill cannot unpickle a task; one
that does not see the output directory writes elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from hdistill.data.support.publish import sha256_of

from ..planning.plan import PLAN
from ..process import gpus
from ..process.host import HostSettings
from ..teachers.environments import find

PACKAGES = ("dask", "distributed", "hdistill")  # another Python minor with the same dask works
APPEAR_S = 5.0  # for a new directory to appear on a network file system
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "OAR_JOB_ID", "JOB_ID")


@dataclass(frozen=True)
class WorkerTask:
    """What a worker must have to be of use: the plan in the output directory, and the teacher."""

    folder: Path
    plan_sha256: str
    host: HostSettings

    @classmethod
    def of(cls, folder: Path, host: HostSettings) -> WorkerTask:
        return cls(folder, sha256_of(folder / PLAN), host)


@dataclass(frozen=True)
class Worker:
    """What a worker says of itself. problem: why it cannot label, or None."""

    problem: str | None
    code_sha256: str = ""
    node: str = ""
    gpus: tuple[str, ...] = ()


def look_around(task: WorkerTask) -> Worker:
    """Runs on a worker: can it see the plan, write beside it, and start the teacher?"""
    problem = _folder_problem(task) or _teacher_problem(task.host)
    host = socket.gethostname()
    job = next((os.environ[name] for name in JOB_VARIABLES if name in os.environ), "")
    return Worker(problem, code_sha256(), f"{host}/{job}", tuple(gpus.visible()))


def set_variable(name: str, value: str) -> None:
    """Runs on a worker: what it starts from now on inherits this."""
    os.environ[name] = value


def _folder_problem(task: WorkerTask) -> str | None:
    plan = task.folder / PLAN
    end = time.monotonic() + APPEAR_S
    while not plan.exists():
        if time.monotonic() > end:
            return (
                f"it does not see the output directory {task.folder}; give -o a directory on a file system that all workers "
                "share, or label without a cluster in parts (--part 1/8)"
            )
        time.sleep(0.5)
    if sha256_of(plan) != task.plan_sha256:
        return f"its {task.folder} holds another plan than the coordinator's: another disk under the same name"
    try:
        with tempfile.TemporaryFile(dir=task.folder):
            return None
    except OSError as error:
        return f"it cannot write in {task.folder} ({error.strerror}); mend the permissions"


def _teacher_problem(host: HostSettings) -> str | None:
    if (host.python is not None and host.python.exists()) or find(host.request.family) is not None:
        return None
    return (
        f"it has no {host.request.family} teacher: {host.python} does not exist there; type `hdistill teachers install "
        f"{host.request.family}` there, or set HDISTILL_TEACHERS to a folder that all workers share"
    )


def versions_problem(packages: dict[str, str | None], names: tuple[str, ...] = PACKAGES) -> str | None:
    """Why a process with these packages cannot work with this one, or None."""
    for name in names:
        on_worker, here = packages.get(name), version_of(name)
        if on_worker == here:
            continue
        wanted = f"install the same there: pip install {name}=={here}" if here else "use the same installation"
        if on_worker is None:
            return f"it has no {name} and this coordinator has {here}; {wanted}"
        return f"it has {name} {on_worker} and this coordinator has {here or 'a checkout'}; {wanted}"
    return None


def code_sha256() -> str:
    """sha256 of the code that decides labels, whatever its version says: a checkout may be edited without a new one."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(p for package in ("data", "labeler") for p in (root / package).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def packages_of(versions: dict[str, Any]) -> dict[str, str | None]:
    """Package versions in what dask says of a process, with None for what is not there."""
    packages: dict[str, str | None] = versions["packages"]
    return packages


def version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
