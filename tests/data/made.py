"""Label sets of made-up samples with whole manifests, as the labeler would have written them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hdistill.data.format.codec import Codec
from hdistill.data.format.shard import Sample, to_arrays
from hdistill.data.labelsets.writer import Block, Facts, write
from tests.data.manifests import LICENSES, PREFLIGHT, SPLITTING, SUBSET, TEACHER, facts_of_json, records
from tests.data.samples import random_samples


def samples_of(hessian: str, sizes: Sequence[int] = (3, 1, 7, 5, 2), seed: int = 0) -> list[Sample]:
    return random_samples(hessian, sizes, seed)


def facts_of_samples(hessian: str, codec: Codec = "compact") -> Facts:
    kind, _, count = hessian.partition(":")
    return facts_of_json(
        plan="ab" * 32,
        teacher=TEACHER,
        hessian={"kind": kind, "per_structure": int(count) if count else None, "seed": 0, "codec": codec},
        preflight=PREFLIGHT,
        subset=SUBSET,
        splits=SPLITTING,
        licenses=LICENSES,
    )


def make_label_set(
    folder: Path, samples: Sequence[Sample], codec: Codec = "compact", per_part: int = 2, **changed: Any
) -> Path:
    """A label set in `folder`; sections of its facts may be changed, given as JSON or as records."""
    products = next((s.labels.hessian for s in samples if s.labels.hessian is not None), None)
    hessian = "none" if products is None else f"{products.directions.kind}:{len(products.values)}"
    blocks = (
        Block(to_arrays(samples[start : start + per_part], codec), 1e-4, 1e-4, None)
        for start in range(0, len(samples), per_part)
    )
    write(folder, blocks, replace(facts_of_samples(hessian, codec), **records(changed)))
    return folder
