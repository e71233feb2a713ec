"""Published chunks to shards and a manifest: the last step of a run, which may be repeated until it succeeds."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from hdistill.data.errors import LabelSetError
from hdistill.data.labelset import MANIFEST, SHARDS
from hdistill.data.publish import publish
from hdistill.data.schema import FORMAT, SIGN, SPLITS, VERSION
from hdistill.data.shard import concatenate
from hdistill.data.shard_file import Arrays, image, open_shard, read_arrays

from . import plan as plans

SHARD_BYTES = 128 << 20  # of arrays in memory; what is on disk is smaller


def finish(folder: Path, plan: plans.Plan) -> dict[str, Any]:
    """Write shards and manifest.json of a plan whose chunks are all published; then remove what they replace."""
    totals = _Totals()
    shards = []
    for number, (arrays, errors) in enumerate(_shards(folder, plan)):
        data = image(arrays, {"plan": plan.digest})
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{number:05d}-{sha256[:8]}.h5"
        publish(folder / SHARDS / name, data)
        totals.add(arrays, errors, folder / SHARDS / name)
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
    quarantine = _quarantine(folder)
    manifest = _manifest(plan, shards, totals, quarantine)
    publish(folder / MANIFEST, json.dumps(manifest, indent=1).encode(), replace=True)
    for done in ("chunks", "spool"):
        shutil.rmtree(folder / done, ignore_errors=True)
    return manifest


def _shards(folder: Path, plan: plans.Plan) -> Iterator[tuple[Arrays, list[tuple[float, float]]]]:
    """Arrays of one shard after the other, with (sum, maximum) of the codec's error in each of its chunks."""
    parts: list[Arrays] = []
    errors: list[tuple[float, float]] = []
    size = 0
    for chunk in range(plan.n_chunks):
        path = plans.chunk_path(folder, chunk)
        arrays, attributes = read_arrays(path)
        if attributes.get("plan") != plan.digest:
            raise LabelSetError(f"{path} belongs to another plan; remove it and run the same command again.")
        if len(arrays["id"]) == 0:
            continue
        n_bytes = sum(array.nbytes for array in arrays.values())
        if parts and size + n_bytes > SHARD_BYTES:
            yield concatenate(parts), errors
            parts, errors, size = [], [], 0
        parts.append(arrays)
        errors.append((attributes["codec_error_sum"], attributes["codec_error_max"]))
        size += n_bytes
    if parts:
        yield concatenate(parts), errors


class _Totals:
    """Counts over the shards of a set."""

    def __init__(self) -> None:
        self.structures = self.atoms = self.products = self.elements_stored = self.hessian_bytes = 0
        self.error_sum = self.error_max = 0.0
        self.elements: Counter[int] = Counter()
        self.groups: set[bytes] = set()
        self.splits: Counter[str] = Counter()

    def add(self, arrays: Arrays, errors: list[tuple[float, float]], path: Path) -> None:
        self.structures += len(arrays["id"])
        self.atoms += len(arrays["numbers"])
        self.products += int(arrays["product_offsets"][-1])
        self.elements_stored += len(arrays.get("hessian_values", ()))
        self.error_sum += sum(e for e, _ in errors)
        self.error_max = max([self.error_max, *(e for _, e in errors)])
        owner = np.repeat(np.arange(len(arrays["id"])), np.diff(arrays["atom_offsets"]))
        pairs = np.unique(np.stack([owner, arrays["numbers"].astype(np.int64)]), axis=1)
        self.elements.update(pairs[1].tolist())
        self.groups.update(arrays["group"].tolist())
        self.splits.update(SPLITS[i] for i in arrays["split"].tolist())
        with open_shard(path) as file:
            self.hessian_bytes += sum(file[n].id.get_storage_size() for n in file if n.startswith("hessian_"))


def _quarantine(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "quarantine").glob("*.json")) for row in json.loads(path.read_bytes())]


def _manifest(
    plan: plans.Plan, shards: list[dict[str, Any]], totals: _Totals, quarantine: list[dict[str, Any]]
) -> dict[str, Any]:
    """Everything a stranger needs to know of the set. No time and no machine name: the same plan gives the same bytes."""
    settings = plan.settings
    return {
        "format": FORMAT,
        "version": VERSION,
        "plan": plan.digest,
        "units": {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3 (ASE sign)", "hessian": "eV/A^2", "length": "A"},
        "sign": SIGN,
        "teacher": plan.teacher,
        "hessian": {
            "kind": plan.hessian.kind,
            "per_structure": plan.hessian.count or None,
            "seed": settings.seed,
            "n_products": totals.products,
            "n_elements": totals.elements_stored,
            "codec": settings.codec,
            "codec_error_mean": totals.error_sum / totals.products if totals.products else 0.0,
            "codec_error_max": totals.error_max,
            "bytes": totals.hessian_bytes,
            "bytes_per_element": totals.hessian_bytes / totals.elements_stored if totals.elements_stored else None,
        },
        "preflight": plan.preflight,
        "subset": {
            "names": [Path(name).name for name in settings.subset],  # not where they lie on somebody's disk
            "where": settings.where,
            "limit": settings.limit,
            "seed": settings.seed,
            "inputs": plan.inputs,
            **plan.source,
        },
        "counts": {
            "n_structures": totals.structures,
            "n_atoms": totals.atoms,
            "n_groups": len(totals.groups),
            "n_quarantined": len(quarantine),
            "elements": {str(z): n for z, n in sorted(totals.elements.items())},
        },
        "splits": {
            "fractions": settings.splits,
            "seed": settings.seed,
            "by": plan.spool.split_by,
            "n_structures": {name: totals.splits[name] for name in SPLITS},
        },
        "quarantine": [{k: row[k] for k in ("id", "reason", "text", "attempts")} for row in quarantine],
        "licenses": {
            "structures": plan.source.get("license", "unknown"),
            "weights": plan.teacher["weights_license"],
            "weights_class": plan.teacher["license_class"],
            "code": "MIT",
        },
        "environment": {
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in ("hdistill", "numpy", "h5py")},
        },
        "shards": shards,
    }
