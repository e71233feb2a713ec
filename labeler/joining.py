"""The arrays of a label set and of a later pass, put together: more products of the same structures, or more structures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hdistill.data.convert import merge
from hdistill.data.errors import HDistillError, PlanMismatch
from hdistill.data.format.schema import SPLITS
from hdistill.data.format.shard import append_products, concatenate, decode, packed_ids, select, without_products
from hdistill.data.format.shard_file import Arrays, open_shard, read_arrays
from hdistill.data.labelsets import agreement, writer
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.labelsets.split import parse_fractions, split_of

AT_ONCE = 1024  # structures that are decoded together


class TeacherDrifted(HDistillError):
    """The teacher no longer says of a structure what it said in an earlier pass."""


def require_no_drift(old: LabelSet, new: LabelSet) -> dict[str, float]:
    """Largest difference of energies and forces between the passes. Raises TeacherDrifted."""
    allowed = agreement.tolerance(old.manifest)
    largest = {"energy": 0.0, "forces": 0.0}
    for arrays, more, places in _pairs(old, new):
        for start in range(0, len(places), AT_ONCE):
            block = places[start : start + AT_ONCE]
            stored = decode(without_products(select(arrays, block)), 0, len(block))
            again = decode(without_products(select(more, block)), 0, len(block))
            for sample, other in zip(stored, again, strict=True):
                for difference in agreement.compare(sample.labels, other.labels, allowed):
                    if not difference.agrees:
                        raise TeacherDrifted(
                            f"The teacher is not what it was: of structure {sample.structure.id} ({sample.structure.group}) it "
                            f"gives another {difference}. Use the environment that labelled the set; {new.path} can be removed."
                        )
                    if difference.quantity in largest:
                        largest[difference.quantity] = max(largest[difference.quantity], difference.size)
    return largest


def with_products(old: LabelSet, new: LabelSet) -> Iterator[writer.Block]:
    """The old set's shards with the new products behind their own, everything as it is stored."""
    hessians = old.manifest.hessian, new.manifest.hessian
    all_computed = all(h.n_computed == h.n_products for h in hessians)  # else it is not known of a block
    for arrays, more, _ in _pairs(old, new):
        counts = [int(block["product_offsets"][-1]) for block in (arrays, more)]
        yield writer.Block(
            append_products(arrays, more),
            sum(n * h.codec_error_mean for n, h in zip(counts, hessians, strict=True)),
            max((h.codec_error_max for n, h in zip(counts, hessians, strict=True) if n), default=0.0),
            sum(counts) if all_computed else None,
        )


def _pairs(old: LabelSet, new: LabelSet) -> Iterator[tuple[Arrays, Arrays, NDArray[np.int64]]]:
    """Each shard of the old set, the same structures with the labels of the new set, and which of them the new set has.

    A structure that the second pass could not label stands in for itself, without products. Memory: 28 bytes for each structure
    of the set, and two or three shards.
    """
    ids = _all_ids(new)
    order = np.argsort(ids, kind="stable")
    starts = np.cumsum([0, *(shard.n_structures for shard in new.shards)])
    load = lru_cache(maxsize=2)(lambda path: read_arrays(path)[0])  # both sets are in the same order as a rule
    for shard in old.shards:
        arrays = read_arrays(shard.path)[0]
        keys = packed_ids(arrays)
        places = (
            order[np.minimum(np.searchsorted(ids[order], keys), len(ids) - 1)] if len(ids) else np.zeros(0, np.int64)
        )
        known = np.flatnonzero(ids[places] == keys) if len(ids) else np.zeros(0, np.int64)
        rows = places[known] if len(ids) else known
        blocks, at = [], np.zeros(len(keys), np.int64)
        n = 0
        for number, other in enumerate(new.shards):
            here = np.flatnonzero((rows >= starts[number]) & (rows < starts[number + 1]))
            if len(here):
                blocks.append(select(load(other.path), rows[here] - starts[number]))
                at[known[here]] = n + np.arange(len(here))
                n += len(here)
        missing = np.setdiff1d(np.arange(len(keys)), known)
        if len(missing):
            blocks.append(without_products(select(arrays, missing)))
            at[missing] = n + np.arange(len(missing))
        yield arrays, select(concatenate(blocks), at), known


def _all_ids(labels: LabelSet) -> NDArray[np.bytes_]:
    """The id of every structure, (S,) of 16 bytes."""
    ids = [np.zeros(0, "S16")]
    for shard in labels.shards:
        with open_shard(shard.path) as file:
            ids.append(packed_ids(file))
    return np.concatenate(ids)


def splits_kept(old: LabelSet, new: LabelSet, rows: merge.Rows) -> merge.Selection:
    """Everything is taken; a group that the old set has keeps its split, another one goes by its hash alone."""
    splits = old.manifest.splits
    if splits.fractions is None or splits.seed is None:
        raise PlanMismatch(
            f"{old.path} was put together from sets with different splits; label into another set and merge."
        )
    seed, fractions = splits.seed, parse_fractions(splits.fractions)
    split = rows.split.copy()
    fresh = rows.set == 1
    if splits.by == "group":
        units = _groups(new)
        known = dict(zip(rows.group[~fresh].tolist(), rows.split[~fresh].tolist(), strict=True))
    else:
        units = [row.hex() for row in _bytes16(rows.id[fresh])]
        known = {}
    split[fresh] = [
        known.get(key, SPLITS.index(split_of(unit, seed, fractions)))
        for key, unit in zip(rows.group[fresh].tolist(), units, strict=True)
    ]
    return merge.Selection(np.ones(len(split), bool), split, 0, 0)


def _groups(labels: LabelSet) -> list[str]:
    groups: list[str] = []
    for shard in labels.shards:
        with open_shard(shard.path) as file:
            groups += [group.decode() for group in file["group"][:].tolist()]
    return groups


def _bytes16(ids: NDArray[np.bytes_]) -> list[bytes]:
    """numpy drops NULs at the end of bytes; ids may end in them."""
    return [row.ljust(16, b"\0") for row in ids.tolist()]
