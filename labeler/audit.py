"""Does a label set hold what its teacher says? Label random structures of it anew and compare.

First the shards that are read are verified against the manifest, then the teacher: other weights end the audit, other versions
are listed. What may differ is in data/labelsets/agreement.py. The structures are those with the smallest hash of (seed, id), from
all over the set; the seed is drawn anew for each audit, and printed, so that nobody who makes a set knows which ones will be looked at.
Of a set of which a share f is false, n structures miss all of it with the probability (1 - f)^n.

A manifest is a stranger's text: nothing that it names is run. It may name teachers that come with hdistill and no others; calculators,
files, students and packages are typed by the user, as are arguments.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdistill.data.errors import InputError, LabelSetError, TeacherError
from hdistill.data.format.records import Manifest
from hdistill.data.format.shard import Sample, decode, select
from hdistill.data.format.shard_file import open_shard, read_arrays
from hdistill.data.labelsets import agreement
from hdistill.data.labelsets.label_set import LabelSet, open_label_set, verify_shard
from hdistill.data.labelsets.provenance import DECIDING
from hdistill.data.structure import Labels
from hdistill.data.support.typed import as_json

from .planning import differences as by_difference
from .planning.checks import labels_problem
from .planning.prepare import loaded
from .process.batching import n_pairs, pack
from .process.host import DEADLINE_S, HostSettings, TeacherHost
from .teachers import registry
from .teachers.contract import TeacherRequest
from .work.bisection import Failure, label_with_bisection

BATCH_PAIRS = 4096
Say = Callable[[str], None]


@dataclass(frozen=True)
class AuditSettings:
    """n structures, by a seed that is drawn anew where it is None.

    teacher: its name where the manifest's is not one that comes with hdistill (a file, a calculator, a student), with `arguments`
    as they were given to `label`.
    """

    n: int = 20
    seed: int | None = None
    teacher: str | None = None
    arguments: tuple[str, ...] = ()
    teacher_python: Path | None = None
    device: str = "cpu"
    threads: int = 1
    deadline_s: float = DEADLINE_S


def audit(path: Path, settings: AuditSettings = AuditSettings(), say: Say = print) -> dict[str, Any]:
    """Label n random structures anew; returns the differences of each quantity, and "agrees", true only if all do.

    Raises InputError, LabelSetError (a shard that is not the manifest's), TeacherError (other weights; it does not load).
    """
    if settings.n < 1:
        raise InputError(f"--n was {settings.n}; it takes a number of structures, 1 or more.")
    labels = open_label_set(path, check=False)
    request = request_of(labels.manifest, settings, say)
    seed = secrets.randbits(32) if settings.seed is None else settings.seed
    samples = draw_samples(labels, settings.n, seed)
    say(f"Auditing {len(samples)} of {labels.manifest.counts.n_structures} structures, drawn with --seed {seed}.")
    host = TeacherHost(HostSettings(request, settings.teacher_python, settings.threads, settings.deadline_s))
    try:
        noted = same_teacher(as_json(labels.manifest.teacher), loaded(host).as_json())
        for line in noted:
            say(line)
        answers = label_again(host, samples, labels.manifest.teacher.hessian_method)
    finally:
        host.close()
    return compare(labels, samples, answers) | {"noted": noted, "path": str(path), "seed": seed}


def request_of(manifest: Manifest, settings: AuditSettings, say: Say = print) -> TeacherRequest:
    """The teacher that a manifest names, as a request; of a stranger's words only names that come with hdistill are taken.

    Raises InputError for reference data, which has no teacher, and for any other name, which the user must type.
    """
    teacher = manifest.teacher
    if teacher.family == "reference":
        raise InputError(
            "These are reference data, not a teacher's labels; there is no teacher that could be asked again."
        )
    name = settings.teacher
    if name is None:
        name = teacher.name
        if not registry.is_built_in(name):
            raise InputError(
                f"The manifest names the teacher {name!r}, which does not come with hdistill: to run it would run whatever its author "
                "wants. If you trust it, type its name yourself, with --teacher, and its arguments, if any, with --argument."
            )
    request = registry.request(
        name, teacher.task, teacher.dtype, settings.device, registry.parse_arguments(settings.arguments)
    )
    stated = teacher.arguments
    if stated != request.arguments:
        raise InputError(
            f"The set was labelled with the arguments {stated} and the audit was given {request.arguments}; type those you trust, "
            "each as --argument NAME=VALUE."
        )
    if request.model.endswith((".model", ".pt", ".pth")):
        say(
            f"Remark: {Path(request.model).name} is a pickle, which can run code when it is loaded; use files of people you trust."
        )
    return replace(request, atom_energies=False, node_features=False)


def order_key(seed: int, structure_id: str) -> bytes:
    """Puts structures in a random order that has nothing to do with the order of a plan, whatever the seed of either."""
    return hashlib.blake2b(f"{seed} {structure_id}".encode(), digest_size=16, person=b"hdistill audit").digest()


def draw_samples(labels: LabelSet, n: int, seed: int) -> list[Sample]:
    """n samples from all over a set, or all where there are fewer; only shards that are needed are verified and decoded."""
    rows: list[tuple[bytes, int, int]] = []
    for number, shard in enumerate(labels.shards):
        with open_shard(shard.path) as file:
            ids: NDArray[np.uint8] = file["id"][:]
        keys = [(order_key(seed, row.tobytes().hex()), number, place) for place, row in enumerate(ids)]
        rows = sorted(rows + keys)[:n]
    if not rows:
        raise LabelSetError(f"{labels.path} has no structure to audit.")
    samples: list[Sample] = []
    for number, shard in enumerate(labels.shards):
        places = sorted(place for _, where, place in rows if where == number)
        if places:
            verify_shard(shard)
            arrays = select(read_arrays(shard.path)[0], places)
            stored = [row.tobytes().hex() for row in arrays["id"]]
            decoded = decode(arrays, 0, len(places))
            for claimed, sample in zip(stored, decoded, strict=True):
                if claimed != sample.structure.id:
                    raise LabelSetError(f"{shard.path}: structure {claimed} does not hash to its own id.")
            samples += decoded
    return samples


def same_teacher(stated: dict[str, Any], loaded: dict[str, Any]) -> list[str]:
    """Sentences on versions that differ. Raises TeacherError where the loaded teacher is another one."""
    for key in DECIDING:
        # An ASE calculator is known to be conservative only after it was asked; arguments are part of the request.
        if key in ("arguments", "conservative") or (
            key == "hessian_method" and stated.get(key) == by_difference.METHOD
        ):
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


def label_again(host: TeacherHost, samples: Sequence[Sample], hessian_method: str = "") -> list[Labels | Failure]:
    """The teacher's labels of the structures, with products of the stored directions."""
    answers: list[Labels | Failure | None] = [None] * len(samples)
    structures = [sample.structure for sample in samples]
    products = [sample.labels.hessian for sample in samples]
    sizes = [n_pairs(structure) for structure in structures]
    forward = hessian_method == by_difference.METHOD
    ask = by_difference.by_differences(host.label, BATCH_PAIRS) if forward else host.label
    for batch in pack(sizes, BATCH_PAIRS):
        directions = [None if (p := products[i]) is None else p.directions for i in batch]
        again = label_with_bisection(ask, [structures[i] for i in batch], directions, [sizes[i] for i in batch])
        for i, answer in zip(batch, again, strict=True):
            answers[i] = _checked(answer, structures[i].n_atoms)
    return [answer for answer in answers if answer is not None]


def _checked(answer: Labels | Failure, n_atoms: int) -> Labels | Failure:
    """Labels that cannot be compared are a failure of the teacher, as they are when a set is made."""
    if isinstance(answer, Failure):
        return answer
    problem = labels_problem(answer, False, n_atoms)
    return answer if problem is None else Failure("bad labels", problem, 1)


def compare(labels: LabelSet, samples: Sequence[Sample], answers: Sequence[Labels | Failure]) -> dict[str, Any]:
    """What `hdistill labels audit` shows: for each quantity how many agree, and the worst structure by name."""
    teacher_record = labels.manifest.teacher
    allowed = by_difference.widened(
        agreement.tolerance(labels.manifest), teacher_record.hessian_method, teacher_record.dtype
    )
    quantities: dict[str, dict[str, Any]] = {}
    failures = []
    for sample, again in zip(samples, answers, strict=True):
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
            share = difference.size / difference.allowed if np.isfinite(difference.size) else np.inf
            if share > row["share"]:
                worst = {"id": sample.structure.id, "group": sample.structure.group}
                row |= {"share": share, "worst": difference.size, "allowed": difference.allowed, **worst}
    for row in quantities.values():
        del row["share"]
    agrees = not failures and not any(row["n_outside"] for row in quantities.values())
    teacher = teacher_record.name
    return {"agrees": agrees, "n": len(samples), "teacher": teacher, "quantities": quantities, "failures": failures}
