"""THE place for the sign and index convention of the Hessian, and for products with it.

    H = + d2E / dR2 = - dF / dR            eV/A^2, index = 3*atom + axis
    product of v:  (v . H)_j = - sum_i v_i dF_i/dR_j

A vector-Jacobian product of the forces gives v . H, that is: rows. For a conservative teacher H is symmetric and
v . H = H v. For a direct-force teacher it is not, and displaced forces (columns, H v) must never be used as rows.

This is the only file of `data` that differentiates, so torch is imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from .structure import Float


def products_by_autograd(
    forces: torch.Tensor,
    positions: torch.Tensor,
    vectors: torch.Tensor,
    create_graph: bool = False,
    batched_elements: int = 0,
) -> torch.Tensor:
    """v . H for K vectors, by reverse differentiation of forces that kept their graph.

    forces (A,3), positions (A,3) leaf, vectors (K,A,3) -> (K,A,3) eV/A^2. Structures of one batch do not interact, so one
    backward pass gives one product for every structure in it. create_graph: the products will be differentiated in turn.
    batched_elements: how many elements of the vectors may share one pass that is vectorised over them, which holds its
    intermediate results for all of them; where two vectors are more, each has a pass of its own. What is faster is for the
    model to know (benchmarks/batched_products.py); it is decided by sizes alone, so that the same batch gives the same bits.
    """
    import torch

    def pulled_back(cotangents: torch.Tensor, batched: bool) -> torch.Tensor:
        (gradient,) = torch.autograd.grad(
            forces,
            positions,
            cotangents,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
            is_grads_batched=batched,
        )
        # None: forces that do not depend on the positions at all, H = 0
        return torch.zeros_like(cotangents) if gradient is None else -gradient

    at_once = min(len(vectors), batched_elements // max(1, forces.numel()))
    if at_once < 2:
        products = [pulled_back(vector, batched=False) for vector in vectors]
        return torch.stack(products) if products else torch.zeros_like(vectors)
    return torch.cat([pulled_back(some, batched=True) for some in torch.split(vectors, at_once)])


def products_by_differences(
    forces_at: Callable[[NDArray[np.float64]], Float], positions: Float, vectors: Float, step: float = 1e-3
) -> NDArray[np.float64]:
    """H v for K vectors by central differences of the forces: columns, which equal rows only for conservative forces.

    forces_at maps positions (N,3) A to forces (N,3) eV/A; vectors (K,N,3) are displaced so that the largest displacement of
    an atom's coordinate is `step` A. Costs two force evaluations a vector.
    """
    products = np.zeros(np.shape(vectors))
    for k, vector in enumerate(vectors):
        scale = step / np.abs(vector).max()
        ahead = np.asarray(forces_at(positions + scale * vector), np.float64)
        behind = np.asarray(forces_at(positions - scale * vector), np.float64)
        products[k] = -(ahead - behind) / (2 * scale)
    return products
