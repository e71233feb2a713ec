"""What is wrong with a command is said before a teacher or torch is loaded, and leaves no files behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.samples import random_samples, write_label_set
from tests.labeler.conftest import clusters, write_extxyz

# Nothing of these may be loaded, and no process started, before the message.
WATCH = """
import subprocess, sys
started = []
class Watched(subprocess.Popen):
    def __init__(self, *arguments, **more):
        started.append(arguments)
        super().__init__(*arguments, **more)
subprocess.Popen = Watched
from hdistill.pipelines.cli.main import main
try:
    main(prog_name="hdistill")
finally:
    print("LOADED", *sorted({name.split(".")[0] for name in sys.modules} & {"torch", "distributed"}), len(started))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    write_extxyz(folder / "argon.xyz", clusters(6))
    (folder / "garbage.xyz").write_text("this is not a structure\nat all\n")
    write_label_set(folder / "labels", random_samples())
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("label", "--splits", "80,10,10"), "--splits was '80,10,10'"),
        (("label", "--where", ""), "--where takes an expression"),
        (("label", "--where", "n_atom > 3"), "Did you mean 'n_atoms'"),
        (("label", "--where", "n_atoms >"), "is not an expression"),
        (("label", "--group-key", "grup"), "Did you mean 'group'"),
        (("label", "--hessian", "probes"), "--hessian was 'probes'"),
        (("label", "--workers", "0"), "--workers was 0"),
        (("label", "--deadline", "-1"), "--deadline was -1"),
        (("label", "--memory", "much"), "--memory was 'much'"),
        (("label", "--cluster", "none.toml"), "none.toml"),
        (("label", "--subset", "garbage.xyz"), "garbage.xyz"),
        (("label", "--subset", "agron.xyz"), "Did you mean 'argon.xyz'"),
        (("label", "--teacher", "7net-mf-0", "--task", "pbe-u"), "has no task 'pbe-u'; there are PBE, R2SCAN"),
        (("label", "--teacher", "7net-mf-0"), "choose one with --task: PBE, R2SCAN"),
        (("label", "--teacher", "7net-0", "--task", "pbe"), "7net-0 has one task only"),
        (("fit", "labels", "-o", "run", "--student", "pain"), "Did you mean 'painn'"),
        (("fit", "labels", "-o", "run", "--recipe", "papre"), "Did you mean 'paper'"),
        (("fit", ".", "-o", "run"), "is not a label set"),
        (("evaluate", "run", "labels", "--split", "tests"), "Did you mean 'test'"),
        (("evaluate", "run", "labels"), "run does not exist"),
        (("md", "run", "none.xyz", "-o", "md"), "could not be read as a structure"),
    ],
)
def test_it_is_said_at_once(folder: Path, words: tuple[str, ...], message: str) -> None:
    if words[0] == "label":
        defaults = {"--teacher": "lennard-jones", "--subset": "argon.xyz", "-o": "out"}
        words += tuple(word for name, value in defaults.items() if name not in words for word in (name, value))
    before = sorted(folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *words], capture_output=True, text=True, cwd=folder, timeout=100
    )
    assert done.returncode == 1, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    loaded = done.stdout.split("LOADED")[1].split()
    assert loaded == ["0"] or (words[0] == "md" and "torch" in loaded)
    assert sorted(folder.rglob("*")) == before
