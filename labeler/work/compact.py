"""Published chunks to shards and a manifest: the last step of a run, which may be repeated until it succeeds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from hdistill.data.errors import LabelSetError
from hdistill.data.format.manifest import (
    HessianSettings,
    LicenseSettings,
    Manifest,
    Preflight,
    QuarantineRow,
    SplitSettings,
    Subset,
    TeacherRecord,
)
from hdistill.data.format.shard_file import read_arrays
from hdistill.data.labelsets.writer import Block, Facts, write
from hdistill.data.support.typed import typed

from ..planning import plan as plans
from ..teachers import registry as catalogue


def finish(folder: Path, plan: plans.Plan) -> Manifest:
    """Write shards and manifest.json of a plan whose chunks are all published; then remove what they replace."""
    manifest = write(folder, blocks(folder, plan), facts(plan, quarantine(folder)))
    for done in ("chunks", "spool"):
        shutil.rmtree(folder / done, ignore_errors=True)
    return manifest


def blocks(folder: Path, plan: plans.Plan) -> Iterator[Block]:
    """The published chunks of a plan, in order. Raises LabelSetError for a chunk of another plan."""
    for chunk in range(plan.n_chunks):
        path = plans.chunk_path(folder, chunk)
        arrays, attributes = read_arrays(path)
        if attributes.get("plan") != plan.digest:
            raise LabelSetError(f"{path} belongs to another plan; remove it and run the same command again.")
        errors = float(attributes["codec_error_sum"]), float(attributes["codec_error_max"])
        yield Block(arrays, *errors, int(attributes["n_computed"]))


def quarantine(folder: Path) -> list[QuarantineRow]:
    """Rows of all structures of a run that could not be labelled, in the order of its chunks."""
    names = QuarantineRow.__struct_fields__
    return [
        QuarantineRow(**{name: row[name] for name in names})
        for path in sorted((folder / "quarantine").glob("*.json"))
        for row in json.loads(path.read_bytes())
    ]


def facts(plan: plans.Plan, rows: list[QuarantineRow]) -> Facts:
    """What a plan says of its label set. Raises LabelSetError for a plan that was changed by hand."""
    settings = plan.settings
    teacher = {**plan.teacher, "arguments": catalogue.parse_arguments(settings.arguments)}
    subset = {
        "names": [Path(name).name for name in settings.subset],  # not where they lie on somebody's disk
        "where": settings.where,
        "limit": settings.limit,
        "seed": settings.seed,
        "inputs": plan.inputs,
        **plan.source,
    }
    splits = {"fractions": settings.splits, "seed": settings.seed, "by": plan.spool.split_by}
    licenses = {
        "structures": plan.source.get("license", "unknown"),
        "weights": plan.teacher["weights_license"],
        "weights_class": plan.teacher["license_class"],
        "code": "MIT",
    }
    return Facts(
        plan=plan.digest,
        teacher=typed(teacher, TeacherRecord, "The teacher in plan.json"),
        hessian=HessianSettings(
            kind=plan.hessian.kind, per_structure=plan.hessian.count or None, seed=settings.seed, codec=settings.codec
        ),
        preflight=typed(plan.preflight, Preflight, "The pre-flight check in plan.json"),
        subset=typed(subset, Subset, "The subset in plan.json"),
        splits=typed(splits, SplitSettings, "The splits in plan.json"),
        licenses=typed(licenses, LicenseSettings, "The licences in plan.json"),
        quarantine=rows,
    )
