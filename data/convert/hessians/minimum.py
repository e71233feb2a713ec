"""Energies and forces of formats that have a Hessian alone: from a file beside it, or because the user says that it is a minimum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_masses
from numpy.typing import NDArray

from ...errors import InputError
from ...sources.units import TO_INVERSE_CM
from .contract import Stated

Array = NDArray[np.float64]
OPTIONS = ("--energy", "--at-minimum")
MOST_FORCE, SOME_FORCE = 1.0, 0.1  # eV/A
TOLERANCE, LOWEST = 0.01, 300.0  # of a frequency; cm^-1, below which rotations and the step of differences show


def at_rest(
    path: Path, positions: Array, hessian: Array, stated: Stated, looked_for: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Energy (eV) and forces (eV/A) that nobody wrote down, and what is said of them; positions A, hessian (3N,3N) eV/A^2.

    Raises InputError unless the user vouches for a minimum, and where the Hessian itself says that it is none: turning a molecule by an
    angle turns its forces, so that |H (e x R)| = |e x F| per radian.
    """
    if not stated.at_minimum:
        raise InputError(
            f"{path} has a Hessian and no forces, and {looked_for} is not beside it; say --at-minimum if it is one of a minimum, "
            "where forces are 0, and --energy EV for its energy."
        )
    said: tuple[str, ...] = ("forces are taken as 0: --at-minimum",)
    if stated.energy is None:
        said += ("no energy is stated: taken as 0 eV (--energy)",)
    forces = forces_of_turns(positions, hessian)
    if forces > MOST_FORCE:
        raise InputError(
            f"{path} is not of a minimum of its geometry: turning it shows forces of about {forces:.2g} eV/A; give the geometry that "
            "the Hessian is of, or its gradient."
        )
    if forces > SOME_FORCE:
        said += (f"turning it shows forces of about {forces:.2g} eV/A, which are left out",)
    return {"energy": stated.energy or 0.0, "forces": np.zeros_like(positions)}, said


def forces_of_turns(positions: Array, hessian: Array, forces: Array | None = None) -> float:
    """Largest force that appears when a molecule is turned about its middle, per radian: 0 at a minimum. With its forces (N,3), eV/A: that
    which appears besides the turning of these, 0 everywhere."""
    arms = positions - positions.mean(0)
    turned = hessian @ np.stack([np.cross(axis, arms).ravel() for axis in np.eye(3)], axis=1)
    if forces is not None:
        turned = turned + np.stack([np.cross(axis, forces).ravel() for axis in np.eye(3)], axis=1)
    return float(np.abs(turned).max())


def require_stated_frequencies(
    path: Path,
    numbers: Any,
    hessian: Array,
    stated: Array,
    where: str,
    masses: Array | None = None,
    positions: Array | None = None,
) -> None:
    """Raise InputError where a Hessian (3N,3N) in eV/A^2 has other frequencies than its file says (cm^-1).

    masses: u, of files that have them. positions: A, of programs that take turns out of the Hessian first, or do not: off a minimum it
    matters, and either will do.
    """
    weights = np.repeat((atomic_masses[np.asarray(numbers)] if masses is None else masses) ** -0.5, 3)
    weighted = 0.5 * (hessian + hessian.T) * np.outer(weights, weights)
    own = [_frequencies(weighted)]
    if positions is not None:
        still = _without_turns(positions, 1 / weights)
        own.append(_frequencies(still @ weighted @ still))
    wanted = np.sort(stated)[::-1]
    n = int((wanted > LOWEST).sum())
    if n == 0:
        return
    nearest = min(own, key=lambda each: float(np.abs(each[:n] / wanted[:n] - 1).max()))
    off = np.abs(nearest[:n] / wanted[:n] - 1)
    if off.max() > TOLERANCE:
        worst = int(off.argmax())
        raise InputError(
            f"{path}: its Hessian has a frequency of {nearest[worst]:.1f} cm^-1 where {where} says {wanted[worst]:.1f}; it is of another "
            "structure, or of another isotope, or damaged."
        )


def _frequencies(weighted: Array) -> Array:
    """cm^-1, largest first, of (3N,3N) in eV/A^2/u; negative ones are imaginary."""
    squares = np.linalg.eigvalsh(weighted)
    return np.asarray(np.sort(np.sqrt(np.abs(squares)) * np.sign(squares))[::-1] * TO_INVERSE_CM)


def _without_turns(positions: Array, roots: Array) -> Array:
    """(3N,3N) that takes shifts and turns out of what is weighted by the roots of masses, (3N,)."""
    arms = positions - np.average(positions, axis=0, weights=roots[::3] ** 2)
    shifts = [np.tile(axis, len(arms)) for axis in np.eye(3)]
    turns = [np.cross(axis, arms).ravel() for axis in np.eye(3)]
    basis, sizes, _ = np.linalg.svd(np.stack([*shifts, *turns], axis=1) * roots[:, None], full_matrices=False)
    kept = basis[:, sizes > 1e-6 * sizes[0]]  # a linear molecule has five
    return np.asarray(np.eye(len(roots)) - kept @ kept.T)
