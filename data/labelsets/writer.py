"""Writing a label set: the one place where shards are packed and a manifest is made, whoever labelled the structures.

    blocks of arrays ──▶ shards of SHARD_BYTES, named by their contents ──▶ counts ──▶ manifest.json, published last

Nothing is decoded, so what a codec stored stays as it is, to the byte; memory is that of one shard. The same blocks and facts give
the same bytes: no time and no machine name is written. A killed writer leaves shards that no manifest names; run it again.
"""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from ..errors import LabelSetError
from ..format.manifest import (
    Counts,
    HessianRecord,
    HessianSettings,
    History,
    Licenses,
    LicenseSettings,
    Manifest,
    Preflight,
    QuarantineRow,
    ShardRow,
    Splits,
    SplitSettings,
    Subset,
    TeacherRecord,
)
from ..format.migrate import MANIFEST_VERSION
from ..format.schema import FORMAT, MAX_QUARANTINE_ROWS, SIGN, SPLITS, SplitName
from ..format.shard import concatenate
from ..format.shard_file import Arrays, image, open_shard
from ..publication.documents import write_documents
from ..publication.licences import labels_licence
from ..support.publish import publish
from ..support.typed import as_bytes
from .label_set import MANIFEST, SHARDS

SHARD_BYTES = 128 << 20  # of arrays in memory; what is on disk is smaller
UNITS = {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3 (ASE sign)", "hessian": "eV/A^2", "length": "A"}
MAX_TEXT = 400  # characters of why a structure is in quarantine; quarantine/ has all of them


@dataclass(frozen=True)
class Block:
    """Arrays of some structures, and what the codec cost their products: sum and maximum of the relative errors.

    n_computed: how many products the teacher computed, where symmetry gave the others; None: not known.
    """

    arrays: Arrays
    error_sum: float = 0.0
    error_max: float = 0.0
    n_computed: int | None = None

    @property
    def cost(self) -> Cost:
        return Cost(self.error_sum, self.error_max, self.n_computed)


class Cost(NamedTuple):
    """error_sum, error_max and n_computed of one block, or of several together."""

    error_sum: float = 0.0
    error_max: float = 0.0
    n_computed: int | None = 0

    def plus(self, other: Cost) -> Cost:
        known = self.n_computed is not None and other.n_computed is not None
        computed = (self.n_computed or 0) + (other.n_computed or 0) if known else None
        return Cost(self.error_sum + other.error_sum, max(self.error_max, other.error_max), computed)


@dataclass(frozen=True)
class Facts:
    """What is known of a label set besides its arrays, as the manifest states it.

    plan identifies what was wanted; quarantine has a row for each structure without labels; history is where the set came from
    when it was made of others or in several passes.
    """

    plan: str
    teacher: TeacherRecord
    hessian: HessianSettings
    preflight: Preflight
    subset: Subset
    splits: SplitSettings
    licenses: LicenseSettings
    quarantine: Sequence[QuarantineRow] = ()
    history: History | None = None


def facts_of(manifest: Manifest) -> Facts:
    """The facts that a manifest was made of: what a set that is made of this one keeps."""
    return Facts(
        plan=manifest.plan,
        teacher=manifest.teacher,
        hessian=manifest.hessian,
        preflight=manifest.preflight,
        subset=manifest.subset,
        splits=manifest.splits,
        licenses=manifest.licenses,
        quarantine=manifest.quarantine,
        history=manifest.history,
    )


def write(folder: Path, blocks: Iterable[Block], facts: Facts) -> Manifest:
    """Write shards/ and then manifest.json into a folder; returns the manifest.

    A manifest that is there is replaced at the very end, so the set it describes stays valid until then; its shards are not
    touched. Raises OSError where the disk is full or the folder cannot be written.
    """
    totals = _Totals()
    shards = []
    for number, (arrays, cost) in enumerate(pack(blocks)):
        data = image(arrays, {"plan": facts.plan})
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{number:05d}-{sha256[:8]}.h5"
        publish(folder / SHARDS / name, data)
        totals.add(arrays, cost, folder / SHARDS / name)
        shards.append(
            ShardRow(
                name=name,
                bytes=len(data),
                sha256=sha256,
                n_structures=len(arrays["id"]),
                n_atoms=len(arrays["numbers"]),
                n_products=int(arrays["product_offsets"][-1]),
            )
        )
    manifest = _manifest(facts, shards, totals)
    publish_manifest(folder, manifest)
    return manifest


def publish_manifest(folder: Path, manifest: Manifest) -> None:
    """The last step of every label set. What is made from the manifest for people and for other programs goes before it."""
    data = as_bytes(manifest)
    write_documents(folder, data)
    publish(folder / MANIFEST, data, replace=True)


def require_free(folder: Path) -> None:
    """Raise LabelSetError unless a new label set may be written there: a finished one and a begun one are left alone."""
    if folder.exists() and not folder.is_dir():
        raise LabelSetError(f"{folder} is a file; -o takes a directory.")
    for name in (MANIFEST, "plan.json"):
        if (folder / name).exists():
            raise LabelSetError(f"{folder} holds a label set already ({name}); give another -o directory.")


def sweep(folder: Path, manifest: Manifest) -> None:
    """Remove files in shards/ that the manifest does not name: what a killed writer or a replaced manifest left."""
    named = {row.name for row in manifest.shards}
    for path in (folder / SHARDS).iterdir() if (folder / SHARDS).is_dir() else ():
        if path.name not in named:
            path.unlink(missing_ok=True)


def pack(blocks: Iterable[Block]) -> Iterator[tuple[Arrays, Cost]]:
    """Arrays of one shard after the other, each with what its products cost. Empty blocks are left out."""
    waiting: list[Block] = []
    size = 0
    for block in blocks:
        if len(block.arrays["id"]) == 0:
            continue
        n_bytes = sum(array.nbytes for array in block.arrays.values())
        if waiting and size + n_bytes > SHARD_BYTES:
            yield _joined(waiting)
            waiting, size = [], 0
        waiting.append(block)
        size += n_bytes
    if waiting:
        yield _joined(waiting)


def _joined(blocks: list[Block]) -> tuple[Arrays, Cost]:
    return concatenate([block.arrays for block in blocks]), reduce(Cost.plus, [block.cost for block in blocks])


class _Totals:
    """Counts over the shards of a set."""

    def __init__(self) -> None:
        self.structures = self.atoms = self.products = self.elements_stored = self.hessian_bytes = 0
        self.cost = Cost()
        self.elements: Counter[int] = Counter()
        self.groups: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self.splits: Counter[SplitName] = Counter()

    def add(self, arrays: Arrays, cost: Cost, path: Path) -> None:
        atoms, products = np.diff(arrays["atom_offsets"]), np.diff(arrays["product_offsets"])
        self.structures += len(arrays["id"])
        self.atoms += len(arrays["numbers"])
        self.products += int(products.sum())
        self.elements_stored += int((3 * atoms * products).sum())
        self.cost = self.cost.plus(cost)
        owner = np.repeat(np.arange(len(arrays["id"])), atoms)
        pairs = np.unique(np.stack([owner, arrays["numbers"].astype(np.int64)]), axis=1)
        self.elements.update(pairs[1].tolist())
        # 64 bits of a hash for each group: names of ten million molecules would not be small.
        self.groups = np.union1d(self.groups, group_keys(np.unique(arrays["group"])))
        self.splits.update(SPLITS[i] for i in arrays["split"].tolist())
        with open_shard(path) as file:
            self.hessian_bytes += sum(file.stored_bytes(n) for n in file if n.startswith("hessian_"))


def group_keys(groups: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """64 bits of a hash for each group's name."""
    names, inverse = np.unique(groups, return_inverse=True)
    keys = [int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) for name in names.tolist()]
    return np.array(keys, np.uint64)[inverse] if keys else np.zeros(0, np.uint64)


def _manifest(facts: Facts, shards: Sequence[ShardRow], totals: _Totals) -> Manifest:
    """Everything a stranger needs to know of the set."""
    licence = labels_licence(facts.licenses.structures, facts.licenses.weights, facts.licenses.weights_class)
    return Manifest(
        format=FORMAT,
        version=MANIFEST_VERSION,
        plan=facts.plan,
        units=UNITS,
        sign=SIGN,
        teacher=facts.teacher,
        hessian=HessianRecord(
            kind=facts.hessian.kind,
            per_structure=facts.hessian.per_structure,
            seed=facts.hessian.seed,
            codec=facts.hessian.codec,
            n_products=totals.products,
            n_elements=totals.elements_stored,
            n_computed=totals.cost.n_computed,
            codec_error_mean=totals.cost.error_sum / totals.products if totals.products else 0.0,
            codec_error_max=totals.cost.error_max,
            bytes=totals.hessian_bytes,
            bytes_per_element=totals.hessian_bytes / totals.elements_stored if totals.elements_stored else None,
        ),
        preflight=facts.preflight,
        subset=facts.subset,
        counts=Counts(
            n_structures=totals.structures,
            n_atoms=totals.atoms,
            n_groups=len(totals.groups),
            n_quarantined=len(facts.quarantine),
            elements={str(z): n for z, n in sorted(totals.elements.items())},
        ),
        splits=Splits(
            fractions=facts.splits.fractions,
            seed=facts.splits.seed,
            by=facts.splits.by,
            n_structures={name: totals.splits[name] for name in SPLITS},
        ),
        quarantine=tuple(_shortened(row) for row in facts.quarantine[:MAX_QUARANTINE_ROWS]),
        licenses=Licenses(
            structures=facts.licenses.structures,
            weights=facts.licenses.weights,
            weights_class=facts.licenses.weights_class,
            code=facts.licenses.code,
            labels=licence.id,
            labels_class=licence.license_class,
            labels_why=licence.why,
        ),
        environment={
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in ("hdistill", "numpy", "h5py")},
        },
        history=facts.history,
        shards=tuple(shards),
    )


def _shortened(row: QuarantineRow) -> QuarantineRow:
    return replace(row, text=row.text[:MAX_TEXT])
