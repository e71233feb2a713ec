"""hdistill evaluate and md: how far a student is from its labels, and whether atoms move with it as they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import EXIT_PHYSICS, JSON, PATH, print_result
from .sharing import cache_options


@click.command()
@click.argument("run", type=PATH)
@click.argument("labels")
@click.option("--split", default="test", show_default=True, metavar="NAME", help="train, val or test.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@cache_options
@JSON
def evaluate(run: Path, labels: str, as_json: bool, **options: Any) -> None:
    """Errors of a student on held-out structures of a label set.

    \b
      hdistill evaluate run/ labels/ --split test --json
    """
    from ..api.evaluation import evaluate as run_evaluate

    print_result(run_evaluate(run, labels, progress=not as_json, **options), as_json)


@click.command()
@click.argument("run", type=PATH)
@click.argument("start", metavar="START")
@click.option("-o", "--out", required=True, type=PATH, metavar="DIR", help="A new folder for what is written.")
@click.option("--steps", default=10_000, show_default=True, metavar="N", help="Time steps.")
@click.option("--timestep", default=0.5, show_default=True, metavar="FS", help="Length of a step in fs.")
@click.option(
    "--temperature", default=300.0, show_default=True, metavar="K", help="At the start, or of the thermostat."
)
@click.option(
    "--friction", type=float, metavar="PER_FS", help="Langevin thermostat (NVT), such as 0.01; left out: NVE."
)
@click.option(
    "--every", default=10, show_default=True, metavar="N", help="Steps between two frames and rows of the log."
)
@click.option("--seed", default=0, show_default=True, help="Of the velocities and the thermostat.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@JSON
def md(run: Path, start: str, out: Path, quiet: bool, as_json: bool, **options: Any) -> None:
    """Move the atoms of a file with a student; check energy conservation and that the structure stays whole.

    START is any file ASE reads (its last structure, or FILE@INDEX); velocities in it are kept, so that a trajectory continues.

    \b
      hdistill md run/ start.xyz -o md/ --steps 20000 --temperature 300
      hdistill md run/ start.xyz -o warm/ --friction 0.01 --temperature 500
      hdistill md run/ md/trajectory.xyz -o more/

    Exit code 4: the dynamics was stopped because atoms collided, bonds broke or the structure overheated.
    """
    from ..api.simulation import md as run_md

    done = run_md(run, start, out, progress=not quiet, **options)
    print_result(done, as_json)
    if not done.stable:
        raise click.exceptions.Exit(EXIT_PHYSICS)
