"""One way to write a label set: the same parts give the same bytes, shards of bounded size, the manifest last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hdistill.data.errors import LabelSetError
from hdistill.data.format.records import QuarantineRow
from hdistill.data.format.schema import MAX_QUARANTINE_ROWS
from hdistill.data.format.shard import (
    append_products,
    concatenate,
    decode,
    read_samples,
    select,
    to_arrays,
    without_products,
)
from hdistill.data.labelsets import writer
from hdistill.data.labelsets.label_set import MANIFEST, read_manifest, verify
from tests.data.made import facts_of_samples, make_label_set, samples_of
from tests.files import files_of


@pytest.mark.parametrize("hessian", ["probes:3", "rows:2", "full", "none"])
@pytest.mark.parametrize("codec", ["compact", "exact"])
def test_selected_structures_are_stored_as_they_were(hessian: str, codec: str) -> None:
    samples = samples_of(hessian)
    arrays = to_arrays(samples, codec)  # type: ignore[arg-type]
    for rows in ([0, 1, 2, 3, 4], [3, 0], [4], [2, 2, 1]):
        chosen = to_arrays([samples[i] for i in rows], codec)  # type: ignore[arg-type]
        actual = select(arrays, rows)
        assert set(actual) >= set(chosen)
        for name, array in chosen.items():
            assert np.array_equal(actual[name], array, equal_nan=array.dtype.kind == "f"), name


@pytest.mark.parametrize("hessian", ["probes", "rows"])
def test_products_are_put_behind_those_that_are_there(hessian: str) -> None:
    long = samples_of(f"{hessian}:5", sizes=(3, 4, 7, 5))
    whole = to_arrays(long, "compact")

    def some(first: int, stop: int) -> dict[str, np.ndarray]:
        from hdistill.data.structure import Directions, HessianProducts

        cut = []
        for sample in long:
            p = sample.labels.hessian
            assert p is not None
            d = p.directions
            rows = None if d.coordinate is None else d.coordinate[first:stop]
            signs = None if d.signs is None else d.signs[first:stop]
            products = HessianProducts(Directions(d.kind, rows, signs), p.values[first:stop])
            cut.append(replace(sample, labels=replace(sample.labels, hessian=products)))
        return to_arrays(cut, "compact")

    joined = append_products(some(0, 2), some(2, 5))
    assert joined.keys() == whole.keys()
    for name, array in whole.items():
        assert np.array_equal(joined[name], array, equal_nan=array.dtype.kind == "f"), name
    # of the last structure there are no further products
    partly = concatenate([select(some(2, 5), [0, 1, 2]), without_products(select(whole, [3]))])
    counts = np.diff(append_products(some(0, 2), partly)["product_offsets"])
    assert counts.tolist() == [5, 5, 5, 2]
    assert [
        len(s.labels.hessian.values) for s in decode(append_products(some(0, 2), partly), 0, 4) if s.labels.hessian
    ] == [
        5,
        5,
        5,
        2,
    ]


def test_the_same_parts_give_the_same_bytes_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = samples_of("probes:2", sizes=[4] * 40)
    monkeypatch.setattr(writer, "SHARD_BYTES", 6000)
    one = make_label_set(tmp_path / "one", samples, per_part=3)
    two = make_label_set(tmp_path / "two", samples, per_part=3)
    assert files_of(one) == files_of(two)
    manifest = read_manifest(one)
    assert len(manifest.shards) > 3
    assert manifest.counts.n_structures == 40
    assert manifest.counts.n_atoms == 160
    assert manifest.counts.n_groups == 40
    assert manifest.hessian.n_products == 80
    assert manifest.hessian.n_elements == 80 * 12
    assert sum(manifest.splits.n_structures.values()) == 40
    assert [s.structure.id for shard in verify(one).shards for s in read_samples(shard.path)] == [
        s.structure.id for s in samples
    ]


def test_a_stream_that_breaks_publishes_no_manifest_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = samples_of("probes:2", sizes=[4] * 30)
    monkeypatch.setattr(writer, "SHARD_BYTES", 3000)
    good = make_label_set(tmp_path / "good", samples)

    def broken():  # type: ignore[no-untyped-def]
        for start in range(0, 20, 2):
            yield writer.Block(to_arrays(samples[start : start + 2], "compact"), 1e-4, 1e-4, None)
        raise OSError("no more")

    out = tmp_path / "out"
    with pytest.raises(OSError, match="no more"):
        writer.write(out, broken(), facts_of_samples("probes:2"))
    assert not (out / MANIFEST).exists()
    assert any((out / "shards").iterdir())
    writer.require_free(out)
    writer.sweep(out, writer.write(out, broken_not(samples), facts_of_samples("probes:2")))
    assert files_of(out) == files_of(good)
    with pytest.raises(LabelSetError, match="already"):
        writer.require_free(out)


def broken_not(samples):  # type: ignore[no-untyped-def]
    return (writer.Block(to_arrays(samples[s : s + 2], "compact"), 1e-4, 1e-4, None) for s in range(0, len(samples), 2))


def test_sweeping_removes_only_what_the_manifest_does_not_name(tmp_path: Path) -> None:
    folder = make_label_set(tmp_path / "labels", samples_of("probes:1"))
    before = files_of(folder)
    (folder / "shards" / "00009-deadbeef.h5").write_bytes(b"left by a killed writer")
    writer.sweep(folder, read_manifest(folder))
    assert files_of(folder) == before


def test_a_huge_quarantine_is_counted_whole_and_listed_in_part(tmp_path: Path) -> None:
    """A manifest that names a million structures would be too large for its readers."""
    samples = samples_of("probes:1")
    rows = [
        QuarantineRow(id=f"{i:032x}", reason="bad structure", text="so " * 1000, attempts=0)
        for i in range(MAX_QUARANTINE_ROWS + 5)
    ]
    facts = replace(facts_of_samples("probes:1", "compact"), quarantine=rows)
    writer.write(tmp_path, [writer.Block(to_arrays(samples, "compact"))], facts)
    manifest = verify(tmp_path).manifest
    assert manifest.counts.n_quarantined == len(rows)
    assert len(manifest.quarantine) == MAX_QUARANTINE_ROWS
    assert "names the first 20000" in (tmp_path / "README.md").read_text()
