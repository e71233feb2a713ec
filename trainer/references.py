"""Reference energies per element, fitted by least squares, so that a student learns only how atoms bind.

E = sum over atoms of reference[element] + what the student says. Kept and subtracted in float64: total energies of thousands of
eV would leave few digits of a float32 for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.labelset import LabelSet
from hdistill.data.schema import SPLITS
from hdistill.data.shard_file import open_shard

from .settings import TargetKind


@dataclass(frozen=True)
class References:
    """Elements (ascending atomic numbers) and their reference energies in eV."""

    elements: tuple[int, ...]
    energies: tuple[float, ...]

    def of(self, numbers: NDArray[np.integer[Any]]) -> float:
        """The sum over atoms, eV. All elements must be known: the caller checks."""
        return float(counts_of(numbers, self.elements) @ np.array(self.energies))

    def unknown(self, numbers: NDArray[np.integer[Any]]) -> list[int]:
        """The elements among these atoms that are not known."""
        return sorted(set(np.unique(numbers).tolist()) - set(self.elements))


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the training split says before any training: counts (S, n_elements) of atoms, energies (S,) eV, and the root mean
    square of the force components, eV/A."""

    elements: tuple[int, ...]
    counts: NDArray[np.float64]
    energies: NDArray[np.float64]
    force_rms: float


def counts_of(numbers: NDArray[np.integer[Any]], elements: Sequence[int]) -> NDArray[np.float64]:
    """How many atoms of each of these elements, (n_elements,)."""
    return np.bincount(numbers, minlength=max(elements) + 1)[list(elements)].astype(np.float64)


def fit_references(statistics: Statistics) -> References:
    """Least squares of the energies per atom over composition fractions.

    Where compositions do not tell elements apart (one formula only), the solution of least norm is taken: its sums over the
    compositions of the training split are right all the same.
    """
    n_atoms = statistics.counts.sum(axis=1)
    fractions, energies = statistics.counts / n_atoms[:, None], statistics.energies / n_atoms
    solution, *_ = np.linalg.lstsq(fractions, energies, rcond=None)
    return References(statistics.elements, tuple(float(e) for e in solution))


def underdetermined(statistics: Statistics) -> bool:
    """Whether the compositions of the training split leave some elements' reference energies open."""
    return int(np.linalg.matrix_rank(statistics.counts)) < len(statistics.elements)


def statistics_of(labels: LabelSet, kind: TargetKind) -> Statistics:
    """One pass over the energies and forces of the training split, without decoding samples.

    Raises InputError where the training split is empty or lacks the reference labels asked for.
    """
    rows = [shard.use(lambda path: _read_shard(path, kind)) for shard in labels.shards]
    counts, energies, squares = (np.concatenate(columns) for columns in zip(*rows, strict=True)) if rows else _NOTHING
    if len(energies) == 0:
        raise InputError(f"{labels.name} has no structure in its train split, so there is nothing to fit to.")
    n_lacking = int((np.isnan(energies) | np.isnan(squares)).sum())
    if n_lacking:
        raise InputError(
            f"targets was 'reference', but {n_lacking} of the {len(energies)} training structures of {labels.name} came "
            "without energies or forces of their own; use targets 'teacher'."
        )
    elements = np.flatnonzero(counts.sum(axis=0))
    force_rms = float(np.sqrt(squares.sum() / (3 * counts.sum())))
    return Statistics(tuple(elements.tolist()), counts[:, elements], energies, force_rms)


_NOTHING = (np.zeros((0, 119)), np.zeros(0), np.zeros(0))


def _read_shard(path: Path, kind: TargetKind) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of the training structures of a shard: counts (S,119), energies (S,), sums of squared forces (S,); NaN where missing."""
    prefix = "ref_" if kind == "reference" else ""
    with open_shard(path) as file:
        chosen = file["split"][:] == SPLITS.index("train")
        owner = np.repeat(np.arange(len(chosen)), np.diff(file["atom_offsets"][:]))
        counts = np.zeros((len(chosen), 119))
        np.add.at(counts, (owner, file["numbers"][:]), 1.0)
        energies = squares = np.full(len(chosen), np.nan)
        if f"{prefix}energy" in file:
            energies = file[f"{prefix}energy"][:]
        if f"{prefix}forces" in file:
            per_atom = (file[f"{prefix}forces"][:].astype(np.float64) ** 2).sum(axis=1)
            squares = np.bincount(owner, per_atom, len(chosen))
    return counts[chosen], energies[chosen], squares[chosen]
