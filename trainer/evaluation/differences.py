"""Energy differences of structures with the same atoms: conformers, distorted crystals. What an energy error per atom hides:
2 meV/atom are 50 meV a molecule, more than many conformers differ by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ENOUGH = 3  # structures of one composition for a rank correlation

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DifferenceErrors:
    """Over the n_comparable structures that have another one of their composition. mae_ev: mean |d(E_i - E_j)| over the pairs of a
    composition; rank_correlation: Spearman's, of compositions with ENOUGH structures, None where there are none or the labels
    do not differ. Both are means over compositions, weighted by their structures."""

    n_comparable: int
    mae_ev: float | None
    rank_correlation: float | None


def difference_errors(compositions: Sequence[bytes], errors: Array, labels: Array) -> DifferenceErrors:
    """From each structure's composition, error of the energy (S,) eV, and labelled energy (S,) eV."""
    _, index = np.unique(np.array(compositions, dtype=object).astype("S"), return_inverse=True)
    order = np.argsort(index, kind="stable")
    sets = np.split(order, np.cumsum(np.bincount(index))[:-1]) if len(order) else []
    sets = [members for members in sets if len(members) > 1]
    if not sets:
        return DifferenceErrors(0, None, None)
    sizes = [len(members) for members in sets]
    maes = [mean_pair_difference(errors[members]) for members in sets]
    ranked = [(rank_correlation(labels[m], labels[m] + errors[m]), len(m)) for m in sets if len(m) >= ENOUGH]
    known = np.array([(value, size) for value, size in ranked if value is not None]).reshape(-1, 2)
    return DifferenceErrors(
        n_comparable=sum(sizes),
        mae_ev=float(np.average(maes, weights=sizes)),
        rank_correlation=float(np.average(known[:, 0], weights=known[:, 1])) if len(known) else None,
    )


def mean_pair_difference(values: Array) -> float:
    """Mean |v_i - v_j| over the pairs i < j of at least two values, by sorting: v_(k) is added k times and taken away n - 1 - k
    times."""
    n = len(values)
    return float((2 * np.arange(n) - n + 1) @ np.sort(values) / (n * (n - 1) / 2))


def rank_correlation(one: Array, other: Array) -> float | None:
    """Spearman's rank correlation, ties sharing their mean rank; None where one side does not vary."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts + 1) / 2)[inverse]
    return ranks
