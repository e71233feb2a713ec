"""A part of a label set: what matches, as it is stored, with its splits and its parent's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hdistill.data.convert.cut import cut
from hdistill.data.errors import InputError
from hdistill.data.format.shard import Sample, read_samples
from hdistill.data.labelsets import writer
from hdistill.data.labelsets.label_set import open_label_set, verify
from hdistill.data.sources.select import order_key
from tests.data.made import make_label_set, samples_of


def silent(_: str) -> None: ...


def stored(folder: Path) -> list[Sample]:
    return [sample for shard in verify(folder).shards for sample in read_samples(shard.path)]


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(writer, "SHARD_BYTES", 4000)  # several shards
    return make_label_set(tmp_path / "labels", samples_of("probes:2", sizes=[2, 3, 4, 5, 6] * 4))


def test_what_matches_is_stored_as_it_was(labels: Path, tmp_path: Path) -> None:
    manifest = cut(labels, tmp_path / "part", where="n_atoms <= 3 and number < 15", say=silent)
    wanted = [s for s in stored(labels) if s.structure.n_atoms <= 3 and s.structure.info["number"] < 15]
    actual = stored(tmp_path / "part")
    assert len(actual) == 6
    assert [s.structure.id for s in actual] == [s.structure.id for s in wanted]
    for x, y in zip(actual, wanted, strict=True):
        assert x.split == y.split
        assert x.labels.hessian is not None
        assert y.labels.hessian is not None
        assert np.array_equal(x.labels.hessian.values, y.labels.hessian.values)
    assert manifest.counts.n_structures == 6
    assert manifest.history is not None
    (parent,) = manifest.history.parents
    assert parent.digest == open_label_set(labels).digest
    assert manifest.history.settings is not None
    assert manifest.history.settings["where"] == "n_atoms <= 3 and number < 15"
    assert manifest.teacher == open_label_set(labels).manifest.teacher


def test_a_sample_is_reproducible_and_a_smaller_one_a_part_of_it(labels: Path, tmp_path: Path) -> None:
    ids = []
    for name, limit, seed in (("five", 5, 0), ("nine", 9, 0), ("other", 9, 1)):
        cut(labels, tmp_path / name, limit=limit, seed=seed, say=silent)
        ids.append({s.structure.id for s in stored(tmp_path / name)})
    five, nine, other = ids
    assert (len(five), len(nine), len(other)) == (5, 9, 9)
    assert five < nine
    every = [s.structure.id for s in stored(labels)]
    assert five == set(sorted(every, key=lambda i: order_key(0, i))[:5])  # as `hdistill label --limit` chooses
    assert other != nine
    again = cut(labels, tmp_path / "again", limit=9, say=silent)
    assert again == open_label_set(tmp_path / "nine").manifest


def test_one_split(labels: Path, tmp_path: Path) -> None:
    manifest = cut(labels, tmp_path / "part", split="test", say=silent)
    splits = manifest.splits.n_structures
    assert splits["test"] == open_label_set(labels).manifest.splits.n_structures["test"] > 0
    assert splits["train"] == splits["val"] == 0


def test_what_matches_nothing_is_said(labels: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ({"where": "n_atoms > 99"}, "No structure of"),
        ({"where": "n_atom > 9"}, "Did you mean 'n_atoms'"),
        ({"limit": 0}, "--limit was 0"),
        ({"split": "tets"}, "Did you mean 'test'"),
    ):
        with pytest.raises(InputError, match=words):
            cut(labels, tmp_path / "part", say=silent, **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "part").exists()
