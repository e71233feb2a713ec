"""Progress on something that is not a terminal."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from hdistill.data.support.progress import _Lines, in_notebook, progress


def test_plain_lines_have_rate_and_remaining_time(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = _Lines(100, "structures", "label", 20, clock=lambda: now)
    for _ in range(30):
        now += 1.0
        lines.advance(2, loss=0.12345)
    lines.close()
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 4  # at 1, 11, 21 s and the last one
    assert printed[1] == "label: 42/100 structures (2.00 structures/s, 29 s left), loss 0.123"
    assert printed[-1] == "label: 80/100 structures (2.00 structures/s, 10 s left), loss 0.123"


def test_a_disabled_bar_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(10, "steps", "fit", enabled=False) as bar:
        bar.advance(5)
    assert capsys.readouterr().err == ""


def test_short_work_prints_first_and_last(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3, "steps", "fit") as bar:
        for _ in range(3):
            bar.advance()
    printed = capsys.readouterr().err.splitlines()
    assert [line.split(" (")[0] for line in printed] == ["fit: 1/3 steps", "fit: 3/3 steps"]


def test_work_of_unknown_length_shows_count_and_rate_once_it_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = _Lines(None, "structures", "reading", 0, clock=lambda: now)
    for _ in range(25):
        now += 1.0
        lines.advance(100)
    lines.close()
    assert capsys.readouterr().err.splitlines() == [
        "reading: 1000 structures (100.00 structures/s)",
        "reading: 2000 structures (100.00 structures/s)",
        "reading: 2500 structures (100.00 structures/s)",
    ]
    with progress(None, "structures", "reading") as bar:
        bar.advance(5)
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("ignore::tqdm.TqdmWarning")  # without ipywidgets a plain bar is drawn
def test_a_notebook_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace(kernel=object())
    assert not in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert in_notebook()
    with progress(3, "steps", "fit") as bar:
        bar.advance(3)
    assert "100%" in "".join(capsys.readouterr())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))  # imported, and not running
    assert not in_notebook()
