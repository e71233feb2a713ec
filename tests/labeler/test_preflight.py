"""The pre-flight check must be able to fail: wrong Hessians, forces that are no gradient, checks that would be empty."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hdistill.data.errors import TeacherError
from hdistill.data.probes import HessianSpec, parse_spec
from hdistill.data.structure import HessianProducts, Labels, Structure
from hdistill.labeler.planning import preflight
from hdistill.labeler.process.host import HostSettings, TeacherHost
from hdistill.labeler.process.parent import TeacherProcess
from hdistill.labeler.teachers import registry

REQUEST = registry.request("lennard-jones")
HOST = HostSettings(REQUEST)
PROBES = parse_spec("probes:4")


def triangle(seed: int) -> Structure:
    corners = np.array([(0, 0, 0), (3.6, 0, 0), (0, 3.7, 0.2)])
    return Structure(np.array([18] * 3), corners + np.random.default_rng(seed).normal(scale=0.1, size=(3, 3)))


def test_a_right_teacher_passes_with_figures() -> None:
    with contextlib.closing(TeacherHost(HOST)) as teacher:
        figures = preflight.check(teacher, triangle(0), PROBES)
        assert figures["dtype"] == "float64"
        assert 0 < figures["product_difference_error"] < 1e-6
        assert 0 < figures["force_difference_error"] < 1e-6
        assert 0 < figures["product_run_precision_error"] < 1e-5
        none = preflight.check(teacher, triangle(0), HessianSpec("none"))
        assert none["product_difference_error"] is None


def test_the_probe_is_never_a_translation() -> None:
    """A +-1 probe of three atoms is one in 64 times; then nothing would be compared."""
    for seed in range(200):
        vector = preflight._probe(triangle(seed)).vectors(3)[0]
        assert np.linalg.norm(vector - vector.mean(axis=0)) ** 2 > 4


@pytest.mark.parametrize(
    ("wrong", "messages"),
    [
        (lambda x: replace(x, hessian=_scaled(x.hessian, 1.01)), "Hessian product differs"),
        (lambda x: replace(x, hessian=_scaled(x.hessian, -1.0)), "Hessian product differs"),
        (lambda x: replace(x, energy=2 * x.energy), "differ from -dE/dR"),
    ],
)
def test_wrong_derivatives_are_refused(wrong: Any, messages: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real teacher, with one of its answers bent by one per cent, in sign, or by a factor."""
    real = TeacherProcess.label

    def bent(self: TeacherProcess, *words: Any) -> list[Labels]:
        return [wrong(labels) for labels in real(self, *words)]

    monkeypatch.setattr(TeacherProcess, "label", bent)
    with contextlib.closing(TeacherHost(HOST)) as teacher, pytest.raises(TeacherError, match=messages):
        preflight.check(teacher, triangle(0), PROBES)


def _scaled(products: HessianProducts | None, factor: float) -> HessianProducts | None:
    return None if products is None else replace(products, values=factor * products.values)
