"""What can be seen to be wrong without a teacher is said before one is loaded, at once, and leaves nothing behind."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hdistill.data.errors import HDistillError, InputError
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.process import host
from hdistill.labeler.run import RunSettings, label
from tests.labeler.conftest import clusters, write_extxyz

QUIET = RunSettings(workers=1, progress=False)
WRONG = {
    "splits in per cent": (("--splits", "80,10,10"), "they must add up to 1"),
    "two splits": (("--splits", "0.9,0.1"), "three fractions"),
    "a typo in an expression": (("--where", "n_atoms <= and"), "is not an expression"),
    "a name that no structure has": (("--where", "n_atom <= 5"), "n_atom"),
    "nothing matches": (("--where", "n_atoms > 100"), "none matches `n_atoms > 100`; loosen --where"),
    "a task of a teacher without": (("--task", "pbe"), "has one task only"),
    "a task in small letters": (("--teacher", "7net-mf-0", "--task", "pbe"), "Did you mean 'PBE'"),
    "no task": (("--teacher", "uma-s-1p1"), "choose one with --task: omol"),
    "no such task": (("--teacher", "uma-s-1p1", "--task", "omoll"), "Did you mean 'omol'"),
    "no such file": (("--subset", "absent.xyz"), "no file and no subset"),
    "no structures in it": (("--subset", "letter.txt"), "letter.txt"),
    "no probes": (("--hessian", "probes:0"), "--hessian"),
    "no structures wanted": (("--limit", "0"), "--limit was 0"),
    "no pairs": (("--batch-edges", "0"), "--batch-edges was 0"),
    "a key that no structure has": (("--energy-key", "dft"), "dft"),
}


@pytest.fixture
def nobody_starts_a_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: object) -> None:
        raise AssertionError("a teacher was started")

    monkeypatch.setattr(host.HostSettings, "start", start)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_extxyz(tmp_path / "some.xyz", clusters(12))
    write_extxyz(tmp_path / "one.xyz", clusters(1))
    (tmp_path / "letter.txt").write_text("Dear reader,\n\nthis is not a structure.\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.usefixtures("nobody_starts_a_teacher")
def test_before_a_teacher_is_loaded(kind: str, folder: Path) -> None:
    from click.testing import CliRunner

    from hdistill.pipelines.cli.main import main

    options, words = WRONG[kind]
    given = {"--teacher": "lennard-jones", "--subset": "some.xyz", "-o": "labels"} | dict(
        zip(options[::2], options[1::2], strict=True)
    )
    before = sorted(folder.rglob("*"))
    done = CliRunner().invoke(main, ["label", *(word for pair in given.items() for word in pair)])
    assert done.exit_code == 1, done.output
    assert words in done.output
    assert done.output.count("\n") == 1, "one sentence, and no report before it"
    assert sorted(folder.rglob("*")) == before


@pytest.mark.usefixtures("nobody_starts_a_teacher")
def test_one_structure_is_too_few_and_what_to_do_is_said(folder: Path) -> None:
    wanted = LabelSettings("lennard-jones", ("one.xyz",))
    with pytest.raises(
        InputError, match=r"There is 1 structure, so the .* split would be empty.*hdistill sample.*1,0,0"
    ):
        label(wanted, Path("labels"), run=QUIET, say=lambda _: None)
    assert not Path("labels").exists()


def test_one_structure_can_be_had_all_the_same(folder: Path) -> None:
    wanted = LabelSettings("lennard-jones", ("one.xyz",), splits="1,0,0")
    result = label(wanted, Path("labels"), run=QUIET, say=lambda _: None)
    assert result.manifest.splits.n_structures == {"train": 1, "val": 0, "test": 0}


def test_a_teacher_that_does_not_load_leaves_nothing(folder: Path) -> None:
    with pytest.raises(HDistillError, match="does not load"):
        label(LabelSettings("ase:no.such.Thing", ("some.xyz",)), Path("labels"), run=QUIET, say=lambda _: None)
    assert not Path("labels").exists()


def test_it_takes_two_seconds(folder: Path) -> None:
    """Of CPU time, from the shell: a busy machine takes longer."""
    command = [sys.executable, "-m", "hdistill.pipelines", "label", "--teacher", "7net-0", "--subset", "some.xyz"]
    for options in (["--splits", "80,10,10"], ["--task", "pbe"], ["--where", "n_atom < 3"]):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([*command, *options, "-o", "labels"], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 1
        assert done.stderr.startswith("error: "), done.stderr
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.0
