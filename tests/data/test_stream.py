"""The order of samples: every one once an epoch, the same for the same seed, resumable anywhere, well mixed."""

from __future__ import annotations

import multiprocessing
import pickle
from dataclasses import replace
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from hdistill.data.format.shard import Sample, decode, read_samples
from hdistill.data.format.shard_file import OpenShard, open_shard
from hdistill.data.labelsets import stream
from hdistill.data.labelsets.label_set import LabelSet, open_label_set
from hdistill.data.labelsets.stream import BlockCache, blocks_of, in_order, n_samples, shuffled
from tests.data.samples import random_samples, write_label_set

N = 150


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    made = random_samples(sizes=[1 + i % 4 for i in range(N)])
    return [replace(s, split="train" if i % 5 else "val") for i, s in enumerate(made)]


@pytest.fixture(scope="module")
def labels(samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> LabelSet:
    return open_label_set(write_label_set(tmp_path_factory.mktemp("stream") / "labels", samples, per_shard=70))


def ids(some: list[Sample]) -> list[str]:
    return [s.structure.id for s in some]


def test_in_order_is_as_stored(samples: list[Sample], labels: LabelSet) -> None:
    for split in ("train", "val", "test"):
        wanted = [s for s in samples if s.split == split]
        assert ids(list(in_order(labels, split))) == ids(wanted)
        assert n_samples(labels, split) == len(wanted)


def test_every_epoch_has_every_sample_once_in_another_order(samples: list[Sample], labels: LabelSet) -> None:
    n = n_samples(labels, "train")
    seen = ids(list(islice(shuffled(labels, "train", 0), 3 * n)))
    epochs = [seen[:n], seen[n : 2 * n], seen[2 * n :]]
    wanted = sorted(ids([s for s in samples if s.split == "train"]))
    assert all(sorted(epoch) == wanted for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert epochs[1] != epochs[2]


def test_order_is_a_function_of_seed_and_label_set(labels: LabelSet) -> None:
    def first(seed: int, of: LabelSet = labels) -> list[str]:
        return ids(list(islice(shuffled(of, "train", seed), 100)))

    assert first(0) == first(0)
    assert first(0) != first(1)
    reopened = open_label_set(labels.path)
    assert first(0, reopened) == first(0)
    assert first(0, pickle.loads(pickle.dumps(reopened))) == first(0)


def test_any_start_goes_on_without_overlap_or_loss(labels: LabelSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WINDOW_BYTES", 1)  # windows of a single block
    whole = ids(list(islice(shuffled(labels, "train", 7), 400)))
    rng = np.random.default_rng(0)
    for start in (0, 1, 119, 120, 121, *rng.integers(0, 390, 30).tolist()):
        assert ids(list(islice(shuffled(labels, "train", 7, start), 10))) == whole[start : start + 10]


def test_300_random_changes_of_readers_and_batches_lose_and_repeat_nothing(labels: LabelSet) -> None:
    """An elastic run: at each resume another number of readers and another batch size. Its state is one count of samples.

    Reader r of n takes every n-th sample from the r-th on; each has a cache and an opened label set of its own.
    """
    rng = np.random.default_rng(0)
    n = n_samples(labels, "train")
    caches = [BlockCache() for _ in range(8)]
    opened = [open_label_set(labels.path) for _ in range(8)]
    consumed, seen = 0, []
    for _ in range(300):
        readers, batch, steps = (int(rng.integers(low, high)) for low, high in ((1, 9), (1, 7), (1, 4)))
        streams = [
            islice(shuffled(opened[r], "train", 3, consumed + r, caches[r]), 0, None, readers) for r in range(readers)
        ]
        for _ in range(steps):
            parts = [ids(list(islice(stream, batch))) for stream in streams]
            seen += [parts[i % readers][i // readers] for i in range(readers * batch)]
            consumed += readers * batch
    assert seen == ids(list(islice(shuffled(labels, "train", 3, cache=caches[0]), consumed)))
    assert consumed > 30 * n
    for epoch in range(consumed // n):
        assert len(set(seen[epoch * n : (epoch + 1) * n])) == n


READS = {"quick": 10_000, "long": 100_000}


def _reads(labels: LabelSet, reader: int, n: int, kept: OpenShard | None) -> list[tuple[int, int, int]]:
    """(shard, structure, checksum of what was read) of n random reads of neighbours, through new files and an inherited one."""
    rng = np.random.default_rng(reader)
    actual: list[tuple[int, int, int]] = []
    while len(actual) < n:
        s = int(rng.integers(len(labels.shards)))
        start = int(rng.integers(labels.shards[s].n_structures))
        stop = min(start + int(rng.integers(1, 32)), labels.shards[s].n_structures)
        inherit = s == 0 and kept is not None and rng.integers(2)
        samples = decode(kept, start, stop) if inherit and kept else read_samples(labels.shards[s].path, start, stop)
        actual += [(s, start + i, _checksum(sample)) for i, sample in enumerate(samples)]
    return actual[:n]


def _checksum(sample: Sample) -> int:
    products = sample.labels.hessian
    assert products is not None
    arrays = (sample.structure.positions, sample.labels.forces, products.values, products.directions.signs)
    return crc32(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays if array is not None))


@pytest.mark.parametrize("n", [READS["quick"], pytest.param(READS["long"], marks=pytest.mark.long)])
def test_no_read_is_wrong_in_any_process(samples: list[Sample], labels: LabelSet, n: int) -> None:
    """Fork and spawn, 0, 1 and 4 workers, while the parent reads too; a forked worker also reads through the parent's open file."""
    wanted = {
        (s, i): _checksum(sample)
        for s, shard in enumerate(labels.shards)
        for i, sample in enumerate(read_samples(shard.path))
    }
    assert len(set(wanted.values())) == len(samples)
    ways = [("none", 0), *((way, count) for way in ("fork", "spawn") for count in (1, 4))]
    total = 0
    with open_shard(labels.shards[0].path) as kept:
        for way, workers in ways:
            each = n // len(ways) // (workers + 1) + 1
            jobs = [(labels, reader, each, kept if way == "fork" else None) for reader in range(1, workers + 1)]
            if way == "none":
                results = [_reads(labels, 0, each, kept)]
            else:
                with multiprocessing.get_context(way).Pool(
                    workers, _inherit, (kept,) if way == "fork" else (None,)
                ) as pool:
                    waiting = pool.starmap_async(_reads_of_worker, [job[:3] for job in jobs], chunksize=1)
                    results = [_reads(labels, 0, each, kept), *waiting.get(600)]
            for rows in results:
                total += len(rows)
                assert all(wanted[s, i] == checksum for s, i, checksum in rows), (way, workers)
    assert total >= n


_INHERITED: list[OpenShard | None] = [None]


def _inherit(kept: OpenShard | None) -> None:
    _INHERITED[0] = kept


def _reads_of_worker(labels: LabelSet, reader: int, n: int) -> list[tuple[int, int, int]]:
    return _reads(labels, reader, n, _INHERITED[0])


def test_the_order_does_not_depend_on_the_cache(labels: LabelSet) -> None:
    small = islice(shuffled(labels, "train", 0, cache=BlockCache(1)), 50)
    assert ids(list(small)) == ids(list(islice(shuffled(labels, "train", 0), 50)))


def test_a_small_set_is_decoded_once(labels: LabelSet, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[Path, int]] = []
    read = stream.read_samples

    def counted(path: Path, start: int, stop: int) -> list[Sample]:
        reads.append((path, start))
        return read(path, start, stop)

    monkeypatch.setattr(stream, "read_samples", counted)
    list(islice(shuffled(labels, "train", 0), 500))
    assert len(reads) == len(set(reads)) == len(blocks_of(labels, "train"))


def test_the_cache_is_bounded(labels: LabelSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK", 4)
    monkeypatch.setattr(stream, "WINDOW_BYTES", 1)
    cache = BlockCache(60_000)
    for _ in islice(shuffled(labels, "train", 0, cache=cache), 120):
        assert sum(size for _, size in cache.kept._kept.values()) == cache.kept.bytes <= 60_000


def test_an_empty_split_is_an_empty_stream(labels: LabelSet) -> None:
    assert list(shuffled(labels, "test", 0)) == []
    assert list(in_order(labels, "test")) == []


def test_batches_are_nearly_as_mixed_as_a_full_permutation() -> None:
    """64 structures of each of 250 molecules lie together; the variance of a batch's mean stays near a permutation's."""
    blocks = [stream.Block(Path("x"), start, start + 32, tuple(range(32))) for start in range(0, 16000, 32)]
    value = np.random.default_rng(0).normal(size=250)

    def variance(window: int) -> float:
        order = stream.epoch_order(blocks, 0, 0, "digest", window)
        labels = np.array([value[(block.start + member) // 64] for block, member in order])
        return float(labels.reshape(-1, 32).mean(axis=1).var())

    permuted = value[np.random.default_rng(1).permutation(16000) // 64].reshape(-1, 32).mean(axis=1).var()
    assert variance(512) < 1.25 * permuted
    assert variance(128) < 1.6 * permuted
    assert variance(1) > 5 * permuted  # what the window is for
