"""What the training split says before the first step: energies per element, sizes, outliers. Computed once, kept in the run.

run/statistics.safetensors   for the label set and the settings that its header names; made anew for others
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.format import codec
from hdistill.data.format.schema import SPLITS
from hdistill.data.format.shard_file import open_shard
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.labelsets.stream import shuffled
from hdistill.data.support.publish import publish

from ..force_field.checkpoint import pack_tensors, unpack_tensors
from ..inputs.features import TeacherFeatures, teacher_features
from ..inputs.neighbours import EdgeCache, nearest_pairs
from ..inputs.references import (
    EnergyStatistics,
    References,
    atom_references,
    fit_references,
    shifted_references,
    statistics_of,
    underdetermined,
)
from ..students.registry import size_of
from .ranks import Ranks
from .settings import FitSettings

STATISTICS = "statistics.safetensors"
FORMAT = "hdistill fit statistics"
VERSION = 1
NEAREST_OF = 10_000  # training structures, in which the shortest distances are looked for


@dataclass(frozen=True, eq=False)
class Statistics:
    """references: of the energies the student stands on, the teacher's, or the sources' own for targets "reference" and "mix";
    teacher_references: of the teacher's energies; atom_references: means of the teacher's atomic energies, where these are
    learned; scale (eV): the size of an atom's interactions; n_products: Hessian products to learn from; n_own: training
    structures with labels of their own, of targets "mix"; underdetermined: whether compositions leave reference energies open;
    outlier_ids: training structures whose Hessian is left out; features: the teacher's, where they are learned; nearest
    (119,119) A: the shortest distance of every two elements, where a repulsion stands below it."""

    references: References
    teacher_references: References
    scale: float
    n_train: int
    n_products: int
    n_own: int
    underdetermined: bool
    outlier_ids: frozenset[bytes] = frozenset()
    atom_references: References | None = None
    features: TeacherFeatures | None = None
    nearest: NDArray[np.float64] | None = None

    @property
    def elements(self) -> tuple[int, ...]:
        return self.references.elements


def statistics_for(labels: LabelSet, settings: FitSettings, run: Path, ranks: Ranks) -> Statistics:
    """The statistics that a run holds, or else new ones, which it holds from now on; one rank computes for all.

    Raises InputError: see statistics_of; node features or atomic energies that are missing; nothing to learn from.
    """

    def packed() -> bytes:
        file, key = run / STATISTICS, _key(labels, settings)
        if file.exists():
            data = file.read_bytes()
            try:
                if unpack_tensors(data, str(file))[1].get("key") == key:
                    return data
            except InputError:
                pass  # a damaged file is made anew
        return _packed(compute_statistics(labels, settings), key)

    return _unpacked(ranks.from_first(packed))


def keep_statistics(statistics: Statistics, labels: LabelSet, settings: FitSettings, run: Path) -> None:
    """Publish them in the run's folder, unless it holds them already."""
    data = _packed(statistics, _key(labels, settings))
    file = run / STATISTICS
    if not file.exists() or file.read_bytes() != data:
        publish(file, data, replace=True)


def compute_statistics(labels: LabelSet, settings: FitSettings) -> Statistics:
    """One pass over the training energies and forces, and one more for each further thing that the settings want."""
    energies = statistics_of(labels, "reference" if settings.targets == "reference" else "teacher")
    references = teacher_references = fit_references(energies)
    own = statistics_of(labels, "reference", partly=True) if settings.targets == "mix" else None
    if own is not None:
        references = shifted_references(teacher_references, own)
    atomic = atom_references(labels, teacher_references) if settings.atom_energy_weight > 0 else None
    if atomic is not None and settings.targets == "teacher":
        references = teacher_references = atomic  # so that a student's atoms add up to its structures
    outlier_ids, n_products = (
        outliers_of(labels, settings.max_hessian) if settings.n_products else (frozenset[bytes](), 0)
    )
    _check_something_to_learn(labels, settings, n_products)
    return Statistics(
        references=references,
        teacher_references=teacher_references,
        scale=_scale(energies, fit_references(energies)),
        n_train=energies.n_structures,
        n_products=n_products,
        n_own=0 if own is None else own.n_structures,
        underdetermined=underdetermined(energies) or (own is not None and underdetermined(own)),
        outlier_ids=outlier_ids,
        atom_references=atomic,
        features=teacher_features(labels) if settings.uses_features else None,
        nearest=_nearest(labels, settings, energies.n_structures) if settings.repulsion else None,
    )


def outliers_of(labels: LabelSet, limit: float | None) -> tuple[frozenset[bytes], int]:
    """Ids of the training structures that have a Hessian product with an element above the limit (eV/A^2) or one that is not
    finite, by one pass over them all, and how many products the others have; without a limit no product is read."""
    shards = [shard.use(lambda path: _outliers_of_shard(path, limit)) for shard in labels.shards]
    return frozenset(id for ids, _ in shards for id in ids), sum(count for _, count in shards)


def _outliers_of_shard(path: Path, limit: float | None) -> tuple[set[bytes], int]:
    with open_shard(path) as file:
        train = file["split"][:] == SPLITS.index("train")
        n_products = np.diff(file["product_offsets"][:])
        if limit is None or not n_products.sum():
            return set(), int(n_products[train].sum())
        owner = np.repeat(np.arange(len(train)), n_products)
        lengths = 3 * np.diff(file["atom_offsets"][:])[owner]
        exponent = file["hessian_exponent"][:] if "hessian_exponent" in file else None
        values = np.abs(codec.decode_flat(file["hessian_values"][:], exponent, lengths))
        largest = np.maximum.reduceat(values, np.cumsum(lengths) - lengths)
        is_outlier = np.zeros(len(train), bool)
        is_outlier[owner[~(largest <= limit)]] = True
        ids: NDArray[np.uint8] = file["id"][:]
    chosen = {ids[index].tobytes() for index in np.flatnonzero(is_outlier & train)}
    return chosen, int(n_products[train & ~is_outlier].sum())


def _check_something_to_learn(labels: LabelSet, settings: FitSettings, n_products: int) -> None:
    others = {name: weight for name, weight in settings.weights_at(1.0).items() if name != "hessian"}
    if not (any(others.values()) or settings.energy_weight or n_products):
        raise InputError(
            f"{labels.name} has no Hessian products in its train split, and the weights of energies, forces and stress are 0: "
            "there is nothing to learn. Give one of them a weight, or label products with `hdistill label ... --add probes:4`."
        )


def _nearest(labels: LabelSet, settings: FitSettings, n_train: int) -> NDArray[np.float64]:
    samples = islice(shuffled(labels, "train", 0), min(n_train, NEAREST_OF))
    return nearest_pairs((sample.structure for sample in samples), size_of(settings.student).cutoff, EdgeCache())


def _scale(energies: EnergyStatistics, references: References) -> float:
    """Typical energy of an atom's interactions: the force on it times 1 A, else the spread of the energies, else 1 eV."""
    residuals = energies.energies - energies.fractions @ np.array(references.energies)
    spread = float(np.linalg.norm(residuals)) / energies.n_structures**0.5
    return next((x for x in (energies.force_rms, spread) if 1e-8 < x < np.inf), 1.0)


def _key(labels: LabelSet, settings: FitSettings) -> str:
    """What the statistics depend on."""
    wanted = [labels.digest, settings.targets, settings.n_products > 0, settings.max_hessian, settings.uses_features]
    wanted += [settings.atom_energy_weight > 0, size_of(settings.student).cutoff if settings.repulsion else None]
    return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()


def _packed(statistics: Statistics, key: str) -> bytes:
    ids = np.frombuffer(b"".join(sorted(statistics.outlier_ids)), np.uint8)
    arrays: dict[str, NDArray[Any]] = {"outlier_ids": ids.reshape(-1, 16)}
    if statistics.features is not None:
        arrays |= {f"features.{name}": getattr(statistics.features, name) for name in _FEATURES}
    if statistics.nearest is not None:
        arrays["nearest"] = statistics.nearest
    plain = {name: getattr(statistics, name) for name in _NUMBERS}
    references = {name: getattr(statistics, name) for name in _REFERENCES}
    plain |= {name: None if known is None else asdict(known) for name, known in references.items()}
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    return pack_tensors(tensors, {"format": FORMAT, "version": VERSION, "key": key, **plain})


def _unpacked(data: bytes) -> Statistics:
    tensors, header = unpack_tensors(data, STATISTICS)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    plain: dict[str, Any] = {name: header[name] for name in _NUMBERS}
    for name in _REFERENCES:
        stored = header[name]
        plain[name] = stored and References(tuple(stored["elements"]), tuple(stored["energies"]))
    return Statistics(
        **plain,
        outlier_ids=frozenset(row.tobytes() for row in arrays["outlier_ids"]),
        features=TeacherFeatures(*(arrays[f"features.{name}"] for name in _FEATURES))
        if "features.mean" in arrays
        else None,
        nearest=arrays.get("nearest"),
    )


_NUMBERS = ("scale", "n_train", "n_products", "n_own", "underdetermined")
_REFERENCES = ("references", "teacher_references", "atom_references")
_FEATURES = ("mean", "scale", "means")
