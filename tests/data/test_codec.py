"""Hessian products as they are stored: the error that is promised, one way to write each, nothing that is not a number."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hdistill.data.errors import LabelSetError
from hdistill.data.format.codec import CODECS, Codec, decode, encode
from hdistill.data.format.shard import Sample, codec_errors, read_samples, to_arrays
from hdistill.data.format.shard_file import image
from hdistill.data.structure import HessianProducts, Labels
from tests.data.samples import random_samples

LARGEST = 2.0**126
SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5).map(lambda kn: (kn[0] - 1, kn[1], 3))
NUMBERS = st.floats(-LARGEST, LARGEST, width=32) | st.sampled_from(
    [0.0, 1.0, -1.0, 3.0, 127.0, 127.5, 128.0, 2.0**-149]
)


def relative_error(values: np.ndarray, codec: Codec) -> np.ndarray:
    """|decoded - values| / |values| of each product, 0 for one that is zero: what a manifest sums up."""
    difference = decode(*encode(values, codec)).astype(float) - values
    size = np.sqrt((np.asarray(values, float) ** 2).sum(axis=(1, 2)))
    return np.sqrt((difference**2).sum(axis=(1, 2))) / np.where(size > 0, size, 1)


@pytest.mark.parametrize("hessian", ["probes:3", "rows:2", "none"])
@pytest.mark.parametrize("codec", CODECS)
def test_what_is_said_of_the_error(hessian: str, codec: Codec) -> None:
    samples = random_samples(hessian)
    each = [relative_error(s.labels.hessian.values, codec) for s in samples if s.labels.hessian is not None]
    actual = codec_errors(samples, to_arrays(samples, codec))
    assert np.allclose(actual, np.concatenate([*each, np.zeros(0)]), rtol=1e-9)


def promised(values: np.ndarray) -> np.ndarray:
    """What docs/format.md allows each element of a product to be off by, (K,1,1)."""
    wide = values.astype(np.float64)
    rms = np.sqrt((wide**2).mean(axis=(1, 2), keepdims=True))
    largest = np.abs(wide).max(axis=(1, 2), keepdims=True)
    return np.maximum(np.maximum(rms / 128, largest / 2**14), 2.0**-101)


@settings(max_examples=400, deadline=None)
@given(arrays(np.float32, SHAPES, elements=NUMBERS))
def test_errors_are_as_promised_and_a_second_time_changes_nothing(values: np.ndarray) -> None:
    stored, exponent = encode(values, "compact")
    assert exponent is not None
    assert (stored.dtype, stored.shape, exponent.dtype, exponent.shape) == (
        "<u2",
        values.shape,
        "|i1",
        values.shape[:1],
    )
    decoded = decode(stored, exponent)
    assert decoded.dtype == np.float32
    assert (np.abs(decoded.astype(np.float64) - values) <= promised(values)).all()
    again, exponent_again = encode(decoded, "compact")
    assert np.array_equal(stored, again)
    assert exponent_again is not None
    assert np.array_equal(exponent, exponent_again)


def test_a_second_time_changes_nothing_where_the_mean_is_near_a_power_of_two() -> None:
    """Rounding then carries the root mean square over the power, either way: the case that a simple rule gets wrong."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(20000, 2, 3))
    rms = np.sqrt((values**2).mean(axis=(1, 2), keepdims=True))
    values *= 1 / rms * (1 + generator.normal(size=rms.shape) * 1e-3)
    stored, exponent = encode(values, "compact")
    decoded = decode(stored, exponent)
    before, after = (np.frexp(np.sqrt((x.astype(float) ** 2).mean(axis=(1, 2))))[1] for x in (values, decoded))
    assert (before < after).sum() > 100
    assert (before > after).sum() > 100
    again, exponent_again = encode(decoded, "compact")
    assert np.array_equal(stored, again)
    assert np.array_equal(exponent, exponent_again)  # type: ignore[arg-type]


def test_the_error_is_small_evenly() -> None:
    values = np.random.default_rng(0).normal(size=(500, 12, 3)) * np.geomspace(1e-6, 1e6, 500)[:, None, None]
    values[3] = 0
    error = relative_error(values, "compact")
    assert error[3] == 0
    others = np.delete(error, 3)
    assert 0.0015 < others.min() < others.max() < 1 / 128
    assert others.mean() == pytest.approx(0.0033, rel=0.1)  # a step of rms/128 to rms/64, over sqrt(12)
    assert np.array_equal(error[5:6], relative_error(values[5:6], "compact"))  # neighbours do not matter
    assert relative_error(values, "exact").max() < 1e-7
    signed = (decode(*encode(values, "compact")) - values) / np.abs(values).max(
        axis=(1, 2), keepdims=True, initial=1e-9
    )
    assert abs(signed.mean()) < 1e-4  # rounded, not cut: no bias


def test_one_element_far_above_thousands_of_others() -> None:
    values = np.random.default_rng(0).normal(size=(1, 30000, 3))
    values[0, 7, 1] = -3e5
    decoded = decode(*encode(values, "compact"))
    assert decoded[0, 7, 1] == pytest.approx(-3e5, rel=1e-4)
    assert (np.abs(decoded - values) <= promised(values)).all()


def test_whole_numbers_and_zeros_are_kept() -> None:
    values = np.zeros((3, 4, 3), np.float32)
    values[0, 0] = [5, -3, 64]
    values[1, 1] = [2.0**-80, -(2.0**-80), 0]
    stored, exponent = encode(values, "compact")
    assert np.array_equal(decode(stored, exponent), values)
    assert exponent is not None
    assert exponent.tolist() == [0, -80, 0]  # common factors of two are in the exponent; a product of zeros has 0
    assert stored[0, 0].tolist() == [10, 5, 128]  # zigzag


@pytest.mark.parametrize("codec", CODECS)
def test_no_products_and_one_atom(codec: Codec) -> None:
    none = np.zeros((0, 5, 3), np.float32)
    assert decode(*encode(none, codec)).shape == (0, 5, 3)
    one = np.array([[[1.5, -2.25, 0.125]]])
    assert np.allclose(decode(*encode(one, codec)), one, atol=float(promised(one).max()))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_what_is_no_number_is_not_stored(codec: Codec, bad: float) -> None:
    values = np.ones((2, 3, 3))
    values[1, 2, 0] = bad
    with pytest.raises(LabelSetError, match="not finite"):
        encode(values, codec)


@pytest.mark.parametrize(
    ("codec", "name", "bad"),
    [("exact", "hessian_values", np.nan), ("exact", "hessian_values", np.inf), ("compact", "hessian_exponent", 127)],
)
def test_what_is_no_number_is_not_read(tmp_path: Path, codec: Codec, name: str, bad: float) -> None:
    path = tmp_path / "shard.h5"
    path.write_bytes(image(to_arrays(random_samples(), codec), {}))
    with h5py.File(path, "r+") as file:
        file[name][0] = bad
    with pytest.raises(LabelSetError, match="not finite"):
        read_samples(path)


@pytest.mark.parametrize(("hessian", "at_most"), [("probes:4", 1.3), ("rows:4", 1.3)])
def test_bytes_of_a_shard_and_blocks_anywhere_in_it(tmp_path: Path, hessian: str, at_most: float) -> None:
    """Elements of one spread are the dearest case; those of molecules, which differ, take less. Directions are counted."""
    samples = random_samples(hessian, sizes=[12] * 400)
    path = tmp_path / "shard.h5"
    path.write_bytes(image(to_arrays(samples, "compact"), {}))
    with h5py.File(path) as file:
        names = [name for name in file if name.startswith("hessian_")]
        n_bytes = sum(file[name].id.get_storage_size() for name in names)
        assert n_bytes / file["hessian_values"].size < at_most
    everything = read_samples(path)
    for start, stop in ((0, 1), (113, 145), (399, 400)):  # the HDF5 chunks begin inside structures
        for actual, whole, wanted in zip(
            read_samples(path, start, stop), everything[start:stop], samples[start:stop], strict=True
        ):
            assert np.array_equal(products(actual).values, products(whole).values)
            error = np.abs(products(actual).values - products(wanted).values)
            assert (error <= promised(products(wanted).values)).all()


@pytest.mark.parametrize("hessian", ["probes:3", "rows:3"])
def test_a_shard_that_is_read_and_written_again_is_the_same(tmp_path: Path, hessian: str) -> None:
    first = image(to_arrays(random_samples(hessian, sizes=[3, 1, 7, 5, 2, 9, 30]), "compact"), {})
    (tmp_path / "shard.h5").write_bytes(first)
    assert image(to_arrays(read_samples(tmp_path / "shard.h5"), "compact"), {}) == first


def test_a_structure_without_products_among_others() -> None:
    samples = random_samples("probes:2")
    bare = Sample(samples[1].structure, Labels(1.0, samples[1].labels.forces), "train")
    arrays = to_arrays([samples[0], bare, samples[2]], "compact")
    assert np.diff(arrays["product_offsets"]).tolist() == [2, 0, 2]
    assert len(arrays["hessian_exponent"]) == 4


def products(sample: Sample) -> HessianProducts:
    assert sample.labels.hessian is not None
    return sample.labels.hessian
