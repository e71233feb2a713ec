"""How far an export is from the eager float64 student, on structures made to find what compilers and engines get wrong: an atom
alone, a pair, dense matter, cells smaller than the cutoff, hundreds of atoms, a pair that is repelled, several structures at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import covalent_radii
from torch import nn

from hdistill.data.errors import HDistillError
from hdistill.data.structure import Structure

from .outputs import Evaluate, Outputs, arguments_of, outputs_of

# A float32 export may be off by three times what the eager float32 student is off on the same structures, where that is more.
OWN_ERROR = 3.0
CLOSEST = 1.6  # A between neighbours of made structures: small atoms would have thousands of neighbours
NEAR = 0.5  # of the sum of covalent radii; the short-range repulsion begins at 0.65 or less


class NotExported(HDistillError):
    """A student that cannot be had in the form asked for, or only with other numbers."""


@dataclass(frozen=True)
class Difference:
    """The largest differences of an atom's energy (eV), a force component (eV/A) and a stress component (eV/A^3)."""

    energy: float
    forces: float
    stress: float

    def within(self, allowed: Difference) -> bool:
        return self.energy <= allowed.energy and self.forces <= allowed.forces and self.stress <= allowed.stress

    def __str__(self) -> str:
        return f"energy {self.energy:.1e} eV/atom, forces {self.forces:.1e} eV/A, stress {self.stress:.1e} eV/A^3"


TOLERANCE = Difference(1e-6, 1e-5, 1e-6)


def check_parity(
    evaluate: Evaluate, model: nn.Module, structures: Sequence[Structure], cutoff: float, device: str = "cpu"
) -> Difference:
    """How far `evaluate` is from the float64 student, on each structure and on all of them at once.

    Raises as check_structures does."""
    return check_structures(
        lambda group: evaluate(*arguments_of(group, cutoff, device)), model, structures, cutoff, device
    )


def check_structures(
    evaluate: Callable[[Sequence[Structure]], Outputs],
    model: nn.Module,
    structures: Sequence[Structure],
    cutoff: float,
    device: str = "cpu",
) -> Difference:
    """The same of what makes its own neighbour lists.

    Raises NotExported with the numbers where it is off by more than TOLERANCE, and more than OWN_ERROR times the error of the eager
    student in its own precision.
    """
    exact = deepcopy(model).to(torch.float64)
    worst, own = Difference(0, 0, 0), Difference(0, 0, 0)
    for group in (*([s] for s in structures), structures):
        arguments = arguments_of(group, cutoff, device)
        wanted = outputs_of(exact, None, *arguments)
        worst = _larger(worst, difference(evaluate(group), wanted))
        own = _larger(own, difference(outputs_of(model, None, *arguments), wanted))
    scaled = Difference(OWN_ERROR * own.energy, OWN_ERROR * own.forces, OWN_ERROR * own.stress)
    allowed = _larger(TOLERANCE, scaled)
    if not worst.within(allowed):
        raise NotExported(f"It is off by {worst} from the eager float64 student; allowed are {allowed}.")
    return worst


def difference(one: Outputs, other: Outputs) -> Difference:
    """Numbers that are none are infinitely far off."""
    energy, forces = _largest(one.energies, other.energies), _largest(one.forces, other.forces)
    if one.stress is None or other.stress is None:
        return Difference(energy, forces, 0.0)
    return Difference(energy, forces, _largest(one.stress, other.stress))


def check_export(
    evaluate: Evaluate,
    model: nn.Module,
    elements: Sequence[int],
    structures: Sequence[Structure],
    cutoff: float,
    device: str = "cpu",
) -> Difference:
    """check_parity on made structures of these elements and on `structures`; and by itself, for its forces are large and so are their
    errors in float32, on a pair that is repelled."""
    worst = check_parity(evaluate, model, [*made_structures(elements), *structures], cutoff, device)
    check_parity(evaluate, model, [repelled_pair(elements)], cutoff, device)
    return worst


def repelled_pair(elements: Sequence[int]) -> Structure:
    """The first and the last of the elements where the short-range repulsion of a fresh student acts (repulsion.py)."""
    pair = np.array([elements[0], elements[-1]], np.int64)
    return Structure(pair, np.array([[0.0, 0.0, 0.0], [0.0, 0.0, NEAR * covalent_radii[pair].sum()]]))


def made_structures(elements: Sequence[int], seed: int = 0) -> list[Structure]:
    """Structures of these elements at about the distances of their covalent radii, the same for the same seed."""
    rng = np.random.default_rng(seed)
    spacing = max(CLOSEST, 2.2 * float(np.mean([covalent_radii[z] for z in elements])))
    periodic, slab = np.ones(3, bool), np.array([True, True, False])
    skewed = spacing * (1.3 * np.eye(3) + rng.normal(scale=0.08, size=(3, 3)))
    block = _grid(rng, 6, spacing)
    pair = spacing * np.array([[0.0, 0.0, 0.0], [0.6, 0.6, 0.4]])
    return [
        Structure(_drawn(rng, elements, 1), np.zeros((1, 3))),
        Structure(_drawn(rng, elements, 2), pair),
        Structure(_drawn(rng, elements, 27), _grid(rng, 3, spacing)),
        Structure(_drawn(rng, elements, 1), np.zeros((1, 3)), spacing * np.eye(3), periodic),
        Structure(_drawn(rng, elements, 2), pair @ skewed / spacing, skewed, periodic),
        Structure(_drawn(rng, elements, 8), _grid(rng, 2, spacing), 2 * spacing * np.eye(3), slab),
        Structure(_drawn(rng, elements, 216), block, 6 * spacing * np.eye(3), periodic),
    ]


def _grid(rng: np.random.Generator, n: int, spacing: float) -> np.ndarray:
    """n^3 atoms on a rattled cubic grid, (n^3, 3) A."""
    corners = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return spacing * (corners + rng.normal(scale=0.05, size=corners.shape))


def _drawn(rng: np.random.Generator, elements: Sequence[int], n: int) -> np.ndarray:
    return rng.choice(np.array(elements, np.int64), n)


def _largest(one: torch.Tensor, other: torch.Tensor) -> float:
    if one.shape != other.shape or not one.isfinite().all():
        return float("inf")
    return float((one - other).abs().max()) if one.numel() else 0.0


def _larger(one: Difference, other: Difference) -> Difference:
    return Difference(max(one.energy, other.energy), max(one.forces, other.forces), max(one.stress, other.stress))
