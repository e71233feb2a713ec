"""Files that are complete or absent, whatever happens: written under a temporary name, synced, then given their name."""

from __future__ import annotations

import errno
import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


def publish(path: Path, data: bytes, replace: bool = False) -> bool:
    """Write data under its final name, atomically. False, and nothing changed, if the name is taken and replace is off.

    An OSError (disk full, no permission) leaves no partial file behind. A crash leaves at most a hidden temporary sibling,
    which nothing reads.
    """
    return publish_blocks(path, (data,), replace)


def publish_blocks(path: Path, blocks: Iterable[bytes], replace: bool = False) -> bool:
    """As `publish`, of data that comes in blocks; an exception raised where they come from leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        try:
            for block in blocks:
                _write(descriptor, block, path)
            with _naming(path):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if replace:
            os.replace(temporary, path)
            won = True
        else:
            won = _claim(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return won


def remove_temporaries(folder: Path, older_than_s: float = 0.0, name: str = "*") -> None:
    """Remove what killed writers left in a folder, of a file or of all; what is young may belong to a writer at work."""
    for path in folder.glob(f".{name}.*.tmp*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= older_than_s:
                path.unlink()


def _write(descriptor: int, block: bytes, path: Path) -> None:
    view = memoryview(block)
    while view:
        with _naming(path):
            view = view[os.write(descriptor, view) :]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """The system does not say which file it was that found no room; this does."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def sha256_of(*paths: Path) -> str:
    """sha256 of a file, or of several one after the other in the given order; read in blocks."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _claim(temporary: Path, path: Path) -> bool:
    """Give the temporary file its final name unless the name is taken: a hard link never overwrites."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if path.exists():  # such a file system leaves a small window here; what is published is equal either way
            return False
        os.replace(temporary, path)
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
