"""What mean errors hide: how errors spread over elements, structures and strange surroundings, and the numbers for pictures."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from hdistill.data.format.shard import Sample
from hdistill.data.labelsets.label_set import LabelSet

from ..force_field.calculator import HDistillCalculator
from ..force_field.engines.batched import BatchedStudent
from .by_split import by_split
from .differences import rank_correlation
from .errors import samples_of

Array = NDArray[np.float64]
AT_ONCE = 16  # structures
N_WORST = 10
N_PICTURED = 3
N_SHOWN = 2000  # points of a picture
FLAGGED = 0.1  # share of atoms that are called strange
BAD = 3.0  # times the mean error: what should be among them


def details(run: Path, labels: LabelSet, split: str, device: str = "cpu") -> dict[str, Any]:
    """Of the split, against the teacher's labels, structures of unknown elements left out.

    force_rmse meV/A over components; energy_rmse meV/atom; force_rms meV/A of the labels; force_cosine, mean over atoms with forces
    above 0.05 eV/A; by_split: see by_split.py; by_element: force MAE meV/A and atoms; worst: structures by largest mean force error, the
    first of them pictured; domain: Spearman's correlation of domain distance and force error over atoms, and of the atoms whose error is
    above 3 times the mean the share that is among the tenth with the largest distance, None without a domain; parity: forces (eV/A),
    some at random.
    """
    calculator = HDistillCalculator(run, device, warn_beyond=None)
    known = set(calculator.student.card.references.elements)
    student = BatchedStudent(calculator)
    errors, true, predicted, numbers, distances = [], [], [], [], []
    energies: list[float] = []
    rows: list[dict[str, Any]] = []
    pictured: list[tuple[float, int, Sample, Array]] = []
    for pack in _packs(s for s in samples_of(labels, split) if set(s.structure.numbers.tolist()) <= known):
        structures = [sample.structure for sample in pack]
        outputs = student(structures)
        forces, energy = outputs.forces.cpu().numpy(), outputs.energies.cpu().numpy()
        z = np.concatenate([s.numbers for s in structures])
        far = None
        if calculator.domain is not None and outputs.features is not None:
            far = calculator.domain.distances(z, outputs.features.cpu().numpy())
            distances.append(far)
        first = 0
        for sample in pack:
            n = sample.structure.n_atoms
            atoms = slice(first, first + n)
            own, label = forces[atoms], np.asarray(sample.labels.forces, np.float64)
            off = np.linalg.norm(own - label, axis=1)
            energies.append(1e3 * float(energy[atoms].sum() - sample.labels.energy) / n)
            rows.append(
                {
                    "structure": sample.structure.id,
                    "group": sample.structure.group,
                    "n_atoms": n,
                    "force_mae_mev_per_angstrom": 1e3 * float(np.abs(own - label).mean()),
                    "energy_error_mev_per_atom": energies[-1],
                    "worst_atom": f"{chemical_symbols[sample.structure.numbers[off.argmax()]]}{int(off.argmax())}",
                    "largest_domain_distance": None if far is None else float(far[atoms].max()),
                }
            )
            bisect.insort(pictured, (-rows[-1]["force_mae_mev_per_angstrom"], len(rows), sample, off))
            del pictured[N_PICTURED:]
            errors.append(own - label)
            true.append(label)
            predicted.append(own)
            first += n
        numbers.append(z)
    off, label, z = np.concatenate(errors), np.concatenate(true), np.concatenate(numbers)
    own = np.concatenate(predicted)
    shown = np.random.default_rng(0).permutation(off.size)[:N_SHOWN]
    size = np.linalg.norm(off, axis=1)
    far_all = np.concatenate(distances) if distances else None
    return {
        "n_structures": len(rows),
        "n_atoms": len(z),
        "force_rmse": 1e3 * float(np.sqrt((off**2).mean())),
        "force_rms": 1e3 * float(np.sqrt((label**2).mean())),
        "energy_rmse": float(np.sqrt(np.mean(np.square(energies)))),
        "force_cosine": _cosine(own, label),
        "by_split": by_split(student, known, labels),
        "by_element": {
            chemical_symbols[e]: {"force_mae": 1e3 * float(np.abs(off[z == e]).mean()), "n_atoms": int((z == e).sum())}
            for e in np.unique(z).tolist()
        },
        "worst": sorted(rows, key=lambda row: -row["force_mae_mev_per_angstrom"])[:N_WORST],
        "pictured": [_picture(sample, off) for _, _, sample, off in pictured],
        "domain": None if far_all is None else _calibration(far_all, size),
        "parity": {"label": label.reshape(-1)[shown].tolist(), "student": own.reshape(-1)[shown].tolist()},
        "strangeness": None
        if far_all is None
        else {"distance": far_all[:N_SHOWN].tolist(), "error": size[:N_SHOWN].tolist()},
    }


def _picture(sample: Sample, off: Array) -> dict[str, Any]:
    """A structure and the error of each atom's force, meV/A."""
    s = sample.structure
    return {
        **{"structure": s.id, "group": s.group, "numbers": s.numbers.tolist(), "positions": s.positions.tolist()},
        **{"cell": s.cell.tolist(), "pbc": s.pbc.tolist(), "force_error": (1e3 * off).tolist()},
    }


def _packs(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    pack: list[Sample] = []
    for sample in samples:
        pack.append(sample)
        if len(pack) == AT_ONCE:
            yield pack
            pack = []
    if pack:
        yield pack


def _cosine(one: Array, other: Array) -> float | None:
    sizes = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    large = (np.linalg.norm(other, axis=1) > 0.05) & (sizes > 0)
    return float(((one * other).sum(axis=1)[large] / sizes[large]).mean()) if large.any() else None


def _calibration(distance: Array, error: Array) -> dict[str, Any]:
    bad = error > BAD * error.mean()
    flagged = distance >= np.quantile(distance, 1 - FLAGGED)
    return {
        "rank_correlation": rank_correlation(distance, error),
        "flagged_share_of_bad": float(flagged[bad].mean()) if bad.any() else None,
        "n_bad": int(bad.sum()),
    }
