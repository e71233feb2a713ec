"""Dask workers as jobs of a batch system, from a small TOML file; dask-jobqueue writes the job scripts.

Jobs are started and ended one by one, so that one that reached its wall time is replaced while there is work left.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import time
import tomllib
import warnings
from collections.abc import Callable, Collection
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_type_hints

from hdistill.data.errors import InputError, nearest

from ..process.memory import USABLE

if TYPE_CHECKING:
    from dask_jobqueue.core import Job

# kind: the class in dask_jobqueue, the commands that submit and cancel, what a job's account is called, own settings.
SYSTEMS = {
    "slurm": ("SLURMJob", "sbatch", "scancel", "account"),
    "pbs": ("PBSJob", "qsub", "qdel", "account"),
    "sge": ("SGEJob", "qsub", "qdel", "project"),
    "lsf": ("LSFJob", "bsub", "bkill", "project"),
    "oar": ("OARJob", "oarsub", "oardel", "project"),
    "htcondor": ("HTCondorJob", "condor_submit", "condor_rm", None),
}
RESOURCE_SPEC = ("pbs", "sge", "oar")
LOST_S = 60.0  # a worker that went away may come back: a network that stalls is no ended job
CHECK_S = 15.0  # between questions to Slurm which jobs it still has
REFUSED_PER_JOB = 4
MAX_FAILED = 3  # jobs that ended before their workers came: then something is wrong with all of them


@dataclass(frozen=True)
class JobSettings:
    """One table of a cluster file, its names being these. cores, memory and gpus are of one job."""

    kind: str  # slurm, pbs, sge, lsf, oar or htcondor
    cores: int
    memory: str  # such as 32GB
    jobs: int = 1  # at most so many at a time; fewer when less is left to do
    workers_per_job: int = 1  # each with a teacher of its own; as many as GPUs
    gpus_per_job: int = 0
    queue: str | None = None  # a Slurm partition
    account: str | None = None
    walltime: str = "01:00:00"
    job_extra_directives: tuple[str, ...] = ()  # as after #SBATCH; for htcondor, name = value
    prologue: tuple[str, ...] = ()  # shell lines before the worker: module load ..., source ...
    python: str | None = None  # the interpreter with hdistill on the nodes; by default this one's path
    interface: str | None = None  # network interface, such as ib0
    local_directory: str | None = None
    death_timeout_s: int = 60  # a worker without a scheduler ends itself, and so its job
    resource_spec: str | None = None  # of pbs, sge and oar
    disk: str | None = None  # of htcondor

    @property
    def memory_per_worker(self) -> int:
        """Bytes of the job's memory that each worker's teacher may take; the rest is for the workers themselves."""
        from dask.utils import parse_bytes

        return int(USABLE * parse_bytes(self.memory) / self.workers_per_job)


def read(path: Path) -> JobSettings:
    """The settings in a cluster file. Raises InputError that names the key."""
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        hint = f" For a file to begin with, type `hdistill clusters example slurm > {path.stem}.toml`."
        raise InputError(f"The cluster file {path} cannot be read: {error.strerror}.{hint}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The cluster file {path} is no TOML: {error}.") from error
    return settings_from(table, str(path))


def settings_from(table: dict[str, Any], where: str) -> JobSettings:
    """JobSettings from a table, every name and type checked. Raises InputError."""
    kinds = get_type_hints(JobSettings)
    for name, value in table.items():
        if name not in kinds:
            raise InputError(
                f"{where}: no setting is called '{name}'.{nearest(name, kinds)} Known: {', '.join(kinds)}."
            )
        table = table | {name: _checked(name, value, kinds[name], where)}
    missing = [f.name for f in fields(JobSettings) if f.default is MISSING and f.name not in table]
    if missing:
        raise InputError(f"{where}: {' and '.join(missing)} must be given, for one job.")
    settings = JobSettings(**table)
    if settings.kind not in SYSTEMS:
        raise InputError(
            f"{where}: kind was '{settings.kind}'.{nearest(settings.kind, SYSTEMS)} Known: {', '.join(SYSTEMS)}."
        )
    _check_sense(settings, where)
    return settings


def _checked(name: str, value: Any, kind: Any, where: str) -> Any:
    if kind == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f'{where}: {name} was {value!r}; it takes a list of texts, such as ["..."].')
        return tuple(value)
    if kind is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"{where}: {name} was {value!r}; it takes a whole number.")
        return value
    if not isinstance(value, str):
        raise InputError(
            f'{where}: {name} was {value!r}; it takes a text in quotes, such as "{_SAMPLES.get(name, "...")}".'
        )
    return value


_SAMPLES = {"memory": "32GB", "walltime": "04:00:00", "queue": "gpu", "interface": "ib0", "disk": "10GB"}


def _check_sense(settings: JobSettings, where: str) -> None:
    from dask.utils import parse_bytes

    for name in ("cores", "jobs", "workers_per_job", "death_timeout_s"):
        if getattr(settings, name) < 1:
            raise InputError(f"{where}: {name} was {getattr(settings, name)}; it must be 1 or more.")
    try:
        parse_bytes(settings.memory)
    except ValueError as error:
        raise InputError(f'{where}: memory was "{settings.memory}"; it takes a size such as "32GB".') from error
    if settings.cores < settings.workers_per_job:
        raise InputError(
            f"{where}: {settings.workers_per_job} workers in a job of {settings.cores} cores; give cores = "
            f"{settings.workers_per_job} or more."
        )
    if settings.resource_spec is not None and settings.kind not in RESOURCE_SPEC:
        raise InputError(f"{where}: resource_spec is of {', '.join(RESOURCE_SPEC)}; use job_extra_directives here.")
    if settings.kind == "htcondor" and settings.disk is None:
        raise InputError(f'{where}: htcondor wants to know disk, such as "10GB".')
    if settings.kind == "htcondor" and not all("=" in text for text in settings.job_extra_directives):
        raise InputError(f'{where}: job_extra_directives of htcondor are such as "request_gpus = 1".')
    if settings.gpus_per_job and settings.kind in ("sge", "oar") and not settings.resource_spec:
        raise InputError(
            f"{where}: how a job of {settings.kind} asks for GPUs differs from site to site; put your site's words into "
            "resource_spec or job_extra_directives and leave gpus_per_job out."
        )


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
        raise InputError("--cluster needs dask-jobqueue; type `pip install 'hdistill[cluster]'`.") from error


def make(settings: JobSettings, scheduler: str, name: str, logs: Path | None) -> Job:
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
            worker_extra_args=["--nthreads", "1", "--memory-limit", "0", "--no-dashboard"],
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

    def __init__(self, settings: JobSettings, scheduler: str, logs: Path, say: Callable[[str], None]) -> None:
        require_commands(settings)
        self.settings = settings
        self.scheduler = scheduler
        self.logs = logs
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
        asyncio.run(self._close(list(self._jobs)))

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
            asyncio.run(self._close(over))
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
            job = make(self.settings, self.scheduler, name, self.logs)
            try:
                asyncio.run(job.start())
            except (RuntimeError, ValueError, OSError) as error:
                said = " ".join(str(error).partition("stderr:")[2].split()) or str(error)
                raise InputError(f"{SYSTEMS[self.settings.kind][1]} refused the job: {said}") from error
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
            listed = asyncio.run(self._jobs[absent[0]]._call(["squeue", "--noheader", "--me", "--format=%A"])).split()
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


EXAMPLE = """\
# Every line but the first three may be left out. `hdistill clusters script FILE` shows the job that this file makes.
kind = "{kind}"
cores = 8                     # of one job, as are memory and gpus_per_job
memory = "32GB"

jobs = 4                      # at most so many at a time; one that ends early is replaced while work is left
workers_per_job = 1           # each with a teacher of its own: as many as GPUs
{gpus}
walltime = "{walltime}"
queue = "gpu"                 # a partition, in Slurm's words
account = "my-project"
# job_extra_directives = [{extra}]
prologue = ["source ~/hdistill/.venv/bin/activate"]   # shell lines before the worker: module load ...
python = "python"             # that has hdistill on the nodes; left out, the path of the one that submits
# interface = "ib0"           # network between scheduler and workers
# local_directory = "/scratch/me"
# death_timeout_s = 60        # a worker that has lost its scheduler ends itself, and its job
{own}"""


def example(kind: str) -> str:
    """A cluster file to begin with. Raises InputError."""
    if kind not in SYSTEMS:
        raise InputError(f"No batch system is called '{kind}'.{nearest(kind, SYSTEMS)} Known: {', '.join(SYSTEMS)}.")
    gpus = "gpus_per_job = 1" if kind not in ("sge", "oar") else "# GPUs: your site's own words, in resource_spec"
    extra = {"slurm": '"--constraint=a100"', "htcondor": '"requirements = OpSysMajorVer >= 8"'}.get(kind, '"..."')
    own = {"htcondor": 'disk = "10GB"\n'}.get(kind, "")
    own += '# resource_spec = "..."       # what is asked of the batch system, in its own words\n' * (
        kind in RESOURCE_SPEC
    )
    walltime = "04:00" if kind == "lsf" else "04:00:00"
    return EXAMPLE.format(kind=kind, gpus=gpus, walltime=walltime, extra=extra, own=own)
