"""Rows and probes: pure functions of seed and structure id, and probes that estimate the Frobenius norm."""

from __future__ import annotations

import numpy as np
import pytest

from hdistill.data.errors import InputError
from hdistill.data.probes import draw, parse_spec

ID = "0123456789abcdef0123456789abcdef"


def test_specs() -> None:
    assert str(parse_spec("probes:4")) == "probes:4"
    assert str(parse_spec("rows:16")) == "rows:16"
    assert str(parse_spec("full")) == "full"
    for wrong in ("probes", "probes:0", "rows:-1", "probe:4", "full:3", "probes:4.5", ""):
        with pytest.raises(InputError, match="probes:K"):
            parse_spec(wrong)


def test_the_draw_depends_on_seed_and_id_alone() -> None:
    spec = parse_spec("probes:4")
    first, again = draw(spec, 0, ID, 7), draw(spec, 0, ID, 7)
    assert first is not None
    assert again is not None
    assert np.array_equal(first.vectors(7), again.vectors(7))
    for seed, other in ((1, ID), (0, ID[::-1])):
        differs = draw(spec, seed, other, 7)
        assert differs is not None
        assert not np.array_equal(first.vectors(7), differs.vectors(7))


def test_more_probes_continue_the_same_sequence() -> None:
    few, many = draw(parse_spec("probes:2"), 3, ID, 5), draw(parse_spec("probes:9"), 3, ID, 5)
    assert few is not None
    assert many is not None
    assert np.array_equal(few.vectors(5), many.vectors(5)[:2])


def test_rows_are_distinct_and_capped_at_all() -> None:
    few, all_rows = draw(parse_spec("rows:4"), 0, ID, 5), draw(parse_spec("rows:99"), 0, ID, 5)
    assert few is not None
    assert all_rows is not None
    assert few.coordinate is not None
    assert all_rows.coordinate is not None
    assert len(set(few.coordinate.tolist())) == 4
    assert sorted(all_rows.coordinate.tolist()) == list(range(15))
    full = draw(parse_spec("full"), 0, ID, 5)
    assert full is not None
    assert np.array_equal(full.vectors(5).reshape(15, 15), np.eye(15))
    assert draw(parse_spec("none"), 0, ID, 5) is None


def test_probes_are_signs_and_estimate_the_frobenius_norm() -> None:
    """E |H v|^2 = |H|_F^2 (Hutchinson): over 4000 probes the estimate's standard error is about 1 %."""
    matrix = np.random.default_rng(0).normal(size=(9, 9))
    matrix = matrix + matrix.T
    directions = draw(parse_spec("probes:4000"), 0, ID, 3)
    assert directions is not None
    vectors = directions.vectors(3).reshape(-1, 9)
    assert set(np.unique(vectors)) == {-1.0, 1.0}
    estimate = ((vectors @ matrix) ** 2).sum(axis=1).mean()
    assert estimate == pytest.approx((matrix**2).sum(), rel=0.05)
