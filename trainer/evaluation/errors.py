"""How far a student is from its labels: energies and their differences, forces, stress and Hessian products, in all and by group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hdistill.data.errors import InputError, nearest
from hdistill.data.format.schema import SPLITS
from hdistill.data.format.shard import Sample
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.labelsets.stream import in_order, n_samples
from hdistill.data.sharing.cache import ShardCache
from hdistill.data.sharing.remote import open_labels
from hdistill.data.support.progress import progress as progress_bar

from ..choices import TargetKind
from ..force_field.checkpoint import load_student
from ..force_field.predict import Prediction, predict
from ..inputs.batch import (
    Batch,
    Targets,
    batch_of,
    composition_of,
    has_reference,
    packed_by_atoms,
    targets_of,
    with_products,
)
from ..inputs.references import References
from .differences import difference_errors


@dataclass(frozen=True, eq=False)
class Errors:
    """One row per structure, (S,): atoms; dE and the labelled E (above the references), eV; sum of |dF| over components, eV/A; mean
    |dstress|, eV/A^3, NaN where none; sums over all products of |d(v . H)|^2 and |v . H|^2, (eV/A^2)^2."""

    group: tuple[str, ...]
    composition: tuple[bytes, ...]
    n_atoms: NDArray[np.float64]
    energy: NDArray[np.float64]
    label: NDArray[np.float64]
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    product_error: NDArray[np.float64]
    product_norm: NDArray[np.float64]


@dataclass(frozen=True)
class ErrorSummary:
    """Mean errors, None where there is nothing to compare. Forces and stress over components; the Hessian's is
    |H_s v - H_t v|_F / |H_t v|_F over all products; energy differences as differences.py has them."""

    n_structures: int
    n_atoms: int
    energy_mae_mev_per_atom: float
    force_mae_mev_per_angstrom: float
    stress_mae_mev_per_angstrom3: float | None
    hessian_relative_error: float | None
    n_comparable: int
    difference_mae_mev: float | None
    rank_correlation: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate_student(
    run: Path | str,
    labels: Path | str,
    split: str = "test",
    device: str = "cpu",
    progress: bool = False,
    cache: ShardCache | None = None,
) -> dict[str, Any]:
    """The errors of a run's student on one split of a label set, against the kind of targets it was fitted to.

    labels: a folder or an address; the shards of an address are read through the cache.

    A student of targets "mix" stands on the sources' own energies, and its errors are those against them. Structures with an
    element the student was not trained on, or without the labels that are asked for, are left out and counted. Raises InputError
    where nothing is left.
    """
    student, label_set = load_student(Path(run), device), open_labels(labels, cache)
    samples = samples_of(label_set, split)
    kind: TargetKind = "teacher" if student.card.settings["targets"] == "teacher" else "reference"
    counts = {"n_unknown_elements": 0, "n_without_reference": 0}

    def usable(sample: Sample) -> bool:
        unknown = bool(student.card.references.unknown(sample.structure.numbers))
        unlabelled = not unknown and kind == "reference" and not has_reference(sample)
        counts["n_unknown_elements"] += unknown
        counts["n_without_reference"] += unlabelled
        return not (unknown or unlabelled)

    known = filter(usable, samples)
    n_stored = n_samples(label_set, split)
    with progress_bar(n_stored, "structures", "evaluate", progress) as bar:
        rows = []
        for row in errors_of(student.model, student.cutoff, student.card.references, known, kind, device=device):
            rows.append(row)
            bar.advance(len(row.group))
    if not rows:
        lacking = " or no labels of its own" if counts["n_without_reference"] else ""
        raise InputError(
            f"Every structure in split '{split}' of {labels} has an element that {run} was not trained on{lacking}."
        )
    errors = joined(rows)
    return {
        "split": split,
        "targets": kind,
        **counts,
        **summary(errors).as_json(),
        "by_group": by_group(errors),
    }


def samples_of(labels: LabelSet, split: str) -> Iterator[Sample]:
    """The samples of a split, as stored. Raises InputError where there is no such split or it is empty."""
    if split not in SPLITS:
        raise InputError(f"There is no split '{split}'; there are {', '.join(SPLITS)}.{nearest(split, SPLITS)}")
    if n_samples(labels, split) == 0:
        counts = ", ".join(f"{name} {n_samples(labels, name)}" for name in SPLITS)
        raise InputError(f"Split '{split}' of {labels.name} is empty (structures: {counts}); choose another one.")
    return in_order(labels, split)


def errors_of(
    model: nn.Module,
    cutoff: float,
    references: References,
    samples: Iterable[Sample],
    kind: TargetKind,
    n_products: int | None = None,
    device: str = "cpu",
) -> Iterator[Errors]:
    """Errors of the samples, a batch at a time; n_products caps the products of each structure, None takes all of them."""
    generator = np.random.default_rng(0)
    for pack in packed_by_atoms(samples, lambda sample: sample.structure.n_atoms):
        batch = batch_of([s.structure for s in pack], cutoff, device)
        if n_products is not None:
            pack = [with_products(sample, n_products, generator) for sample in pack]
        targets = targets_of(pack, references, kind, device)
        prediction = predict(model, batch, targets.directions, stress=True)
        yield _errors(prediction, batch, targets, pack)


def joined(rows: Sequence[Errors]) -> Errors:
    """The rows of several batches as one."""
    arrays = {name: np.concatenate([getattr(row, name) for row in rows]) for name in _ARRAYS}
    return Errors(
        group=tuple(group for row in rows for group in row.group),
        composition=tuple(composition for row in rows for composition in row.composition),
        **arrays,
    )


def summary(errors: Errors) -> ErrorSummary:
    """The mean errors of these structures."""
    norm = float(errors.product_norm.sum())
    has_stress = ~np.isnan(errors.stress)
    between = difference_errors(errors.composition, errors.energy, errors.label)
    return ErrorSummary(
        n_structures=len(errors.n_atoms),
        n_atoms=int(errors.n_atoms.sum()),
        energy_mae_mev_per_atom=1e3 * float((np.abs(errors.energy) / errors.n_atoms).mean()),
        force_mae_mev_per_angstrom=1e3 * float(errors.forces.sum() / (3 * errors.n_atoms.sum())),
        stress_mae_mev_per_angstrom3=1e3 * float(errors.stress[has_stress].mean()) if has_stress.any() else None,
        hessian_relative_error=float(np.sqrt(errors.product_error.sum() / norm)) if norm > 0 else None,
        n_comparable=between.n_comparable,
        difference_mae_mev=None if between.mae_ev is None else 1e3 * between.mae_ev,
        rank_correlation=between.rank_correlation,
    )


def by_group(errors: Errors) -> dict[str, dict[str, Any]]:
    """The summary of each group (molecule or material)."""
    groups = np.array(errors.group)
    return {
        str(group): summary(_taken(errors, np.flatnonzero(groups == group))).as_json() for group in np.unique(groups)
    }


def _errors(prediction: Prediction, batch: Batch, targets: Targets, samples: Sequence[Sample]) -> Errors:
    assert prediction.forces is not None
    assert prediction.products is not None
    owner, n = batch.structure_index, len(samples)
    products = prediction.products.detach() * (targets.product_scale > 0)[:, :, None]
    return Errors(
        group=tuple(s.structure.group for s in samples),
        composition=tuple(composition_of(s.structure) for s in samples),
        n_atoms=batch.n_atoms.cpu().double().numpy(),
        energy=_numpy(prediction.energy.detach() - targets.energy),
        label=_numpy(targets.energy),
        forces=_per_structure((prediction.forces.detach() - targets.forces).abs().sum(1), owner, n),
        stress=_stress_errors(prediction.stress, targets),
        product_error=_per_structure((products - targets.products).square().sum((0, 2)), owner, n),
        product_norm=_per_structure(targets.products.square().sum((0, 2)), owner, n),
    )


def _stress_errors(stress: torch.Tensor | None, targets: Targets) -> NDArray[np.float64]:
    """Mean |dstress| over components, (S,); NaN where there is no label or no volume, or the student has none."""
    has = _numpy(targets.stress_scale) > 0
    if stress is None:
        return np.full(len(has), np.nan)
    return np.where(has, _numpy((stress.detach() - targets.stress).abs().mean((1, 2))), np.nan)


def _per_structure(values: torch.Tensor, owner: torch.Tensor, n: int) -> NDArray[np.float64]:
    return _numpy(values.new_zeros(n).index_add(0, owner, values))


def _numpy(tensor: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.double().cpu().numpy()
    return array


def _taken(errors: Errors, which: NDArray[np.intp]) -> Errors:
    return Errors(
        group=tuple(errors.group[i] for i in which),
        composition=tuple(errors.composition[i] for i in which),
        **{name: getattr(errors, name)[which] for name in _ARRAYS},
    )


_ARRAYS = [name for name in Errors.__dataclass_fields__ if name not in ("group", "composition")]
