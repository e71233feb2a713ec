"""Nothing that a teacher does hurts who asks it: every misdeed is named, what it started ends with it, innocents keep their labels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hdistill.data.errors import TeacherCrashed, TeacherError
from hdistill.data.structure import Directions, Structure
from hdistill.labeler.process import wire
from hdistill.labeler.process.parent import TeacherBadLabels, TeacherException, TeacherHung, TeacherProcess
from hdistill.labeler.teachers import registry
from tests.labeler.misbehaving import ACTS

ROOT = Path(__file__).parents[2]
REQUEST = registry.request("ase:tests.labeler.misbehaving.Misbehaving")
INNOCENT = Structure(np.array([18, 18, 18]), np.array([(0, 0, 0), (3.6, 0, 0), (0, 3.5, 0)], float))


def guilty(of: str) -> Structure:
    return replace(INNOCENT, charge=list(ACTS).index(of))


@pytest.fixture(autouse=True, scope="module")
def path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@pytest.fixture(scope="module")
def kept() -> Iterator[list[TeacherProcess]]:
    """One process for all that it survives; a new one where it did not, after that test has failed."""
    processes: list[TeacherProcess] = []
    yield processes
    for process in processes:
        process.close()


@pytest.fixture
def teacher(kept: list[TeacherProcess]) -> TeacherProcess:
    if not (kept and kept[-1].alive):
        kept.append(start())
    return kept[-1]


def start(request: object = REQUEST, python: Path = Path(sys.executable)) -> TeacherProcess:
    return TeacherProcess(python, request, deadline_s=60)  # type: ignore[arg-type]


def label(teacher: TeacherProcess, structure: Structure, deadline_s: float = 60.0) -> bytes:
    (labels,) = teacher.label([structure], [None], deadline_s)
    return np.float64(labels.energy).tobytes() + labels.forces.tobytes()


@pytest.mark.parametrize(
    ("act", "says"),
    [
        ("KeyboardInterrupt", "^KeyboardInterrupt$"),
        ("GeneratorExit", "^GeneratorExit$"),
        ("SystemExit", "^SystemExit: 5$"),
        ("CancelledError", "^CancelledError$"),
        ("EOFError", "^EOFError: the file has ended$"),
        ("an error without a text", "^Unspeakable$"),
        ("an error with a wild text", r"^ValueError: .31mred\? x{1000}"),
    ],
)
def test_whatever_it_raises_is_an_answer(teacher: TeacherProcess, act: str, says: str) -> None:
    before = label(teacher, INNOCENT)
    with pytest.raises(TeacherException, match=says) as raised:
        label(teacher, guilty(act))
    text = str(raised.value)
    assert text.isprintable()
    assert len(text.encode()) <= 2000
    assert label(teacher, INNOCENT) == before


@pytest.mark.parametrize(
    ("act", "says"),
    [
        ("no forces", "its forces: a NoneType, where 3x3 real numbers"),
        ("forces of None", "array of object"),
        ("complex forces", "array of complex128"),
        ("true forces", "array of bool"),
        ("forces of text", "array of <U3"),
        ("forces on too many atoms", r"shape \(4, 3\), where 3x3"),
        ("flat forces", r"shape \(9,\)"),
        ("no energy", "its energy: a NoneType, where one real number"),
        ("a complex energy", "complex"),
        ("an energy of text", "its energy: a str"),
        ("two energies", r"shape \(2,\)"),
    ],
)
def test_what_is_no_label_is_refused_where_it_is_made(teacher: TeacherProcess, act: str, says: str) -> None:
    before = label(teacher, INNOCENT)
    with pytest.raises(TeacherBadLabels, match=says):
        label(teacher, guilty(act))
    assert label(teacher, INNOCENT) == before


@pytest.mark.parametrize("act", ["changes what it was given", "changes what it gave", "forks and both return", "reads"])
def test_what_it_does_beside_labelling_changes_no_label(teacher: TeacherProcess, act: str) -> None:
    before = label(teacher, INNOCENT)
    assert label(teacher, guilty(act)) == before
    assert label(teacher, INNOCENT) == before


def test_displacements_of_a_teacher_that_changes_its_input(teacher: TeacherProcess) -> None:
    row = [Directions("rows", coordinate=np.array([4], np.int32))]
    honest, changing = (teacher.label([s], row)[0].hessian for s in (INNOCENT, guilty("changes what it was given")))
    assert honest is not None
    assert changing is not None
    assert honest.values.tobytes() == changing.values.tobytes()


def test_a_flood_of_output_costs_no_disk_and_little_memory(teacher: TeacherProcess) -> None:
    def size() -> int:
        return sum(
            os.stat(f"/proc/self/fd/{n}").st_size
            for n in os.listdir("/proc/self/fd")
            if Path(f"/proc/self/fd/{n}").exists()
        )

    before, disk = label(teacher, INNOCENT), size()
    assert label(teacher, guilty("floods")) == before
    assert size() - disk < 1 << 20
    assert len(teacher._process._log) < 1 << 16


@pytest.mark.parametrize(
    ("act", "says"),
    [
        ("_exit", "exit code 3"),
        ("abort", "SIGABRT"),
        ("segfault", "SIGSEGV"),
        ("leaves children and segfaults", "SIGSEGV"),  # they hold its pipes open
        ("answers by itself", "gave an answer that cannot be read"),
    ],
)
def test_its_end_is_named_at_once(act: str, says: str) -> None:
    with start() as teacher:
        began = time.monotonic()
        with pytest.raises(TeacherCrashed, match=says) as crashed:
            label(teacher, guilty(act), deadline_s=300)
        assert not isinstance(crashed.value, TeacherHung)
        assert time.monotonic() - began < 60
        assert "\n" not in str(crashed.value)
        assert not teacher.alive


@pytest.mark.parametrize("act", ["sleeps", "stops"])
def test_a_deadline_ends_it(act: str) -> None:
    with start() as teacher:
        with pytest.raises(TeacherHung, match="no answer within 1 s"):
            label(teacher, guilty(act), deadline_s=1.0)
        assert not teacher.alive


def test_a_deadline_covers_writing() -> None:
    """A process that does not read, and a message larger than any pipe."""
    large = Structure(np.full(200_000, 18), np.zeros((200_000, 3)))
    with start() as teacher:
        os.kill(teacher.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(TeacherHung, match="no answer within 1 s"):
            teacher.label([large], [None], deadline_s=1.0)
        assert time.monotonic() - began < 30
        assert not teacher.alive


# What it started


def marked(mark: str) -> list[int]:
    """Processes with a mark in their environment."""
    actual = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                actual.append(int(folder.name))
        except OSError:
            continue
    return actual


def soon(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are counted in /proc")


@linux
def test_what_it_started_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDISTILL_TEST", mark := f"closed-{os.getpid()}")
    with start() as teacher:
        label(teacher, guilty("leaves children"))
        assert len(marked(mark)) == 4
    assert soon(lambda: not marked(mark))


@linux
def test_what_it_started_ends_when_it_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDISTILL_TEST", mark := f"crashed-{os.getpid()}")
    with start() as teacher:
        with pytest.raises(TeacherCrashed):
            label(teacher, guilty("leaves children and segfaults"))
        assert soon(lambda: not marked(mark))


@linux
def test_it_ends_with_a_parent_that_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDISTILL_TEST", mark := f"orphan-{os.getpid()}")
    code = """from tests.labeler import test_teacher_process as t
t.label(t.start(), t.guilty('leaves children'))
print(1, flush=True)
input()"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "1\n"
    assert len(marked(mark)) == 5
    parent.kill()
    parent.communicate()
    assert soon(lambda: not marked(mark))


# Answers that are none: an interpreter other than Python sends what is in two files, one for each message that it gets.

INFO = {
    **dict.fromkeys(("name", "family", "dtype", "device", "weights_license", "license_class", "level_of_theory"), "x"),
    **{"citation": "x", "task": None, "elements": [18], "conservative": True, "has_stress": False, "versions": {}},
    **{"hessian_method": "autograd", "weights_sha256": None},
}
LOADED = wire.encode({"info": INFO, "peak_bytes": 1, "device_bytes": None})
LIAR = """#!{python} -S
import sys
for answer in {answers!r}:
    header = sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(8), "little"))
    sys.stdout.buffer.write(open(answer, "rb").read())
    sys.stdout.buffer.flush()
import time; time.sleep(3600)
"""


def liar(folder: Path, *answers: bytes) -> Path:
    names = []
    for number, answer in enumerate(answers):
        (folder / f"{number}").write_bytes(answer)
        names.append(str(folder / f"{number}"))
    script = folder / "python"
    script.write_text(LIAR.format(python=sys.executable, answers=names))
    script.chmod(0o755)
    return script


def head(**header: object) -> bytes:
    data = json.dumps(header).encode()
    return len(data).to_bytes(8, "little") + data


def answer(header: dict[str, object] | None = None, **arrays: np.ndarray) -> bytes:
    given = {"energy": np.zeros(1), "forces 0": np.zeros((3, 3))} | {k.replace("_", " "): v for k, v in arrays.items()}
    return wire.encode({"conservative": True, "peak_bytes": 1, **(header or {})}, given)


UNREADABLE = {
    "a length beyond all": b"\xff" * 8,
    "no JSON": (5).to_bytes(8, "little") + b"hello",
    "no UTF-8": (2).to_bytes(8, "little") + b"\xff\xfe",
    "JSON that is deep": (100_000).to_bytes(8, "little") + b"[" * 100_000,
    "a list": (2).to_bytes(8, "little") + b"[]",
    "no arrays": head(peak_bytes=1),
    "arrays of objects": head(arrays=[["energy", "|O", [1]]]) + b"\0" * 8,
    "arrays of nothing known": head(arrays=[["energy", "f8,f8", [1]]]) + b"\0" * 16,
    "a negative shape": head(arrays=[["energy", "<f8", [-1]]]),
    "a shape that is none": head(arrays=[["energy", "<f8", "many"]]),
    "terabytes": head(arrays=[["energy", "<f8", [1 << 40]]]),
    "a product that overflows": head(arrays=[["energy", "<f8", [1 << 32, 1 << 32]]]),
    "an unknown failure": head(arrays=[], failed="bored", text="x"),
    "no energy": wire.encode({"conservative": True, "peak_bytes": 1}, {"forces 0": np.zeros((3, 3))}),
    "two energies": answer(energy=np.zeros(2)),
    "complex": answer(forces_0=np.zeros((3, 3), complex)),
    "flags": answer(forces_0=np.zeros((3, 3), bool)),
    "forces of others": answer(forces_0=np.zeros((4, 3))),
    "no peak": answer({"peak_bytes": None}),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_answer_that_cannot_be_read_is_a_crash_in_one_sentence(tmp_path: Path, kind: str) -> None:
    with start(python=liar(tmp_path, LOADED, UNREADABLE[kind])) as teacher:
        with pytest.raises(
            TeacherCrashed, match=r"gave an answer that cannot be read .* and was stopped\.$"
        ) as crashed:
            teacher.label([INNOCENT], [None], 30)
        assert str(crashed.value).isprintable()
        assert len(str(crashed.value)) < 500
        assert not teacher.alive


def test_products_that_were_wanted_and_did_not_come(tmp_path: Path) -> None:
    row = [Directions("rows", coordinate=np.array([4], np.int32))]
    with (
        start(python=liar(tmp_path, LOADED, answer())) as teacher,
        pytest.raises(TeacherCrashed, match="cannot be read"),
    ):
        teacher.label([INNOCENT], row, 30)


@pytest.mark.parametrize("first", [b"hello, I am a shell\n", wire.encode({"info": {"name": "x"}}), wire.encode({})])
def test_a_program_that_is_no_teacher(tmp_path: Path, first: bytes) -> None:
    with pytest.raises(TeacherCrashed, match=r"cannot be read|process ended"):
        start(python=liar(tmp_path, first))


def test_a_program_that_ends_says_its_last_words(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'no module \033[31mtorch' >&2\nexit 7\n")
    script.chmod(0o755)
    with pytest.raises(TeacherError, match=r"exit code 7.*Its last words: no module .31mtorch"):
        start(python=script)
