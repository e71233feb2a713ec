"""Label sets opened where they lie, and their shards fetched one by one: hashed before they are read as HDF5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import LabelSetError
from ..format.manifest import MANIFEST, SHARDS, parse_manifest
from ..labelsets.label_set import LabelSet, ShardEntry, label_set_of, open_label_set, verify_shard
from ..labelsets.stream import GROUP_BYTES
from ..support.strict_json import MAX_BYTES
from .cache import ShardCache, default_folder
from .failures import Damaged, Missing
from .store import Store, is_address, store


def open_labels(where: Path | str, cache: ShardCache | None = None, check: bool = True) -> LabelSet:
    """The label set in a folder, with `check` every byte checked; or the one at an address, whose shards are fetched into the
    cache, and checked, as they are read. Raises LabelSetError, RemoteError; InputError where a shard is larger than the cache."""
    if not is_address(where):
        return open_label_set(Path(where), check)
    cache = cache or ShardCache(default_folder())
    place = store(str(where))
    _, labels = open_at(place, cache.folder)
    shards = []
    for shard in labels.shards:
        cache.require_room(shard.bytes)
        fetch = RemoteShard(place.address, shard.path.name, shard, cache)
        shards.append(replace(shard, path=cache.path(shard.sha256), fetch=fetch))
    return replace(labels, shards=tuple(shards), address=place.address)


def remarks(labels: LabelSet) -> list[str]:
    """What to know before reading a remote label set: whether its cache is too small for the order of samples."""
    fetches = [shard.fetch for shard in labels.shards if isinstance(shard.fetch, RemoteShard)]
    if not fetches:
        return []
    total, largest = (f(shard.bytes for shard in labels.shards) for f in (sum, max))
    wanted, has = min(total, GROUP_BYTES + 2 * largest), fetches[0].cache.max_bytes
    if has >= wanted:
        return []
    return [
        f"The cache may have {has} bytes and an epoch reads from {wanted} at a time: shards will be fetched many times. "
        f"Give --cache-size {-(-wanted // 10**6)}MB, or fetch the set once with `hdistill labels pull`."
    ]


@dataclass(frozen=True)
class RemoteShard:
    """Fetches one shard into the cache when it is called; returns its file. Survives pickling: a store is opened where it is used."""

    address: str
    name: str
    shard: ShardEntry
    cache: ShardCache

    def __call__(self) -> Path:
        def fetch(path: Path) -> None:
            fetch_shard(store(self.address), self.shard, self.name, path, lambda _: None)

        return self.cache.hold(self.shard.sha256, self.shard.bytes, fetch)


def open_at(place: Store, folder: Path) -> tuple[bytes, LabelSet]:
    """The manifest at a place, checked as any other, and its label set as it would lie in `folder`; nothing is written there."""
    try:
        manifest = place.read(MANIFEST, MAX_BYTES)
    except Missing as error:
        raise LabelSetError(f"{place.address} is not a label set, or not yet: it has no {MANIFEST}.") from error
    return manifest, label_set_of(parse_manifest(manifest, f"{place.address}/{MANIFEST}"), folder)


def fetch_shard(place: Store, shard: ShardEntry, name: str, path: Path, advance: Callable[[int], None]) -> None:
    """Download one shard; then, and not before, look into it."""
    try:
        place.fetch(f"{SHARDS}/{name}", path, shard.bytes, shard.sha256, advance)
    except (Damaged, Missing) as error:
        raise LabelSetError(
            f"{error} The set at {place.address} is damaged or being replaced; tell its publisher."
        ) from error
    try:
        verify_shard(replace(shard, path=path, fetch=None))
    except LabelSetError:
        path.unlink(missing_ok=True)
        raise
