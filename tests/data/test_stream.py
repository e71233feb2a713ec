"""The order of samples: every one once an epoch, the same for the same seed, resumable anywhere, well mixed."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from hdistill.data import stream
from hdistill.data.labelset import LabelSet, open_label_set
from hdistill.data.shard import Sample
from hdistill.data.stream import BlockCache, blocks_of, in_order, n_samples, shuffled
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
        assert sum(size for _, size in cache._blocks.values()) == cache._bytes <= 60_000


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
