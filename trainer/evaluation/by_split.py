"""The same errors on the other splits: a training error far below that of the test split is a student that learned by heart."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from hdistill.data.format.schema import SPLITS
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.labelsets.stream import n_samples, shuffled

from ..force_field.engines.batched import BatchedStudent

MOST = 200  # structures of a split, at random
AT_ONCE = 16


def by_split(student: BatchedStudent, known: set[int], labels: LabelSet) -> dict[str, dict[str, Any]]:
    """Of each split that has structures of known elements: force_mae meV/A over components, energy_mae meV/atom, n_structures."""
    found: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        some = islice(shuffled(labels, split, 0), min(MOST, n_samples(labels, split)))
        samples = [sample for sample in some if set(sample.structure.numbers.tolist()) <= known]
        if not samples:
            continue
        forces, energies = [], []
        for first in range(0, len(samples), AT_ONCE):
            pack = samples[first : first + AT_ONCE]
            outputs = student([sample.structure for sample in pack])
            label = np.concatenate([np.asarray(sample.labels.forces, np.float64) for sample in pack])
            forces.append(np.abs(outputs.forces.cpu().numpy() - label).ravel())
            sizes = np.array([sample.structure.n_atoms for sample in pack])
            totals = np.add.reduceat(outputs.energies.cpu().numpy(), np.cumsum([0, *sizes[:-1]]))
            energies.append(np.abs(totals - [sample.labels.energy for sample in pack]) / sizes)
        found[split] = {
            "force_mae": 1e3 * float(np.concatenate(forces).mean()),
            "energy_mae": 1e3 * float(np.concatenate(energies).mean()),
            "n_structures": len(samples),
        }
    return found
