"""Does a label set hold what its teacher says? Label random structures of it anew and compare.

First the shards that are read are verified against the manifest, then the teacher: other weights end the audit, other versions
are listed. What may differ is in data/agreement.py. The structures are those with the smallest hash of (seed, id), from all over
the set, so that nobody who makes a set knows which ones a stranger will look at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdistill.data.errors import InputError, LabelSetError, TeacherError
from hdistill.data.format.manifest import Manifest
from hdistill.data.format.shard import Sample, decode, select
from hdistill.data.format.shard_file import open_shard, read_arrays
from hdistill.data.labelsets import agreement
from hdistill.data.labelsets.label_set import LabelSet, open_label_set, verify_shard
from hdistill.data.labelsets.provenance import DECIDING
from hdistill.data.sources.select import order_key
from hdistill.data.structure import Labels
from hdistill.data.support.typed import as_json

from .process.batching import edges, pack
from .process.host import HostSettings, TeacherHost
from .teachers import registry as catalogue
from .teachers.contract import TeacherRequest
from .work.chunk import Failure, label_or_name

BATCH_EDGES = 4096
Say = Callable[[str], None]


@dataclass(frozen=True)
class AuditSettings:
    """n structures, by seed; the teacher's name where the manifest's is not at hand (a checkpoint of another path)."""

    n: int = 20
    seed: int = 0
    teacher: str | None = None
    teacher_python: Path | None = None
    device: str = "cpu"
    threads: int = 1


def audit(path: Path, settings: AuditSettings = AuditSettings(), say: Say = print) -> dict[str, Any]:
    """Label n random structures anew; returns the differences of each quantity, and "agrees", true only if all do.

    Raises InputError, LabelSetError (a shard that is not the manifest's), TeacherError (other weights; it does not load).
    """
    if settings.n < 1:
        raise InputError(f"--n was {settings.n}; it takes a number of structures, 1 or more.")
    labels = open_label_set(path, check=False)
    request = request_of(labels.manifest, settings)
    samples = draw_samples(labels, settings.n, settings.seed)
    host = TeacherHost(HostSettings(request, settings.teacher_python, settings.threads))
    try:
        noted = same_teacher(as_json(labels.manifest.teacher), host.info.as_json())
        for line in noted:
            say(line)
        found = label_again(host, samples)
    finally:
        host.close()
    return compare(labels, samples, found) | {"noted": noted, "path": str(path)}


def request_of(manifest: Manifest, settings: AuditSettings) -> TeacherRequest:
    """The teacher that a manifest names, as a request. Raises InputError for reference data, which has none."""
    teacher = manifest.teacher
    if teacher.family == "reference":
        raise InputError(
            "These are reference data, not a teacher's labels; there is no teacher that could be asked again."
        )
    name = settings.teacher or teacher.name
    return catalogue.request(name, teacher.task, teacher.dtype, settings.device, teacher.arguments)


def draw_samples(labels: LabelSet, n: int, seed: int) -> list[Sample]:
    """n samples from all over a set, or all where there are fewer; only shards that are needed are verified and decoded."""
    rows: list[tuple[int, int, int]] = []
    for number, shard in enumerate(labels.shards):
        with open_shard(shard.path) as file:
            ids: NDArray[np.uint8] = file["id"][:]
        keys = [(order_key(seed, row.tobytes().hex()), number, place) for place, row in enumerate(ids)]
        rows = sorted(rows + keys)[:n]
    if not rows:
        raise LabelSetError(f"{labels.path} has no structure to audit.")
    samples: list[Sample] = []
    for number, shard in enumerate(labels.shards):
        mine = sorted(place for _, where, place in rows if where == number)
        if mine:
            verify_shard(shard)
            arrays = select(read_arrays(shard.path)[0], mine)
            stored = [row.tobytes().hex() for row in arrays["id"]]
            found = decode(arrays, 0, len(mine))
            for claimed, sample in zip(stored, found, strict=True):
                if claimed != sample.structure.id:
                    raise LabelSetError(f"{shard.path}: structure {claimed} does not hash to its own id.")
            samples += found
    return samples


def same_teacher(stated: dict[str, Any], loaded: dict[str, Any]) -> list[str]:
    """Sentences on versions that differ. Raises TeacherError where the loaded teacher is another one."""
    for key in DECIDING:
        # An ASE calculator is known to be conservative only after it was asked; arguments are part of the request.
        if key in ("arguments", "conservative"):
            continue
        if (stated.get(key) or None) != (loaded.get(key) or None):
            raise TeacherError(
                f"The set was labelled by another teacher: {key} was {stated.get(key)} and of the loaded one is "
                f"{loaded.get(key)}; name the right one with --teacher or --teacher-python."
            )
    versions = stated["versions"], loaded["versions"]
    names = sorted(name for name in {*versions[0], *versions[1]} if versions[0].get(name) != versions[1].get(name))
    noted = [f"{name} was {versions[0].get(name)}, here it is {versions[1].get(name)}." for name in names]
    if stated["device"] != loaded["device"]:
        noted.append(f"device was {stated['device']}, here it is {loaded['device']}.")
    return noted


def label_again(host: TeacherHost, samples: Sequence[Sample]) -> list[Labels | Failure]:
    """The teacher's labels of the structures, with products of the stored directions."""
    found: list[Labels | Failure | None] = [None] * len(samples)
    structures = [sample.structure for sample in samples]
    products = [sample.labels.hessian for sample in samples]
    sizes = [edges(structure) for structure in structures]
    for batch in pack(sizes, BATCH_EDGES):
        directions = [None if (p := products[i]) is None else p.directions for i in batch]
        again = label_or_name(host.label, [structures[i] for i in batch], directions, [sizes[i] for i in batch])
        for i, labels in zip(batch, again, strict=True):
            found[i] = labels
    return [labels for labels in found if labels is not None]


def compare(labels: LabelSet, samples: Sequence[Sample], found: Sequence[Labels | Failure]) -> dict[str, Any]:
    """What `hdistill labels audit` shows: for each quantity how many agree, and the worst structure by name."""
    allowed = agreement.tolerance(labels.manifest)
    quantities: dict[str, dict[str, Any]] = {}
    failures = []
    for sample, again in zip(samples, found, strict=True):
        if isinstance(again, Failure):
            failures.append({"id": sample.structure.id, "reason": again.reason, "text": again.text})
            continue
        for difference in agreement.compare(sample.labels, again, allowed):
            row = quantities.setdefault(
                difference.quantity,
                {"unit": agreement.UNITS[difference.quantity], "n": 0, "n_outside": 0, "share": -1.0},
            )
            row["n"] += 1
            row["n_outside"] += not difference.agrees
            share = difference.found / difference.allowed if np.isfinite(difference.found) else np.inf
            if share > row["share"]:
                worst = {"id": sample.structure.id, "group": sample.structure.group}
                row |= {"share": share, "worst": difference.found, "allowed": difference.allowed, **worst}
    for row in quantities.values():
        del row["share"]
    agrees = not failures and not any(row["n_outside"] for row in quantities.values())
    teacher = labels.manifest.teacher.name
    return {"agrees": agrees, "n": len(samples), "teacher": teacher, "quantities": quantities, "failures": failures}
