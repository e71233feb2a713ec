"""Train, val and test: by group and by hash, so that no molecule or material is in two of them.

The split of a group depends on the group's name, the seed and the fractions alone: not on what else is in the set. Sets
that are extended, sampled or merged later keep every group where it was, and what was held out stays held out; cutting a
shuffled list at its fractions would move groups. The price: fractions hold on average, and with few groups roughly.
Two exceptions, for small sets only, and each with a sentence to print:
- a split that would be empty gets the group whose hash is nearest to it;
- with fewer groups than splits (one molecule's trajectory, say) structures are split by their own hash.

Both can be told only at the end of a set, so a Splitter sees all of it once, in any order and in pieces, and decides then. It
holds one hash for each group and nothing for each structure: ten million structures are split in the memory of their groups.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..format.schema import SPLITS, SplitName
from ..support.digest_set import DigestSet

Fractions = tuple[float, float, float]
Positions = NDArray[np.float64]  # (S,) where groups or structures lie in [0, 1), see `position`
DEFAULT: Fractions = (0.8, 0.1, 0.1)
Unit = Literal["group", "structure"]


@dataclass(frozen=True)
class Assignment:
    """The split of each structure, in the order given; what was split by; sentences to print, if any."""

    splits: tuple[SplitName, ...]
    unit: Unit
    warnings: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Structures in each split."""
        counted = Counter(self.splits)
        return {name: counted[name] for name in SPLITS}


@dataclass(frozen=True)
class Decision:
    """How a whole set is split: by groups or by structures, and which of them are not where their hash puts them."""

    fractions: Fractions
    unit: Unit
    n_groups: int
    moved: dict[float, SplitName]  # position -> split
    warnings: tuple[str, ...] = ()

    def splits(self, groups: Positions, structures: Positions) -> NDArray[np.uint8]:
        """Index into SPLITS of each structure, (S,), from the positions of its group and of itself, (S,) each."""
        positions = groups if self.unit == "group" else structures
        indices = _by_hash(positions, self.fractions)
        for position, split in self.moved.items():
            indices[positions == position] = SPLITS.index(split)
        return indices


def parse_fractions(text: str) -> Fractions:
    """'0.8,0.1,0.1' as fractions of train, val and test. They must add up to 1, train above 0. Raises InputError."""
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--splits was '{text}'; it takes three fractions for train, val and test, as in 0.8,0.1,0.1."
        ) from None
    # Written this way round, NaN fails too.
    if not (train > 0 and val >= 0 and test >= 0 and abs(train + val + test - 1) < 1e-6):
        raise InputError(f"--splits was '{text}'; train must be above 0, none below 0, and they must add up to 1.")
    return train, val, test


def split_of(unit: str, seed: int, fractions: Fractions = DEFAULT) -> SplitName:
    """The split of a group (or of a structure's id) by its hash alone."""
    return SPLITS[int(_by_hash(np.array([position(unit, seed)]), fractions)[0])]


def position(unit: str, seed: int) -> float:
    """Where a group (or a structure, by its id) lies in [0, 1); which split that is, the fractions tell."""
    digest = hashlib.blake2b(f"hdistill split {seed} {unit}".encode(), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48


def group_keys(groups: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """64 bits of a hash for each group's name."""
    names, inverse = np.unique(groups, return_inverse=True)
    keys = [int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) for name in names.tolist()]
    return np.array(keys, np.uint64)[inverse] if keys else np.zeros(0, np.uint64)


def group_key(group: str) -> bytes:
    """16 bytes by which a Splitter tells groups apart."""
    return hashlib.blake2b(group.encode(), digest_size=16).digest()


def assign(groups: Sequence[str], ids: Sequence[str], seed: int, fractions: Fractions = DEFAULT) -> Assignment:
    """The split of each structure, given its group and its id; pure in the set of groups, whatever their order."""
    of_groups = np.array([position(group, seed) for group in groups])
    of_structures = np.array([position(structure_id, seed) for structure_id in ids])
    splitter = Splitter(fractions)
    splitter.add(map(group_key, groups), of_groups, of_structures)
    decision = splitter.decide()
    splits = tuple(SPLITS[i] for i in decision.splits(of_groups, of_structures).tolist())
    return Assignment(splits, decision.unit, decision.warnings)


class Splitter:
    """Sees every structure of a set once, in any order, and then decides; holds about 20 bytes for each group."""

    def __init__(self, fractions: Fractions = DEFAULT):
        self.fractions = fractions
        self._keys = DigestSet()
        self._groups = _Units(fractions)
        self._structures = _Units(fractions)

    def add(self, keys: Iterable[bytes], groups: Positions, structures: Positions) -> None:
        """More structures: group_key and position of the group of each, and its own position; their ids must be distinct."""
        new = np.fromiter(map(self._keys.add, keys), bool, len(groups))
        self._groups.add(groups[new])
        self._structures.add(structures)

    def decide(self) -> Decision:
        """How everything that was added is split. The Splitter must not be used any more."""
        wanted = [split for split, fraction in zip(SPLITS, self.fractions, strict=True) if fraction > 0]
        n_groups = len(self._keys)
        by_group = n_groups >= len(wanted)
        units = self._groups if by_group else self._structures
        moved = units.fill(wanted)
        warnings = []
        if not by_group:
            warnings.append(
                f"There {'is' if n_groups == 1 else 'are'} only {n_groups} group{'' if n_groups == 1 else 's'}, so single "
                "structures are held out: the test set is of the same molecules or materials as the training set."
            )
        elif moved:
            warnings.append(
                f"With {n_groups} groups no {' and no '.join(moved.values())} group came up by hash; the nearest was taken. "
                "The splits are far from their fractions."
            )
        warnings += [f"The {split} split is empty." for split in wanted if not units.counts[split]]
        return Decision(self.fractions, "group" if by_group else "structure", n_groups, moved, tuple(warnings))


@dataclass
class _Units:
    """Groups, or structures: how many are in each split by hash, and the two lowest and the two highest positions there.

    The unit that an empty split gets is the nearest one of a split that has several. Nearest means at an end of its split, and
    of at most three splits at most two are filled: two positions at each end are all that can be asked for.
    """

    fractions: Fractions
    counts: Counter[SplitName] = field(default_factory=Counter)
    ends: dict[SplitName, Positions] = field(default_factory=dict)

    def add(self, positions: Positions) -> None:
        split_index = _by_hash(positions, self.fractions)
        for index, split in enumerate(SPLITS):
            inside = positions[split_index == index]
            if len(inside):
                self.counts[split] += len(inside)
                inside = np.sort(np.concatenate([self.ends.get(split, inside[:0]), inside]))
                self.ends[split] = inside if len(inside) <= 4 else inside[[0, 1, -2, -1]]

    def fill(self, wanted: Sequence[SplitName]) -> dict[float, SplitName]:
        """Move one unit into each split that has none, from a split that has several; returns where which went."""
        moved: dict[float, SplitName] = {}
        for split in wanted:
            movable = [
                (_distance(at, split, self.fractions), at, source)
                for source, ends in self.ends.items()
                if self.counts[source] > 1
                for at in ends.tolist()
                if at not in moved
            ]
            if self.counts[split] == 0 and movable:
                _, at, source = min(movable)
                moved[at] = split
                self.counts[source] -= 1
                self.counts[split] += 1
        return moved


def _by_hash(positions: Positions, fractions: Fractions) -> NDArray[np.uint8]:
    """Index into SPLITS of each position (S,): of the interval that it lies in or, by rounding, next to."""
    distances: Positions = np.stack([_distance(positions, split, fractions) for split in SPLITS])
    indices: NDArray[np.uint8] = distances.argmin(axis=0).astype(np.uint8)
    return indices


def _distance(position: Any, split: SplitName, fractions: Fractions) -> Any:
    """How far from the interval of a split a position is, or each of several."""
    first = SPLITS.index(split)
    start, stop = sum(fractions[:first]), sum(fractions[: first + 1])
    return np.maximum(np.maximum(start - position, position - stop), 0.0)
