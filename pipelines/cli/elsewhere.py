"""A command that needs a package of another environment: the same words again, by that environment's interpreter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

AGAIN = "HDISTILL_STARTED_AGAIN"  # set once, so that nothing goes round in circles


def go_on_elsewhere(family: str) -> None:
    """Put the interpreter of a family of teachers in this process's place, with the same arguments; returns where there is none, or
    where this one is that already."""
    from hdistill.labeler.teachers.environments import find

    python = find(family)
    if python is None or os.environ.get(AGAIN) == family:
        return
    click.echo(f"Going on with the interpreter of `hdistill teachers install {family}` ({python}).", err=True)
    sys.stdout.flush()
    script = str(Path(__file__).with_name("again.py"))
    os.execve(python, [str(python), script, *sys.argv[1:]], {**os.environ, AGAIN: family})
