"""How far an atom's surroundings are from those the student learned from: one number for every atom, about 1 at the border.

The invariant features that a student's readout reads, x (D,), say what it sees of an atom's surroundings. For every element,
the training structures give their mean m and covariance C, and an atom's distance is Mahalanobis',

    d = sqrt((x - m) C^-1 (x - m)) / d_95,     C shrunk: (1 - s) C + s tr(C)/D 1,   s = D / (10 n), n environments

with d_95 so that 95 of 100 atoms of the validation structures, of molecules the student never saw, are below 1. It is smooth, costs
one product of a small matrix for an atom, and says what is unlike the training set, not how wrong the student is: for that
the two only go together (on SPICE monomers their rank correlation is 0.4; the distance to the nearest of 64 to 256 stored environments,
which was tried too, had none). Fitted after training (`fit_domain`), kept in run/domain.safetensors beside the student it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hdistill.data.errors import InputError
from hdistill.data.format.shard import Sample
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.labelsets.stream import n_samples, shuffled
from hdistill.data.sharing.remote import open_labels
from hdistill.data.structure import Structure
from hdistill.data.support.progress import Progress, progress as progress_bar
from hdistill.data.support.publish import sha256_of

from ..inputs.batch import batch_of, packed_by_atoms
from .checkpoint import STUDENT, TrainedStudent, load_student, read_tensors, write_tensors
from .predict import call_once, edge_vectors

DOMAIN = "domain.safetensors"
FORMAT = "hdistill domain"
VERSION = 1
AT_MOST = 50_000  # atoms of a split that are looked at
QUANTILE = 0.95
ENOUGH = 20  # validation atoms of an element for a quantile of its own

Array = NDArray[np.float64]


class ReadoutHook:
    """Keeps what a student's readout last read: the invariant features (A,D) of its atoms."""

    def __init__(self, readout: nn.Module):
        self._last: torch.Tensor | None = None
        self.handle = readout.register_forward_pre_hook(self._keep)

    def _keep(self, readout: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._last = inputs[0].detach()

    def pop(self) -> torch.Tensor:
        """The features, once: they are not held longer than wanted."""
        assert self._last is not None
        last, self._last = self._last, None
        return last


def hook_readout(trained: TrainedStudent) -> ReadoutHook | None:
    """Keep what a student's readout reads from now on; None where it has none that reads one row of features for every atom, as a
    student from outside may: that is tried."""
    readout = getattr(trained.model, "readout", None)
    if not isinstance(readout, nn.Module):
        return None
    hook = ReadoutHook(readout)
    call_once(trained.model, trained.card.references.elements[0])
    features = hook.pop()
    if features.ndim == 2 and features.shape[0] == 3:
        return hook
    hook.handle.remove()
    return None


@dataclass(frozen=True, eq=False)
class Domain:
    """For each of S elements (S,): mean (S,D) of the features, root (S,D,D) with root.T @ root = C^-1, limit (S,) d_95."""

    elements: NDArray[np.int64]
    mean: Array
    root: Array
    limit: Array

    def distances(self, numbers: NDArray[np.integer[Any]], features: NDArray[np.floating[Any]]) -> Array:
        """Distances (A,) of atoms with these features (A,D); infinite for an element without training structures."""
        distances = np.full(len(numbers), np.inf)
        for element, mean, root, limit in zip(self.elements, self.mean, self.root, self.limit, strict=True):
            chosen = numbers == element
            distances[chosen] = np.linalg.norm((features[chosen] - mean) @ root.T, axis=1) / limit
        return distances


def fit_domain(
    run: Path | str, labels: LabelSet | Path | str, device: str = "cpu", progress: bool = False
) -> Domain | None:
    """The domain of a run's student, from the label set it was fitted to; published as run/domain.safetensors.

    None, and nothing written, where the student has no readout to read from. Where the validation split is empty, one half of
    the training structures is measured against the other. Raises InputError for another label set than the student's.
    """
    run = Path(run)
    trained = load_student(run, device)
    label_set = labels if isinstance(labels, LabelSet) else open_labels(labels)
    if label_set.digest != trained.card.label_set:
        raise InputError(
            f"{run} was fitted to another label set ({trained.card.label_set[:12]}) than {label_set.name} ({label_set.digest[:12]})."
        )
    hook = hook_readout(trained)
    if hook is None:
        return None
    splits = {split: n_samples(label_set, split) for split in ("train", "val")}
    with progress_bar(None, "structures", "domain", progress) as bar:
        samples = {split: islice(shuffled(label_set, split, 0), n) for split, n in splits.items()}
        numbers, features, structure = _environments(trained, hook, samples["train"], device, bar)
        held_numbers, held, _ = _environments(trained, hook, samples["val"], device, bar)
    domain = domain_of(numbers, features)
    if len(held):
        domain = calibrated(domain, domain.distances(held_numbers, held), held_numbers)
    else:
        odd = structure % 2 == 1
        half = domain_of(numbers[~odd], features[~odd])
        known = odd & np.isin(numbers, half.elements)
        domain = calibrated(domain, half.distances(numbers[known], features[known]), numbers[known])
    tensors = {name: torch.from_numpy(getattr(domain, name)) for name in Domain.__dataclass_fields__}
    write_tensors(run / DOMAIN, tensors, {"format": FORMAT, "version": VERSION, "student": sha256_of(run / STUDENT)})
    return domain


def load_domain(path: Path | str) -> Domain | None:
    """The domain beside a student (a run folder or a student file); None where there is none, or that of an earlier student of a
    fit that went on. Raises InputError where it is damaged."""
    path = Path(path)
    student = path / STUDENT if path.is_dir() else path
    file = student.parent / DOMAIN
    if not file.exists():
        return None
    tensors, header = read_tensors(file)
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise InputError(f"{file} is no {FORMAT} of version {VERSION}; remove it.")
    if header.get("student") != sha256_of(student):
        return None
    try:
        return Domain(**{name: tensors[name].numpy() for name in Domain.__dataclass_fields__})
    except KeyError as error:
        raise InputError(f"{file} is damaged (it lacks {error}); remove it.") from error


def domain_of(numbers: NDArray[np.integer[Any]], features: Array) -> Domain:
    """Means and shrunk covariances of the features (A,D) by element; every limit is 1 until it is calibrated."""
    elements = np.unique(numbers).astype(np.int64)
    means, roots = [], []
    for element in elements:
        chosen = features[numbers == element]
        n, width = chosen.shape
        centred = chosen - chosen.mean(axis=0)
        covariance = centred.T @ centred / n
        shrink = min(1.0, width / (10 * n))
        # Where one environment is all there is, features of unit size stand in for its spread.
        spread = float(np.trace(covariance)) / width or 1.0
        shrunk = (1 - shrink) * covariance + shrink * spread * np.eye(width)
        means.append(chosen.mean(axis=0))
        roots.append(np.linalg.inv(np.linalg.cholesky(shrunk)))
    return Domain(elements, np.stack(means), np.stack(roots), np.ones(len(elements)))


def calibrated(domain: Domain, distances: Array, numbers: NDArray[np.integer[Any]]) -> Domain:
    """The domain with limits such that QUANTILE of these distances are below 1: by element, or over all where it has few."""
    finite = np.isfinite(distances)
    distances, numbers = distances[finite], numbers[finite]
    if not len(distances):
        return domain
    overall = float(np.quantile(distances, QUANTILE))
    limits = [
        float(np.quantile(distances[numbers == element], QUANTILE)) if (numbers == element).sum() >= ENOUGH else overall
        for element in domain.elements
    ]
    return Domain(domain.elements, domain.mean, domain.root, np.array(limits) * domain.limit)


def _environments(
    trained: TrainedStudent, hook: ReadoutHook, samples: Iterable[Sample], device: str, bar: Progress
) -> tuple[NDArray[np.int64], Array, NDArray[np.int64]]:
    """Of at most about AT_MOST atoms: atomic numbers (A,), features (A,D), and which structure each belongs to (A,)."""
    numbers, features, structures = [], [], []
    n_atoms = n_structures = 0
    known = (s.structure for s in samples if not trained.card.references.unknown(s.structure.numbers))
    for batch in packed_by_atoms(known, lambda structure: structure.n_atoms):
        features.append(features_of(trained, hook, batch, device))
        numbers += [structure.numbers.astype(np.int64) for structure in batch]
        structures += [np.full(structure.n_atoms, n_structures + k) for k, structure in enumerate(batch)]
        n_structures += len(batch)
        n_atoms += sum(structure.n_atoms for structure in batch)
        bar.advance(len(batch))
        if n_atoms >= AT_MOST:
            break
    if not features:
        return np.zeros(0, np.int64), np.zeros((0, 0)), np.zeros(0, np.int64)
    return np.concatenate(numbers), np.concatenate(features), np.concatenate(structures)


def features_of(trained: TrainedStudent, hook: ReadoutHook, structures: Sequence[Structure], device: str) -> Array:
    """What the readout reads of the atoms of some structures, (A,D)."""
    batch = batch_of(structures, trained.cutoff, device)
    with torch.no_grad():
        vectors = edge_vectors(batch, batch.positions)
        trained.model(batch.numbers, batch.edge_index, vectors.to(next(trained.model.parameters()).dtype))
    features: Array = hook.pop().double().cpu().numpy()
    return features
