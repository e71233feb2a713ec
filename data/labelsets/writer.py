"""Writing a label set: the one place where shards are packed and a manifest is made, whoever labelled the structures.

    parts of arrays ──▶ shards of SHARD_BYTES, named by their contents ──▶ counts ──▶ manifest.json, published last

Nothing is decoded, so what a codec stored stays as it is, to the byte; memory is that of one shard. The same parts and facts give
the same bytes: no time and no machine name is written. A killed writer leaves shards that no manifest names; run it again.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import LabelSetError
from ..format.schema import FORMAT, MAX_QUARANTINE_ROWS, SIGN, SPLITS, VERSION
from ..format.shard import concatenate
from ..format.shard_file import Arrays, image, open_shard
from ..publication.documents import write_documents
from ..publication.licences import for_manifest
from ..support.publish import publish
from .label_set import MANIFEST, SHARDS

SHARD_BYTES = 128 << 20  # of arrays in memory; what is on disk is smaller
UNITS = {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3 (ASE sign)", "hessian": "eV/A^2", "length": "A"}
MAX_TEXT = 400  # characters of why a structure is in quarantine; quarantine/ has all of them


@dataclass(frozen=True)
class Part:
    """Arrays of some structures, and what the codec cost their products: sum and maximum of the relative errors.

    n_computed: how many products the teacher computed, where symmetry gave the others; None: not known.
    """

    arrays: Arrays
    error_sum: float = 0.0
    error_max: float = 0.0
    n_computed: int | None = None

    @property
    def cost(self) -> Cost:
        return Cost(self.error_sum, self.error_max, self.n_computed)


class Cost(NamedTuple):
    """error_sum, error_max and n_computed of one part, or of several together."""

    error_sum: float = 0.0
    error_max: float = 0.0
    n_computed: int | None = 0

    def plus(self, other: Cost) -> Cost:
        known = self.n_computed is not None and other.n_computed is not None
        computed = (self.n_computed or 0) + (other.n_computed or 0) if known else None
        return Cost(self.error_sum + other.error_sum, max(self.error_max, other.error_max), computed)


@dataclass(frozen=True)
class Facts:
    """What is known of a label set besides its arrays, as the manifest states it.

    plan identifies what was wanted. hessian has kind, per_structure, seed, codec; splits has fractions, seed, by; licenses has
    structures, weights, weights_class, code; quarantine has a row (id, reason, text, attempts) for each structure without
    labels; history is where the set came from when it was made of others or in several passes.
    """

    plan: str
    teacher: Mapping[str, Any]
    hessian: Mapping[str, Any]
    preflight: Mapping[str, Any]
    subset: Mapping[str, Any]
    splits: Mapping[str, Any]
    licenses: Mapping[str, Any]
    quarantine: Sequence[Mapping[str, Any]] = ()
    history: Mapping[str, Any] = field(default_factory=dict)


def facts_of(manifest: Mapping[str, Any]) -> Facts:
    """The facts that a manifest was made of: what a set that is made of this one keeps."""

    def of(part: str, *keys: str) -> dict[str, Any]:
        return {key: manifest[part][key] for key in keys}

    return Facts(
        plan=manifest["plan"],
        teacher=manifest["teacher"],
        hessian=of("hessian", "kind", "per_structure", "seed", "codec"),
        preflight=manifest["preflight"],
        subset=manifest["subset"],
        splits=of("splits", "fractions", "seed", "by"),
        licenses=of("licenses", "structures", "weights", "weights_class", "code"),
        quarantine=manifest["quarantine"],
        history=manifest.get("history", {}),
    )


def write(folder: Path, parts: Iterable[Part], facts: Facts) -> dict[str, Any]:
    """Write shards/ and then manifest.json into a folder; returns the manifest.

    A manifest that is there is replaced at the very end, so the set it describes stays valid until then; its shards are not
    touched. Raises OSError where the disk is full or the folder cannot be written.
    """
    totals = _Totals()
    shards = []
    for number, (arrays, cost) in enumerate(pack(parts)):
        data = image(arrays, {"plan": facts.plan})
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{number:05d}-{sha256[:8]}.h5"
        publish(folder / SHARDS / name, data)
        totals.add(arrays, cost, folder / SHARDS / name)
        shards.append(
            {
                "name": name,
                "bytes": len(data),
                "sha256": sha256,
                "n_structures": len(arrays["id"]),
                "n_atoms": len(arrays["numbers"]),
                "n_products": int(arrays["product_offsets"][-1]),
            }
        )
    manifest = _manifest(facts, shards, totals)
    publish_manifest(folder, manifest)
    return manifest


def publish_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """The last step of every label set. What is made from the manifest for people and for other programs goes before it."""
    data = json.dumps(manifest, indent=1).encode()
    write_documents(folder, data)
    publish(folder / MANIFEST, data, replace=True)


def require_free(folder: Path) -> None:
    """Raise LabelSetError unless a new label set may be written there: a finished one and a begun one are left alone."""
    if folder.exists() and not folder.is_dir():
        raise LabelSetError(f"{folder} is a file; -o takes a directory.")
    for name in (MANIFEST, "plan.json"):
        if (folder / name).exists():
            raise LabelSetError(f"{folder} holds a label set already ({name}); give another -o directory.")


def sweep(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Remove files in shards/ that the manifest does not name: what a killed writer or a replaced manifest left."""
    named = {row["name"] for row in manifest["shards"]}
    for path in (folder / SHARDS).iterdir() if (folder / SHARDS).is_dir() else ():
        if path.name not in named:
            path.unlink(missing_ok=True)


def pack(parts: Iterable[Part]) -> Iterator[tuple[Arrays, Cost]]:
    """Arrays of one shard after the other, each with what its products cost. Empty parts are left out."""
    waiting: list[Part] = []
    size = 0
    for part in parts:
        if len(part.arrays["id"]) == 0:
            continue
        n_bytes = sum(array.nbytes for array in part.arrays.values())
        if waiting and size + n_bytes > SHARD_BYTES:
            yield _joined(waiting)
            waiting, size = [], 0
        waiting.append(part)
        size += n_bytes
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[Part]) -> tuple[Arrays, Cost]:
    return concatenate([part.arrays for part in parts]), reduce(Cost.plus, [part.cost for part in parts])


class _Totals:
    """Counts over the shards of a set."""

    def __init__(self) -> None:
        self.structures = self.atoms = self.products = self.elements_stored = self.hessian_bytes = 0
        self.cost = Cost()
        self.elements: Counter[int] = Counter()
        self.groups: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self.splits: Counter[str] = Counter()

    def add(self, arrays: Arrays, cost: Cost, path: Path) -> None:
        atoms, products = np.diff(arrays["atom_offsets"]), np.diff(arrays["product_offsets"])
        self.structures += len(arrays["id"])
        self.atoms += len(arrays["numbers"])
        self.products += int(products.sum())
        self.elements_stored += int((3 * atoms * products).sum())
        self.cost = self.cost.plus(cost)
        owner = np.repeat(np.arange(len(arrays["id"])), atoms)
        pairs = np.unique(np.stack([owner, arrays["numbers"].astype(np.int64)]), axis=1)
        self.elements.update(pairs[1].tolist())
        # 64 bits of a hash for each group: names of ten million molecules would not be small.
        self.groups = np.union1d(self.groups, group_keys(np.unique(arrays["group"])))
        self.splits.update(SPLITS[i] for i in arrays["split"].tolist())
        with open_shard(path) as file:
            self.hessian_bytes += sum(file.stored_bytes(n) for n in file if n.startswith("hessian_"))


def group_keys(groups: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """64 bits of a hash for each group's name."""
    names, inverse = np.unique(groups, return_inverse=True)
    keys = [int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) for name in names.tolist()]
    return np.array(keys, np.uint64)[inverse] if keys else np.zeros(0, np.uint64)


def _manifest(facts: Facts, shards: list[dict[str, Any]], totals: _Totals) -> dict[str, Any]:
    """Everything a stranger needs to know of the set."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "plan": facts.plan,
        "units": UNITS,
        "sign": SIGN,
        "teacher": dict(facts.teacher),
        "hessian": {
            **facts.hessian,
            "n_products": totals.products,
            "n_elements": totals.elements_stored,
            "n_computed": totals.cost.n_computed,
            "codec_error_mean": totals.cost.error_sum / totals.products if totals.products else 0.0,
            "codec_error_max": totals.cost.error_max,
            "bytes": totals.hessian_bytes,
            "bytes_per_element": totals.hessian_bytes / totals.elements_stored if totals.elements_stored else None,
        },
        "preflight": dict(facts.preflight),
        "subset": dict(facts.subset),
        "counts": {
            "n_structures": totals.structures,
            "n_atoms": totals.atoms,
            "n_groups": len(totals.groups),
            "n_quarantined": len(facts.quarantine),
            "elements": {str(z): n for z, n in sorted(totals.elements.items())},
        },
        "splits": {**facts.splits, "n_structures": {name: totals.splits[name] for name in SPLITS}},
        "quarantine": [_quarantine_row(row) for row in facts.quarantine[:MAX_QUARANTINE_ROWS]],
        "licenses": {**facts.licenses, **for_manifest(facts.licenses)},
        "environment": {
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in ("hdistill", "numpy", "h5py")},
        },
        **({"history": dict(facts.history)} if facts.history else {}),
        "shards": shards,
    }


def _quarantine_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "reason": row["reason"], "text": row["text"][:MAX_TEXT], "attempts": row["attempts"]}
