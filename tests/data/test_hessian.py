"""Sign and index convention of Hessian products, on an energy whose Hessian is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hdistill.data.hessian import products_by_autograd, products_by_differences

MATRIX = np.random.default_rng(0).normal(size=(6, 6))
MATRIX = MATRIX + MATRIX.T


def forces_at(positions: np.ndarray) -> np.ndarray:
    """E = x.M.x / 2 + sum x^4 / 4: H = M + diag(3 x^2), F = -(M x + x^3)."""
    x = positions.ravel()
    return -(MATRIX @ x + x**3).reshape(2, 3)


def test_both_methods_give_the_hessian_with_its_sign() -> None:
    positions = np.random.default_rng(1).normal(size=(2, 3))
    vectors = np.eye(6).reshape(6, 2, 3)
    truth = (MATRIX + np.diag(3 * positions.ravel() ** 2)).reshape(6, 2, 3)
    leaf = torch.tensor(positions, requires_grad=True)
    x = leaf.reshape(-1)
    energy = 0.5 * x @ torch.tensor(MATRIX) @ x + (x**4).sum() / 4
    (gradient,) = torch.autograd.grad(energy, leaf, create_graph=True)
    exact = products_by_autograd(-gradient, leaf, torch.tensor(vectors)).numpy()
    assert np.allclose(exact, truth, atol=1e-12)
    assert np.allclose(products_by_differences(forces_at, positions, vectors, step=1e-4), truth, atol=1e-6)


def test_autograd_gives_rows_and_differences_give_columns_where_they_differ() -> None:
    """A direct-force model: F = -J x with a J that is not symmetric. v . J is a row, J v a column."""
    jacobian = np.random.default_rng(2).normal(size=(6, 6))
    vectors = np.eye(6).reshape(6, 2, 3)
    leaf = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    forces = -(torch.tensor(jacobian) @ leaf.reshape(-1)).reshape(2, 3)
    rows = products_by_autograd(forces, leaf, torch.tensor(vectors)).numpy().reshape(6, 6)
    columns = products_by_differences(lambda p: -(jacobian @ p.ravel()).reshape(2, 3), np.zeros((2, 3)), vectors)
    assert np.allclose(rows, jacobian)
    assert np.allclose(columns.reshape(6, 6), jacobian.T)


def test_forces_that_do_not_move_have_no_hessian() -> None:
    leaf = torch.zeros(1, 3, requires_grad=True)
    elsewhere = torch.zeros(1, 3, requires_grad=True)
    assert (products_by_autograd(-elsewhere, leaf, torch.ones(2, 1, 3)) == 0).all()


@pytest.mark.parametrize("at_once", [2, 3, 100])
def test_products_together_equal_products_one_by_one(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an energy of pairs, in passes that take all vectors, or some; and each pass takes as many as it may."""
    generator = torch.Generator().manual_seed(0)
    positions = torch.randn((5, 3), dtype=torch.float64, generator=generator, requires_grad=True)
    vectors = torch.randn((7, 5, 3), dtype=torch.float64, generator=generator)
    first, second = torch.triu_indices(5, 5, offset=1)
    distances = (positions[first] - positions[second]).norm(dim=1)
    energy = (1 / distances + torch.nn.functional.silu(distances)).sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    one_by_one = products_by_autograd(-gradient, positions, vectors)
    passes = []
    plain = torch.autograd.grad

    def counting(*given: object, **named: object) -> object:
        passes.append(named["is_grads_batched"])
        return plain(*given, **named)

    monkeypatch.setattr(torch.autograd, "grad", counting)
    together = products_by_autograd(-gradient, positions, vectors, batched_elements=15 * at_once + 14)
    assert passes == [True] * -(-7 // at_once)
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-12)
    products_by_autograd(-gradient, positions, vectors, batched_elements=29)  # less than two vectors
    assert passes[-7:] == [False] * 7
    assert products_by_autograd(-gradient, positions, vectors[:0], batched_elements=1000).shape == (0, 5, 3)
