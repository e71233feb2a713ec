"""Where a label set came from: which sets may be put together, and what the manifest of the result says of its parents.

Refused, because the numbers would mean different things: another family, task, precision, weights, arguments, level of theory,
method of the Hessian, or version of a package that is the model itself (sevenn, mace-torch, e3nn, ...); another kind, codec or
seed of the Hessian labels. Noted, because only last digits differ: the device and the versions of torch, numpy, ase, vesin.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ..errors import LabelSetError
from ..format.records import (
    CountsOfParent,
    HessianSettings,
    LicenseSettings,
    Manifest,
    Parent,
    SplitSettings,
    Subset,
    TeacherOfPass,
    TeacherRecord,
)
from ..publication.licences import CLASSES, JOIN
from .label_set import LabelSet

T = TypeVar("T")
DECIDING = (
    *("family", "task", "dtype", "weights_sha256", "arguments"),
    *("level_of_theory", "conservative", "has_stress", "hessian_method"),
)
NOTED_PACKAGES = frozenset({"torch", "numpy", "ase", "scipy", "vesin"})
HESSIAN_SETTINGS = ("kind", "codec", "seed")


def require_alike(a: Manifest, b: Manifest, names: tuple[str, str]) -> list[str]:
    """Raise LabelSetError where two sets must not be put together; returns the differences that are only noted."""
    for key in HESSIAN_SETTINGS:
        x, y = getattr(a.hessian, key), getattr(b.hessian, key)
        if x != y:
            raise _unlike(names, f"the {key} of the Hessian labels", x, y)
    return require_same_teacher(a.teacher, b.teacher, names)


def require_same_teacher(a: TeacherRecord, b: TeacherRecord, names: tuple[str, str]) -> list[str]:
    """Raise LabelSetError unless two records are of one teacher; returns the differences that are only noted."""
    for key in DECIDING:
        x, y = getattr(a, key), getattr(b, key)
        if (x or None) != (y or None):
            raise _unlike(names, f"the teacher's {key}", x, y)
    noted = []
    for package in sorted({*a.versions, *b.versions}):
        x, y = a.versions.get(package), b.versions.get(package)
        if x == y:
            continue
        if package not in NOTED_PACKAGES:
            raise _unlike(names, f"the version of {package}, a part of the teacher,", x, y)
        noted.append(f"{package} {x} and {y}")
    if a.device != b.device:
        noted.append(f"device {a.device} and {b.device}")
    return noted


def _unlike(names: tuple[str, str], what: str, x: Any, y: Any) -> LabelSetError:
    return LabelSetError(
        f"{names[0]} and {names[1]} cannot be put together: {what} is {_shown(x)} and {_shown(y)}. "
        "Both must have been labelled alike."
    )


def parent(labels: LabelSet) -> Parent:
    """What the manifest of a new set says of one it was made of."""
    manifest = labels.manifest
    return Parent(
        digest=labels.digest,
        plan=manifest.plan,
        subset=manifest.subset,
        splits=manifest.splits,
        preflight=manifest.preflight,
        environment=manifest.environment,
        teacher=TeacherOfPass(device=manifest.teacher.device, versions=manifest.teacher.versions),
        counts=CountsOfParent(n_structures=manifest.counts.n_structures, n_quarantined=manifest.counts.n_quarantined),
        history=manifest.history,
    )


def digest_of(content: Any) -> str:
    """sha256 of a JSON value: what stands in the place of a plan's digest in a set that was not labelled but made."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hessian_settings(manifest: Manifest, per_structure: int | None) -> HessianSettings:
    """Kind, seed and codec of a set's Hessian labels, with another number of products of each structure."""
    hessian = manifest.hessian
    return HessianSettings(kind=hessian.kind, per_structure=per_structure, seed=hessian.seed, codec=hessian.codec)


def united_subset(subsets: Sequence[Subset]) -> Subset:
    """The "subset" of several sets: names, input files and citations united, counts added, what differs left to the parents."""
    skipped: dict[str, int] = {}
    taken: dict[str, dict[str, int]] = {}
    for subset in subsets:
        add_counts(skipped, subset.skipped)
        for quantity, counts in subset.taken.items():
            add_counts(taken.setdefault(quantity, {}), counts)
    return Subset(
        names=tuple(dict.fromkeys(name for subset in subsets for name in subset.names)),
        where=same([subset.where for subset in subsets]),
        limit=same([subset.limit for subset in subsets]),
        diverse=same([subset.diverse for subset in subsets]),
        seed=same([subset.seed for subset in subsets]),
        inputs=tuple(dict.fromkeys(file for subset in subsets for file in subset.inputs)),
        n_read=sum(subset.n_read for subset in subsets),
        n_duplicates=sum(subset.n_duplicates for subset in subsets),
        skipped=skipped,
        taken=taken,
        license=joined(subset.license for subset in subsets),
        citation=tuple(sorted({text for subset in subsets for text in subset.citation})),
    )


def united_licenses(licenses: Sequence[LicenseSettings]) -> LicenseSettings:
    """Licences of several sets: those of the structures all together, of the weights too, and the strictest class."""
    return LicenseSettings(
        structures=joined(row.structures for row in licenses),
        weights=joined(row.weights for row in licenses),
        weights_class=max((row.weights_class for row in licenses), key=CLASSES.index),
        code=licenses[0].code,
    )


def united_splits(splits: Sequence[SplitSettings]) -> SplitSettings:
    """How several sets, which are split by the same unit, were split."""
    return SplitSettings(
        fractions=same([row.fractions for row in splits]), seed=same([row.seed for row in splits]), by=splits[0].by
    )


def same(values: Sequence[T]) -> T | None:
    """What all values are, or None."""
    return values[0] if all(value == values[0] for value in values) else None


def joined(texts: Iterable[str]) -> str:
    """Licences that hold at once, each named once."""
    return JOIN.join(sorted({part for text in texts for part in text.split(JOIN)}))


def add_counts(counts: dict[str, int], more: Mapping[str, int]) -> None:
    """Add counts by name."""
    for name, n in more.items():
        counts[name] = counts.get(name, 0) + n


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else text[:77] + "..."
