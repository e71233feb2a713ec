"""Every kind of poison at every kind of place: the same labels for the innocent, byte for byte, and the culprits named.

What one teacher process does with each kind is in test_teacher_process.py; here is the whole run: pre-flight check, memory probe,
chunks, quarantine, label set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from hdistill.data.errors import TeacherError
from hdistill.data.format.shard import read_samples
from hdistill.data.labelsets.label_set import verify
from hdistill.data.sources import Keys, SourceReport
from hdistill.data.sources.make import structure_of
from hdistill.data.sources.record import record_of
from hdistill.data.sources.select import order_key
from hdistill.labeler.estimate import estimate
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.run import RunSettings, label
from tests.labeler.conftest import clusters, write_extxyz
from tests.labeler.misbehaving import ACTS

RUN = RunSettings(workers=1, progress=False, deadline_s=2.0)
HARMLESS = (
    "changes what it was given",
    "changes what it gave",
    "forks and both return",
    "leaves children",
    "floods",
    "reads",
)
REASONS = {
    **dict.fromkeys(
        ("KeyboardInterrupt", "GeneratorExit", "SystemExit", "CancelledError", "EOFError"), "teacher raised"
    ),
    **dict.fromkeys(("an error without a text", "an error with a wild text"), "teacher raised"),
    **dict.fromkeys(("_exit", "abort", "segfault", "leaves children and segfaults"), "teacher crashed"),
    "answers by itself": None,  # that it is named is enough
    **dict.fromkeys(("stops", "sleeps"), "teacher hung"),
    **dict.fromkeys(HARMLESS, ""),
}  # of all others: bad labels
N = 66
PLACES = (
    0,
    9,
    63,
    64,
    N - 1,
)  # in the order of the plan: the first, the 10th, the last of a chunk, the first of the next, the last


@pytest.fixture(scope="module", autouse=True)
def importable() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        yield


def poisoned(act: str, place: int, others: Sequence[Atoms]) -> Atoms:
    """A cluster that makes the calculator act so, at this place in the order of the plan among the others."""
    keys = sorted(key_of(atoms) for atoms in others)
    for seed in range(100_000):
        (atoms,) = rounded(clusters(1, seed=1000 + seed))
        atoms.info.update(charge=list(ACTS).index(act), group=act)
        if np.searchsorted(keys, key_of(atoms)) == place:
            return atoms
    raise AssertionError(f"no cluster found for place {place}")


def rounded(structures: list[Atoms]) -> list[Atoms]:
    """As a file holds them: ids are hashes of positions."""
    for atoms in structures:
        atoms.positions = np.round(atoms.positions, 8)
    return structures


def key_of(atoms: Atoms) -> int:
    return order_key(0, id_of(atoms))


def id_of(atoms: Atoms) -> str:
    """The id of the structure that a file of this becomes."""
    return structure_of(record_of(atoms), Keys(), SourceReport(), "x").id


def settings(source: Path) -> LabelSettings:
    return LabelSettings("ase:tests.labeler.misbehaving.Misbehaving", (str(source),), hessian="probes:1", codec="exact")


def labels_of(folder: Path) -> dict[str, bytes]:
    """Of each structure by its id: everything that the teacher said, as bytes."""
    samples = [sample for shard in verify(folder).shards for sample in read_samples(shard.path)]
    return {
        s.structure.id: b"".join(
            np.asarray(x).tobytes()
            for x in (s.labels.energy, s.labels.forces, s.labels.hessian.values if s.labels.hessian else [])
        )
        for s in samples
    }


@pytest.fixture(scope="module")
def innocent(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Atoms], dict[str, bytes]]:
    structures = rounded(clusters(N - 1))
    folder = tmp_path_factory.mktemp("innocent")
    source = write_extxyz(folder / "innocent.xyz", structures)
    label(settings(source), folder / "labels", run=RUN, say=lambda _: None)
    return structures, labels_of(folder / "labels")


def check(poison: Sequence[Atoms], innocent: tuple[list[Atoms], dict[str, bytes]], folder: Path) -> None:
    structures, wanted = innocent
    source = write_extxyz(folder / "mixed.xyz", [*poison, *structures])
    result = label(settings(source), folder / "labels", run=RUN, say=lambda _: None)
    labels = labels_of(result.path)
    assert {key: labels[key] for key in wanted} == wanted
    rows = {row.id: row for row in result.manifest.quarantine}
    culprits = {id_of(a): a.info["group"] for a in poison}
    assert {*labels, *rows} == {*wanted, *culprits}
    for key, act in culprits.items():
        reason = REASONS.get(act, "bad labels")
        assert (key in rows) == (reason != ""), act
        if reason:
            assert rows[key].reason == reason, (act, rows[key])


def test_five_kinds_at_five_places(innocent: tuple[list[Atoms], dict[str, bytes]], tmp_path: Path) -> None:
    acts = ("KeyboardInterrupt", "_exit", "complex forces", "leaves children and segfaults", "no forces")
    poison: list[Atoms] = []
    for act, place in zip(acts, PLACES, strict=True):
        poison.append(poisoned(act, min(place, N - 1), innocent[0]))
    check(poison, innocent, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("act", [act for act in ACTS if act != "nothing"])
def test_every_kind_at_every_place(
    innocent: tuple[list[Atoms], dict[str, bytes]], tmp_path: Path, act: str, place: int
) -> None:
    check([poisoned(act, place, innocent[0])], innocent, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("act", [act for act in ACTS if act not in ("nothing", *HARMLESS)])
def test_every_kind_alone(tmp_path: Path, act: str) -> None:
    """There is nothing to check a teacher with: one sentence that names the culprit, and nothing is left behind."""
    source = write_extxyz(tmp_path / "one.xyz", [poisoned(act, 0, [])])
    with pytest.raises(TeacherError, match=rf"did none of 1 structures.*\({act}\)"):
        label(replace(settings(source), splits="1,0,0"), tmp_path / "labels", run=RUN, say=lambda _: None)
    assert not (tmp_path / "labels").exists()


def test_a_dry_run_survives_them(innocent: tuple[list[Atoms], dict[str, bytes]], tmp_path: Path) -> None:
    structures = [*innocent[0][:5], poisoned("_exit", 0, []), poisoned("complex forces", 0, [])]
    source = write_extxyz(tmp_path / "mixed.xyz", structures)
    answer = estimate(settings(source), None, RUN)
    assert answer["n_structures"] == 7
    assert 1 <= answer["n_tried"] <= 5


def test_small_structures_that_all_crash_stop_nothing(
    innocent: tuple[list[Atoms], dict[str, bytes]], tmp_path: Path
) -> None:
    """The pre-flight check prefers small structures; here every trimer is poison."""
    structures = [atoms.copy() for atoms in innocent[0][:24]]
    trimers = [atoms for atoms in structures if len(atoms) == 3]
    for atoms in trimers:
        atoms.info["charge"] = list(ACTS).index("no forces")
    source = write_extxyz(tmp_path / "mixed.xyz", structures)
    result = label(settings(source), tmp_path / "labels", run=RUN, say=lambda _: None)
    assert result.n_quarantined == len(trimers) == 6
