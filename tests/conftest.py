"""Interpreters of teachers, for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hdistill.labeler.teachers import environments
from tests.warm import Warm

NOWHERE = "http://127.0.0.1:9"  # a port that nothing listens on: no network, at once, on every machine


def python_of(family: str) -> Path:
    """The interpreter of a family of teachers; skips the test where there is none."""
    python = environments.find(family)
    if python is None:
        pytest.skip(f"{family} is not installed; `hdistill teachers install {family}` or `make teachers`")
    return python


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a warm interpreter's packages look for what they have fetched: an empty folder."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory, caches: Path) -> Iterator[Callable[[str], Path]]:
    """The interpreter of a family with its package imported (see warm.py), out of reach of networks and of the user's caches."""
    away = {name: NOWHERE for proxy in ("http_proxy", "https_proxy", "all_proxy") for name in (proxy, proxy.upper())}
    away |= {name: str(caches) for name in ("XDG_CACHE_HOME", "FAIRCHEM_CACHE_DIR", "HF_HOME")}
    kept = {name: value for name, value in os.environ.items() if name not in ("no_proxy", "NO_PROXY", "HF_TOKEN")}
    started: dict[str, Warm] = {}
    with ExitStack() as stack:

        def interpreter(family: str) -> Path:
            if family not in started:
                folder = tmp_path_factory.mktemp(family)
                started[family] = stack.enter_context(Warm(python_of(family), family, folder, kept | away))
            return started[family].interpreter

        yield interpreter


@pytest.fixture
def warm_sevennet(warm: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`7net-0` is found as a user's own installation is, and is warm."""
    bin_folder = tmp_path / "teachers" / "sevennet" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").symlink_to(warm("sevennet"))
    (bin_folder.parent / "installed").touch()
    monkeypatch.setenv("HDISTILL_TEACHERS", str(tmp_path / "teachers"))
