"""A published file is complete or absent: at every step of the write, on a full disk, and against a rival."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hdistill.data.publish import publish

DATA = bytes(range(256)) * 64


def test_first_one_wins_unless_told_to_replace(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    assert publish(path, b"first")
    assert not publish(path, b"second")
    assert path.read_bytes() == b"first"
    assert publish(path, b"third", replace=True)
    assert path.read_bytes() == b"third"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("step", ["open", "write", "fsync", "link"])
def test_killed_at_any_step_the_file_is_absent_or_complete(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child process dies in the middle of the call, without cleaning up; the next attempt succeeds."""
    path = tmp_path / "file"
    real_write = os.write

    def partial_write(descriptor: int, data: bytes) -> int:
        real_write(descriptor, bytes(data[:100]))
        os._exit(9)

    child = os.fork()
    if child == 0:
        die = lambda *_, **__: os._exit(9)  # noqa: E731
        monkeypatch.setattr(os, step, partial_write if step == "write" else die)
        publish(path, DATA)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not path.exists()
    assert publish(path, DATA)
    assert path.read_bytes() == DATA


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:1000])))
    publish(tmp_path / "file", DATA)
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        publish(tmp_path / "file", DATA)
    assert os.listdir(tmp_path) == []


def test_without_hard_links_the_first_one_still_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert publish(tmp_path / "file", b"first")
    assert not publish(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
