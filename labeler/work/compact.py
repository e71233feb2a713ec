"""Published chunks to shards and a manifest: the last step of a run, which may be repeated until it succeeds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hdistill.data.errors import LabelSetError
from hdistill.data.format.shard_file import read_arrays
from hdistill.data.labelsets.writer import Facts, Part, write

from ..planning import plan as plans
from ..teachers import registry as catalogue


def finish(folder: Path, plan: plans.Plan) -> dict[str, Any]:
    """Write shards and manifest.json of a plan whose chunks are all published; then remove what they replace."""
    manifest = write(folder, parts(folder, plan), facts(plan, quarantine(folder)))
    for done in ("chunks", "spool"):
        shutil.rmtree(folder / done, ignore_errors=True)
    return manifest


def parts(folder: Path, plan: plans.Plan) -> Iterator[Part]:
    """The published chunks of a plan, in order. Raises LabelSetError for a chunk of another plan."""
    for chunk in range(plan.n_chunks):
        path = plans.chunk_path(folder, chunk)
        arrays, attributes = read_arrays(path)
        if attributes.get("plan") != plan.digest:
            raise LabelSetError(f"{path} belongs to another plan; remove it and run the same command again.")
        errors = float(attributes["codec_error_sum"]), float(attributes["codec_error_max"])
        yield Part(arrays, *errors, int(attributes["n_computed"]))


def quarantine(folder: Path) -> list[dict[str, Any]]:
    """Rows of all structures of a run that could not be labelled, in the order of its chunks."""
    return [row for path in sorted((folder / "quarantine").glob("*.json")) for row in json.loads(path.read_bytes())]


def facts(plan: plans.Plan, rows: list[dict[str, Any]]) -> Facts:
    """What a plan says of its label set."""
    settings = plan.settings
    return Facts(
        plan=plan.digest,
        teacher={**plan.teacher, "arguments": catalogue.parse_arguments(settings.arguments)},
        hessian={
            "kind": plan.hessian.kind,
            "per_structure": plan.hessian.count or None,
            "seed": settings.seed,
            "codec": settings.codec,
        },
        preflight=plan.preflight,
        subset={
            "names": [Path(name).name for name in settings.subset],  # not where they lie on somebody's disk
            "where": settings.where,
            "limit": settings.limit,
            "seed": settings.seed,
            "inputs": plan.inputs,
            **plan.source,
        },
        splits={"fractions": settings.splits, "seed": settings.seed, "by": plan.spool.split_by},
        licenses={
            "structures": plan.source.get("license", "unknown"),
            "weights": plan.teacher["weights_license"],
            "weights_class": plan.teacher["license_class"],
            "code": "MIT",
        },
        quarantine=rows,
    )
