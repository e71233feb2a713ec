"""A few structures out of many that differ most, in one pass and constant memory.

A structure is as new as its newest atom: the distance of that atom's surroundings to the nearest of those of the same element that
were kept. One that is newer than a threshold is kept; where too many are, the threshold is doubled and the kept ones are thinned
(streaming k-centre: Charikar, Chekuri, Feder and Motwani, STOC 1997). Of those that are left the farthest points are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..structure import Structure
from .descriptor import surroundings

Describe = Callable[[Structure], NDArray[np.floating[Any]]]
SPARE = 3  # times the wanted number are kept until the end
FIRST = 1e-3  # of the size of features: the first threshold


ByElement = dict[int, NDArray[np.float32]]


class _Library:
    """Surroundings that were seen, by element."""

    def __init__(self) -> None:
        self._rows: dict[int, list[NDArray[np.float32]]] = {}

    def add(self, features: ByElement) -> None:
        for z, rows in features.items():
            self._rows.setdefault(z, []).append(rows)

    def newness(self, features: ByElement, stop_above: float = np.inf) -> float:
        """How far the newest atom is from those that were seen; infinite where its element is new. May stop above a threshold."""
        largest = 0.0
        for z, own in features.items():
            if z not in self._rows:
                return np.inf
            if len(self._rows[z]) > 1:
                self._rows[z] = [np.concatenate(self._rows[z])]
            largest = max(largest, float(_distances(own, self._rows[z][0]).max()))
            if largest > stop_above:
                break
        return largest


def most_diverse(structures: Iterable[Structure], n: int, describe: Describe | None = None) -> list[Structure]:
    """n of the structures, in the order in which they came; all of them where there are no more.

    describe: features (N,D) of the atoms of a structure, those of a student for example; none: descriptor.py, for the elements
    of the first thousand structures.
    """
    kept: list[tuple[Structure, ByElement]] = []
    library, threshold = _Library(), 0.0
    for structure, features in _described(structures, describe):
        if threshold and library.newness(features, threshold) <= threshold:
            continue
        kept.append((structure, features))
        library.add(features)
        while len(kept) > SPARE * n:
            threshold = 2 * threshold or FIRST * float(np.median([np.linalg.norm(f) for f in features.values()]))
            kept, library = _thinned(kept, threshold)
    if len(kept) <= n:
        return [structure for structure, _ in kept]
    return [kept[k][0] for k in sorted(_farthest([features for _, features in kept], n))]


def _described(structures: Iterable[Structure], describe: Describe | None) -> Iterator[tuple[Structure, ByElement]]:
    waiting: list[Structure] = []
    stream = iter(structures)
    if describe is None:
        for structure in stream:
            waiting.append(structure)
            if len(waiting) == 1000:
                break
        elements = sorted({int(z) for s in waiting for z in np.unique(s.numbers)})

        def describe(structure: Structure) -> NDArray[np.float32]:
            return surroundings(structure, elements)

    for source in (waiting, stream):
        for structure in source:
            features = np.asarray(describe(structure), np.float32)
            yield structure, {int(z): features[structure.numbers == z] for z in np.unique(structure.numbers)}


def _distances(own: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each row of `own` to the nearest row of `others`."""
    squares = (own**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * own @ others.T
    nearest: NDArray[np.float32] = np.sqrt(np.maximum(squares.min(1), 0))
    return nearest


def _thinned(
    kept: list[tuple[Structure, ByElement]], threshold: float
) -> tuple[list[tuple[Structure, ByElement]], _Library]:
    library, thin = _Library(), []
    for structure, features in kept:
        if library.newness(features, threshold) > threshold:
            thin.append((structure, features))
            library.add(features)
    return thin, library


def _farthest(kept: list[ByElement], n: int) -> list[int]:
    """Farthest-point sampling from the first on; ties go to the earlier one."""
    library, chosen = _Library(), [0]
    library.add(kept[0])
    newness = np.array([library.newness(features) for features in kept])
    while len(chosen) < n:
        newness[chosen] = -1
        chosen.append(int(newness.argmax()))
        library.add(kept[chosen[-1]])
        newness = np.minimum(
            newness, [library.newness(features) if newness[k] > 0 else 0 for k, features in enumerate(kept)]
        )
    return chosen
