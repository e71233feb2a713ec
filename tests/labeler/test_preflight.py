"""The pre-flight check must be able to fail: wrong Hessians, forces that are no gradient, checks that would be empty."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

from hdistill.data.errors import TeacherError
from hdistill.data.probes import HessianSpec, parse_spec
from hdistill.data.structure import HessianProducts, Labels, Structure
from hdistill.labeler.planning import preflight
from hdistill.labeler.planning.roughness import roughness, roughness_lines
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


def test_roughness_is_the_change_of_a_product() -> None:
    """Of curvature that grows by the share 5/A along x, and of one that jumps by half of itself at x = 0."""
    one = Structure(np.array([18] * 3), np.zeros((3, 3)))

    def smooth(s: Structure) -> np.ndarray:
        return np.ones((3, 3)) * (1 + 5 * s.positions[0, 0])

    def jumping(s: Structure) -> np.ndarray:
        return np.ones((3, 3)) * (1.5 if s.positions[0, 0] > 0 else 1.0)

    here = np.ones((3, 3))
    way = 1e-3 * np.random.default_rng(int(one.id[:16], 16)).normal(size=(3, 3))
    assert roughness(smooth, one, here) == pytest.approx(5 * abs(way[0, 0]))
    assert roughness(jumping, one, here) == pytest.approx(0.25)  # one of the two ways crosses
    assert roughness_lines({"roughness": 0.01}, "x") == []
    assert roughness_lines({}, "x") == []
    (line,) = roughness_lines({"roughness": 0.25}, "x")
    assert "The curvature of x is rough" in line
    assert "25 %" in line
    assert "--hessian none" in line


def test_a_smooth_teacher_is_tried_on_one_structure_alone() -> None:
    with contextlib.closing(TeacherHost(HOST)) as teacher:
        figures, _ = preflight.check_one_of(teacher, [triangle(0), triangle(1)], PROBES)
        assert 0 < figures["roughness"] < 0.01
        none, _ = preflight.check_one_of(teacher, [triangle(0)], HessianSpec("none"))
        assert none["roughness"] is None


@pytest.mark.parametrize(
    ("name", "is_rough"),
    [
        pytest.param("chgnet", True, marks=pytest.mark.xdist_group("chgnet")),
        pytest.param("7net-0", False, marks=[pytest.mark.xdist_group("sevennet"), pytest.mark.long]),
    ],
)
def test_a_rough_teacher_is_told_of(name: str, is_rough: bool, warm: Callable[[str], Path]) -> None:
    request = registry.request(name)
    crystals = []
    for seed, (name, a) in enumerate((("MgO", 4.2), ("CaO", 4.8), ("NaCl", 5.6))):
        cell = bulk(name, "rocksalt", a=a, cubic=True)
        cell.positions += np.random.default_rng(seed).normal(scale=0.05, size=cell.positions.shape)
        crystals.append(Structure(cell.numbers, cell.positions, cell.cell.array, cell.pbc))
    with contextlib.closing(TeacherHost(HostSettings(request, warm(request.family)))) as teacher:
        figures, info = preflight.check_one_of(teacher, crystals, PROBES)
    assert bool(roughness_lines(figures, info.name)) == is_rough, figures["roughness"]


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
