"""hdistill evaluate: how far a student is from its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import JSON, PATH, print_result
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
