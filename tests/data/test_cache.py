"""The cache of remote shards: verified, bounded, least recently used first out, shared by processes; the order never changes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from unittest import mock

import pytest

from hdistill.data.errors import InputError, LabelSetError
from hdistill.data.labelsets import stream
from hdistill.data.labelsets.label_set import LabelSet, open_label_set
from hdistill.data.labelsets.stream import BlockCache, epoch_order, in_order, n_samples, shuffled
from hdistill.data.sharing import cache as caches
from hdistill.data.sharing.cache import ShardCache, default_folder
from hdistill.data.sharing.remote import open_labels, remarks
from tests.data.published import Web, label_set, web_server


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_set(tmp_path_factory.mktemp("cache") / "labels", n=60)


@pytest.fixture(autouse=True)
def nothing_checked_yet() -> None:
    caches._checked.clear()


def largest(labels: Path) -> int:
    return max(shard.bytes for shard in open_label_set(labels).shards)


def downloads(web: Web) -> int:
    return sum(name.startswith("shards/") for name in web.asked)


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def ids(labels: LabelSet, n: int = 25) -> list[str]:
    """The order of samples, with nothing kept in memory, so that every block is read from its shard."""
    return [s.structure.id for s in islice(shuffled(labels, "train", 3, cache=BlockCache(1)), n)]


def test_the_order_and_the_samples_are_those_of_the_local_set(labels: Path, tmp_path: Path) -> None:
    local = open_label_set(labels)
    with web_server(labels) as web:
        for limit in (10**9, 2 * largest(labels), largest(labels)):
            remote = open_labels(web.address, ShardCache(tmp_path / str(limit), limit))
            assert ids(remote) == ids(local)
            for a, b in zip(in_order(remote, "val"), in_order(local, "val"), strict=True):
                assert a.labels.energy == b.labels.energy
                assert (a.labels.forces == b.labels.forces).all()
            assert remote.digest == local.digest
            assert held(tmp_path / str(limit)) <= limit
            assert ids(pickle.loads(pickle.dumps(remote)), 2) == ids(local, 2)


def test_each_shard_is_fetched_once_where_there_is_room(labels: Path, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache")
    with web_server(labels) as web:
        remote = open_labels(web.address, cache)
        assert downloads(web) == 0
        n_samples(remote, "train"), ids(remote)
        assert downloads(web) == 6
        ids(open_labels(web.address, cache))
        assert downloads(web) == 6


def test_the_splits_are_known_after_one_pass(labels: Path, tmp_path: Path) -> None:
    """What a fit does first, statistics and counts, costs one pass over the shards even where the cache holds one of them."""
    with web_server(labels) as web:
        remote = open_labels(web.address, ShardCache(tmp_path / "cache", largest(labels)))
        for shard in remote.shards:
            shard.use(lambda path: path.stat())
        assert n_samples(remote, "train") + n_samples(remote, "val") + n_samples(remote, "test") == 60
        assert downloads(web) == 6


def test_the_least_recently_used_goes_first(labels: Path, tmp_path: Path) -> None:
    with web_server(labels) as web:
        remote = open_labels(
            web.address, ShardCache(tmp_path / "cache", sum(s.bytes for s in open_label_set(labels).shards[:3]))
        )
        a, b, c, d = remote.shards[:4]
        for shard in (a, b, c, a, d):  # a was used again, so b makes room for d
            shard.use(lambda path: path.stat())
            time.sleep(0.01)
        assert [shard.path.exists() for shard in (a, b, c, d)] == [True, False, True, True]


def test_a_limit_below_one_shard_is_a_sentence(labels: Path, tmp_path: Path) -> None:
    with web_server(labels) as web, pytest.raises(InputError, match=r"cache may have 5000; give --cache-size"):
        open_labels(web.address, ShardCache(tmp_path / "cache", 5000))


def test_nothing_wrong_is_kept_and_nothing_unchecked_is_read(labels: Path, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache")
    with web_server(labels) as web:
        remote = open_labels(web.address, cache)
        name = f"shards/{open_label_set(labels).shards[0].path.name}"
        good = (labels / name).read_bytes()
        web.bodies[name] = good[:-1] + bytes([good[-1] ^ 1])
        with pytest.raises(LabelSetError, match="has changed"):
            remote.shards[0].use(lambda path: path.read_bytes())
        assert [path.name for path in cache.folder.iterdir()] == ["lock"]
        web.bodies.clear()
        remote.shards[0].use(lambda path: path.read_bytes())
        # A bit that flips on this disk is found at the first use in another process.
        remote.shards[0].path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        caches._checked.clear()
        assert remote.shards[0].use(lambda path: path.read_bytes()) == good


def test_a_shard_evicted_just_before_it_is_opened_is_fetched_again(labels: Path, tmp_path: Path) -> None:
    with web_server(labels) as web:
        remote = open_labels(web.address, ShardCache(tmp_path / "cache"))
        shard, evictions = remote.shards[0], []

        def read(path: Path) -> int:
            if len(evictions) < 3:
                evictions.append(path.unlink())
            return len(stream.read_samples(path))

        assert shard.use(read) == shard.n_structures
        assert len(evictions) == 3


def _read_all(address: str, folder: Path, limit: int, seed: int, actual: multiprocessing.Queue) -> None:
    remote = open_labels(address, ShardCache(folder, limit))
    for sample in islice(shuffled(remote, "train", seed, cache=BlockCache(1)), 20):
        assert sample.structure.n_atoms
    actual.put(seed)


def test_several_processes_share_one_cache_within_its_limit(labels: Path, tmp_path: Path) -> None:
    folder, limit = tmp_path / "cache", 2 * largest(labels)
    context = multiprocessing.get_context("fork")
    actual: multiprocessing.Queue = context.Queue()
    with web_server(labels) as web:
        children = [context.Process(target=_read_all, args=(web.address, folder, limit, s, actual)) for s in range(3)]
        for child in children:
            child.start()
        most = 0
        while any(child.is_alive() for child in children):
            sizes = []
            for path in folder.glob("*") if folder.exists() else ():
                try:
                    sizes.append(path.stat().st_size)
                except FileNotFoundError:
                    sizes.append(0)
            most = max(most, sum(sizes))
            time.sleep(0.002)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sorted(actual.get(timeout=60) for _ in children) == [0, 1, 2]
    assert 0 < most <= limit + largest(labels)  # the sizes are not read at one moment
    assert held(folder) <= limit


def test_what_a_killed_download_leaves_is_removed(labels: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with web_server(labels) as web:
        code = (
            "from pathlib import Path\nfrom hdistill.data.sharing.cache import ShardCache\n"
            "from hdistill.data.sharing.remote import open_labels\n"
            f"open_labels({web.address!r}, ShardCache(Path({str(folder)!r}))).shards[0].split"
        )
        name = f"shards/{open_label_set(labels).shards[0].path.name}"
        child = subprocess.Popen([sys.executable, "-c", code])
        web.halfway[name] = child.kill
        assert child.wait(60) == -signal.SIGKILL
        assert not list(folder.glob("*.h5"))
        web.halfway.clear()
        remote = open_labels(web.address, ShardCache(folder))
        assert (remote.shards[0].split == open_label_set(labels).shards[0].split).all()
    assert sorted(path.name for path in folder.iterdir()) == sorted([remote.shards[0].path.name, "lock"])


def test_a_cache_that_is_too_small_for_the_order_is_remarked_on(labels: Path, tmp_path: Path) -> None:
    with web_server(labels) as web:
        assert remarks(open_labels(web.address, ShardCache(tmp_path / "cache"))) == []
        (messages,) = remarks(open_labels(web.address, ShardCache(tmp_path / "cache", largest(labels))))
    assert "fetched many times" in messages
    assert remarks(open_label_set(labels)) == []


def test_an_epoch_of_a_large_set_goes_over_groups_of_shards(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every sample once an epoch, groups one after the other: a cache that holds a group fetches each shard once an epoch."""
    local = open_label_set(labels)
    monkeypatch.setattr(stream, "GROUP_BYTES", sum(s.bytes for s in local.shards) // 3 + 1)
    monkeypatch.setattr(stream, "WINDOW_BYTES", 1)
    monkeypatch.setattr(stream, "BLOCK", 2)  # several blocks of each shard
    blocks = stream.blocks_of(local, "train")
    assert stream.shard_groups(local) == 3
    epochs = [list(epoch_order(blocks, 0, epoch, local.digest, 1, 3)) for epoch in range(3)]
    for epoch in epochs:
        assert sorted((str(b.path), b.start, m) for b, m in epoch) == sorted(
            (str(b.path), b.start, m) for b in blocks for m in b.members
        )
        shards = [block.path for block, _ in epoch]
        third = len(shards) // 3
        assert [len(set(shards[i * third : (i + 1) * third])) for i in range(3)] == [2, 2, 2]
    assert len({tuple(b.path for b, _ in epoch) for epoch in epochs}) == 3  # other groups each time
    with web_server(labels) as web:
        remote = open_labels(web.address, ShardCache(tmp_path / "cache", 3 * largest(labels)))
        n = n_samples(remote, "train")
        web.asked.clear()
        assert ids(remote, 2 * n) == ids(local, 2 * n)
        assert downloads(web) <= 2 * 6


def test_the_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HDISTILL_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
    monkeypatch.delenv("HDISTILL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "hdistill" / "shards"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "hdistill" / "shards"
    assert not os.listdir(tmp_path)


def test_a_file_is_vouched_for_by_itself_and_not_by_another_of_its_name(labels: Path, tmp_path: Path) -> None:
    """Another folder's file of the same name and size, and the same file rewritten, are hashed before they are read."""
    shard = open_label_set(labels).shards[0]
    good = shard.path.read_bytes()
    bad = good[:-1] + bytes([good[-1] ^ 1])
    fetched: list[Path] = []

    def fetch(path: Path) -> None:
        fetched.append(path)
        path.write_bytes(good)

    one, two = ShardCache(tmp_path / "one"), ShardCache(tmp_path / "two")
    path = one.hold(shard.sha256, shard.bytes, fetch)
    two.folder.mkdir()
    two.path(shard.sha256).write_bytes(bad)
    assert two.hold(shard.sha256, shard.bytes, fetch).read_bytes() == good
    assert len(fetched) == 2
    time.sleep(0.01)
    path.write_bytes(bad)
    assert one.hold(shard.sha256, shard.bytes, fetch).read_bytes() == good
    assert len(fetched) == 3
    with mock.patch.object(caches, "sha256_of") as hashing:
        for cache in (one, two, one):
            cache.hold(shard.sha256, shard.bytes, fetch)
    assert not hashing.called  # a use is not change
    assert len(fetched) == 3
