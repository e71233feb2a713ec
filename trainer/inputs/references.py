"""Reference energies per element, fitted by least squares, so that a student learns only how atoms bind.

E = sum over atoms of reference[element] + what the student says. Kept and subtracted in float64: total energies of thousands of
eV would leave few digits of a float32 for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.format.schema import SPLITS
from hdistill.data.format.shard_file import open_shard
from hdistill.data.labelsets.label_set import LabelSet


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
class EnergyStatistics:
    """What n_structures training structures say before any training; force_rms eV/A is the root mean square of the force components.

    fractions (M, n_elements) and energies (M,) eV, M at most n_elements + 1, have the least-squares solutions, the rank and the sum
    of squares of one row for each structure, its composition and its energy per atom: the R of their QR decomposition. So a million
    structures take no more memory than ten.
    """

    elements: tuple[int, ...]
    fractions: NDArray[np.float64]
    energies: NDArray[np.float64]
    n_structures: int
    force_rms: float


def counts_of(numbers: NDArray[np.integer[Any]], elements: Sequence[int]) -> NDArray[np.float64]:
    """How many atoms of each of these elements, (n_elements,)."""
    return np.bincount(numbers, minlength=max(elements) + 1)[list(elements)].astype(np.float64)


def fit_references(statistics: EnergyStatistics) -> References:
    """Least squares of the energies per atom over composition fractions.

    Where compositions do not tell elements apart (one formula only), the solution of least norm is taken: its sums over the
    compositions of the training split are right all the same.
    """
    solution, *_ = np.linalg.lstsq(statistics.fractions, statistics.energies, rcond=None)
    return References(statistics.elements, tuple(float(e) for e in solution))


def atom_references(labels: LabelSet, others: References) -> References:
    """The mean of the teacher's atomic energies of each element over the training split; of elements without any, `others`.

    Raises InputError where the training split has no atomic energies.
    """
    counts, sums = np.zeros(119), np.zeros(119)
    for shard in labels.shards:
        n, total = shard.use(_atom_energies_of_shard)
        counts, sums = counts + n, sums + total
    if not counts.any():
        raise InputError(
            f"{labels.name} has no atomic energies in its train split, which atom_energy_weight learns from; label it with "
            "`hdistill label ... --atom-energies`, or leave the weight 0."
        )
    known = zip(others.elements, others.energies, strict=True)
    return References(
        others.elements, tuple(float(sums[z] / counts[z]) if counts[z] else energy for z, energy in known)
    )


def _atom_energies_of_shard(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By atomic number (119,): atoms with an energy of their own in the training split, and the sum of these energies, eV."""
    with open_shard(path) as file:
        if "atom_energies" not in file:
            return np.zeros(119), np.zeros(119)
        energies, numbers = file["atom_energies"][:], file["numbers"][:]
        train = np.repeat(file["split"][:] == SPLITS.index("train"), np.diff(file["atom_offsets"][:]))
    chosen = train & np.isfinite(energies)
    numbers, energies = numbers[chosen], energies[chosen]
    counts, sums = np.bincount(numbers, minlength=119), np.bincount(numbers, energies, 119)
    return counts.astype(np.float64), sums.astype(np.float64)


def underdetermined(statistics: EnergyStatistics) -> bool:
    """Whether the compositions of the training split leave some elements' reference energies open."""
    return int(np.linalg.matrix_rank(statistics.fractions)) < len(statistics.elements)


def shifted_references(references: References, own: EnergyStatistics) -> References:
    """The references of the sources' own energies, by those of the teacher's and the structures that have their own.

    What the two levels differ by is fitted for each element, by least squares with the least norm: an element that occurs in
    no structure with labels of its own, or is not told apart from others, is moved as little as can be.
    """
    fractions = np.zeros((len(own.energies), len(references.elements)))
    fractions[:, [references.elements.index(z) for z in own.elements]] = own.fractions
    above = own.energies - fractions @ np.array(references.energies)
    shift = fit_references(replace(own, elements=references.elements, fractions=fractions, energies=above))
    return References(
        references.elements, tuple(a + b for a, b in zip(references.energies, shift.energies, strict=True))
    )


def statistics_of(labels: LabelSet, kind: Literal["teacher", "reference"], partly: bool = False) -> EnergyStatistics:
    """One pass over the energies and forces of the training split, without decoding samples.

    Raises InputError where the training split is empty or lacks the reference labels asked for; with `partly` the structures
    that lack them are left out, and at least one must have them.
    """
    rows = np.zeros((0, len(labels.elements) + 1))
    n_structures, n_lacking, n_atoms, squares = 0, 0, 0.0, 0.0
    for shard in labels.shards:
        counts, energies, square = shard.use(lambda path: _read_shard(path, kind, labels.elements))
        lacking = np.isnan(energies) | np.isnan(square)
        counts, energies = counts[~lacking], energies[~lacking]
        sizes = counts.sum(axis=1)
        rows = _triangle(np.concatenate([rows, np.column_stack([counts, energies]) / sizes[:, None]]))
        n_structures, n_lacking = n_structures + len(energies), n_lacking + int(lacking.sum())
        n_atoms, squares = n_atoms + sizes.sum(), squares + square[~lacking].sum()
    _check_labels(labels, kind, partly, n_structures, n_lacking)
    present = np.flatnonzero(np.abs(rows[:, :-1]).sum(axis=0))
    elements = tuple(labels.elements[column] for column in present)
    return EnergyStatistics(
        elements, rows[:, present], rows[:, -1], n_structures, float(np.sqrt(squares / (3 * n_atoms)))
    )


def _triangle(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most as many rows as columns, with the same products of columns."""
    if len(rows) <= rows.shape[1]:
        return rows
    triangle: NDArray[np.float64] = np.asarray(np.linalg.qr(rows, mode="r"))
    return triangle


def _check_labels(labels: LabelSet, kind: str, partly: bool, n_structures: int, n_lacking: int) -> None:
    """Raise InputError where training structures with (n_structures) and without (n_lacking) labels do not make a fit."""
    n_all = n_structures + n_lacking
    if n_all == 0:
        raise InputError(f"{labels.name} has no structure in its train split, so there is nothing to fit to.")
    if partly and n_structures == 0:
        raise InputError(
            f"targets was 'mix', but no training structure of {labels.name} came with energies and forces of its own; "
            "use targets 'teacher'."
        )
    if n_lacking and kind == "teacher":
        raise InputError(
            f"{n_lacking} of the {n_all} training structures of {labels.name} have energies or forces that are not "
            "finite; label them anew, or leave them out with `hdistill labels subset`."
        )
    if n_lacking and not partly:
        raise InputError(
            f"targets was 'reference', but {n_lacking} of the {n_all} training structures of {labels.name} came "
            "without energies or forces of their own; use targets 'teacher', or 'mix'."
        )


def _read_shard(
    path: Path, kind: str, elements: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of the training structures of a shard: counts (S, n_elements), energies (S,), sums of squared forces (S,); NaN where missing."""
    prefix = "ref_" if kind == "reference" else ""
    with open_shard(path) as file:
        chosen = file["split"][:] == SPLITS.index("train")
        owner = np.repeat(np.arange(len(chosen)), np.diff(file["atom_offsets"][:]))
        column = np.searchsorted(elements, file["numbers"][:])
        counts = np.zeros((len(chosen), len(elements)))
        np.add.at(counts, (owner, column), 1.0)
        energies = squares = np.full(len(chosen), np.nan)
        if f"{prefix}energy" in file:
            energies = file[f"{prefix}energy"][:]
        if f"{prefix}forces" in file:
            per_atom = (file[f"{prefix}forces"][:].astype(np.float64) ** 2).sum(axis=1)
            squares = np.bincount(owner, per_atom, len(chosen))
    return counts[chosen], energies[chosen], squares[chosen]
