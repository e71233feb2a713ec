"""hdistill evaluate: how far a student is from its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import EXIT_STOPPED, JSON, PATH, print_result
from .sharing import cache_options


@click.command()
@click.argument("run", type=PATH)
@click.argument("labels")
@click.option("--split", default="test", show_default=True, metavar="NAME", help="train, val or test.")
@click.option("-o", "--out", type=PATH, metavar="DIR", help="A report: report.html, report.md, report.json, figures/.")
@click.option(
    "--parts", metavar="NAMES", help="accuracy, smoothness, dynamics, speed, quick or all.  [default: quick with -o]"
)
@click.option(
    "--require", multiple=True, metavar="BAR", help='Such as "force_mae<=30"; repeatable. Not met: exit code 1.'
)
@click.option("--twin", type=PATH, metavar="RUN", help="Another run beside it, one without Hessians for example.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@cache_options
@JSON
def evaluate(run: Path, labels: str, as_json: bool, **options: Any) -> None:
    """Errors of a student on held-out structures of a label set.

    \b
      hdistill evaluate run/ labels/ --split test --json
      hdistill evaluate run/ labels/ -o report/ --parts all --require "force_mae<=30" --require "nve_drift<1"
      hdistill evaluate run/ labels/ -o report/ --twin plain/ --require "from_scratch_ratio<=0.8"

    Units of bars: meV/A, meV/atom, meV/A^3, ps, ms. A bar without a measurement is not met.
    """
    from ..api.evaluation import evaluate as run_evaluate

    done = run_evaluate(run, labels, progress=not as_json, **options)
    print_result(done, as_json)
    if not done.more.get("passed", True):
        raise click.exceptions.Exit(EXIT_STOPPED)
