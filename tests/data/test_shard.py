"""Samples to arrays to bytes and back: nothing lost, nothing reordered, equal bytes for equal samples."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdistill.data.format.codec import CODECS, Codec
from hdistill.data.format.shard import Sample, concatenate, read_samples, to_arrays
from hdistill.data.format.shard_file import image
from hdistill.data.structure import HessianProducts
from tests.data.samples import random_samples

ROOT = Path(__file__).resolve().parents[2]


def assert_same(actual: Sample, wanted: Sample, tolerance: float) -> None:
    a, b = actual.structure, wanted.structure
    assert (a.id, a.group, a.charge, a.spin, actual.split) == (b.id, b.group, b.charge, b.spin, wanted.split)
    assert a.info == b.info
    assert a.ref_energy == b.ref_energy
    for x, y in ((a.ref_forces, b.ref_forces), (actual.labels.stress, wanted.labels.stress)):
        assert (x is None) == (y is None)
        assert x is None or np.array_equal(x, y)  # type: ignore[arg-type]
    assert actual.labels.energy == wanted.labels.energy
    assert np.array_equal(actual.labels.forces, wanted.labels.forces)
    assert_same_products(actual.labels.hessian, wanted.labels.hessian, b.n_atoms, tolerance)


def assert_same_products(
    actual: HessianProducts | None, wanted: HessianProducts | None, n_atoms: int, tolerance: float
) -> None:
    assert (actual is None) == (wanted is None)
    if actual is None or wanted is None:
        return
    assert actual.directions.kind == wanted.directions.kind
    assert np.array_equal(actual.directions.vectors(n_atoms), wanted.directions.vectors(n_atoms))
    assert np.abs(actual.values - wanted.values).max() <= tolerance * np.abs(wanted.values).max()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("hessian", ["probes:4", "rows:3", "full", "none"])
def test_round_trip_in_any_slice(tmp_path: Path, hessian: str, codec: Codec) -> None:
    samples = random_samples(hessian)
    path = tmp_path / "shard.h5"
    path.write_bytes(image(to_arrays(samples, codec), {}))
    for start, stop in ((0, 5), (1, 3), (4, 5), (2, 2)):
        actual = read_samples(path, start, stop)
        assert len(actual) == stop - start
        for a, b in zip(actual, samples[start:stop], strict=True):
            assert_same(a, b, 0.0 if codec == "exact" else 1 / 128)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("hessian", ["probes:3", "rows:3", "none"])
def test_chunks_join_to_the_same_arrays(hessian: str, codec: Codec) -> None:
    samples = random_samples(hessian)
    whole = to_arrays(samples, codec)
    joined = concatenate([to_arrays(samples[:2], codec), to_arrays([], codec), to_arrays(samples[2:], codec)])
    assert whole.keys() == joined.keys()
    for name, array in whole.items():
        assert array.dtype == joined[name].dtype
        assert array.tobytes() == joined[name].tobytes(), name


def test_equal_samples_give_equal_bytes_at_another_time() -> None:
    first = image(to_arrays(random_samples(), "compact"), {"plan": "x"})
    time.sleep(1.1)  # HDF5 stamps objects in whole seconds where it is allowed to
    assert first == image(to_arrays(random_samples(), "compact"), {"plan": "x"})


def test_no_samples_at_all(tmp_path: Path) -> None:
    path = tmp_path / "shard.h5"
    path.write_bytes(image(to_arrays([], "compact"), {}))
    assert read_samples(path) == []


def test_a_stranger_reads_a_shard_with_h5py_alone(tmp_path: Path) -> None:
    """The lines in docs/format.md, run as they stand there."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "format.md").read_text(), re.DOTALL)[0]
    assert "hdistill" not in code
    for hessian in ("probes:3", "rows:2"):
        samples = random_samples(hessian)
        path = tmp_path / f"{hessian}.h5"
        path.write_bytes(image(to_arrays(samples, "compact"), {}))
        for s, sample in enumerate(samples):
            names: dict[str, Any] = {"path": path}
            exec(code.replace("s = 0", f"s = {s}"), names)
            products = sample.labels.hessian
            assert products is not None
            assert np.array_equal(names["positions"], sample.structure.positions)
            assert np.array_equal(names["v"], products.directions.vectors(sample.structure.n_atoms))
            assert np.allclose(names["values"], products.values, atol=np.abs(products.values).max() / 128)
            assert names["energy"] == sample.labels.energy


def test_energies_and_features_of_atoms_are_kept(tmp_path: Path) -> None:
    """Of some structures, joined with parts that have none."""
    samples = random_samples()
    rng = np.random.default_rng(5)
    given: list[Sample] = []
    for number, sample in enumerate(samples):
        n = sample.structure.n_atoms
        energies = rng.normal(size=n) - 1000.0 if number != 1 else None
        features = rng.normal(size=(n, 6)).astype(np.float32) if number != 2 else None
        given.append(replace(sample, labels=replace(sample.labels, atom_energies=energies, node_features=features)))
    parts = [to_arrays(given[:1], "exact"), to_arrays(given[1:], "exact"), to_arrays(samples[:2], "exact")]
    path = tmp_path / "shard.h5"
    path.write_bytes(image(concatenate(parts), {}))
    actual = read_samples(path)
    for one, other in zip(actual, given, strict=False):
        for name in ("atom_energies", "node_features"):
            had, has = getattr(other.labels, name), getattr(one.labels, name)
            assert (had is None) == (has is None)
            assert had is None or (np.array_equal(had, has) and had.dtype == has.dtype)
    assert all(s.labels.atom_energies is None and s.labels.node_features is None for s in actual[len(given) :])
