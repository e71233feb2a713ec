"""What is to be labelled, decided once: an immutable plan with a digest, and what of it is still missing.

DIR/plan.json                 this plan
DIR/spool/                    the selected structures, in the plan's order
DIR/chunks/000123.h5          labels of one chunk; the only truth while a run is going on
DIR/quarantine/000123-<sha8>.json    structures of that chunk that could not be labelled, with reasons; the chunk names it
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hdistill.data.errors import InputError, LabelSetError, PlanMismatch
from hdistill.data.format.codec import Codec
from hdistill.data.probes import HessianSpec, parse_spec
from hdistill.data.structure import Structure
from hdistill.data.support.publish import publish
from hdistill.data.support.strict_json import loads

from ..process.batching import cut_greedily
from ..teachers import registry
from ..teachers.contract import TeacherRequest
from . import differences, spool
from .spool import Spool

PLAN = "plan.json"
VERSION = 2  # of plans and spools: 2 has the ids in the spool's index, and a digest that does not know where files lie
CHUNK_STRUCTURES = 64
CHUNK_BATCHES = 4
FEW_CHUNKS, MANY_CHUNKS = 1_000, 100_000
CHUNK_EDGES = 8192  # a chunk is what a kill can lose and how often the bar moves: seconds to a minute of a slow teacher


@dataclass(frozen=True)
class LabelSettings:
    """What is labelled, by what, and how: everything that decides the bytes of the label set."""

    teacher: str
    subset: tuple[str, ...]
    where: str | None = None
    limit: int | None = None
    hessian: str = "probes:4"
    codec: Codec = "compact"
    seed: int = 0
    splits: str = "0.8,0.1,0.1"
    task: str | None = None
    dtype: Literal["float32", "float64"] = "float32"
    arguments: tuple[str, ...] = ()  # NAME=VALUE for the class of ase:module.Class
    atom_energies: bool | None = None  # None: where the teacher has them for nothing
    node_features: bool = False
    device: str = "cpu"
    batch_edges: int | None = (
        None  # pairs of atoms within 5 A that the teacher takes at once; None: by device and memory
    )
    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    group_key: str | None = None
    not_in: tuple[str, ...] = ()  # label sets whose structures are left out
    diverse: int | None = None  # so many that differ most
    products: Literal["autograd", "difference", "auto"] | None = (
        None  # how Hessian ones are made; None: autograd, or as the set has
    )


@dataclass(frozen=True)
class Plan:
    """Immutable. `teacher` is TeacherInfo as JSON, `inputs` the source files (name, bytes, sha256)."""

    settings: LabelSettings
    teacher: dict[str, Any]
    inputs: list[dict[str, Any]]
    source: dict[str, Any]  # what the source said: counts, keys taken, licence and citation of the structures
    spool: Spool
    chunk_starts: list[int]  # ascending; chunk i is starts[i]:starts[i+1] of the spool
    batch_edges: int  # pairs of atoms within 5 A that the teacher takes at once, at most
    preflight: dict[str, Any]

    @property
    def hessian(self) -> HessianSpec:
        return parse_spec(self.settings.hessian)

    @cached_property  # some 0.2 s where there are a hundred thousand chunks, each of which asks for it
    def digest(self) -> str:
        """sha256 of all that decides the labels; neither the pre-flight figures do, nor where the files lie."""
        content = {k: v for k, v in _as_json(self).items() if k != "preflight"}
        content["settings"] = _without_folders(self.settings)
        content["teacher"]["name"] = base_name(content["teacher"]["name"])
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def asking(self, label: differences.Label) -> differences.Label:
        """A teacher's `label` with products made as this plan says."""
        if self.teacher["hessian_method"] != differences.METHOD:
            return label
        return differences.by_differences(label, self.batch_edges)

    @property
    def n_chunks(self) -> int:
        return len(self.chunk_starts) - 1


def request_of(settings: LabelSettings) -> TeacherRequest:
    """What the teacher process is asked to load. Raises InputError."""
    arguments = registry.parse_arguments(settings.arguments)
    request = registry.request(settings.teacher, settings.task, settings.dtype, settings.device, arguments)
    return replace(request, atom_energies=settings.atom_energies, node_features=settings.node_features)


def cut(n_pairs: np.ndarray, batch_edges: int = 0) -> list[int]:
    """Boundaries of chunks: at most so many structures and pairs as chunk_size says (one structure always fits)."""
    max_structures, max_pairs = chunk_size(len(n_pairs), int(n_pairs.sum()), batch_edges)
    return [*cut_greedily(n_pairs.tolist(), max_pairs, max_structures), len(n_pairs)]


def chunk_size(n_structures: int, n_pairs: int, batch_edges: int) -> tuple[int, int]:
    """Structures and pairs that a chunk may have: CHUNK_STRUCTURES and CHUNK_EDGES, and more where there are very many.

    A chunk should hold several batches of a GPU, once there are chunks enough to share out; and there should not be so many that
    their files are a burden to the file system and their list to the plan.
    """
    several = min(CHUNK_BATCHES * batch_edges, n_pairs // FEW_CHUNKS)
    pairs = max(CHUNK_EDGES, several, n_pairs // MANY_CHUNKS)
    return max(CHUNK_STRUCTURES * pairs // CHUNK_EDGES, n_structures // MANY_CHUNKS), pairs


def save(plan: Plan, folder: Path) -> Plan:
    """Publish a plan in its folder; where another labeler was first, its plan must be the same one. Returns what stands."""
    text = json.dumps({"digest": plan.digest, **_as_json(plan)}, indent=1)
    published = publish(folder / PLAN, text.encode())
    standing = load(folder)
    if not published:
        require_same(standing, plan, folder)
    return standing


def load(folder: Path) -> Plan:
    """The plan in a folder. Raises LabelSetError where it is damaged or of another version."""
    try:
        content = loads((folder / PLAN).read_bytes())
        stated = content.pop("digest")
        if content.pop("version", None) != VERSION:
            raise LabelSetError(f"{folder / PLAN} is of another version of hdistill; label into a new directory.")
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content["settings"].items()}
        spooled = content["spool"] | {"elements": {int(z): n for z, n in content["spool"]["elements"].items()}}
        plan = Plan(**(content | {"settings": LabelSettings(**settings), "spool": Spool(**spooled)}))
        digest = plan.digest
        if not isinstance(plan.preflight, dict):  # which the digest leaves out
            raise TypeError("preflight")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, InputError) as error:
        raise LabelSetError(f"{folder / PLAN} is damaged ({error!r}); label into a new directory.") from error
    if digest != stated:
        raise LabelSetError(f"{folder / PLAN} was changed after it was made; label into a new directory.")
    return plan


def load_cached(folder: Path) -> Plan:
    """The plan in a folder, parsed once a process: workers ask for it at every chunk.

    A worker of a long-lived cluster may see one folder with one plan today and, emptied, with another tomorrow: the file's
    time tells them apart.
    """
    return _load_of(folder, (folder / PLAN).stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _load_of(folder: Path, changed_ns: int) -> Plan:
    return load(folder)


def require_same_settings(standing: Plan, settings: LabelSettings, folder: Path) -> None:
    """Raise PlanMismatch that names the first setting in which the folder's plan differs; a file may be called by any path."""
    before, now = _without_folders(standing.settings), _without_folders(settings)
    if settings.atom_energies is None:  # no wish: those of the plan, which may be of before they were the default
        now["atom_energies"] = before["atom_energies"]
    for field in fields(LabelSettings):
        if before.get(field.name) != now.get(field.name):
            had, has = getattr(standing.settings, field.name), getattr(settings, field.name)
            raise PlanMismatch(
                f"{folder} was begun with {field.name} = {_shown(had)} and now {field.name} = {_shown(has)}; "
                "give the same command to continue, or another -o directory."
            )


def _without_folders(settings: LabelSettings) -> dict[str, Any]:
    """Settings with files by their names alone: what is in them is in the plan's `inputs` and the teacher's hash."""
    named = {key: [base_name(text) for text in getattr(settings, key)] for key in ("subset", "not_in")}
    content: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    if settings.diverse is None:
        del content["diverse"]  # plans of before it came have the same digest
    if settings.products in (None, "autograd"):
        del content["products"]
    return content | named | {"teacher": base_name(settings.teacher)}


def base_name(text: str) -> str:
    """A file by its last name, whatever stands before it: "student:./runs/a" is student:a; other texts as they are."""
    head, slash, _ = text.partition("/")
    if not slash and text not in (".", ".."):
        return text
    prefix = head[: head.rfind(":") + 1]
    return prefix + os.path.basename(os.path.abspath(text.removeprefix(prefix)))


def require_same(standing: Plan, plan: Plan, folder: Path) -> None:
    """Raise PlanMismatch unless the two plans would give the same label set."""
    require_same_settings(standing, plan.settings, folder)
    require_same_teacher(standing, plan.teacher, folder)
    if standing.digest != plan.digest:
        raise PlanMismatch(f"{folder} was begun with other input structures; give another -o directory.")


def require_same_teacher(standing: Plan, info: dict[str, Any], folder: Path) -> None:
    """Raise PlanMismatch where the teacher (weights, task, precision, package versions) is not the one of the plan."""
    info = json.loads(json.dumps(info))
    if (
        standing.teacher["hessian_method"] == differences.METHOD
    ):  # the plan's choice, of which the teacher knows nothing
        info["hessian_method"] = differences.METHOD
    for key, had in standing.teacher.items():
        # Whether an ASE calculator is conservative is found out by the pre-flight check, which a resumed run leaves out.
        if key == "conservative" or (key == "name" and base_name(info[key]) == base_name(had)):
            continue
        if info.get(key) != had:
            raise PlanMismatch(
                f"{folder} was begun with another teacher: {key} was {_shown(had)} and is now {_shown(info.get(key))}; "
                "use that teacher to continue, or another -o directory."
            )


def structures_of(plan: Plan, folder: Path, chunk: int) -> list[tuple[Structure, str]]:
    """The structures of one chunk, each with its split."""
    return spool.read(folder / "spool", plan.spool, plan.chunk_starts[chunk], plan.chunk_starts[chunk + 1])


def chunk_path(folder: Path, chunk: int) -> Path:
    return folder / "chunks" / f"{chunk:06d}.h5"


def ids_of(plan: Plan, folder: Path, chunk: int) -> list[str]:
    """The ids of the structures of one chunk. Raises LabelSetError where the spool is gone or damaged."""
    return spool.read_ids(folder / "spool", plan.spool, plan.chunk_starts[chunk], plan.chunk_starts[chunk + 1])


def quarantine_path(folder: Path, chunk: int, sha256: str) -> Path:
    """Where the quarantine of a chunk is, named by its contents: the chunk states the hash, so the two are one publication."""
    return folder / "quarantine" / f"{chunk:06d}-{sha256[:8]}.json"


def missing(plan: Plan, folder: Path) -> list[int]:
    """Chunks that are not published yet, ascending."""
    published = {path.name for path in (folder / "chunks").glob("*.h5")}
    return [chunk for chunk in range(plan.n_chunks) if chunk_path(folder, chunk).name not in published]


def _as_json(plan: Plan) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(asdict(plan)))
    return {"version": VERSION, **content}


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else text[:77] + "..."
