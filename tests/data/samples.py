"""Samples with labels that are easy to check: made up, but of every shape a label set can hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hdistill.data.format.codec import Codec
from hdistill.data.format.schema import SPLITS
from hdistill.data.format.shard import Sample, to_arrays
from hdistill.data.format.shard_file import Arrays, image
from hdistill.data.probes import draw, parse_spec
from hdistill.data.structure import HessianProducts, Labels, Structure
from tests.data.manifests import manifest_json


def random_samples(hessian: str = "probes:4", sizes: Sequence[int] = (3, 1, 7, 5, 2), seed: int = 0) -> list[Sample]:
    """One sample for each size; some periodic, some with reference labels, products with random values."""
    rng = np.random.default_rng(seed)
    samples = []
    for number, n in enumerate(sizes):
        periodic = number % 2 == 0
        numbers, charge = rng.integers(1, 9, n).astype(np.uint8), number - 1
        structure = Structure(
            numbers=numbers,
            positions=rng.normal(size=(n, 3)) * 3,
            cell=np.eye(3) * 9.0 if periodic else np.zeros((3, 3)),
            pbc=np.full(3, periodic),
            charge=charge,
            spin=1 + (int(numbers.sum()) - charge) % 2,
            group=f"molécule-{number}",
            info={"number": number, "text": "è"},
            ref_energy=-float(n) if number % 3 else None,
            ref_forces=rng.normal(size=(n, 3)).astype(np.float32) if number % 3 else None,
        )
        directions = draw(parse_spec(hessian), seed, structure.id, n)
        products = None
        if directions is not None:
            products = HessianProducts(directions, rng.normal(size=(len(directions), n, 3)).astype(np.float32) * 10)
        labels = Labels(
            energy=float(rng.normal()) * 100,
            forces=rng.normal(size=(n, 3)).astype(np.float32),
            stress=rng.normal(size=(3, 3)).astype(np.float32) if periodic else None,
            hessian=products,
        )
        samples.append(Sample(structure, labels, SPLITS[number % 3]))
    return samples


def write_label_set(folder: Path, samples: Sequence[Sample], codec: Codec = "compact", per_shard: int = 3) -> Path:
    """A label set of these samples."""
    (folder / "shards").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    every: list[Arrays] = []
    for start in range(0, len(samples), per_shard):
        part = samples[start : start + per_shard]
        arrays = to_arrays(part, codec)
        every.append(arrays)
        data = image(arrays, {"plan": "test"})
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{len(rows):05d}-{sha256[:8]}.h5"
        (folder / "shards" / name).write_bytes(data)
        rows.append(
            {
                "name": name,
                "bytes": len(data),
                "sha256": sha256,
                "n_structures": len(part),
                "n_atoms": len(arrays["numbers"]),
                "n_products": int(arrays["product_offsets"][-1]),
            }
        )
    (folder / "manifest.json").write_text(json.dumps(manifest_json(every, rows)))
    return folder
