"""Where a label set came from: which sets may be put together, and what the manifest of the result says of its parents.

Refused, because the numbers would mean different things: another family, task, precision, weights, arguments, level of theory,
method of the Hessian, or version of a package that is the model itself (sevenn, mace-torch, e3nn, ...); another kind, codec or
seed of the Hessian labels. Noted, because only last digits differ: the device and the versions of torch, numpy, ase, vesin.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import LabelSetError
from ..publication.licences import CLASSES, JOIN
from .label_set import LabelSet

Manifest = Mapping[str, Any]
DECIDING = (
    *("family", "task", "dtype", "weights_sha256", "arguments"),
    *("level_of_theory", "conservative", "has_stress", "hessian_method"),
)
NOTED_PACKAGES = frozenset({"torch", "numpy", "ase", "scipy", "vesin"})
HESSIAN_SETTINGS = ("kind", "codec", "seed")


def require_alike(a: Manifest, b: Manifest, names: tuple[str, str]) -> list[str]:
    """Raise LabelSetError where two sets must not be put together; returns the differences that are only noted."""
    for key in HESSIAN_SETTINGS:
        x, y = a["hessian"].get(key), b["hessian"].get(key)
        if x != y:
            raise _unlike(names, f"the {key} of the Hessian labels", x, y)
    return require_same_teacher(a["teacher"], b["teacher"], names)


def require_same_teacher(a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, str]) -> list[str]:
    """Raise LabelSetError unless two "teacher" entries are of one teacher; returns the differences that are only noted."""
    for key in DECIDING:
        x, y = a.get(key), b.get(key)
        if (x or None) != (y or None):
            raise _unlike(names, f"the teacher's {key}", x, y)
    noted = []
    versions = [dict(teacher["versions"]) for teacher in (a, b)]
    for package in sorted(set(versions[0]) | set(versions[1])):
        x, y = (found.get(package) for found in versions)
        if x == y:
            continue
        if package not in NOTED_PACKAGES:
            raise _unlike(names, f"the version of {package}, a part of the teacher,", x, y)
        noted.append(f"{package} {x} and {y}")
    if a["device"] != b["device"]:
        noted.append(f"device {a['device']} and {b['device']}")
    return noted


def _unlike(names: tuple[str, str], what: str, x: Any, y: Any) -> LabelSetError:
    return LabelSetError(
        f"{names[0]} and {names[1]} cannot be put together: {what} is {_shown(x)} and {_shown(y)}. "
        "Both must have been labelled alike."
    )


def parent(labels: LabelSet) -> dict[str, Any]:
    """What the manifest of a new set says of one it was made of."""
    manifest = labels.manifest
    kept = {key: manifest[key] for key in ("plan", "subset", "splits", "preflight", "environment")}
    teacher = {key: manifest["teacher"].get(key) for key in ("device", "versions")}
    counts = {key: manifest["counts"][key] for key in ("n_structures", "n_quarantined")}
    history = {"history": manifest["history"]} if "history" in manifest else {}
    return {"digest": labels.digest, **kept, "teacher": teacher, "counts": counts, **history}


def digest_of(content: Any) -> str:
    """sha256 of a JSON value: what stands in the place of a plan's digest in a set that was not labelled but made."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def united_subset(subsets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The "subset" of several sets: names, input files and citations united, counts added, what differs left to the parents."""

    def same(key: str) -> Any:
        values = [subset.get(key) for subset in subsets]
        return values[0] if all(value == values[0] for value in values) else None

    skipped: dict[str, int] = {}
    taken: dict[str, dict[str, int]] = {}
    for subset in subsets:
        add_counts(skipped, subset.get("skipped", {}))
        for quantity, counts in subset.get("taken", {}).items():
            add_counts(taken.setdefault(quantity, {}), counts)
    return {
        "names": _united(name for subset in subsets for name in subset.get("names", ())),
        "where": same("where"),
        "limit": same("limit"),
        "seed": same("seed"),
        "inputs": _united(row for subset in subsets for row in subset.get("inputs", ())),
        "n_read": sum(subset.get("n_read", 0) for subset in subsets),
        "n_duplicates": sum(subset.get("n_duplicates", 0) for subset in subsets),
        "skipped": skipped,
        "taken": taken,
        "license": joined(subset.get("license", "unknown") for subset in subsets),
        "citation": sorted({text for subset in subsets for text in subset.get("citation", ())}),
    }


def united_licenses(licenses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Licences of several sets: those of the structures all together, of the weights too, and the strictest class."""
    return {
        "structures": joined(row["structures"] for row in licenses),
        "weights": joined(row["weights"] for row in licenses),
        "weights_class": max((row["weights_class"] for row in licenses), key=CLASSES.index),
        "code": licenses[0]["code"],
    }


def joined(texts: Iterable[str]) -> str:
    """Licences that hold at once, each named once."""
    return JOIN.join(sorted({part for text in texts for part in text.split(JOIN)}))


def add_counts(counts: dict[str, int], more: Mapping[str, int]) -> None:
    """Add counts by name."""
    for name, n in more.items():
        counts[name] = counts.get(name, 0) + n


def _united(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else text[:77] + "..."
