"""Published chunks to shards and a manifest: the last step of a run, which may be repeated until it succeeds.

The books must balance: the ids of a chunk and of its quarantine are together exactly those that the plan has there, each once.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hdistill.data.errors import LabelSetError
from hdistill.data.format.records import (
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
from hdistill.data.labelsets.balance import id_sum, plus
from hdistill.data.labelsets.writer import Block, Facts, write
from hdistill.data.support.strict_json import loads
from hdistill.data.support.typed import typed

from ..planning.differences import without_figures
from ..planning.plan import Plan, base_name, chunk_path, ids_of, quarantine_path
from ..teachers import registry


class ChunkDamaged(LabelSetError):
    """A published chunk is not what this plan wants there: torn, of another plan or place, short, or without its quarantine."""

    def __init__(self, chunk: int, path: Path, problem: str):
        super().__init__(f"{path} {problem}.")
        self.chunk = chunk
        self.path = path


def finish(folder: Path, plan: Plan) -> Manifest:
    """Write shards and manifest.json of a plan whose chunks are all published; clear_up() then removes what they replace.

    Raises ChunkDamaged before anything that stands is removed.
    """
    rows: list[QuarantineRow] = []
    files: set[Path] = set()

    def blocks() -> Iterator[Block]:
        for chunk in range(plan.n_chunks):
            block, quarantined, file = read_chunk(folder, plan, chunk)
            rows.extend(quarantined)
            files.update([file] if file else [])
            yield block

    planned = plus(*(id_sum(ids_of(plan, folder, chunk)) for chunk in range(plan.n_chunks)))
    manifest = write(folder, blocks(), replace(facts(plan, rows), planned=planned))  # blocks fill the rows as they go
    for path in (folder / "quarantine").glob("*.json"):  # of attempts that another one was quicker than
        if path not in files:
            path.unlink(missing_ok=True)
    return manifest


def clear_up(folder: Path) -> None:
    """Remove what the shards of a finished label set replace: also what a labeler left that was killed after it wrote the
    manifest, or that was slower than the one that wrote it and published a chunk afterwards."""
    for done in ("chunks", "spool"):
        shutil.rmtree(folder / done, ignore_errors=True)


def damaged_chunks(folder: Path, plan: Plan) -> list[ChunkDamaged]:
    """What is wrong with the published chunks of a plan; chunks that are not there are left out."""
    problems = []
    for chunk in range(plan.n_chunks):
        if chunk_path(folder, chunk).exists():
            try:
                read_chunk(folder, plan, chunk)
            except ChunkDamaged as problem:
                problems.append(problem)
    return problems


def read_chunk(folder: Path, plan: Plan, chunk: int) -> tuple[Block, list[QuarantineRow], Path | None]:
    """A published chunk, the rows of its quarantine and their file. Raises ChunkDamaged."""
    path = chunk_path(folder, chunk)
    try:
        arrays, attributes = read_arrays(path)
        stated = attributes.get("plan"), attributes.get("chunk")
        sha256 = str(attributes["quarantine"])
        errors = float(attributes["codec_error_sum"]), float(attributes["codec_error_max"])
        block = Block(arrays, *errors, int(attributes["n_computed"]))
    except FileNotFoundError:
        raise
    except (LabelSetError, LookupError, TypeError, ValueError) as error:
        if not path.exists():
            raise FileNotFoundError(2, "No such chunk", str(path)) from error
        raise ChunkDamaged(chunk, path, f"is damaged ({error})") from error
    if stated != (plan.digest, chunk):
        raise ChunkDamaged(chunk, path, "is of another plan or another place")
    file = quarantine_path(folder, chunk, sha256) if sha256 else None
    rows = _rows(file, sha256, chunk, path) if file else []
    ids = [row.tobytes().hex() for row in arrays["id"]]
    if sorted([*ids, *(row.id for row in rows)]) != sorted(ids_of(plan, folder, chunk)):
        raise ChunkDamaged(chunk, path, "and its quarantine do not hold exactly the structures that the plan has there")
    return block, rows, file


def _rows(file: Path, sha256: str, chunk: int, path: Path) -> list[QuarantineRow]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ChunkDamaged(chunk, path, f"lacks its quarantine {file.name} ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ChunkDamaged(chunk, path, f"has a quarantine that was changed ({file.name})")
    names = QuarantineRow.__struct_fields__
    return [QuarantineRow(**{name: row[name] for name in names}) for row in loads(data)]


def facts(plan: Plan, rows: list[QuarantineRow]) -> Facts:
    """What a plan says of its label set. Raises LabelSetError for a plan that was changed by hand.

    Files are called by their names, not by where they lie on somebody's disk.
    """
    settings = plan.settings
    named = {"name": base_name(plan.teacher["name"]), "arguments": registry.parse_arguments(settings.arguments)}
    subset = {
        "names": [base_name(name) for name in settings.subset],
        "where": settings.where,
        "limit": settings.limit,
        "diverse": settings.diverse,
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
        teacher=typed({**plan.teacher, **named}, TeacherRecord, "The teacher in plan.json"),
        hessian=HessianSettings(
            kind=plan.hessian.kind, per_structure=plan.hessian.count or None, seed=settings.seed, codec=settings.codec
        ),
        preflight=typed(without_figures(plan.preflight), Preflight, "The pre-flight check in plan.json"),
        subset=typed(subset, Subset, "The subset in plan.json"),
        splits=typed(splits, SplitSettings, "The splits in plan.json"),
        licenses=typed(licenses, LicenseSettings, "The licences in plan.json"),
        quarantine=rows,
    )
