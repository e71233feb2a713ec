"""hdistill clusters ...: cluster files to begin with, and the job that one makes."""

from __future__ import annotations

from pathlib import Path

import click

from .command import PATH, Commands


@click.group(cls=Commands)
def clusters() -> None:
    """Cluster files: workers as jobs of Slurm, PBS, SGE, LSF, OAR or HTCondor.

    \b
      hdistill clusters example slurm > slurm.toml
      hdistill clusters script slurm.toml
      hdistill label --cluster slurm.toml --teacher 7net-0 --subset my.xyz -o labels/
    """


@clusters.command()
@click.argument("kind")
def example(kind: str) -> None:
    """Print a cluster file to begin with: slurm, pbs, sge, lsf, oar or htcondor.

    \b
      hdistill clusters example slurm > slurm.toml
    """
    from hdistill.labeler.executors.cluster_file import example as text

    click.echo(text(kind), nl=False)


@clusters.command()
@click.argument("file", type=PATH)
def script(file: Path) -> None:
    """Print the job that a cluster file makes; submit nothing.

    \b
      hdistill clusters script slurm.toml
    """
    from hdistill.labeler.executors.cluster_file import read
    from hdistill.labeler.executors.jobs import job_script

    click.echo(job_script(read(file)), nl=False)
