"""The commands of the tutorials, typed as they stand on the page; the long ones with shorter settings put behind them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hdistill.pipelines.cli.main import main
from tests.conftest import python_of

DOCS = Path(__file__).resolve().parents[2] / "docs"
TUTORIALS = {"crystal": "sevennet", "molecule": "torchani"}  # each with its teacher
SHORTER = {
    "distill": "--first 12 --per-round 6 --rounds 1 --structures 18 --steps 40 --student moment --accuracy 900meV,100%,0.2ps "
    "--report quick --quiet",
    "md": "--steps 60 --quiet --stop-beyond 0",
    "evaluate": "--parts curvature",
}


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of the examples that are to be typed, in order."""
    text = (DOCS / f"tutorial-{page}.md").read_text()
    return [block for block in re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL) if block[0] in ("sh", "python")]


def commands(page: str) -> list[list[str]]:
    lines = [line for language, text in blocks(page) if language == "sh" for line in text.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("hdistill ")]


@pytest.mark.parametrize("page", TUTORIALS)
def test_every_option_of_a_tutorial_exists(page: str) -> None:
    """--help at the end is answered only where all that stands before it is understood."""
    assert len(commands(page)) >= 5
    for words in commands(page):
        done = CliRunner().invoke(main, [*words, "--help"])
        assert done.exit_code == 0, (words, done.output)
        assert "Usage" in done.output


@pytest.mark.long
@pytest.mark.parametrize(("page", "family"), TUTORIALS.items())
def test_a_tutorial_runs_from_top_to_bottom(page: str, family: str, tmp_path: Path) -> None:
    python_of(family)  # or the test is skipped
    programs = tmp_path / "bin"
    programs.mkdir()
    cases = "".join(f'{name}) set -- "$@" {more} ;;\n' for name, more in SHORTER.items())
    for name, script in {
        "hdistill": f'case "$1" in\n{cases}esac\nexec {sys.executable} -m hdistill.pipelines "$@"',
        "python": f'exec {sys.executable} "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    folder = tmp_path / "work"
    folder.mkdir()
    for language, text in blocks(page):
        words = ["sh", "-e", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
