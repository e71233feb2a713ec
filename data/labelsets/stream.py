"""Samples of a label set in an order that is a pure function of (seed, epoch, label set), resumable at any sample.

Blocks of 32 neighbours are permuted, then samples within a window of blocks: decoding a block costs little more than decoding
one sample, and up to a window's worth of samples the order is a full permutation. The only state of a stream is how many
samples were consumed. Files are opened for each block and closed again, so a stream survives fork and pickling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..format.schema import SPLITS
from ..format.shard import Sample, read_samples
from ..support.recent import Recent
from .label_set import LabelSet, ShardEntry

BLOCK = 32  # samples
WINDOW = 16384  # samples: 1.1 times the batch variance of a full permutation; fewer where they are large
WINDOW_BYTES = 1 << 28
GROUP_BYTES = 4 << 30  # of shards that an epoch reads from at a time: many enough to mix, few enough to keep on a disk
CACHE_BYTES = 1 << 29  # more than a window, so that no block is decoded twice an epoch


class Block(NamedTuple):
    """Neighbours start:stop of a shard, and which of them (counted from start) belong to the split."""

    path: Path
    start: int
    stop: int
    members: tuple[int, ...]
    shard: ShardEntry | None = None  # where the path may have to be fetched first


class BlockCache:
    """Decoded blocks, kept up to a number of bytes: a small set is decoded once."""

    def __init__(self, max_bytes: int = CACHE_BYTES):
        self.kept: Recent[tuple[Path, int], list[Sample]] = Recent(lambda s: sum(map(bytes_of, s)), max_bytes)

    def samples(self, block: Block) -> list[Sample]:
        """The samples of a block, of all splits; read from its shard where they are not at hand."""
        return self.kept.get((block.path, block.start), lambda: _read(block))


def _read(block: Block) -> list[Sample]:
    if block.shard is None:
        return read_samples(block.path, block.start, block.stop)
    return block.shard.use(lambda path: read_samples(path, block.start, block.stop))


def n_samples(labels: LabelSet, split: str) -> int:
    """How many samples a split has."""
    return sum(int((shard.split == SPLITS.index(split)).sum()) for shard in labels.shards)


def shuffled(
    labels: LabelSet, split: str, seed: int, start: int = 0, cache: BlockCache | None = None
) -> Iterator[Sample]:
    """The samples of a split without end, epoch after epoch, from sample number `start` (counted over all epochs) on.

    Every epoch holds each sample once. A split without samples gives an empty stream. Of n readers, reader r takes every n-th
    sample: islice(shuffled(..., start + r), 0, None, n); n may change whenever all have stopped at one count of samples.
    """
    cache = cache or BlockCache()
    blocks = blocks_of(labels, split)
    per_epoch = sum(len(block.members) for block in blocks)
    window, groups = window_blocks(labels), shard_groups(labels)
    if per_epoch == 0:
        return
    for epoch in count(start // per_epoch):
        skip = start % per_epoch if epoch == start // per_epoch else 0
        for block, member in islice(epoch_order(blocks, seed, epoch, labels.digest, window, groups), skip, None):
            yield cache.samples(block)[member]


def in_order(labels: LabelSet, split: str, cache: BlockCache | None = None) -> Iterator[Sample]:
    """Each sample of a split once, as stored."""
    cache = cache or BlockCache()
    for block in blocks_of(labels, split):
        samples = cache.samples(block)
        yield from (samples[member] for member in block.members)


def blocks_of(labels: LabelSet, split: str) -> list[Block]:
    """The blocks that hold samples of a split, in stored order."""
    return [block for shard in labels.shards for block in _blocks_of_shard(shard, SPLITS.index(split)) if block.members]


def window_blocks(labels: LabelSet) -> int:
    """Blocks per shuffle window: WINDOW samples, or as many as WINDOW_BYTES hold; a property of the label set alone."""
    n = max(1, sum(shard.n_structures for shard in labels.shards))
    atoms = sum(shard.n_atoms_total for shard in labels.shards)
    products = sum(shard.n_products for shard in labels.shards)
    each = 64 * atoms / n + 15 * atoms / n * products / n + 2000  # as bytes_of, for structures of average size
    return int(np.clip(WINDOW_BYTES / each, BLOCK, WINDOW)) // BLOCK


def shard_groups(labels: LabelSet) -> int:
    """In how many groups of shards an epoch passes over the set: one, unless it has more than GROUP_BYTES on disk."""
    return max(1, -(-sum(shard.bytes for shard in labels.shards) // GROUP_BYTES))


def epoch_order(
    blocks: list[Block], seed: int, epoch: int, digest: str, window: int, groups: int = 1
) -> Iterator[tuple[Block, int]]:
    """(block, member) of one epoch: blocks permuted, then samples within each window of `window` blocks.

    With several groups the shards are permuted and dealt out first, and the blocks of one group come after those of another: a
    cache that holds a group fetches each shard once an epoch.
    """
    generator = _generator(seed, epoch, digest)
    order = _permuted(blocks, generator, groups)
    for first in range(0, len(order), window):
        yield from _shuffled_window([blocks[b] for b in order[first : first + window]], generator)


def bytes_of(sample: Sample) -> int:
    """About what a decoded sample occupies: its arrays and 2 kB for the objects."""
    structure, labels = sample.structure, sample.labels
    arrays = [structure.positions, structure.numbers, labels.forces, structure.ref_forces]
    arrays += [labels.atom_energies, labels.node_features]
    if labels.hessian is not None:
        arrays += [labels.hessian.values, labels.hessian.directions.signs]
    return 2000 + sum(array.nbytes for array in arrays if array is not None)


def _permuted(blocks: list[Block], generator: np.random.Generator, groups: int) -> NDArray[np.int64]:
    if groups == 1:
        return generator.permutation(len(blocks))
    shards = {path: number for number, path in enumerate(dict.fromkeys(block.path for block in blocks))}
    place = generator.permutation(len(shards))  # of each shard in this epoch
    group = np.array([place[shards[block.path]] * groups // len(shards) for block in blocks], np.int64)
    order = generator.permutation(len(blocks))
    return order[np.argsort(group[order], kind="stable")]


def _shuffled_window(blocks: list[Block], generator: np.random.Generator) -> Iterator[tuple[Block, int]]:
    places = [(block, member) for block in blocks for member in block.members]
    for index in generator.permutation(len(places)):
        yield places[index]


def _blocks_of_shard(shard: ShardEntry, split: int) -> Iterator[Block]:
    belongs: NDArray[np.bool_] = shard.split == split
    for start in range(0, shard.n_structures, BLOCK):
        stop = min(start + BLOCK, shard.n_structures)
        yield Block(shard.path, start, stop, tuple(np.flatnonzero(belongs[start:stop]).tolist()), shard)


def _generator(seed: int, epoch: int, digest: str) -> np.random.Generator:
    key = hashlib.blake2b(f"hdistill order {seed} {epoch} {digest}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
