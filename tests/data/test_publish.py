"""A published file is complete or absent: at every step of the write, on a full disk, and against a rival."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hdistill.data.format.shard import to_arrays
from hdistill.data.format.shard_file import image, read_arrays
from hdistill.data.support.publish import publish
from tests.data.samples import random_samples

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


CALLS = ("open", "write", "fsync", "close", "link", "replace", "unlink")


@pytest.mark.parametrize(("replaces", "hard_links"), [(False, True), (False, False), (True, True)])
def test_killed_after_every_prefix_of_its_calls(tmp_path: Path, replaces: bool, hard_links: bool) -> None:
    """A shard is published by a child that dies before its k-th call to the system, for every k; each write takes a part only.

    What stands under the final name is the old file or the new one, and the next attempt completes it.
    """
    data = image(to_arrays(random_samples(sizes=(3, 2)), "compact"), {})
    old = image(to_arrays(random_samples(sizes=(4,)), "compact"), {})
    survived = 0
    for k in range(100):
        path = tmp_path / str(k) / "000000.h5"
        path.parent.mkdir()
        if replaces:
            path.write_bytes(old)
        if _dies_before_call(k, path, data, replaces, hard_links):
            actual = path.read_bytes() if path.exists() else None
            assert actual in ((old, data) if replaces else (None, data)), f"half a file after {k} calls"
            assert actual is None or len(read_arrays(path)[0]["id"]) in (1, 2)
            left = [p.name for p in path.parent.iterdir() if p != path]
            assert all(name.startswith(".") and name.endswith(".tmp") for name in left)
            assert publish(path, data, replaces) == (replaces or actual is None)
        else:
            survived += 1
        assert path.read_bytes() == data
        if survived:
            assert k > 10
            return
    raise AssertionError("the child never came to its end")


def _dies_before_call(k: int, path: Path, data: bytes, replaces: bool, hard_links: bool) -> bool:
    child = os.fork()
    if child == 0:
        done = 0

        def counted(name: str) -> Callable[..., Any]:
            real = getattr(os, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal done
                if done == k:
                    os._exit(9)
                done += 1
                if name == "link" and not hard_links:
                    raise OSError(errno.ENOTSUP, "no links here")
                return real(args[0], bytes(args[1][:2000])) if name == "write" else real(*args, **kwargs)

            return call

        for name in CALLS:
            setattr(os, name, counted(name))
        try:
            publish(path, data, replaces)
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


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
