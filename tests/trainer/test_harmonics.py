"""Spherical harmonics and their products against scipy, sums over pairs by their own coefficients, and rotations that are fitted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.integrate import lebedev_rule
from scipy.spatial.transform import Rotation
from scipy.special import eval_legendre, sph_harm_y

from hdistill.trainer.students.harmonics import (
    Exact,
    Harmonics,
    SphereProducts,
    harmonics_of,
    n_components,
    order_of,
    sphere,
)

MAX_L = 5
POLES = np.array([[0.0, 0, 1], [0, 0, -1], [1, 0, 0], [0, -1, 0]])


def directions(n: int = 20, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n, 3))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def from_scipy(unit: np.ndarray, max_l: int) -> np.ndarray:
    """Real ones of scipy's complex ones: no Condon-Shortley phase, a mean square of 1."""
    theta, phi = np.arccos(unit[:, 2]), np.arctan2(unit[:, 1], unit[:, 0])
    columns = []
    for order in range(max_l + 1):
        for m in range(-order, order + 1):
            value = sph_harm_y(order, abs(m), theta, phi) * (-1) ** m * np.sqrt(4 * np.pi)
            columns.append(value.real if m == 0 else np.sqrt(2) * (value.real if m > 0 else value.imag))
    return np.stack(columns, axis=1)


def harmonics(unit: np.ndarray, max_l: int = MAX_L) -> np.ndarray:
    """What students compute, in float64."""
    return Harmonics(max_l).to(torch.float64)(torch.from_numpy(unit)).numpy()


def gaunt(max_l: int) -> np.ndarray:
    """Mean over the sphere of Y_a Y_b Y_c, by a rule of scipy's that is not ours."""
    points, weights = lebedev_rule(17)
    values = from_scipy(points.T, max_l)
    return np.einsum("ga,gb,gc,g->abc", values, values, values, weights / weights.sum())


def test_they_are_those_of_scipy_on_the_poles_too() -> None:
    for unit in (directions(), POLES):
        wanted = from_scipy(unit, MAX_L)
        np.testing.assert_allclose(harmonics_of(unit, MAX_L), wanted, atol=1e-12)
        np.testing.assert_allclose(harmonics(unit), wanted, atol=1e-12)


def test_they_are_orthonormal_on_the_sphere() -> None:
    points, weights = lebedev_rule(2 * MAX_L + 1)
    values = harmonics(points.T)
    overlaps = np.einsum("ga,gb,g->ab", values, values, weights / weights.sum())
    np.testing.assert_allclose(overlaps, np.eye(n_components(MAX_L)), atol=1e-12)


def test_their_sum_over_m_is_a_legendre_polynomial_of_the_cosine() -> None:
    unit = np.concatenate((directions(), POLES))
    values, orders = harmonics(unit), np.array(order_of(MAX_L))
    for order in range(MAX_L + 1):
        some = values[:, orders == order]
        wanted = (2 * order + 1) * eval_legendre(order, np.clip(unit @ unit.T, -1, 1))
        np.testing.assert_allclose(some @ some.T, wanted, atol=1e-11)


@pytest.mark.parametrize("mirror", [1.0, -1.0], ids=["rotation", "reflection"])
def test_turned_ones_are_mixtures_within_each_order(mirror: float) -> None:
    """Y_l(R u) = D_l Y_l(u): D, fitted on some directions, is orthogonal, holds on others, and mixes no two orders."""
    turn = mirror * Rotation.random(rng=np.random.default_rng(1)).as_matrix()
    seen, others = directions(80, 1), directions(20, 2)
    fitted, *_ = np.linalg.lstsq(harmonics(seen), harmonics(seen @ turn), rcond=None)
    np.testing.assert_allclose(harmonics(others) @ fitted, harmonics(others @ turn), atol=1e-11)
    np.testing.assert_allclose(fitted @ fitted.T, np.eye(len(fitted)), atol=1e-11)
    orders = np.array(order_of(MAX_L))
    assert np.abs(fitted[orders[:, None] != orders]).max() < 1e-11


def test_all_derivatives_are_finite_and_right_on_the_poles() -> None:
    """Where angles have no derivative: gradients against central differences of scipy's, third derivatives finite."""
    model = Harmonics(3).to(torch.float64)
    weights = torch.linspace(-1, 1, n_components(3), dtype=torch.float64)

    def total(vector: np.ndarray) -> float:
        unit = vector / np.linalg.norm(vector)
        return float(from_scipy(unit[None], 3)[0] @ weights.numpy())

    for pole in POLES:
        vector = torch.tensor(pole[None], requires_grad=True)
        value = (model(vector / vector.square().sum(1, keepdim=True).sqrt()) @ weights).sum()
        (gradient,) = torch.autograd.grad(value, vector, create_graph=True)
        for axis in range(3):
            step = 1e-4 * np.eye(3)[axis]
            wanted = (total(pole + step) - total(pole - step)) / 2e-4
            assert gradient[0, axis].item() == pytest.approx(wanted, abs=1e-5)
        (second,) = torch.autograd.grad(gradient.sum(), vector, create_graph=True)
        (third,) = torch.autograd.grad(second.sum(), vector)
        assert third.isfinite().all()


@pytest.mark.parametrize("max_l", [1, 2, 3])
def test_products_are_those_of_gaunt_coefficients(max_l: int) -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randn(n_components(max_l), 5, 8, generator=generator, dtype=torch.float64)
    left, right = pairs.numpy()[..., :4], pairs.numpy()[..., 4:]
    wanted = np.einsum("abc,ank,bnk->cnk", gaunt(max_l), left, right)
    actual = SphereProducts(max_l).to(torch.float64)(pairs)
    np.testing.assert_allclose(actual.numpy(), wanted, atol=1e-12)


def test_products_are_those_of_functions_where_no_order_is_cut_off() -> None:
    """Of l <= 1 each, up to l = 2: their values in any direction are multiplied."""
    values, unit = np.zeros((9, 1, 2)), directions(7)
    values[:4] = np.random.default_rng(0).normal(size=(4, 1, 2))
    product = SphereProducts(2).to(torch.float64)(torch.from_numpy(values)).numpy()[:, 0, 0]
    read = from_scipy(unit, 2)
    np.testing.assert_allclose(read @ product, (read @ values[:, 0, 0]) * (read @ values[:, 0, 1]), atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 6, 9])
def test_the_grid_integrates_polynomials_up_to_its_degree(degree: int) -> None:
    points, weights = sphere(degree)
    reference, by = lebedev_rule(max(3, degree + 1 - degree % 2))
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0)
    for powers in itertools.product(range(degree + 1), repeat=3):
        if sum(powers) <= degree:
            wanted = (reference.T**powers).prod(1) @ by / by.sum()
            assert (points**powers).prod(1) @ weights == pytest.approx(wanted, abs=1e-13)


def test_constants_are_exact_in_the_precision_a_module_is_moved_to() -> None:
    third = Exact({"third": np.array([1 / 3])})
    assert third.get_buffer("third").dtype == torch.float32
    there_and_back = third.to(torch.float64).to(torch.float32).to(torch.float64)
    assert there_and_back.get_buffer("third").item() == 1 / 3
    assert not there_and_back.state_dict()
