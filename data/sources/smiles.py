"""Elements and charge from an atom-mapped SMILES with explicit hydrogens, such as [C:1]([H:2])([H:3])([H:4])[H:5].

Strict on purpose: every atom stands in brackets with its own map number 1..N and nothing is implied, so that no chemistry
has to be guessed. Grammar: OpenSMILES specification 1.0.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from .formula import symbols

_TOKEN = re.compile(
    r"\[(?P<isotope>\d+)?(?P<symbol>[A-Z][a-z]?|[cnopsb]|se|as|te)(?P<chiral>@{1,2}|@[A-Z]{2}\d{1,2})?(?P<hydrogens>H\d*)?"
    r"(?P<charge>\++|-+|[+-]\d+)?(?::(?P<map>\d+))?\]"
    r"|(?P<bond>[-=#$:/\\.()]|\d|%\d\d)"
)


def parse_mapped(smiles: str) -> tuple[NDArray[np.int64], int]:
    """Atomic numbers (N,) ordered by map number, and the total formal charge in e. Raises ValueError saying what is wrong."""
    by_map: dict[int, int] = {}
    charge = position = 0
    while position < len(smiles):
        token = _TOKEN.match(smiles, position)
        if token is None:
            raise ValueError(
                f"'{smiles[position : position + 12]}' at character {position} is not a bracket atom or bond"
            )
        position = token.end()
        if token["bond"]:
            continue
        number, index = _atom(token)
        if index in by_map:
            raise ValueError(f"map number {index} occurs twice")
        by_map[index] = number
        charge += _charge(token["charge"])
    if set(by_map) != set(range(1, len(by_map) + 1)):
        raise ValueError(f"map numbers of {len(by_map)} atoms are not 1 to {len(by_map)}")
    return np.array([by_map[index] for index in sorted(by_map)], np.int64), charge


def unmapped(smiles: str) -> str:
    """The same SMILES without map numbers, hydrogens still explicit."""
    return re.sub(r":\d+\]", "]", smiles)


def _atom(token: re.Match[str]) -> tuple[int, int]:
    symbol = token["symbol"].capitalize()
    if symbol not in symbols()[1:]:
        raise ValueError(f"'{token['symbol']}' is not an element")
    if token["hydrogens"]:
        raise ValueError(f"{token[0]} implies hydrogens; all of them must be explicit atoms")
    if token["map"] is None:
        raise ValueError(f"{token[0]} has no map number")
    return symbols().index(symbol), int(token["map"])


def _charge(text: str | None) -> int:
    """'+' is 1, '--' is -2, '+3' is 3."""
    if not text:
        return 0
    return int(text) if text[-1].isdigit() else len(text) * (1 if text[0] == "+" else -1)
