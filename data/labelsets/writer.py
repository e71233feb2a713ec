"""Writing a label set: the one place where shards are packed and a manifest is published, whoever labelled the structures.

    blocks of arrays ──▶ shards of SHARD_BYTES, named by their contents ──▶ counts ──▶ manifest.json, published last

Nothing is decoded, so what a codec stored stays as it is, to the byte; memory is that of one shard. The same blocks and facts give
the same bytes: no time and no machine name is written. A killed writer leaves shards that no manifest names; run it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from ..errors import LabelSetError
from ..format.manifest import read_manifest
from ..format.records import Manifest, ShardRow
from ..format.shard import concatenate
from ..format.shard_file import Arrays, image
from ..publication.documents import write_documents
from ..support.publish import publish, remove_temporaries
from ..support.typed import as_bytes
from .compose import Cost, Totals, manifest_of
from .facts import Facts as Facts, facts_of as facts_of
from .label_set import MANIFEST, SHARDS

SHARD_BYTES = 128 << 20  # of arrays in memory; what is on disk is smaller


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


def write(folder: Path, blocks: Iterable[Block], facts: Facts) -> Manifest:
    """Write shards/ and then manifest.json into a folder; returns the manifest.

    A manifest that is there is replaced at the very end, so the set it describes stays valid until then; its shards are not
    touched. Raises OSError where the disk is full or the folder cannot be written, LabelSetError where structures that were planned
    (facts.planned) are neither labelled nor in quarantine.
    """
    totals = Totals()
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
    manifest = manifest_of(facts, shards, totals)
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


def finished(folder: Path, plan: str) -> Manifest | None:
    """The manifest of a set that was made of this plan before and is complete: whoever was killed at the very end is done.

    What was left over is removed, where the folder can be written. Raises LabelSetError where another set is there.
    """
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        if manifest.plan == plan and not (folder / "plan.json").exists():
            with suppress(PermissionError):
                sweep(folder, manifest)
            return manifest
    require_free(folder)
    return None


def sweep(folder: Path, manifest: Manifest) -> None:
    """Remove what a killed writer or a replaced manifest left: shards that the manifest does not name, temporary files."""
    remove_temporaries(folder)
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
