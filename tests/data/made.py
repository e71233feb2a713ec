"""Label sets of made-up samples with whole manifests, as the labeler would have written them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hdistill.data.format.codec import Codec
from hdistill.data.format.shard import Sample, to_arrays
from hdistill.data.labelsets.writer import Facts, Part, write
from tests.data.samples import random_samples

TEACHER = {
    **{
        "name": "made-up",
        "family": "lennard_jones",
        "task": None,
        "dtype": "float32",
        "device": "cpu",
        "arguments": {},
    },
    **{"elements": list(range(1, 9)), "conservative": True, "has_stress": True, "hessian_method": "analytic"},
    **{"weights_sha256": "ab" * 32, "weights_license": "MIT", "license_class": "open"},
    **{"level_of_theory": "none", "citation": "nobody", "versions": {"torch": "2.13.0", "madeup": "1.0"}},
}


def samples_of(hessian: str, sizes: Sequence[int] = (3, 1, 7, 5, 2), seed: int = 0) -> list[Sample]:
    return random_samples(hessian, sizes, seed)


def facts_of_samples(hessian: str, codec: Codec = "compact") -> Facts:
    kind, _, count = hessian.partition(":")
    return Facts(
        plan="ab" * 32,
        teacher=TEACHER,
        hessian={"kind": kind, "per_structure": int(count) if count else None, "seed": 0, "codec": codec},
        preflight={"dtype": "float64", "product_difference_error": 1e-8, "force_difference_error": 1e-8},
        subset={
            **{"names": ["made.xyz"], "where": None, "limit": None, "seed": 0, "inputs": [{"name": "made.xyz"}]},
            **{"n_read": 5, "n_duplicates": 0, "skipped": {}, "taken": {}, "license": "MIT", "citation": ["them"]},
        },
        splits={"fractions": "0.8,0.1,0.1", "seed": 0, "by": "group"},
        licenses={"structures": "MIT", "weights": "MIT", "weights_class": "open", "code": "MIT"},
    )


def make_label_set(
    folder: Path, samples: Sequence[Sample], codec: Codec = "compact", per_part: int = 2, **changed: Any
) -> Path:
    """A label set in `folder`, with the facts changed as told."""
    products = next((s.labels.hessian for s in samples if s.labels.hessian is not None), None)
    hessian = "none" if products is None else f"{products.directions.kind}:{len(products.values)}"
    parts = (
        Part(to_arrays(samples[start : start + per_part], codec), 1e-4, 1e-4, None)
        for start in range(0, len(samples), per_part)
    )
    write(folder, parts, replace(facts_of_samples(hessian, codec), **changed))
    return folder
