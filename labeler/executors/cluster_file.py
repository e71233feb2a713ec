"""Cluster files: what a job of a batch system is to be, as a small TOML table, with every name, type and text checked."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from hdistill.data.errors import InputError, nearest

from ..process.memory import USABLE

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
    tls: bool = True  # encrypt what scheduler and workers say, and let nobody else speak
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
        raise InputError(f"The cluster file {path} is not TOML: {error}.") from error
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
        return tuple(_one_line(name, item, where) for item in value)
    if kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"{where}: {name} was {value!r}; it takes true or false.")
        return value
    if kind is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"{where}: {name} was {value!r}; it takes a whole number.")
        return value
    if not isinstance(value, str):
        raise InputError(
            f'{where}: {name} was {value!r}; it takes a text in quotes, such as "{_SAMPLES.get(name, "...")}".'
        )
    return _one_line(name, value, where)


def _one_line(name: str, text: str, where: str) -> str:
    """A text as it is; a line break in it would be a line of its own in the job script. Raises InputError."""
    if not text.isprintable():
        raise InputError(f"{where}: {name} was {text!r}; it takes one line without control characters.")
    return text


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
# tls = true                  # encrypted, with keys of this run alone, in a folder that only you can read
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
