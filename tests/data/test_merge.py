"""Sets put together: each structure once, groups whole, contradictions and strangers refused, everybody named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hdistill.data.convert.merge import Rows, merge, united_quarantine
from hdistill.data.errors import InputError, LabelSetError
from hdistill.data.format.records import QuarantineRow
from hdistill.data.format.shard import Sample, read_samples
from hdistill.data.labelsets import writer
from hdistill.data.labelsets.label_set import open_label_set, read_manifest, verify
from hdistill.pipelines.cli.main import main
from tests.data.made import make_label_set, samples_of
from tests.data.manifests import SUBSET, TEACHER


def silent(_: str) -> None: ...


def stored(folder: Path) -> list[Sample]:
    return [sample for shard in verify(folder).shards for sample in read_samples(shard.path)]


def with_labels(sample: Sample, **changed: Any) -> Sample:
    return replace(sample, labels=replace(sample.labels, **changed))


def in_group(sample: Sample, group: str, split: str) -> Sample:
    return replace(sample, structure=replace(sample.structure, group=group), split=split)


def test_each_structure_once_with_the_bytes_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = samples_of("probes:3", sizes=(3, 1, 7, 5, 2, 4, 6))
    a = make_label_set(tmp_path / "a", samples[:5])
    b = make_label_set(tmp_path / "b", samples[3:])
    messages: list[str] = []
    merge([a, b], tmp_path / "ab", say=messages.append)
    assert any("2 structures are in several sets" in line for line in messages)
    actual, wanted = stored(tmp_path / "ab"), stored(make_label_set(tmp_path / "whole", samples))
    assert [s.structure.id for s in actual] == [s.structure.id for s in wanted]
    for x, y in zip(actual, wanted, strict=True):
        assert x.labels.energy == y.labels.energy
        assert x.labels.hessian is not None
        assert y.labels.hessian is not None
        assert np.array_equal(x.labels.hessian.values, y.labels.hessian.values)
    monkeypatch.setattr(writer, "SHARD_BYTES", 1500)
    merge([a, b], tmp_path / "small", say=silent)
    assert len(read_manifest(tmp_path / "small").shards) > 1
    assert [s.structure.id for s in stored(tmp_path / "small")] == [s.structure.id for s in wanted]


def test_the_manifest_names_both_parents(tmp_path: Path) -> None:
    samples = samples_of("probes:3")
    subset = SUBSET
    lost = {"id": samples[4].structure.id, "reason": "teacher crashed", "text": "killed", "attempts": 2}
    gone = {"id": "ab" * 16, "reason": "teacher crashed", "text": "killed", "attempts": 2}
    a = make_label_set(tmp_path / "a", samples[:3], quarantine=[lost, gone])
    licenses = {"structures": "CC-BY-NC-4.0", "weights": "MIT", "weights_class": "nc", "code": "MIT"}
    other = subset | {"names": ["other.xyz"], "citation": ["others"], "license": "CC-BY-NC-4.0"}
    versions = TEACHER | {"versions": {"torch": "2.14.0", "madeup": "1.0"}}
    b = make_label_set(tmp_path / "b", samples[3:], subset=other, licenses=licenses, teacher=versions)
    messages: list[str] = []
    manifest = merge([a, b], tmp_path / "ab", say=messages.append)
    assert any("torch 2.13.0 and 2.14.0" in line for line in messages)
    assert manifest.subset.names == ("made.xyz", "other.xyz")
    assert manifest.subset.citation == ("others", "them")
    assert manifest.licenses.structures == "CC-BY-NC-4.0 + MIT"
    assert manifest.licenses.weights_class == "nc"
    assert [row.id for row in manifest.quarantine] == [gone["id"]]  # the other one was labelled in b
    assert manifest.history is not None
    assert [row.digest for row in manifest.history.parents] == [open_label_set(x).digest for x in (a, b)]
    assert manifest.history.noted == ("torch 2.13.0 and 2.14.0",)


def test_of_a_duplicate_the_one_with_most_products_is_taken(tmp_path: Path) -> None:
    long = samples_of("probes:5")
    hessians = [s.labels.hessian for s in long]
    short = []
    for sample, hessian in zip(long, hessians, strict=True):
        assert hessian is not None
        assert hessian.directions.signs is not None
        fewer = replace(
            hessian,
            directions=replace(hessian.directions, signs=hessian.directions.signs[:2]),
            values=hessian.values[:2],
        )
        short.append(with_labels(sample, hessian=fewer))
    a = make_label_set(tmp_path / "a", short)
    b = make_label_set(tmp_path / "b", long[1:3])
    manifest = merge([a, b], tmp_path / "ab", say=silent)
    counts = {s.structure.id: len(s.labels.hessian.values) for s in stored(tmp_path / "ab") if s.labels.hessian}
    assert [counts[s.structure.id] for s in long] == [2, 5, 5, 2, 2]
    assert manifest.hessian.per_structure is None
    assert manifest.hessian.n_products == 16


@pytest.mark.parametrize("what", ["energy", "forces", "stress", "products"])
def test_a_contradiction_is_refused_by_name(tmp_path: Path, what: str) -> None:
    samples = samples_of("probes:3")
    labels = samples[2].labels
    assert labels.hessian is not None
    assert labels.stress is not None
    changed: dict[str, Any] = {
        "energy": {"energy": labels.energy + 0.1},
        "forces": {"forces": labels.forces + np.float32(0.05)},
        "stress": {"stress": labels.stress + np.float32(0.1)},
        "products": {"hessian": replace(labels.hessian, values=labels.hessian.values * np.float32(1.05))},
    }[what]
    bent = [*samples[:2], with_labels(samples[2], **changed), *samples[3:]]
    # Facts of an exact codec, so that its error excuses nothing.
    a = make_label_set(tmp_path / "a", samples, "exact")
    b = make_label_set(tmp_path / "b", bent, "exact")
    with pytest.raises(LabelSetError, match=rf"contradict each other: structure {samples[2].structure.id}.*{what}"):
        merge([a, b], tmp_path / "ab", say=silent)
    assert not (tmp_path / "ab" / "manifest.json").exists()


def test_other_directions_of_one_structure_are_a_contradiction(tmp_path: Path) -> None:
    a = samples_of("probes:3")
    b = [replace(x, structure=y.structure) for x, y in zip(samples_of("probes:3", seed=1), a, strict=True)]
    b = [with_labels(y, hessian=x.labels.hessian) for x, y in zip(b, a, strict=True)]
    with pytest.raises(LabelSetError, match="products by inf"):
        merge([make_label_set(tmp_path / "a", a), make_label_set(tmp_path / "b", b)], tmp_path / "ab", say=silent)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"teacher": TEACHER | {"weights_sha256": "cd" * 32}}, "weights_sha256"),
        ({"teacher": TEACHER | {"task": "omol"}}, "task"),
        ({"teacher": TEACHER | {"dtype": "float64"}}, "dtype"),
        ({"teacher": TEACHER | {"versions": {"torch": "2.13.0", "madeup": "2.0"}}}, "version of madeup"),
        ({"hessian": {"kind": "probes", "per_structure": 3, "seed": 1, "codec": "compact"}}, "seed"),
        ({"splits": {"fractions": "0.8,0.1,0.1", "seed": 0, "by": "structure"}}, "split by group"),
    ],
)
def test_sets_that_were_not_labelled_alike_are_refused(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    samples = samples_of("probes:3")
    a = make_label_set(tmp_path / "a", samples[:3])
    b = make_label_set(tmp_path / "b", samples[3:], **changed)
    with pytest.raises(LabelSetError, match=words):
        merge([a, b], tmp_path / "ab", say=silent)


def test_a_group_in_two_splits_goes_where_it_is_held_out_most(tmp_path: Path) -> None:
    samples = samples_of("probes:1", sizes=[3] * 6)
    a = [in_group(samples[0], "x", "train"), in_group(samples[1], "y", "val"), in_group(samples[2], "z", "train")]
    b = [in_group(samples[3], "x", "test"), in_group(samples[4], "y", "train"), in_group(samples[5], "z", "train")]
    manifest = merge(
        [make_label_set(tmp_path / "a", a), make_label_set(tmp_path / "b", b)], tmp_path / "ab", say=silent
    )
    splits: dict[str, set[str]] = {}
    for sample in stored(tmp_path / "ab"):
        splits.setdefault(sample.structure.group, set()).add(sample.split)
    assert splits == {"x": {"test"}, "y": {"val"}, "z": {"train"}}
    assert manifest.history is not None
    assert manifest.history.n_groups_in_different_splits == 2
    assert manifest.splits.n_structures == {"train": 2, "val": 2, "test": 2}


def test_what_cannot_be_merged_is_said(tmp_path: Path) -> None:
    a = make_label_set(tmp_path / "a", samples_of("probes:1"))
    with pytest.raises(InputError, match="two label sets"):
        merge([a], tmp_path / "out", say=silent)
    with pytest.raises(LabelSetError, match="already"):
        merge([a, a], a, say=silent)
    shard = next((a / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(LabelSetError, match="sha256"):
        merge([a, a], tmp_path / "out", say=silent)


@pytest.mark.parametrize("key", ["not hexadecimal", "zz" * 16, "ab", 7])
def test_an_odd_id_in_a_strangers_quarantine_is_one_sentence(tmp_path: Path, key: Any) -> None:
    a, b = (make_label_set(tmp_path / name, samples_of("probes:1")) for name in "ab")
    manifest = json.loads((b / "manifest.json").read_text())
    manifest["quarantine"] = [{"id": key, "reason": "bad labels", "text": "", "attempts": 1}]
    manifest["counts"]["n_quarantined"] = 1
    (b / "manifest.json").write_text(json.dumps(manifest))
    for command in (["merge", str(a), str(b), "-o", str(tmp_path / "out")], ["verify", str(b)], ["info", str(b)]):
        done = CliRunner().invoke(main, ["labels", *command])
        assert done.exit_code == 1, command
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert "quarantine" in done.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_quarantined_id_that_ends_in_nul_is_known_when_it_is_labelled() -> None:
    """numpy drops NULs at the end of bytes: such an id must not stay in quarantine after another set has labelled it."""
    ids = ["11" * 15 + "00", "22" * 16]
    rows = Rows(*[np.zeros(1, int)] * 3, np.array([bytes.fromhex(ids[0])], "S16"), *[np.zeros(1, int)] * 3)
    quarantine = [QuarantineRow(id=key, reason="bad labels", text="", attempts=1) for key in ids]
    assert [row.id for row in united_quarantine([quarantine], rows)] == ids[1:]
