"""hdistill evaluate: how far a student is from its labels."""

from __future__ import annotations

from typing import Any

import click

from .command import EXIT_STOPPED, JSON, PATH, print_result
from .sharing import cache_options


@click.command()
@click.argument("run")
@click.argument("labels", required=False)
@click.option("--split", default="test", show_default=True, metavar="NAME", help="train, val or test.")
@click.option("-o", "--out", type=PATH, metavar="DIR", help="A report: report.html, report.md, report.json, figures/.")
@click.option("--parts", metavar="NAMES", help="Of the report, see below; quick or all.  [default: quick with -o]")
@click.option("--teacher", metavar="NAME", help="The reference of physical parts; its answers are kept in the report.")
@click.option("--task", help="Of a teacher that has several levels of theory.")
@click.option(
    "--structures", multiple=True, metavar="FILE", help="What physical parts look at, in place of held-out structures."
)
@click.option(
    "--phonopy", type=PATH, metavar="PATH", help="phonopy_params.yaml, or a folder with FORCE_SETS: part dft."
)
@click.option("--temperature", metavar="T,...", help="K, of dynamics and trajectories.  [default: 300,600]")
@click.option(
    "--require", multiple=True, metavar="BAR", help='Such as "force_mae<=30"; repeatable. Not met: exit code 1.'
)
@click.option("--twin", type=PATH, metavar="RUN", help="Another run beside it, one without Hessians for example.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@cache_options
@JSON
def evaluate(run: str, labels: str | None, as_json: bool, temperature: str | None, **options: Any) -> None:
    """Errors of a student on held-out structures of a label set.

    \b
      hdistill evaluate run/ labels/ --split test --json
      hdistill evaluate run/ labels/ -o report/ --parts all --require "force_mae<=30" --require "nve_drift<1"
      hdistill evaluate run/ -o report/ --teacher 7net-0 --structures si.cif --parts curvature,relaxation
      hdistill evaluate run/ labels/ -o report/ --twin plain/ --require "from_scratch_ratio<=0.8"

    Without LABELS those that the run was fitted to. Parts: accuracy, smoothness, cost (quick); speed, dynamics, curvature,
    relaxation; with --teacher distortions, scans, trajectories; with --phonopy dft. A bar without a measurement is not met;
    their names and units are in docs/report.md.
    """
    from ..api.arguments import parse_numbers
    from ..api.evaluation import evaluate as run_evaluate

    kelvins = None if temperature is None else parse_numbers(temperature, "--temperature")
    done = run_evaluate(run, labels, progress=not as_json, temperature=kelvins, **options)
    print_result(done, as_json)
    if not done.more.get("passed", True):
        raise click.exceptions.Exit(EXIT_STOPPED)
