"""Every move by name: its amounts, its function, and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import InputError, nearest
from ..structure import Structure
from ..support.checked import check_fields
from .defects import Swap, Vacancy, swap, vacancy
from .dimers import Dimers, dimers
from .dynamics import Md, md
from .modes import Modes, modes
from .rattle import Rattle, rattle
from .relax import Relax, relax
from .strain import Strain, strain
from .supercell import Supercell, supercell
from .torsions import Torsions, rotatable_bonds, torsions
from .world import World


@dataclass(frozen=True)
class Move:
    """applies: whether something comes of a structure; needs_driver: it asks for forces; starts_anew: later moves of a recipe
    begin from what it made last; thermal: it makes its amounts at each temperature."""

    name: str
    amounts: type
    run: Callable[[Structure, Any, World], Iterator[Structure]]
    about: str
    needs_driver: bool = False
    starts_anew: bool = False
    thermal: bool = False
    applies: Callable[[Structure], bool] = lambda start: True


MOVES = {
    move.name: move
    for move in (
        Move("rattle", Rattle, rattle, "Gaussian displacements of all atoms"),
        Move("strain", Strain, strain, "cells pressed, pulled and sheared", applies=lambda s: bool(s.pbc.any())),
        Move("supercell", Supercell, supercell, "the cell repeated; later moves begin from it", starts_anew=True),
        Move("modes", Modes, modes, "thermal displacements along normal modes", needs_driver=True, thermal=True),
        Move(
            "torsions",
            Torsions,
            torsions,
            "turns about the single bonds of molecules",
            applies=lambda s: bool(rotatable_bonds(s)),
        ),
        Move("dimers", Dimers, dimers, "pairs of elements along their distance"),
        Move("md", Md, md, "molecular dynamics, NVT or NPT", needs_driver=True, thermal=True),
        Move(
            "relax", Relax, relax, "the path to a minimum; later moves begin there", needs_driver=True, starts_anew=True
        ),
        Move("vacancy", Vacancy, vacancy, "an atom taken out", applies=lambda s: s.n_atoms > 2),
        Move(
            "swap",
            Swap,
            swap,
            "two atoms of different elements exchanged",
            applies=lambda s: len(set(s.numbers.tolist())) > 1,
        ),
    )
}


def move_named(name: str) -> Move:
    """Raises InputError for a name that no move has."""
    if name not in MOVES:
        raise InputError(f"There is no move '{name}'.{nearest(name, MOVES)} Known: {', '.join(MOVES)}.")
    return MOVES[name]


def amounts_of(move: Move, given: Mapping[str, Any]) -> Any:
    """The amounts of a move from a recipe's table. Raises InputError for a key it does not have and for a wrong value."""
    known = [field.name for field in fields(move.amounts)]
    for key in given:
        if key not in known:
            raise InputError(f"The move {move.name} has no '{key}'.{nearest(key, known)} It has: {', '.join(known)}.")
    amounts = move.amounts(**given)
    try:
        check_fields(amounts)
    except InputError as error:
        raise InputError(f"The move {move.name}: {error}") from error
    return amounts
