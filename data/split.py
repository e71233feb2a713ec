"""Train, val and test: by group and by hash, so that no molecule or material is in two of them.

The split of a group depends on the group's name, the seed and the fractions alone: not on what else is in the set. Sets
that are extended, sampled or merged later keep every group where it was, and what was held out stays held out; cutting a
shuffled list at its fractions would move groups. The price: fractions hold on average, and with few groups roughly.
Two exceptions, for small sets only, and each with a sentence to print:
- a split that would be empty gets the group whose hash is nearest to it;
- with fewer groups than splits (one molecule's trajectory, say) structures are split by their own hash.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import InputError
from .schema import SPLITS, SplitName

Fractions = tuple[float, float, float]
DEFAULT: Fractions = (0.8, 0.1, 0.1)


@dataclass(frozen=True)
class Assignment:
    """The split of each structure, in the order given; what was split by; sentences to print, if any."""

    splits: tuple[SplitName, ...]
    unit: Literal["group", "structure"]
    warnings: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Structures in each split."""
        counted = Counter(self.splits)
        return {name: counted[name] for name in SPLITS}


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
    return min(SPLITS, key=lambda split: _distance(_position(unit, seed), _interval(split, fractions)))


def assign(groups: Sequence[str], ids: Sequence[str], seed: int, fractions: Fractions = DEFAULT) -> Assignment:
    """The split of each structure, given its group and its id; pure in the set of groups, whatever their order."""
    wanted = [split for split, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]
    by_group = len(set(groups)) >= len(wanted)
    units = groups if by_group else ids
    table = {unit: split_of(unit, seed, fractions) for unit in set(units)}
    filled = _fill_empty(table, wanted, seed, fractions)
    splits = tuple(table[unit] for unit in units)
    warnings = []
    if not by_group:
        n = len(set(groups))
        warnings.append(
            f"There {'is' if n == 1 else 'are'} only {n} group{'' if n == 1 else 's'}, so single structures are held out: "
            "the test set is of the same molecules or materials as the training set."
        )
    elif filled:
        warnings.append(
            f"With {len(table)} groups no {' and no '.join(filled)} group came up by hash; the nearest was taken. "
            "The splits are far from their fractions."
        )
    warnings += [f"The {split} split is empty." for split in wanted if split not in splits]
    return Assignment(splits, "group" if by_group else "structure", tuple(warnings))


def _fill_empty(
    table: dict[str, SplitName], wanted: Sequence[SplitName], seed: int, fractions: Fractions
) -> list[SplitName]:
    """Move one unit into each split that has none, from a split that has several; returns the splits that were filled."""
    filled: list[SplitName] = []
    for split in wanted:
        counts = Counter(table.values())
        movable = [unit for unit, now in table.items() if counts[now] > 1]
        if counts[split] == 0 and movable:
            interval = _interval(split, fractions)
            table[min(movable, key=lambda u: (_distance(_position(u, seed), interval), u))] = split
            filled.append(split)
    return filled


def _position(unit: str, seed: int) -> float:
    """Where a unit lies in [0, 1)."""
    digest = hashlib.blake2b(f"hdistill split {seed} {unit}".encode(), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48


def _interval(split: SplitName, fractions: Fractions) -> tuple[float, float]:
    first = SPLITS.index(split)
    return sum(fractions[:first]), sum(fractions[: first + 1])


def _distance(position: float, interval: tuple[float, float]) -> float:
    start, stop = interval
    return max(start - position, position - stop, 0.0)
