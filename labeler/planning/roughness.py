"""How rough a teacher's curvature is: what no smooth student can learn of its Hessian.

    roughness = |v H(R + h u) - v H(R)| / |v H(R)|,   h = 0.001 A, u normal components, the mean of u and -u

Of a smooth energy it is about h over the distance in which bonds stiffen, below 0.01; of one whose second derivative jumps (kinks in the
slope of an activation, features that are narrow) more, by the jumps within h. Whole Hessians, means over ten structures: SevenNet-0 0.006,
ANI-1x 0.013, CHGNet 0.071 (benchmarks/study_roughness.py), whose Hessian labels taught students little (docs/results.md). Of one product it
depends on the structure (SevenNet-0 0.002 to 0.006, ANI-1x 0.009 to 0.064, CHGNet 0.035 to 0.089 on four or five), so that a
teacher which is rough on one is tried on four more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdistill.data.structure import Structure

MOVED = 1e-3  # A, of each component
ROUGH = 0.03
Array = NDArray[np.float64]


def roughness(product: Callable[[Structure], Array | None], structure: Structure, here: Array) -> float:
    """Of a Hessian product (N,3) eV/A^2, which is `here` at the structure itself. Raises what product raises."""
    size = float(np.linalg.norm(here))
    seed = int(structure.id[:16], 16)
    way = MOVED * np.random.default_rng(seed).normal(size=structure.positions.shape)
    changes = []
    for sign in (1, -1):
        there = product(replace(structure, positions=structure.positions + sign * way))
        assert there is not None
        changes.append(float(np.linalg.norm(there - here)))
    return sum(changes) / 2 / size if size else 0.0


def roughness_lines(figures: Mapping[str, Any], name: str) -> list[str]:
    """What is said of a teacher that is rough."""
    rough = figures.get("roughness")
    if rough is None or rough <= ROUGH:
        return []
    return [
        f"The curvature of {name} is rough: its Hessian product changes by {100 * rough:.0f} % where atoms move by {MOVED:g} A (a "
        f"smooth one by less than 1 %). No smooth student can follow that, so Hessian labels of it teach little; --hessian none "
        "spends the time on more structures."
    ]
