"""The spool: one order and one set of bytes for any order of the input, in little memory, whoever is killed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hdistill.data import sources
from hdistill.data.labelsets import split
from hdistill.data.sources import select as subset
from hdistill.data.structure import Structure
from hdistill.labeler.planning import spool as spools, spool_sort

FRACTIONS = (0.6, 0.2, 0.2)


def argon(number: int, group: str = "") -> Structure:
    """A cluster like no other, made in microseconds."""
    generator = random.Random(number)
    positions = np.array([[3.6 * i + generator.random(), generator.random(), 0.0] for i in range(3 + number % 3)])
    numbers = np.full(len(positions), 18 if number % 5 else 36)
    return Structure(numbers, positions, group=group or f"group {number % 97}", info={"number": number})


MANY = [argon(number) for number in range(700)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ids(folder: Path, spool: spools.Spool) -> list[str]:
    return [structure.id for structure, _ in spools.read(folder, spool, 0, spool.n_structures)]


@pytest.mark.parametrize("limit", [None, 1, 50, 699, 5000])
def test_the_order_of_the_input_changes_no_byte(
    limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, edges = spools.write(MANY, tmp_path / "as they are", 3, FRACTIONS, limit)
    shuffled = random.Random(0).sample(MANY, len(MANY))
    monkeypatch.setattr(spool_sort, "BLOCK", 500)  # nearly every structure goes through the file
    for name, structures in (("backwards", MANY[::-1]), ("shuffled", shuffled)):
        again, same_edges = spools.write(structures, tmp_path / name, 3, FRACTIONS, limit)
        assert again == written
        assert same_edges.tolist() == edges.tolist()
        assert contents(tmp_path / name) == contents(tmp_path / "as they are")
    wanted = [s.id for s in subset.sample(MANY, limit or len(MANY), seed=3)]
    assert ids(tmp_path / "shuffled", written) == wanted
    assert len(wanted) == min(limit or 700, 700) == written.n_structures == len(edges)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    structures = list(sources.read("perovskites"))
    spool, edges = spools.write(structures, tmp_path, 0, FRACTIONS)
    assigned = split.assign([s.group for s in structures], [s.id for s in structures], 0, FRACTIONS)
    splits = dict(zip([s.id for s in structures], assigned.splits, strict=True))
    given = {s.id: s for s in structures}
    assert spool.splits == assigned.counts()
    assert spool.n_atoms == sum(s.n_atoms for s in structures)
    assert spool.n_groups == len({s.group for s in structures})
    assert spool.elements[8] == sum(8 in s.numbers for s in structures)
    assert len(spool.elements) == len({z for s in structures for z in s.numbers.tolist()})
    actual = [
        pair for start in range(0, 544, 100) for pair in spools.read(tmp_path, spool, start, min(start + 100, 544))
    ]
    assert len({s.id for s, _ in actual}) == 544
    for (structure, of), n_edges in zip(actual, edges.tolist(), strict=True):
        original = given[structure.id]
        assert of == splits[structure.id]
        assert (structure.group, dict(structure.info)) == (original.group, dict(original.info))
        assert np.array_equal(structure.positions, original.positions)
        assert n_edges >= structure.n_atoms
    keys = [subset.order_key(0, s.id) for s, _ in actual]
    assert keys == sorted(keys)


def test_where_two_hashes_are_equal_the_id_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_sort, "order_key", lambda seed, structure_id: int(structure_id[:1], 16) << 60)
    spools.write(MANY, tmp_path / "a", 0, FRACTIONS, limit=300)
    again, _ = spools.write(MANY[::-1], tmp_path / "b", 0, FRACTIONS, limit=300)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert ids(tmp_path / "b", again) == sorted(s.id for s in MANY)[:300]


def test_nothing_to_write(tmp_path: Path) -> None:
    spool, edges = spools.write([], tmp_path, 0, FRACTIONS)
    assert (spool.n_structures, len(edges), spools.read(tmp_path, spool, 0, 64)) == (0, 0, [])


def test_one_group_is_split_by_structure(tmp_path: Path) -> None:
    spool, _ = spools.write([replace(s, group="argon") for s in MANY], tmp_path, 0, FRACTIONS)
    assert (spool.split_by, spool.n_groups) == ("structure", 1)
    assert "only 1 group" in spool.warnings[0]
    assert min(spool.splits.values()) > 100


def test_memory_hardly_grows_with_the_structures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tens of bytes for each, besides its id in subset.unique; a record has five hundred, and a Structure in memory thousands."""
    monkeypatch.setattr(spool_sort, "BLOCK", 4 << 10)

    def peak(n: int) -> int:
        tracemalloc.start()
        spool, _ = spools.write((argon(number) for number in range(n)), tmp_path / str(n), 0, FRACTIONS)
        assert spool.n_structures == n
        actual = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return actual

    peak(100)  # imports
    assert (peak(11_000) - peak(4_000)) / 7_000 < 60


def test_a_sample_holds_no_more_than_its_keys(tmp_path: Path) -> None:
    def endless() -> Iterator[Structure]:
        for number in range(6_000):
            yield argon(number)

    tracemalloc.start()
    spool, _ = spools.write(endless(), tmp_path, 0, FRACTIONS, limit=20)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spool.n_structures == 20
    assert held < 1.5e6  # the records of all would be 3 MB


def test_a_changed_spool_is_seen_and_written_again(tmp_path: Path) -> None:
    spool, _ = spools.write(MANY[:50], tmp_path, 0, FRACTIONS)
    path = spools.path_of(tmp_path, spool)
    whole = path.read_bytes()
    for at in (0, len(whole) // 2, len(whole) - 1):  # records and index alike
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert not spools.is_intact(tmp_path, spool)
        spools.write(MANY[:50], tmp_path, 0, FRACTIONS)
        assert spools.is_intact(tmp_path, spool)
        assert path.read_bytes() == whole


def test_two_labelers_with_different_wishes_leave_one_another_alone(tmp_path: Path) -> None:
    first, _ = spools.write(MANY[:50], tmp_path, 0, FRACTIONS)
    other, _ = spools.write(MANY[50:], tmp_path, 0, FRACTIONS)
    assert spools.is_intact(tmp_path, first)
    assert spools.is_intact(tmp_path, other)
    assert set(ids(tmp_path, first)) == {s.id for s in MANY[:50]}


KILLED = """
import os, signal, sys
from pathlib import Path
from hdistill.labeler.planning import spool as spools, spool_sort
from tests.labeler.test_spool import FRACTIONS, MANY

spool_sort.BLOCK = 500

def until(n):
    for structure in MANY[:n]:
        yield structure
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "reading":
    spools.write(until(600), Path(sys.argv[1]), 0, FRACTIONS)
else:
    spools.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
    spools.write(MANY, Path(sys.argv[1]), 0, FRACTIONS)
"""


@pytest.mark.parametrize(("moment", "left"), [("reading", 0), ("writing", 1)])
def test_killed(moment: str, left: int, tmp_path: Path) -> None:
    """Reading takes hours and leaves nothing; of the end a temporary stays, which the next one removes when it is old."""
    folder = tmp_path / "spool"
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", KILLED, str(folder), moment]
    assert subprocess.run(command, cwd=root, check=False).returncode == -signal.SIGKILL
    temporaries = list(folder.iterdir())
    assert len(temporaries) == left
    spool, _ = spools.write(MANY, folder, 0, FRACTIONS)
    assert set(temporaries) < set(folder.iterdir())  # written a moment ago: it might be somebody's
    for path in temporaries:
        os.utime(path, (0, 0))
    again, _ = spools.write(MANY, folder, 0, FRACTIONS)
    assert again == spool
    assert list(folder.iterdir()) == [spools.path_of(folder, spool)]


def test_a_temporary_that_somebody_writes_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / ".structures.abc.tmp"
    with open(own, "wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        os.utime(own, (0, 0))
        spools.write(MANY[:5], tmp_path, 0, FRACTIONS)
        assert own.exists()
    spools.write(MANY[:5], tmp_path, 0, FRACTIONS)
    assert not own.exists()


def test_the_name_is_the_hash_of_the_contents(tmp_path: Path) -> None:
    spool, _ = spools.write(MANY, tmp_path, 0, FRACTIONS)
    (path,) = tmp_path.iterdir()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == spool.sha256
    assert path.name == f"structures-{spool.sha256[:16]}.bin"
