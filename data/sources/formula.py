"""Chemical formulas and element symbols of a structure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import cache


@cache
def symbols() -> tuple[str, ...]:
    """Element symbols by atomic number; symbols()[0] is 'X'."""
    from ase.data import chemical_symbols

    return tuple(chemical_symbols)


def elements(numbers: Iterable[int]) -> frozenset[str]:
    """The set of element symbols."""
    return frozenset(symbols()[number] for number in set(numbers))


def hill_formula(numbers: Iterable[int], reduced: bool = False) -> str:
    """C, then H, then the rest by alphabet (all by alphabet where there is no C); reduced divides out common factors."""
    counts = Counter(symbols()[number] for number in numbers)
    divisor = math.gcd(*counts.values()) if reduced and counts else 1
    first = ("C", "H") if "C" in counts else ()
    order = [symbol for symbol in first if symbol in counts] + sorted(set(counts) - set(first))
    return "".join(f"{s}{counts[s] // divisor if counts[s] > divisor else ''}" for s in order)
