"""The orders in which a Hessian's 9 N^2 numbers are stored, as the matrix (3N,3N), index 3*atom + axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import defects

PYSCF = "Hessians are in PySCF's order (N,N,3,3)"


def as_matrix(values: Any, n_atoms: int) -> tuple[NDArray[np.float64], str | None]:
    """(3N,3N) of (3N,3N), (N,3,N,3), (N,3N), 9 N^2 in a row, or PySCF's (N,N,3,3); and a remark. Raises ValueError.

    Of (3,3,3,3) either order is possible: the one is taken that is symmetric and does not feel translations.
    """
    array = np.asarray(values, np.float64)
    n = 3 * n_atoms
    if array.size != n * n:
        raise ValueError(f"its Hessian has {array.size} numbers, {n * n} were wanted")
    if array.shape != (n_atoms, n_atoms, 3, 3):
        return array.reshape(n, n), None
    pyscf = array.transpose(0, 2, 1, 3).reshape(n, n)
    if array.shape == (n_atoms, 3, n_atoms, 3):
        plain = array.reshape(n, n)
        if sum(defects(plain)) <= sum(defects(pyscf)):
            return plain, None
    return pyscf, PYSCF
