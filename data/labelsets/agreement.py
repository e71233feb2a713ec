"""Whether two labels of one structure say the same: when label sets are merged, extended or audited.

                    float32 teacher            float64 teacher
    energy          1e-4 eV/atom + 1e-6 |E|    1e-6 eV/atom + 1e-10 |E|
    forces          2e-4 eV/A + 2e-4 |F|max    1e-5 eV/A + 1e-6 |F|max      (forces are stored as float32)
    stress          1e-5 eV/A^3 + 1e-3 |s|max  1e-6 eV/A^3 + 1e-5 |s|max
    products        1e-3 + codec               1e-5 + codec                 (relative, see below)

That is what other batches, threads, devices and versions of torch may change, with room to spare; another model is far outside.
A product is compared by |difference|_2 over its own norm or, where it is smaller, the mean norm of its structure's products: a
row that symmetry makes nearly zero is noise over nothing. `codec` is the largest error of the codec in the manifest, or what the
codec can cost at most (docs/format.md) where a stranger's manifest says more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..format.records import Manifest
from ..structure import Directions, HessianProducts, Labels

CODEC_LIMITS = {"exact": 1e-6, "compact": 0.01}
UNITS = {"energy": "eV/atom", "forces": "eV/A", "stress": "eV/A^3", "products": "relative"}


@dataclass(frozen=True)
class Tolerance:
    """(absolute, relative) for energy, forces and stress; relative alone for products."""

    energy: tuple[float, float]
    forces: tuple[float, float]
    stress: tuple[float, float]
    products: float


@dataclass(frozen=True)
class Difference:
    """How far one quantity is apart and how far it may be, in UNITS."""

    quantity: str
    size: float
    allowed: float

    @property
    def agrees(self) -> bool:
        return self.size <= self.allowed  # NaN does not

    def __str__(self) -> str:
        return f"{self.quantity} by {self.size:.3g} {UNITS[self.quantity]}, {self.allowed:.2g} allowed"


def tolerance(manifest: Manifest) -> Tolerance:
    """What two labels of the teacher in this manifest may differ by."""
    return tolerance_of(manifest.teacher.dtype, manifest.hessian.codec, 1.01 * manifest.hessian.codec_error_max)


def tolerance_of(dtype: str, codec_name: str, codec_error: float = 1.0) -> Tolerance:
    """What two labels may differ by, of a teacher in float32 or float64; codec_error: of its products, where it is known."""
    codec = min(codec_error, CODEC_LIMITS[codec_name])
    if dtype == "float64":
        return Tolerance((1e-6, 1e-10), (1e-5, 1e-6), (1e-6, 1e-5), 1e-5 + codec)
    return Tolerance((1e-4, 1e-6), (2e-4, 2e-4), (1e-5, 1e-3), 1e-3 + codec)


def compare(stored: Labels, fresh: Labels, allowed: Tolerance) -> list[Difference]:
    """Difference of each quantity that both have; of products, those that both have from the first on.

    Products of different directions, and a stress that only one has, are infinitely far apart.
    """
    n = len(stored.forces)
    energy = abs(stored.energy - fresh.energy)
    differences = [
        Difference("energy", energy / n, allowed.energy[0] + allowed.energy[1] * abs(stored.energy) / n),
        _largest("forces", stored.forces, fresh.forces, allowed.forces),
    ]
    if stored.stress is not None and fresh.stress is not None:
        differences.append(_largest("stress", stored.stress, fresh.stress, allowed.stress))
    elif stored.stress is not None or fresh.stress is not None:
        differences.append(Difference("stress", float("inf"), allowed.stress[0]))
    if stored.hessian is not None and fresh.hessian is not None:
        differences.append(Difference("products", _products(stored.hessian, fresh.hessian), allowed.products))
    return differences


def _largest(quantity: str, a: Any, b: Any, allowed: tuple[float, float]) -> Difference:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    limit = allowed[0] + allowed[1] * float(np.abs(a).max(initial=0.0))
    return Difference(quantity, float(np.abs(a - b).max(initial=0.0)), limit)


def _products(a: HessianProducts, b: HessianProducts) -> float:
    both = min(len(a.values), len(b.values))
    if not same_directions(a.directions, b.directions, both):
        return float("inf")
    x, y = np.asarray(a.values[:both], np.float64), np.asarray(b.values[:both], np.float64)
    norm = np.sqrt((x**2).sum(axis=(1, 2)))
    apart = np.sqrt(((x - y) ** 2).sum(axis=(1, 2)))
    scale = np.maximum(norm, norm.mean()) if both else norm
    return float(np.where(apart == 0, 0.0, apart / np.where(scale > 0, scale, 1e-12)).max(initial=0.0))


def same_directions(a: Directions, b: Directions, n: int) -> bool:
    """Whether the first n directions of both are the same."""
    if a.kind != b.kind:
        return False
    if a.coordinate is not None and b.coordinate is not None:
        return np.array_equal(a.coordinate[:n], b.coordinate[:n])
    return a.signs is not None and b.signs is not None and np.array_equal(a.signs[:n], b.signs[:n])
