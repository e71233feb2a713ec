"""How Hessian products are stored: "exact" (float32) or "compact" (whole steps of a power of two, for each product its own).

A compact product is q * 2**exponent, q whole numbers, with the largest step that is no more than 1/64 of the product's root mean
square. A student sees the norm of its error, so a step that all elements share spends bits where they count; a power of two
makes decoding exact, and one byte says it. q is stored in zigzag order (0, -1, 1, -2, ... as 0, 1, 2, 3, ...): small numbers of
either sign then have a high byte of zero, which gzip shrinks. What it costs and what else was tried: "Does compression matter?"
in docs/results.md.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import LabelSetError

Codec = Literal["exact", "compact"]
CODECS: tuple[Codec, ...] = ("compact", "exact")
STEP_BITS = 6  # a step is at most 2**-6 of a product's root mean square: no element is off by more than half of that
MIN_EXPONENT = -100  # so that every decoded number is a normal float32 or zero
Q_BITS = 14  # |q| <= 2**14, one bit less than int16 has room for: see encode


def encode(values: NDArray[np.floating[Any]], codec: Codec) -> tuple[NDArray[Any], NDArray[np.int8] | None]:
    """Products (K,N,3) eV/A^2 as stored numbers of the same shape and, for compact, exponents (K,).

    Encoding what was decoded gives the same stored numbers. Where one element outweighs thousands of others, the step is as
    large as 16 bits demand. Raises LabelSetError where a value is NaN, infinite, or so large that rounding could make it so.
    """
    with np.errstate(over="ignore"):
        single = values.astype("<f4")
        _require_finite(2 * single)
    if codec == "exact":
        return single, None
    wide = values.astype(np.float64)
    step_bits = _exponent(np.sqrt((wide**2).mean(axis=(1, 2)))) - STEP_BITS
    exponent = np.maximum(np.maximum(step_bits, _exponent(np.abs(wide).max(axis=(1, 2))) + 1 - Q_BITS), MIN_EXPONENT)
    # Rounding may carry the root mean square over a power of two: numbers that lie on the next finer grid are left on it.
    finer = np.ldexp(wide, 1 - exponent[:, None, None])
    on_grid = (finer == np.rint(finer)).all(axis=(1, 2))
    q = np.rint(np.where(on_grid[:, None, None], finer, finer / 2)).astype(np.int64)
    exponent = exponent - on_grid
    # One way to write each product: common factors of two go into the exponent.
    bits = np.bitwise_or.reduce(np.abs(q), axis=(1, 2))
    shift = np.where(bits > 0, _exponent((bits & -bits).astype(np.float64)), 0)
    q >>= shift[:, None, None]
    return _zigzag(q), np.where(bits > 0, exponent + shift, 0).astype("|i1")


def decode(stored: NDArray[Any], exponent: NDArray[np.int8] | None) -> NDArray[np.float32]:
    """The inverse of encode: (K,N,3) float32 eV/A^2. Raises LabelSetError for what encode never writes: NaN and infinity."""
    if exponent is None:
        values = stored.astype(np.float32, copy=False)
    else:
        with np.errstate(over="ignore"):
            values = np.ldexp(_unzigzag(stored).astype(np.float32), exponent.astype(np.int32)[:, None, None])
    _require_finite(values)
    return values


def decode_flat(
    stored: NDArray[Any], exponent: NDArray[np.int8] | None, lengths: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Products of any lengths (P,) one behind the other, (V,), decoded in one go: of small ones the calls cost more than the numbers."""
    each = None if exponent is None else np.repeat(exponent, lengths)
    return decode(stored.reshape(-1, 1, 1), each).ravel()


def _exponent(positive: NDArray[np.float64]) -> NDArray[np.int64]:
    """floor(log2(x)) without rounding; -1 for 0."""
    return np.asarray(np.frexp(positive)[1], np.int64) - 1


def _zigzag(q: NDArray[np.int64]) -> NDArray[np.uint16]:
    return np.asarray(np.where(q < 0, -2 * q - 1, 2 * q), "<u2")


def _unzigzag(stored: NDArray[np.uint16]) -> NDArray[np.int16]:
    return np.asarray((stored >> 1) ^ -(stored & 1), np.uint16).view(np.int16)


def _require_finite(values: NDArray[np.float32]) -> None:
    if not np.isfinite(values).all():
        raise LabelSetError("Hessian products that are not finite float32 numbers; leave their structures out.")
