"""Real spherical harmonics of unit vectors, and products of functions on the sphere: the angular part that students share.

Order of components: l = 0, 1, ..., and within each m = -l .. l, negative for sin(|m| phi); so l = 1 is (y, z, x). Each has a mean
square of 1 on the sphere (4 pi times the orthonormal ones squared), no Condon-Shortley phase: sum_m Y_lm(u) Y_lm(v) = (2l+1) P_l(u.v).

Products a(u) b(u) of two such functions are coupled by Gaunt coefficients. There is no table of them here: functions are read on a
grid of directions, multiplied there and projected back, exactly, as the grid integrates all polynomials that occur (Gauss and
Legendre in z, equal steps around it; the way of Luo, Chen, Krishnapriyan, arXiv 2401.10216). That is two products of matrices and
one of numbers, where the table of l <= 2 has 81 pairs of components and that of l <= 3 has 256.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]


def n_components(max_l: int) -> int:
    return (max_l + 1) ** 2


def order_of(max_l: int) -> list[int]:
    """l of each component."""
    return [order for order in range(max_l + 1) for _ in range(2 * order + 1)]


def harmonics_of(unit: Array, max_l: int) -> Array:
    """Y_lm of unit vectors (N,3) -> (N, components), float64, by recursions in l and m: what constants are made of.

    Polynomials of x, y, z. R_l = (2l-1) z R_l-1 - ((l-1)^2 - m^2) R_l-2 for |m| < l (Legendre's recursion times (l-m)!) and
    R_ll = (2l-1) (x + iy) R_l-1,l-1.
    """
    x, y, z = unit.T
    values: dict[tuple[int, int], Array] = {(0, 0): np.ones_like(z)}
    for order in range(1, max_l + 1):
        for m in range(1 - order, order):
            values[order, m] = (2 * order - 1) * z * values[order - 1, m]
            if abs(m) < order - 1:
                values[order, m] -= ((order - 1) ** 2 - m * m) * values[order - 2, m]
        cosine, sine = values[order - 1, order - 1], values.get((order - 1, 1 - order), np.zeros_like(z))
        sine = sine if order > 1 else np.zeros_like(z)
        values[order, order] = (2 * order - 1) * (x * cosine - y * sine)
        values[order, -order] = (2 * order - 1) * (x * sine + y * cosine)
    return np.stack([_norm(order, m) * values[order, m] for order, m in sorted(values)], axis=1)


def _norm(order: int, m: int) -> float:
    """Of R_lm, which is (l-m)! times the associated Legendre function: a mean square of 1."""
    factorials = math.factorial(order + abs(m)) * math.factorial(order - abs(m))
    return math.sqrt((2 * order + 1) * (2 if m else 1) / factorials)


def sphere(degree: int) -> tuple[Array, Array]:
    """Unit vectors (G,3) and weights (G,), of sum 1, whose sums are means over the sphere for polynomials up to this degree."""
    z, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    turns = 2 * math.pi * np.arange(degree + 1) / (degree + 1)
    rho = np.sqrt(1 - z * z)[:, None]
    points = np.stack(np.broadcast_arrays(rho * np.cos(turns), rho * np.sin(turns), z[:, None]), axis=-1)
    return points.reshape(-1, 3), np.repeat(weights / 2 / len(turns), len(turns))


def steps_up(max_l: int) -> list[Array]:
    """For l = 1 .. max_l the matrix (3(2l-1), 2l+1) that makes Y_l of the products of Y_l-1 with x, y, z: Clebsch-Gordan
    coefficients of (l-1, 1 -> l) but for a factor, as the shortest solution of linear equations on a grid."""
    unit, _ = sphere(2 * max_l)
    values = harmonics_of(unit, max_l)
    steps = []
    for order in range(1, max_l + 1):
        below = values[:, (order - 1) ** 2 : order**2]
        products = (below[:, :, None] * unit[:, None]).reshape(len(unit), -1)
        steps.append(np.linalg.pinv(products, rcond=1e-10) @ values[:, order**2 : (order + 1) ** 2])
    return steps


class Exact(nn.Module):
    """A module with constants that are not whole numbers, right to the last digit in every precision.

    torch converts buffers from what they are: made in float32 and converted to float64 they would keep the errors of float32,
    and so would the rotational symmetry of a float64 student. Here they are made anew from float64 whenever a module moves.
    """

    def __init__(self, constants: dict[str, Array]):
        super().__init__()
        self._exact = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in constants.items()}
        for name, array in self._exact.items():
            self.register_buffer(name, array.to(torch.get_default_dtype()), persistent=False)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Exact:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, array in self._exact.items():
            buffer = self.get_buffer(name)
            setattr(self, name, array.to(buffer.device, buffer.dtype))
        return self


class Harmonics(Exact):
    """Y_lm of unit vectors (E,3) -> (E, components): each order l a linear map of products of the one before it with x, y, z, so
    that all derivatives are finite in every direction."""

    def __init__(self, max_l: int):
        super().__init__({f"step_{order}": step for order, step in enumerate(steps_up(max_l), start=1)})
        self.max_l = max_l

    def forward(self, unit: torch.Tensor) -> torch.Tensor:
        values = [torch.ones_like(unit[:, :1])]
        for order in range(1, self.max_l + 1):
            products = unit if order == 1 else (values[-1][:, :, None] * unit[:, None]).flatten(1)
            values.append(products @ getattr(self, f"step_{order}"))
        return torch.cat(values, dim=1)


class SphereProducts(Exact):
    """Products of functions on the sphere: (components, N, 2C) -> (components, N, C), of the first C functions with the last C."""

    read: torch.Tensor
    project: torch.Tensor

    def __init__(self, max_l: int):
        unit, weights = sphere(3 * max_l)
        values = harmonics_of(unit, max_l)
        super().__init__({"read": values, "project": (values * weights[:, None]).T})

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        n, channels = pairs.shape[1:]
        left, right = (self.read @ pairs.flatten(1)).view(-1, n, channels).chunk(2, dim=2)
        return (self.project @ (left * right).flatten(1)).view(-1, n, channels // 2)
