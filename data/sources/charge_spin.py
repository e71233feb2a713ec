"""Charge and spin of a structure under every usual name, and THE check that they fit its electrons.

Spin is the multiplicity 2S+1. A molecule of n electrons can have 2S unpaired ones only if n - 2S is even and not negative.
Where a file states no spin, the lowest that fits is taken, and counted as a guess; a crystal's bands may be filled in part, so
there what is stated is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

Role = Literal["charge", "multiplicity", "unpaired", "electrons"]
_NAMES: dict[str, Role] = {
    **dict.fromkeys(("charge", "totalcharge", "totcharge", "netcharge", "molecularcharge", "systemcharge"), "charge"),
    **dict.fromkeys(("spin", "multiplicity", "spinmultiplicity", "mult", "totalspin", "spinmult"), "multiplicity"),
    **dict.fromkeys(("uhf", "nuhf", "nunpaired", "unpaired", "unpairedelectrons"), "unpaired"),
    **dict.fromkeys(("nelec", "nelectron", "nelectrons", "numelectrons", "nelect"), "electrons"),
}
TOLERANCE = 1e-3  # of a charge that should be whole
MAX_WHOLE = 2**31


class UnfitError(ValueError):
    """Charge and spin that cannot be; reason is a short phrase to count by."""

    def __init__(self, reason: str, text: str):
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class ChargeSpin:
    """Charge in e and multiplicity, and the keys that state them; None: not stated."""

    charge: int = 0
    spin: int = 1
    charge_key: str | None = None
    spin_key: str | None = None
    fits: bool = True  # False: a crystal's spin that a molecule of its electrons could not have


@lru_cache(maxsize=4096)
def role_of(key: str) -> Role | None:
    """What a key of a structure's info says of its electrons: 'spin_multiplicity' is 'multiplicity', 'uhf' is 'unpaired'."""
    return _NAMES.get(key.lower().replace("_", "").replace("-", ""))


def lowest_spin(numbers: ArrayLike, charge: int) -> int:
    """The lowest multiplicity that the electrons can have: 1 for an even number of them, 2 for an odd one."""
    return 1 + (int(np.sum(numbers)) - charge) % 2


def charge_and_spin(info: Mapping[Any, Any], numbers: ArrayLike, periodic: bool) -> ChargeSpin:
    """Charge and spin that an info states, or the usual ones. Raises UnfitError."""
    by_role: dict[Role, list[tuple[str, Any]]] = {}
    for key, value in info.items():
        role = role_of(key) if isinstance(key, str) else None
        if role is not None and value is not None:
            by_role.setdefault(role, []).append((key, value))
    if not by_role:
        return ChargeSpin(0, lowest_spin(numbers, 0))
    charge_key, charge = _agreed("charge", [(key, _whole(key, value)) for key, value in by_role.get("charge", ())])
    spins = [(key, _multiplicity(key, value)) for key, value in by_role.get("multiplicity", ())]
    spins += [(key, _whole(key, value) + 1) for key, value in by_role.get("unpaired", ())]
    n_electrons = int(np.sum(numbers)) - charge
    for key, value in by_role.get("electrons", ()):
        _check_electrons(key, value, n_electrons, spins)
    spin_key, spin = _agreed("spin", [(key, value) for key, value in spins if value != 0])  # 0: not given (fairchem)
    spin = spin or lowest_spin(numbers, charge)
    return ChargeSpin(
        charge, spin, charge_key, spin_key, check(numbers, charge, spin, periodic, spin_key or "not stated")
    )


def check(numbers: ArrayLike, charge: int, spin: int, periodic: bool, where: str) -> bool:
    """Whether the electrons can have this multiplicity, of a crystal. Raises UnfitError for a molecule where they cannot."""
    n_electrons = int(np.sum(numbers)) - charge
    fits = n_electrons >= spin - 1 and (n_electrons - spin + 1) % 2 == 0
    if not fits and not periodic:
        raise UnfitError(
            "charge and spin do not fit the electrons",
            f"charge {charge} leaves {n_electrons} electrons, which cannot have the multiplicity {spin} "
            f"({where}); spin is 2S+1, the number of unpaired electrons is called uhf",
        )
    return fits


def _whole(key: str, value: Any) -> int:
    try:
        number = float(np.asarray(value).item())
        whole = round(number)
        if abs(number - whole) <= TOLERANCE and abs(whole) < MAX_WHOLE:
            return whole
    except (TypeError, ValueError, OverflowError):
        pass
    raise UnfitError(f"{key} is not a whole number", f"{key} = {value!r}")


def _multiplicity(key: str, value: Any) -> int:
    spin = _whole(key, value)
    if spin < 0:
        raise UnfitError("spin is not a multiplicity", f"{key} = {spin}, a multiplicity is 1 or more")
    return spin


def _agreed(what: str, stated: list[tuple[str, int]]) -> tuple[str | None, int]:
    if not stated:
        return None, 0
    key, value = stated[0]
    for other_key, other in stated[1:]:
        if other != value:
            raise UnfitError(
                f"{what} is stated twice, differently", f"{key} says {value} and {other_key} says {other} of its {what}"
            )
    return key, value


def _check_electrons(key: str, value: Any, n_electrons: int, spins: list[tuple[str, int]]) -> None:
    """A number of electrons (of the valence, or of all) must fit the charge; that of both spins, [9, 8], states the spin too."""
    both = np.asarray(value)
    counts = [_whole(key, item) for item in both.reshape(-1)] if both.size == 2 else [_whole(key, value)]
    if len(counts) == 2:
        spins.append((key, abs(counts[0] - counts[1]) + 1))
    if sum(counts) > n_electrons or (n_electrons - sum(counts)) % 2:
        raise UnfitError(
            "charge and electrons do not fit",
            f"{key} counts {sum(counts)} electrons, nuclei and charge leave {n_electrons}; state the charge",
        )
