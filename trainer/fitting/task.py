"""What a fit learns, and what is known of it before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.format import codec as codecs
from hdistill.data.format.schema import SPLITS
from hdistill.data.format.shard import Sample
from hdistill.data.format.shard_file import open_shard
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.labelsets.stream import BlockCache, n_samples, shuffled

from ..choices import TargetKind
from ..inputs.batch import Targets, has_reference, mixed, targets_of
from ..inputs.features import TeacherFeatures, teacher_features, with_features
from ..inputs.neighbours import EdgeCache
from ..inputs.references import (
    References,
    Statistics,
    fit_references,
    shifted_references,
    statistics_of,
    underdetermined,
)
from ..students.registry import size_of
from .settings import FitSettings


@dataclass(frozen=True, eq=False)
class Task:
    """references and scale come from the training split; scale (eV) is the size of what a student says of an atom.

    references: on whose energies the student stands: the teacher's, or the sources' own for targets "reference" and "mix";
    teacher_references: of the teacher's energies, for "mix" others than these. validation: at most settings.validate_at_most
    samples of the validation split that are of use, none where it is empty, judged by labels of the kind `judged`; has_products:
    whether there are Hessian products to learn from; freaks: ids of training structures whose Hessian is left out; n_own: training
    structures with labels of their own, of targets "mix"; features: the teacher's, where they are learned; teacher_force_mae: of
    the teacher's forces against the sources' own on `validation`, eV/A, where the Hessian's weight depends on it;
    underdetermined: whether energies of other compositions are left open; cache and edges: what was decoded and found, kept."""

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
    judged: TargetKind = "teacher"
    teacher_references: References | None = None
    freaks: frozenset[bytes] = frozenset()
    n_own: int = 0
    features: TeacherFeatures | None = None
    teacher_force_mae: float | None = None

    def targets(self, samples: Sequence[Sample], settings: FitSettings, device: str) -> Targets:
        """What a student should say of these samples, of all terms that are learned."""
        if settings.targets == "mix":
            assert self.teacher_references is not None
            found = targets_of(samples, self.teacher_references, "teacher", device)
            found = mixed(found, samples, self.references, settings.reference_share, device)
        else:
            found = targets_of(samples, self.references, settings.targets, device)
        return found if self.features is None else with_features(found, samples, self.features, device)


def task_of(labels: LabelSet, settings: FitSettings) -> Task:
    """One pass over the training energies and forces, and the validation samples.

    Raises InputError: see statistics_of; node features that are not there; nothing to learn from.
    """
    mix = settings.targets == "mix"
    statistics = statistics_of(labels, "reference" if settings.targets == "reference" else "teacher")
    references = teacher_references = fit_references(statistics)
    own = statistics_of(labels, "reference", partly=True) if mix else None
    if own is not None:
        references = shifted_references(teacher_references, own)
    judged: TargetKind = "teacher" if settings.targets == "teacher" else "reference"
    cache = BlockCache()
    validation = list(_validation(labels, settings, references, judged, cache))
    freaks, n_products = freak_ids(labels, settings.max_hessian) if settings.n_products else (frozenset(), 0)
    plain = settings.energy_weight + settings.force_weight + settings.stress_weight
    if not (plain or n_products or settings.uses_features):
        raise InputError(
            f"{labels.name} has no Hessian products in its train split, and the weights of energies, forces and stress are 0: "
            "there is nothing to learn. Give one of them a weight, or label products with `hdistill label ... --add probes:4`."
        )
    return Task(
        labels=labels,
        references=references,
        scale=_scale(statistics, teacher_references),
        n_train=statistics.n_structures,
        validation=validation,
        has_products=n_products > 0,
        underdetermined=underdetermined(statistics) or (own is not None and underdetermined(own)),
        cutoff=size_of(settings.student).cutoff,
        cache=cache,
        edges=EdgeCache(),
        judged=judged,
        teacher_references=teacher_references,
        freaks=freaks,
        n_own=0 if own is None else own.n_structures,
        features=teacher_features(labels) if settings.uses_features else None,
        teacher_force_mae=_teacher_force_mae(validation, settings),
    )


def _validation(
    labels: LabelSet, settings: FitSettings, references: References, judged: TargetKind, cache: BlockCache
) -> Iterator[Sample]:
    """A fixed choice of validation samples, from all over the split; those of no use are left out: they have an element that the
    training split lacks, or no label of the kind that a student is judged by."""
    n_val = min(n_samples(labels, "val"), settings.validate_at_most)
    for sample in islice(shuffled(labels, "val", 0, cache=cache), n_val):
        known = not references.unknown(sample.structure.numbers)
        if known and (judged == "teacher" or has_reference(sample)):
            yield sample


def freak_ids(labels: LabelSet, limit: float | None) -> tuple[frozenset[bytes], int]:
    """Ids of the training structures that have a Hessian product with an element above the limit (eV/A^2) or one that is no
    number, by one pass over them all, and how many products the others have; without a limit no product is read."""
    freaks: set[bytes] = set()
    n_products = 0
    for shard in labels.shards:
        found, count = shard.use(lambda path: _freaks_of_shard(path, limit))
        freaks |= found
        n_products += count
    return frozenset(freaks), n_products


def _freaks_of_shard(path: Path, limit: float | None) -> tuple[set[bytes], int]:
    with open_shard(path) as file:
        train = file["split"][:] == SPLITS.index("train")
        n_products = np.diff(file["product_offsets"][:])
        if limit is None or not n_products.sum():
            return set(), int(n_products[train].sum())
        owner = np.repeat(np.arange(len(train)), n_products)
        lengths = 3 * np.diff(file["atom_offsets"][:])[owner]
        exponent = file["hessian_exponent"][:] if "hessian_exponent" in file else None
        values = np.abs(codecs.decode_flat(file["hessian_values"][:], exponent, lengths))
        largest = np.maximum.reduceat(values, np.cumsum(lengths) - lengths)
        is_freak = np.zeros(len(train), bool)
        is_freak[owner[~(largest <= limit)]] = True
        ids: NDArray[np.uint8] = file["id"][:]
    chosen = {ids[index].tobytes() for index in np.flatnonzero(is_freak & train)}
    return chosen, int(n_products[train & ~is_freak].sum())


def _teacher_force_mae(validation: Sequence[Sample], settings: FitSettings) -> float | None:
    """The teacher's error of forces against the sources' own, over components, eV/A; None where it decides nothing."""
    if settings.halve_hessian_within is None or settings.targets == "teacher" or not validation:
        return None
    errors = [
        np.abs(np.asarray(s.labels.forces, np.float64) - s.structure.ref_forces).ravel()
        for s in validation
        if s.structure.ref_forces is not None
    ]
    return float(np.concatenate(errors).mean())


def _scale(statistics: Statistics, references: References) -> float:
    """Typical energy of an atom's interactions: the force on it times 1 A, else the spread of the energies, else 1 eV."""
    residuals = statistics.energies - statistics.fractions @ np.array(references.energies)
    spread = float(np.linalg.norm(residuals)) / statistics.n_structures**0.5
    return next((x for x in (statistics.force_rms, spread) if 1e-8 < x < np.inf), 1.0)
