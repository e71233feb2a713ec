"""The disk is full at one write after another: a clear message and an exit code, and the same command completes when there is room.

On a tmpfs of a few pages, in a mount namespace of the test's own; needs `unshare` (util-linux) and the right to make one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.files import files_of
from tests.labeler.conftest import clusters, write_extxyz

NAMESPACE = ["unshare", "--map-root-user", "--mount"]
PAGE = 4096


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    trial = [*NAMESPACE, "sh", "-c", "mount -t tmpfs none /mnt"]
    return subprocess.run(trial, capture_output=True, timeout=30).returncode == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="no right to mount a tmpfs in a namespace here")

# Runs inside the namespace: fill, fail, make room, complete; the outcome as JSON, and the label set copied out.
SCRIPT = r"""
import json, os, shutil, subprocess, sys
small, result, source, command, sizes = *sys.argv[1:4], json.loads(sys.argv[4]), json.loads(sys.argv[5])
outcomes = []
for size in sizes:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", small], check=True)
    tries = []
    for _ in range(2):  # twice while it is full: the second must not be fooled by what the first left
        done = subprocess.run([*command, "-o", f"{small}/labels"], capture_output=True, text=True)
        tries.append([done.returncode, done.stderr])
        if done.returncode == 0:
            break
    left = sorted(os.path.relpath(os.path.join(folder, name), small) for folder, _, names in os.walk(small) for name in names)
    subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
    done = subprocess.run([*command, "-o", f"{small}/labels"], capture_output=True, text=True)
    tries.append([done.returncode, done.stderr])
    copy = f"{result}/{size}"
    shutil.copytree(f"{small}/labels", copy)
    subprocess.run(["umount", small], check=True)
    outcomes.append({"size": size, "tries": tries, "left": left})
print(json.dumps(outcomes))
"""


def fill(tmp_path: Path, command: list[str], source: Path, sizes: list[int]) -> list[dict]:  # type: ignore[type-arg]
    small, result = tmp_path / "small", tmp_path / "result"
    small.mkdir()
    result.mkdir()
    words = [sys.executable, "-c", SCRIPT, str(small), str(result), str(source), json.dumps(command), json.dumps(sizes)]
    done = subprocess.run([*NAMESPACE, *words], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    outcomes: list[dict] = json.loads(done.stdout)  # type: ignore[type-arg]
    return outcomes


def check(tmp_path: Path, command: list[str], source: Path, sizes: list[int]) -> None:
    assert subprocess.run([*command, "-o", str(tmp_path / "whole")], capture_output=True).returncode == 0
    whole = files_of(tmp_path / "whole")
    places = set()
    for outcome in fill(tmp_path, command, source, sizes):
        *full, last = outcome["tries"]
        for code, messages in full:
            assert code in (0, 1), f"{outcome['size']} bytes: exit code {code}: {messages}"
            if code == 1:
                assert "No space left on device" in messages, messages
                assert "Traceback" not in messages
        assert last[0] == 0, last[1]
        assert files_of(tmp_path / "result" / str(outcome["size"])) == whole, outcome["size"]
        assert not any(name.endswith((".tmp", ".planning")) for name in outcome["left"]), outcome["left"]
        places.add(len(outcome["left"]))
    assert len(places) >= min(3, len(sizes) - 1), "the disk was full at one place only"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_extxyz(tmp_path_factory.mktemp("source") / "argon.xyz", clusters(150))


def label_command(source: Path) -> list[str]:
    words = ("--teacher", "lennard-jones", "--hessian", "probes:2", "--workers", "1", "--quiet")
    return [sys.executable, "-m", "hdistill.pipelines", "label", *words, "--subset", str(source)]


@needs_mount
def test_disk_full_at_one_write_after_another(source: Path, tmp_path: Path) -> None:
    # The spool of 150 clusters takes 25 pages, the plan 2, each chunk 8, the shard 12, the manifest 2.
    check(tmp_path, label_command(source), source, [PAGE * n for n in (4, 27, 45)])


@needs_mount
@pytest.mark.long
def test_disk_full_at_every_page(source: Path, tmp_path: Path) -> None:
    check(tmp_path, label_command(source), source, [PAGE * n for n in range(2, 90, 2)])
