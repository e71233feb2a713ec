"""The teacher's node features as targets, normalised; what a student makes of them is in feature_loss.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.format.schema import SPLITS
from hdistill.data.format.shard import Sample
from hdistill.data.format.shard_file import open_shard
from hdistill.data.labelsets.label_set import LabelSet

from .batch import Targets

MOST_ELEMENTS = 119
FLAT = 1e-6  # of the largest standard deviation: what varies less is taken as constant


@dataclass(frozen=True, eq=False)
class TeacherFeatures:
    """mean (D,) and scale (D,) of the features over the atoms of the training split, and means (119,D) of the normalised ones of
    each element, by atomic number, zero where it does not occur."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    means: NDArray[np.float64]

    @property
    def width(self) -> int:
        return len(self.mean)

    def normalised(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return np.asarray((features - self.mean) / self.scale, np.float64)


def teacher_features(labels: LabelSet) -> TeacherFeatures:
    """One pass over the node features of the training split. Raises InputError where there are none."""
    sums = [of_shard for shard in labels.shards if (of_shard := shard.use(_sums_of_shard)) is not None]
    if not sums or not sum(counts.sum() for counts, _, _ in sums):
        raise InputError(
            f"{labels.name} has no node features in its train split, which node_weight and embedding_weight learn from; label "
            "it with `hdistill label ... --node-features`, or leave both weights 0."
        )
    counts, totals, squares = (np.sum(column, axis=0) for column in zip(*sums, strict=True))
    mean = totals.sum(0) / counts.sum()
    deviation = np.sqrt(np.maximum(squares.sum(0) / counts.sum() - mean**2, 0.0))
    scale = np.where(deviation > FLAT * max(deviation.max(), 1e-30), deviation, 1.0)
    means = (totals / np.maximum(counts, 1)[:, None] - mean) / scale * (counts > 0)[:, None]
    return TeacherFeatures(mean, scale, means)


def _sums_of_shard(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Of each element (119): atoms, and sums of features and of their squares (119,D); None where a shard has no features."""
    with open_shard(path) as file:
        if "node_features" not in file:
            return None
        numbers, features = file["numbers"][:], file["node_features"][:].astype(np.float64)
        train = np.repeat(file["split"][:] == SPLITS.index("train"), np.diff(file["atom_offsets"][:]))
    chosen = train & np.isfinite(features).all(1)
    numbers, features = numbers[chosen], features[chosen]
    counts = np.bincount(numbers, minlength=MOST_ELEMENTS).astype(np.float64)
    sums, squares = np.zeros((2, MOST_ELEMENTS, features.shape[1]))
    np.add.at(sums, numbers, features)
    np.add.at(squares, numbers, features**2)
    return counts, sums, squares


def with_features(targets: Targets, samples: Sequence[Sample], teacher: TeacherFeatures, device: str) -> Targets:
    """The targets with what the teacher's features are of each atom; an atom without features has a scale of 0."""
    features, means, scale = [], [], []
    for sample in samples:
        numbers, stored = sample.structure.numbers, sample.labels.node_features
        features.append(np.zeros((len(numbers), teacher.width)) if stored is None else teacher.normalised(stored))
        means.append(teacher.means[numbers])
        scale.append(np.full(len(numbers), float(stored is not None)))
    arrays = {"node_features": features, "node_means": means, "node_scale": scale}
    tensors = {name: torch.from_numpy(np.concatenate(parts)).to(device) for name, parts in arrays.items()}
    return replace(targets, **tensors)
