"""Several label sets of one teacher as one: each structure once, each group in one split, nothing decoded but duplicates.

A structure that is in several sets is taken from the one with the most products (of equal ones, the first), after its labels
were found to agree within agreement.py; a conflict is refused by the structure's name. A group that is in different splits goes,
whole, into the one that is held out most: test before val before train. Memory: about 60 bytes a structure, and a shard or two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, LabelSetError
from ..format.records import History, Manifest, QuarantineRow
from ..format.shard import decode, packed_ids, select
from ..format.shard_file import Arrays, open_shard, read_arrays
from ..labelsets import agreement, provenance
from ..labelsets.balance import id_sum, plus
from ..labelsets.facts import Facts, unlisted_of
from ..labelsets.label_set import LabelSet, open_label_set
from ..labelsets.split import group_keys
from ..labelsets.writer import Block, finished, sweep, write
from ..support.text import plain_text

COMPARED_AT_ONCE = 512  # structures that are decoded together


@dataclass(frozen=True)
class Rows:
    """One row for each structure of all sets: where it is, which group it is of and its split."""

    set: NDArray[np.int32]
    shard: NDArray[np.int32]  # in its set
    row: NDArray[np.int64]  # in its shard
    id: NDArray[np.bytes_]
    products: NDArray[np.int64]
    group: NDArray[np.uint64]
    split: NDArray[np.uint8]


@dataclass(frozen=True)
class Selection:
    """What is taken of all rows: kept, and the split that each goes into; and what was found on the way."""

    kept: NDArray[np.bool_]
    split: NDArray[np.uint8]
    n_duplicates: int
    n_regrouped: int


def merge(paths: Sequence[Path], out: Path, say: Callable[[str], None] = print, check: bool = True) -> Manifest:
    """Write the union of label sets into the directory `out`; returns its manifest. Killed, it may be run again.

    Raises InputError for fewer than two sets, LabelSetError for sets that were not labelled alike, labels that contradict each
    other, and an `out` that is taken.
    """
    if len(paths) < 2:
        raise InputError("labels merge takes two label sets or more.")
    sets = [open_label_set(path, check=check) for path in paths]
    if (done := finished(out, plan_of(sets))) is not None:
        say(f"{out} is complete already.")
        return done
    noted = alike(sets)
    rows = index(sets)
    chosen = choose(sets, rows, say)
    for line in noted:
        say(f"The sets differ in {line}; the last digits may.")
    manifest = write(out, blocks(sets, rows, chosen), facts(sets, rows, chosen, noted))
    sweep(out, manifest)
    return manifest


def plan_of(sets: Sequence[LabelSet]) -> str:
    """Identifies what a union is made of."""
    return provenance.digest_of({"merge": [labels.digest for labels in sets]})


def alike(sets: Sequence[LabelSet]) -> list[str]:
    """Raise LabelSetError unless the sets may be put together; returns what is only noted."""
    noted: list[str] = []
    first = sets[0]
    for other in sets[1:]:
        names = str(first.path), str(other.path)
        noted += provenance.require_alike(first.manifest, other.manifest, names)
        units = first.manifest.splits.by, other.manifest.splits.by
        if units[0] != units[1]:
            raise LabelSetError(
                f"{names[0]} is split by {units[0]} and {names[1]} by {units[1]}: put together, molecules of the test set "
                "would be in the training set. Label them together instead."
            )
    return list(dict.fromkeys(noted))


def index(sets: Sequence[LabelSet]) -> Rows:
    """A row for each structure, sets and shards in order."""
    columns: list[list[NDArray[Any]]] = [[] for _ in range(7)]
    for number, labels in enumerate(sets):
        for place, shard in enumerate(labels.shards):
            with open_shard(shard.path) as file:
                ids = packed_ids(file)
                n = len(ids)
                row = (
                    np.full(n, number, np.int32),
                    np.full(n, place, np.int32),
                    np.arange(n),
                    ids,
                    np.diff(file["product_offsets"][:]),
                    group_keys(file["group"][:]),
                    file["split"][:],
                )
            for column, values in zip(columns, row, strict=True):
                column.append(values)
    return Rows(*(np.concatenate(column) for column in columns))


def choose(sets: Sequence[LabelSet], rows: Rows, say: Callable[[str], None]) -> Selection:
    """Which row of each structure is taken, and the split of each group. Raises LabelSetError for contradicting labels."""
    kept = np.ones(len(rows.id), bool)
    order = np.lexsort((rows.set, -rows.products, rows.id))  # of one structure: most products first, then the first set
    repeated = np.flatnonzero(rows.id[order][1:] == rows.id[order][:-1]) + 1
    pairs: list[tuple[int, int]] = []
    for place in repeated.tolist():
        first = place - 1
        while not kept[order[first]]:
            first -= 1
        kept[order[place]] = False
        pairs.append((int(order[first]), int(order[place])))
    by_sets: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for a, b in pairs:
        by_sets.setdefault((int(rows.set[a]), int(rows.set[b])), []).append((a, b))
    for repeated_rows in by_sets.values():
        _require_agreement(sets, rows, repeated_rows)
    if pairs:
        say(f"{len(pairs)} structures are in several sets, with the same labels; each is taken once.")
    split = rows.split.copy()
    n_regrouped = 0
    if sets[0].manifest.splits.by == "group":
        keys, inverse = np.unique(rows.group, return_inverse=True)
        held_out = np.zeros(len(keys), np.uint8)
        np.maximum.at(held_out, inverse, rows.split)  # SPLITS are in the order train, val, test
        split = held_out[inverse]
        n_regrouped = len(np.unique(rows.group[split != rows.split]))
    if n_regrouped:
        say(f"{n_regrouped} groups were in different splits; each is now in the one that is held out most.")
    return Selection(kept, split, len(pairs), n_regrouped)


def _require_agreement(sets: Sequence[LabelSet], rows: Rows, pairs: list[tuple[int, int]]) -> None:
    """Compare the labels of each pair of rows; both are read shard by shard."""
    by_shards: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for a, b in pairs:
        by_shards.setdefault((int(rows.shard[a]), int(rows.shard[b])), []).append((a, b))
    one, other = sets[rows.set[pairs[0][0]]], sets[rows.set[pairs[0][1]]]
    x, y = (agreement.tolerance(labels.manifest) for labels in (one, other))
    allowed = x if x.products >= y.products else y
    for (shard_a, shard_b), repeated in sorted(by_shards.items()):
        arrays = read_arrays(one.shards[shard_a].path)[0]
        other_arrays = read_arrays(other.shards[shard_b].path)[0]
        for start in range(0, len(repeated), COMPARED_AT_ONCE):
            block = repeated[start : start + COMPARED_AT_ONCE]
            left = decode(select(arrays, rows.row[[i for i, _ in block]]), 0, len(block))
            right = decode(select(other_arrays, rows.row[[j for _, j in block]]), 0, len(block))
            for s, t in zip(left, right, strict=True):
                wrong = [d for d in agreement.compare(s.labels, t.labels, allowed) if not d.agrees]
                if wrong:
                    raise LabelSetError(
                        f"{one.path} and {other.path} contradict each other: structure {s.structure.id} "
                        f"({plain_text(s.structure.group)}) differs in {'; '.join(map(str, wrong))}. Find out which is right with "
                        "`hdistill labels audit`."
                    )


def blocks(sets: Sequence[LabelSet], rows: Rows, chosen: Selection) -> Iterator[Block]:
    """The chosen structures of each shard, with their splits."""
    bounds = np.flatnonzero(np.diff(rows.shard) | np.diff(rows.set)) + 1
    for start, stop in pairwise([0, *bounds.tolist(), len(rows.id)]):
        labels = sets[rows.set[start]]
        arrays = read_arrays(labels.shards[rows.shard[start]].path)[0]
        kept = chosen.kept[start:stop]
        if not kept.all():
            arrays = select(arrays, np.flatnonzero(kept))
        arrays = arrays | {"split": chosen.split[start:stop][kept]}
        yield Block(arrays, *codec_error(labels.manifest, arrays))


def codec_error(manifest: Manifest, arrays: Arrays) -> tuple[float, float]:
    """Sum and maximum of the codec's error in some structures of a set, of which only mean and maximum are known."""
    n = int(arrays["product_offsets"][-1])
    return n * manifest.hessian.codec_error_mean, manifest.hessian.codec_error_max if n else 0.0


def facts(sets: Sequence[LabelSet], rows: Rows, chosen: Selection, noted: list[str]) -> Facts:
    """What is known of the union."""
    manifests = [labels.manifest for labels in sets]
    first = manifests[0]
    per_structure = provenance.same([manifest.hessian.per_structure for manifest in manifests])
    return Facts(
        plan=plan_of(sets),
        teacher=first.teacher,
        hessian=provenance.hessian_settings(first, per_structure),
        preflight=first.preflight,
        subset=provenance.united_subset([manifest.subset for manifest in manifests]),
        splits=provenance.united_splits([manifest.splits for manifest in manifests]),
        licenses=provenance.united_licenses([manifest.licenses for manifest in manifests]),
        **united_books(manifests, rows, chosen),
        history=History(
            made_by="merge",
            parents=tuple(provenance.parent(labels) for labels in sets),
            n_duplicates=chosen.n_duplicates,
            n_groups_in_different_splits=chosen.n_regrouped,
            noted=tuple(noted),
        ),
    )


def united_books(manifests: Sequence[Manifest], rows: Rows, chosen: Selection) -> dict[str, Any]:
    """Of Facts: what was planned in one set or another, and which of it is in quarantine."""
    quarantine = united_quarantine([manifest.quarantine for manifest in manifests], rows)
    unlisted = plus(*(unlisted_of(manifest) for manifest in manifests))
    labelled = id_sum(np.frombuffer(rows.id[chosen.kept].tobytes(), np.uint8))
    return {
        "quarantine": quarantine,
        "planned": plus(labelled, id_sum(row.id for row in quarantine), unlisted),
        "n_unlisted": sum(manifest.counts.n_quarantined - len(manifest.quarantine) for manifest in manifests),
        "unlisted": unlisted,
    }


def united_quarantine(quarantines: Sequence[Sequence[QuarantineRow]], rows: Rows) -> list[QuarantineRow]:
    """The quarantined structures of several sets, but for those that one of the sets has labelled."""
    by_key = {row.id or row.text: row for quarantine in quarantines for row in quarantine}
    ids = np.array([bytes.fromhex(row.id) for row in by_key.values()], "S16")
    # numpy drops NULs at the end of bytes; ids may end in them.
    labelled = {row.ljust(16, b"\0").hex() for row in np.intersect1d(ids, rows.id).tolist()}
    return [row for key, row in sorted(by_key.items()) if key not in labelled]
