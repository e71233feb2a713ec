"""ASE's Lennard-Jones potential. Its switching function is another than ours: only pairs below 5 A or beyond 6.5 A compare."""

from __future__ import annotations

from typing import Any


def calculator(model: str, task: str | None, dtype: str, device: str) -> Any:
    from ase.calculators.lj import LennardJones

    return LennardJones(epsilon=0.0104, sigma=3.4, ro=5.0, rc=6.5, smooth=True)
