"""Structures from structures: every move of a recipe on every start, each structure sound, once, and with its history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import InputError
from ..format.plausible import structure_problem
from ..structure import Structure
from .child import is_sound
from .driver import Driver
from .dynamics import seed_of
from .recipe import Recipe
from .world import World

TOO_CLOSE = 0.55  # of the sum of covalent radii: what is dropped of hot structures


@dataclass(frozen=True, eq=False)
class Sampled:
    """structures in the order in which they were made; dropped: why and how many; by_move: how many of each; remarks: sentences."""

    structures: list[Structure]
    dropped: Counter[str] = field(default_factory=Counter)
    by_move: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        return {
            "n": len(self.structures),
            "by_move": dict(self.by_move),
            "dropped": dict(self.dropped),
            "remarks": list(self.remarks),
        }


def sample(
    starts: Sequence[Structure],
    recipe: Recipe,
    n: int | None = None,
    temperatures: Sequence[float] = (300.0,),
    pressures: Sequence[float] = (),
    driver: Driver | None = None,
    seed: int = 0,
) -> Sampled:
    """Run a recipe. temperatures K, pressures GPa; n: about so many structures, the recipe's amounts in proportion; none: its own.

    The same starts, recipe, driver and seed give the same structures. Moves that need forces are left out without a driver, and
    that is said. Raises InputError for no starts and for what a move refuses.
    """
    if not starts:
        raise InputError("There is no start structure.")
    result = Sampled([])
    seen: set[str] = {start.id for start in starts}
    scaled = recipe if n is None else _scaled(recipe, n, starts, temperatures, driver)
    left_out = [step.move.name for step in scaled.steps if step.move.needs_driver and driver is None]
    if left_out:
        result.remarks.append(
            f"Left out, since there is no --driver to give forces: {', '.join(dict.fromkeys(left_out))}."
        )
    for start in starts:
        for structure in _of_start(start, scaled, tuple(temperatures), tuple(pressures), driver, seed, result.dropped):
            if problem := _problem(structure):
                result.dropped[problem] += 1
            elif structure.id in seen:
                result.dropped["twice"] += 1
            else:
                seen.add(structure.id)
                result.structures.append(structure)
    if n is not None and len(result.structures) > n:
        rng = np.random.default_rng(seed_of(seed, "n"))
        kept = sorted(rng.permutation(len(result.structures))[:n].tolist())
        result.structures[:] = [result.structures[k] for k in kept]
    result.by_move.update(str(structure.info["move"]) for structure in result.structures)
    return result


def _of_start(
    start: Structure,
    recipe: Recipe,
    temperatures: tuple[float, ...],
    pressures: tuple[float, ...],
    driver: Driver | None,
    seed: int,
    dropped: Counter[str],
) -> Iterator[Structure]:
    here = start if start.group else replace(start, group=start.id)
    for number, step in enumerate(recipe.steps):
        if step.move.needs_driver and driver is None:
            continue
        own = seed_of(seed, start.id, number, step.move.name)
        world = World(np.random.default_rng(own), temperatures, pressures, driver, own, dropped=dropped)
        last = None
        for last in step.move.run(here, step.amounts, world):
            yield replace(last, info={**last.info, "seed": last.info.get("seed", own)})
        if step.move.starts_anew and last is not None:
            here = last


def _problem(structure: Structure) -> str | None:
    move = structure.info["move"]
    if problem := structure_problem(structure):
        return f"{move}: {problem}"
    if move != "dimers" and not is_sound(structure, TOO_CLOSE):
        return f"{move}: two atoms are nearer than {TOO_CLOSE:g} of the sum of their covalent radii"
    return None


def _scaled(
    recipe: Recipe, n: int, starts: Sequence[Structure], temperatures: Sequence[float], driver: Driver | None
) -> Recipe:
    """The recipe with amounts in proportion, so that it makes some more than n."""
    if n < 1:
        raise InputError(f"--n was {n}; it must be 1 or more.")
    used = [step for step in recipe.steps if driver is not None or not step.move.needs_driver]
    whole = sum(
        getattr(step.amounts, "n", 1) * (len(temperatures) if step.move.thermal else 1)
        for start in starts
        for step in used
        if step.move.applies(start)
    )
    factor = 1.2 * n / max(whole, 1)
    steps = [
        replace(
            step,
            amounts=replace(
                step.amounts, n=max(2 if step.move.name == "dimers" else 1, round(factor * step.amounts.n))
            ),
        )
        if hasattr(step.amounts, "n")
        else step
        for step in recipe.steps
    ]
    return replace(recipe, steps=tuple(steps))
