"""Batches that fit into memory: halved when they do not, sized beforehand where that can be seen, and the culprit named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hdistill.data.errors import TeacherCrashed
from hdistill.data.probes import draw, parse_spec
from hdistill.data.structure import Directions, Labels, Structure
from hdistill.labeler.planning import batch_size
from hdistill.labeler.process import memory
from hdistill.labeler.process.batching import n_pairs
from hdistill.labeler.process.host import HostSettings, TeacherHost
from hdistill.labeler.process.parent import TeacherException, TeacherOutOfMemory
from hdistill.labeler.teachers import registry
from hdistill.labeler.work.bisection import Failure, label_with_bisection

SPEC = parse_spec("probes:2")


def molecule(n_rings: int, seed: int = 0) -> Structure:
    """Carbon and hydrogen on a rattled grid: n_rings * 8 atoms, all in one another's way."""
    grid = np.stack(np.meshgrid(*[np.arange(2) * 1.6] * 2, np.arange(2 * n_rings) * 1.6), -1).reshape(-1, 3)
    positions = grid + np.random.default_rng(seed).normal(scale=0.03, size=grid.shape)
    return Structure(np.where(np.arange(len(grid)) % 2, 6, 1), positions)


def directions(structures: Sequence[Structure]) -> list[Directions | None]:
    return [draw(SPEC, 0, s.id, s.n_atoms) for s in structures]


@pytest.fixture(scope="module")
def request_ani() -> HostSettings:
    return HostSettings(registry.request("ani-1x"))


def ask_all(
    settings: HostSettings, structures: list[Structure]
) -> tuple[list[Labels | Failure], TeacherHost, list[int]]:
    host, asked = TeacherHost(settings), []

    def ask(batch: Sequence[Structure], wanted: Sequence[Directions | None], n_pairs: int) -> list[Labels]:
        asked.append(len(batch))
        return host.label(batch, wanted, n_pairs)

    try:
        sizes = [n_pairs(s) for s in structures]
        return label_with_bisection(ask, structures, directions(structures), sizes), host, asked
    finally:
        host.close()


def test_a_batch_that_does_not_fit_is_halved_and_a_giant_is_named(request_ani: HostSettings) -> None:
    structures = [*(molecule(3, seed) for seed in range(24)), molecule(400)]
    freely, _, asked = ask_all(HostSettings(request_ani.request, memory_bytes=20 << 30), structures[:-1])
    assert asked == [24]
    tightly, host, asked = ask_all(HostSettings(request_ani.request, memory_bytes=900 << 20), structures)
    assert asked[0] == 25
    assert isinstance(tightly[-1], Failure)
    assert tightly[-1].reason == "out of memory"
    assert "3200 atoms" in tightly[-1].text
    assert tightly[-1].attempts == 2
    for free, tight in zip(freely, tightly[:-1], strict=True):
        assert isinstance(free, Labels)
        assert isinstance(tight, Labels)
        assert np.abs(free.forces - tight.forces).max() < 1e-4  # float32, other batches
    # What was learned: a batch as large is not tried again, it is halved at once.
    assert host._ran_out_at is not None
    with pytest.raises(TeacherOutOfMemory, match="will not"):
        host.label(structures[:2], directions(structures[:2]), host._ran_out_at)


@pytest.mark.long
def test_the_plan_takes_smaller_batches_where_memory_is_small(request_ani: HostSettings) -> None:
    structures = [molecule(3, seed) for seed in range(24)]
    host = TeacherHost(HostSettings(request_ani.request, memory_bytes=20 << 30))
    wide = batch_size.measure(host, structures, directions(structures), 20 << 30, 20_000)
    assert wide == 20_000
    host.close()
    narrow = batch_size.measure(host, structures, directions(structures), host.peak_bytes + (40 << 20), 20_000)
    host.close()
    assert narrow < 20_000
    assert narrow & (narrow - 1) == 0  # a power of two: measured twice, it is the same


def test_the_memory_of_a_large_parent_is_not_the_teachers(request_ani: HostSettings) -> None:
    """On Linux ru_maxrss begins with what the parent had when it forked: a batch would seem to take nothing."""
    ballast = np.ones(100 << 20)  # 0.8 GB
    with request_ani.start() as teacher:
        assert teacher.peak_bytes < ballast.nbytes / 2


def test_no_other_error_is_taken_for_memory() -> None:
    """An exception halves the batch to find its culprit, with its own reason; a crash is tried twice; neither is swallowed."""
    structures = [molecule(1, seed) for seed in range(4)]
    asked = []

    def ask(batch: Sequence[Structure], wanted: Sequence[Directions | None], n_pairs: int) -> list[Labels]:
        asked.append([structures.index(s) for s in batch])
        if structures[1] in batch:
            raise TeacherException("RuntimeError: out of memory is what this text says, and it is not")
        if structures[2] in batch:
            raise TeacherCrashed("killed by SIGSEGV")
        return [Labels(0.0, np.zeros((s.n_atoms, 3))) for s in batch]

    actual = label_with_bisection(ask, structures, directions(structures), [n_pairs(s) for s in structures])
    assert [isinstance(x, Labels) for x in actual] == [True, False, False, True]
    assert [x.reason for x in actual if isinstance(x, Failure)] == ["teacher raised", "teacher crashed"]
    assert asked == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3], [2], [2], [3]]


def test_an_error_of_the_run_is_raised_not_quarantined() -> None:
    def ask(batch: Sequence[Structure], wanted: Sequence[Directions | None], n_pairs: int) -> list[Labels]:
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        label_with_bisection(ask, [molecule(1)], [None], [10])


def test_a_limit_of_the_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.of_machine()
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (tmp_path / "memory.max", tmp_path / "absent"))
    assert memory.of_machine() >= whole
    (tmp_path / "memory.max").write_text("1000000000\n")
    assert memory.of_machine() == 1_000_000_000
    assert memory.share(3) == 300_000_000
