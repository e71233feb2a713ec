"""Shards of remote label sets on this machine's disk: verified, shared by all processes, never more than a number of bytes.

CACHE/<sha256>.h5    one file a shard, whatever label set it belongs to; its access time says when it was last used
CACHE/lock           held by the one process that makes room and downloads

A shard gets its name once its hash was found right. Who reads one needs no lock: a file that is evicted while it is open stays
readable, and one that is evicted just before is fetched again (ShardEntry.use).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from ..errors import InputError, LabelSetError
from ..support.publish import sha256_of

DEFAULT_BYTES = 10 * 10**9
_SHA256 = re.compile(r"[0-9a-f]{64}")
_checked: set[Stamp] = set()  # files this process has hashed, each as it was then


class Stamp(NamedTuple):
    """One state of one file. A use changes its access time alone, so that it need not be hashed again."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int


def stamp_of(path: Path) -> Stamp:
    status = path.stat()
    return Stamp(str(path.absolute()), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class ShardCache:
    """Where shards are kept, and how many bytes of them."""

    folder: Path
    max_bytes: int = DEFAULT_BYTES

    def path(self, sha256: str) -> Path:
        """Where the shard with this hash is kept. Raises LabelSetError for what is not a sha256: it becomes a file's name."""
        if not _SHA256.fullmatch(sha256):
            raise LabelSetError(f"The manifest has {sha256!r} in the place of a sha256; it was refused.")
        return self.folder / f"{sha256}.h5"

    def hold(self, sha256: str, n_bytes: int, fetch: Callable[[Path], None]) -> Path:
        """The shard's file, after fetch(path) where it is not there; the shards used longest ago make room.

        Raises InputError where the limit is smaller than the shard, OSError where the disk is full.
        """
        path = self.path(sha256)
        if not self._is_good(path, sha256, n_bytes):
            self.require_room(n_bytes)
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                if not self._is_good(path, sha256, n_bytes):  # another process may have fetched it meanwhile
                    path.unlink(missing_ok=True)
                    self._make_room(n_bytes)
                    fetch(path)  # hashed on the way
                    _checked.add(stamp_of(path))
        with suppress(FileNotFoundError):  # evicted just now; who uses it asks again
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        return path

    def require_room(self, n_bytes: int) -> None:
        """Raise InputError where one shard is more than the whole cache."""
        if n_bytes > self.max_bytes:
            raise InputError(
                f"A shard of this label set has {n_bytes} bytes and the cache may have {self.max_bytes}; give --cache-size "
                f"{-(-n_bytes // 10**6)}MB or more, or fetch the set with `hdistill labels pull`."
            )

    def _is_good(self, path: Path, sha256: str, n_bytes: int) -> bool:
        """Whether the file is there and whole; each file, and each state of it, is hashed once in each process."""
        try:
            before = stamp_of(path)
            if before.size != n_bytes:
                return False
            if before not in _checked:
                if sha256_of(path) != sha256:
                    return False
                if stamp_of(path) != before:  # another one came while this one was read
                    return False
                _checked.add(before)
        except FileNotFoundError:
            return False
        return True

    def _make_room(self, n_bytes: int) -> None:
        """Under the lock: remove what killed downloads left, then the shards used longest ago, until n_bytes more fit."""
        for left in self.folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)
        files = []
        for path in self.folder.glob("*.h5"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            files.append((status.st_atime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total + n_bytes <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def default_folder() -> Path:
    """$HDISTILL_CACHE, else hdistill/ in the user's cache folder."""
    if own := os.environ.get("HDISTILL_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hdistill" / "shards"
