"""Files of small structures for the labeler's tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np
import pytest
from ase import Atoms
from ase.io import write


def clusters(n: int, seed: int = 0, symbol: str = "Ar") -> list[Atoms]:
    """n rattled clusters of 3 to 6 atoms at sane distances, one group each."""
    rng = np.random.default_rng(seed)
    corners = np.array([[x, y, z] for x in (0, 3.6) for y in (0, 3.6) for z in (0, 3.6)])
    actual = []
    for number in range(n):
        size = 3 + number % 4
        atoms = Atoms(f"{symbol}{size}", corners[:size] + rng.normal(scale=0.1, size=(size, 3)))
        atoms.info["group"] = f"cluster-{number}"
        actual.append(atoms)
    return actual


def with_element(atoms: Atoms, number: int) -> Atoms:
    """The same cluster with its first atom replaced by another element."""
    changed = atoms.copy()
    changed.numbers[0] = number
    return changed


def write_extxyz(path: Path, structures: Sequence[Atoms]) -> Path:
    write(path, list(structures), format="extxyz")
    return path


@pytest.fixture(scope="session")
def argon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 argon clusters in one extxyz file: three chunks."""
    return write_extxyz(tmp_path_factory.mktemp("argon") / "argon.xyz", clusters(150))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one teacher follow one another, so that its processes are started once. pytest brings those together whose parameter
    has the same place in its list, and a test that leaves some teachers out has another list."""
    of_teachers = {i: item.callspec.params["bench"].label for i, item in enumerate(items) if _has_bench(item)}
    order = {label: number for number, label in enumerate(dict.fromkeys(of_teachers.values()))}
    places = sorted(of_teachers, key=lambda i: (order[of_teachers[i]], i))
    for place, item in zip(of_teachers, [items[i] for i in places], strict=True):
        items[place] = item


def _has_bench(item: pytest.Item) -> TypeGuard[pytest.Function]:
    return isinstance(item, pytest.Function) and hasattr(item, "callspec") and "bench" in item.callspec.params
