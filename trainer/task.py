"""What a fit learns, and what is known of it before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from hdistill.data.labelset import LabelSet
from hdistill.data.shard import Sample
from hdistill.data.stream import BlockCache, n_samples, shuffled

from .neighbors import EdgeCache
from .references import References, Statistics, fit_references, statistics_of, underdetermined
from .settings import FitSettings
from .students.sizes import size_of


@dataclass(frozen=True, eq=False)
class Task:
    """references and scale come from the training split; scale (eV) is the size of what a student says of an atom.

    validation: at most settings.validate_at_most samples of the validation split, none where it is empty; has_products: whether
    there are Hessian products to learn from; underdetermined: whether energies of other compositions are left open; cache and edges:
    what was decoded and found, kept."""

    labels: LabelSet
    references: References
    scale: float
    n_train: int
    validation: Sequence[Sample]
    has_products: bool
    underdetermined: bool
    cutoff: float
    cache: BlockCache
    edges: EdgeCache


def task_of(labels: LabelSet, settings: FitSettings) -> Task:
    """One pass over the training energies and forces, and the validation samples. Raises InputError (see statistics_of)."""
    statistics = statistics_of(labels, settings.targets)
    references, cache = fit_references(statistics), BlockCache()
    n_val = min(n_samples(labels, "val"), settings.validate_at_most)
    some = islice(shuffled(labels, "val", 0, cache=cache), n_val)  # a fixed choice, from all over the split
    return Task(
        labels=labels,
        references=references,
        scale=_scale(statistics, references),
        n_train=len(statistics.energies),
        validation=[s for s in some if not references.unknown(s.structure.numbers)],
        has_products=any(shard.n_products for shard in labels.shards),
        underdetermined=underdetermined(statistics),
        cutoff=size_of(settings.student).cutoff,
        cache=cache,
        edges=EdgeCache(),
    )


def _scale(statistics: Statistics, references: References) -> float:
    """Typical energy of an atom's interactions: the force on it times 1 A, else the spread of the energies, else 1 eV."""
    residuals = statistics.energies - statistics.counts @ np.array(references.energies)
    spread = float(np.abs(residuals / statistics.counts.sum(axis=1)).mean())
    return next((x for x in (statistics.force_rms, spread) if x > 1e-8), 1.0)
