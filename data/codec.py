"""How Hessian products are stored: "exact" (float32) or "compact" (int16 with one scale per product)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Codec = Literal["exact", "compact"]
CODECS: tuple[Codec, ...] = ("compact", "exact")
INT16_MAX = 32767


def encode(values: NDArray[np.floating[Any]], codec: Codec) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Products (K,N,3) eV/A^2 as stored numbers of the same shape and, for compact, scales (K,)."""
    if codec == "exact":
        return values.astype("<f4"), None
    largest = np.abs(values).max(axis=(1, 2), initial=0.0)
    # Divide by the scale as it is stored, so that encoding what was decoded gives the same integers.
    scale = (largest / INT16_MAX).astype("<f4")
    steps = np.where(scale > 0, scale, 1).astype(np.float64)[:, None, None]
    return np.clip(np.rint(values / steps), -INT16_MAX, INT16_MAX).astype("<i2"), scale


def decode(stored: NDArray[Any], scale: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The inverse of encode: (K,N,3) float32 eV/A^2."""
    if scale is None:
        return stored.astype(np.float32, copy=False)
    return stored.astype(np.float32) * scale[:, None, None]


def relative_error(values: NDArray[np.floating[Any]], codec: Codec) -> NDArray[np.float64]:
    """What the codec costs: |decoded - values|_2 / |values|_2 of each product, (K,); 0 for a product that is zero."""
    decoded = decode(*encode(values, codec))
    norm = np.sqrt((np.asarray(values, np.float64) ** 2).sum(axis=(1, 2)))
    error = np.sqrt(((decoded.astype(np.float64) - values) ** 2).sum(axis=(1, 2)))
    return np.where(norm > 0, error / np.where(norm > 0, norm, 1), 0.0)
