"""What every move is given besides its structure and its amounts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .child import NEAREST
from .driver import Driver


@dataclass(frozen=True, eq=False)
class World:
    """rng: of this move on this structure; temperatures K; pressures GPa; driver: of dynamics, relaxation and curvature.

    seed: what rng was made of, for replicas; nearest: of the sum of covalent radii, what two atoms may come to; dropped: why and
    how often something was left out.
    """

    rng: np.random.Generator
    temperatures: tuple[float, ...] = (300.0,)
    pressures: tuple[float, ...] = ()
    driver: Driver | None = None
    seed: int = 0
    nearest: float = NEAREST
    dropped: Counter[str] = field(default_factory=Counter)

    def require_driver(self, move: str) -> Driver:
        if self.driver is None:
            raise InputError(
                f"The move {move} needs forces: give --driver student:RUN or the name of a teacher, or leave it out of the recipe."
            )
        return self.driver
