"""Dask workers as jobs of a batch system; dask-jobqueue writes the job scripts.

Jobs are started and ended one by one, so that one that reached its wall time is replaced while there is work left.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import InputError

from .cluster_file import RESOURCE_SPEC, SYSTEMS, JobSettings
from .servers import run_async

if TYPE_CHECKING:
    from dask_jobqueue.core import Job

LOST_S = 60.0  # a worker that went away may come back: a network that stalls is not an ended job
CHECK_S = 15.0  # between questions to Slurm which jobs it still has
REFUSED_PER_JOB = 4
MAX_FAILED = 3  # jobs that ended before their workers came: then something is wrong with all of them


def require_commands(settings: JobSettings) -> None:
    """Raise InputError where the batch system's commands or dask-jobqueue are not here."""
    _, submit, cancel, _ = SYSTEMS[settings.kind]
    for command in (submit, cancel):
        if shutil.which(command) is None:
            raise InputError(
                f"There is no command {command} here, which {settings.kind} needs; run hdistill on a login node of the "
                "cluster, or label in parts (--part 1/8) in jobs of your own."
            )
    require_jobqueue()


def require_jobqueue() -> None:
    """Raise InputError where dask-jobqueue is not installed."""
    try:
        import dask_jobqueue  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            "--cluster needs dask-jobqueue; type `pip install -c constraints.txt '.[cluster]'`."
        ) from error


def make(
    settings: JobSettings, scheduler: str, name: str, logs: Path | None, worker_options: Sequence[str] = ()
) -> Job:
    """One job, not yet submitted. Its worker, or workers as name-0, name-1, ..., have one thread each: one teacher."""
    import dask_jobqueue.htcondor
    import dask_jobqueue.lsf
    import dask_jobqueue.oar
    import dask_jobqueue.pbs
    import dask_jobqueue.sge
    import dask_jobqueue.slurm

    class_name, _, _, account = SYSTEMS[settings.kind]
    job_class = getattr(getattr(dask_jobqueue, settings.kind), class_name)
    own: dict[str, Any] = {"walltime": settings.walltime, "queue": settings.queue}
    if account is not None:
        own[account] = settings.account
    if settings.kind in RESOURCE_SPEC:
        own["resource_spec"] = settings.resource_spec or _pbs_with_gpus(settings)
    if settings.kind == "htcondor":
        own = {"disk": settings.disk}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that have other names in other versions
        job: Job = job_class(
            scheduler=scheduler,
            name=name,
            job_name="hdistill",
            cores=settings.cores,
            memory=settings.memory,
            processes=settings.workers_per_job,
            interface=settings.interface,
            local_directory=settings.local_directory,
            death_timeout=settings.death_timeout_s,
            python=settings.python,
            job_script_prologue=list(settings.prologue),
            job_extra_directives=_directives(settings),
            log_directory=None if logs is None else str(logs),
            # The last --nthreads counts. The teachers' memory is not in the workers, where Dask could watch it.
            worker_extra_args=["--nthreads", "1", "--memory-limit", "0", "--no-dashboard", *worker_options],
            **own,
        )
    return job


def _directives(settings: JobSettings) -> Any:
    given = list(settings.job_extra_directives)
    n = settings.gpus_per_job
    if settings.kind == "htcondor":
        pairs = [text.partition("=") for text in given] + ([("request_gpus", "=", str(n))] if n else [])
        return {name.strip(): value.strip() for name, _, value in pairs}
    asked = {"slurm": f"--gres=gpu:{n}", "lsf": f'-gpu "num={n}"'}.get(settings.kind)
    return [asked, *given] if n and asked else given


def _pbs_with_gpus(settings: JobSettings) -> str | None:
    from dask.utils import parse_bytes

    if settings.kind != "pbs" or not settings.gpus_per_job:
        return None
    megabytes = math.ceil(parse_bytes(settings.memory) / 2**20)
    return f"select=1:ncpus={settings.cores}:mem={megabytes}MB:ngpus={settings.gpus_per_job}"


def job_script(settings: JobSettings) -> str:
    """What would be submitted, with a scheduler's address and a name made up."""
    require_jobqueue()
    job = make(settings, "tcp://SCHEDULER:PORT", "hdistill-0", None)
    return "\n".join(line.rstrip() for line in job.job_script().splitlines()) + "\n"


class Jobs:
    """The jobs of one run. As a context manager: what is still queued or running at the end is cancelled.

    A job is over when its workers were there and have been gone for LOST_S, or, of Slurm, when Slurm no longer has it. Whether one
    whose workers never came waits in the queue or has failed is known of Slurm alone.
    """

    def __init__(
        self,
        settings: JobSettings,
        scheduler: str,
        logs: Path,
        say: Callable[[str], None],
        worker_options: Sequence[str] = (),
    ) -> None:
        require_commands(settings)
        self.settings = settings
        self.scheduler = scheduler
        self.logs = logs
        self.worker_options = worker_options
        self.say = say
        self._jobs: dict[str, Any] = {}  # dask-jobqueue's Job, which has no types
        self._last_seen: dict[str, float] = {}  # of jobs whose workers have been there
        self._started = 0
        self._failed = 0
        self._checked = time.monotonic()

    def __enter__(self) -> Jobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run_async(self._close(list(self._jobs)))

    def keep_up(self, chunks_left: int, here: Collection[str], n_refused: int = 0) -> None:
        """Forget jobs that ended and submit new ones, as many as the work that is left can use.

        here: names of workers. n_refused: workers refused until now; a broken node is free again at once and gets job after
        job, so every REFUSED_PER_JOB of them cost a job. Raises InputError where none are left.
        """
        now = time.monotonic()
        absent = []
        for name in self._jobs:
            if any(worker == name or worker.startswith(name + "-") for worker in here):
                self._last_seen[name] = now
            else:
                absent.append(name)
        over = [name for name in absent if now - self._last_seen.get(name, now) > LOST_S]
        if absent and now - self._checked > CHECK_S:
            self._checked = now
            over += self._ended(absent)
        if over:
            run_async(self._close(over))
        allowed = self.settings.jobs - n_refused // REFUSED_PER_JOB
        if allowed <= 0 and not self._jobs:
            raise InputError(
                f"{n_refused} workers were refused, so no more jobs are submitted; all finished chunks are kept: mend what was "
                "said of them, or leave their nodes out, then run the same command again."
            )
        wanted = min(allowed, math.ceil(chunks_left / self.settings.workers_per_job))
        if len(self._jobs) < wanted:
            self._submit(wanted - len(self._jobs))

    def _submit(self, n: int) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        for _ in range(n):
            name = f"hdistill-{self._started}"
            job = make(self.settings, self.scheduler, name, self.logs, self.worker_options)
            try:
                run_async(job.start())
            except (RuntimeError, ValueError, OSError) as error:
                reason = " ".join(str(error).partition("stderr:")[2].split()) or str(error)
                raise InputError(f"{SYSTEMS[self.settings.kind][1]} refused the job: {reason}") from error
            self._started += 1
            self._jobs[name] = job
        ids = ", ".join(job.job_id for job in list(self._jobs.values())[-n:])
        self.say(f"Submitted {n} job{'s' * (n > 1)} ({ids}); their output goes to {self.logs}/.")

    async def _close(self, names: list[str]) -> None:
        await asyncio.gather(*(self._jobs.pop(name).close() for name in names if name in self._jobs))

    def _ended(self, absent: list[str]) -> list[str]:
        """Jobs without workers that Slurm no longer has. Raises InputError when too many ended before their workers came."""
        if self.settings.kind != "slurm":
            return []
        try:
            listed = run_async(self._jobs[absent[0]]._call(["squeue", "--noheader", "--me", "--format=%A"])).split()
        except (RuntimeError, OSError):  # a controller that restarts: ask again later
            return []
        ended = [name for name in absent if self._jobs[name].job_id not in listed]
        failed = [name for name in ended if name not in self._last_seen]
        self._failed += len(failed)
        if self._failed >= MAX_FAILED:
            raise InputError(
                f"{self._failed} jobs ended before their workers came ({', '.join(self._jobs[n].job_id for n in failed)}); "
                f"read what they said in {self.logs}/, and mend prologue, python or interface in the cluster file."
            )
        return ended
