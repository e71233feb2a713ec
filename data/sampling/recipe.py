"""Recipes: which moves, in which order, with which amounts. TOML files, or those in recipes/ by name.

[[moves]]
move = "rattle"
n = 8
sigma = 0.05
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, nearest
from ..structure import Structure
from .moves import Move, amounts_of, move_named

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Step:
    move: Move
    amounts: Any


@dataclass(frozen=True)
class Recipe:
    name: str
    steps: tuple[Step, ...]


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_recipe(which: str | Path) -> Recipe:
    """A recipe by name, or a TOML file. Raises InputError: what was wrong, where, and what was wanted."""
    path = Path(which)
    if str(which) in names():
        path = FOLDER / f"{which}.toml"
    elif not path.is_file():
        raise InputError(
            f"There is no recipe '{which}'.{nearest(str(which), names())} Known: {', '.join(names())}; or give a TOML file."
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}.") from error
    return recipe_of(table, path.stem)


def recipe_of(table: Mapping[str, Any], name: str) -> Recipe:
    """A recipe from its table. Raises InputError."""
    rows = table.get("moves")
    if (
        not isinstance(rows, list)
        or not rows
        or not all(isinstance(row, dict) for row in rows)
        or set(table) - {"moves"}
    ):
        raise InputError(
            f"The recipe {name} must be a list of tables [[moves]], each with `move` and amounts, and nothing else."
        )
    steps = []
    for row in rows:
        if not isinstance(row.get("move"), str):
            raise InputError(
                f"A table [[moves]] of the recipe {name} has no `move`; it names the move, rattle for example."
            )
        move = move_named(row["move"])
        steps.append(Step(move, amounts_of(move, {key: value for key, value in row.items() if key != "move"})))
    return Recipe(name, tuple(steps))


def default_recipe(starts: Sequence[Structure]) -> str:
    """crystal, slab or molecule, by what is periodic. Raises InputError where starts are of several kinds."""
    kinds = {_kind(start) for start in starts}
    if len(kinds) > 1:
        raise InputError(
            f"The start structures are {' and '.join(sorted(kinds))}s; sample each kind alone, or give --recipe."
        )
    return kinds.pop()


def _kind(start: Structure) -> str:
    return "crystal" if start.pbc.all() else "slab" if start.pbc.any() else "molecule"
