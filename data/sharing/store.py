"""One place where files lie: a folder, s3://, gs://, http(s)://, hf://, or whatever else fsspec knows.

Few operations, each with retries of what may pass and one sentence for what will not. What is read is bounded and hashed on the
way; nothing is listed, so a plain http server will do.
"""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..errors import RemoteError
from ..support.publish import publish, publish_blocks
from .failures import Damaged, MayPass, Missing, translate_errors

T = TypeVar("T")
ON_THE_HUB = {
    "data set": (r"hf://(datasets|buckets)/[^/]+/[^/]+", "hf://datasets/OWNER/NAME"),
    "model": (r"hf://(?!(datasets|spaces|buckets)/)[^/]+/[^/]+", "hf://OWNER/NAME"),
}
BLOCK_BYTES = 8 << 20
ATTEMPTS = 4
FIRST_WAIT_S = 1.0
READ_ONLY = {"http", "https"}
STREAMED = {"http", "https", "hf"}  # their files are read from begin to end, not in ranges
# The others have no folders, or making one would make a bucket.
MAKES_FOLDERS = {"file", "local", "sftp", "ssh", "smb", "ftp", "webdav", "hdfs"}


@dataclass(frozen=True)
class Store:
    """A folder in some file system; `address` is how the user wrote it."""

    fs: Any
    root: str
    address: str
    protocol: str

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def read(self, name: str, limit: int) -> bytes:
        """A small file. Raises Missing, and RemoteError for one of more than `limit` bytes."""
        return again(lambda: b"".join(self._stream(name, limit)))

    def blocks(self, name: str, n_bytes: int, sha256: str) -> Iterator[bytes]:
        """A file in blocks; raises Damaged, at the latest after the last block, unless it has that size and hash."""
        digest, count = hashlib.sha256(), 0
        for block in self._stream(name, n_bytes):
            digest.update(block)
            count += len(block)
            yield block
        if count != n_bytes:
            raise Damaged(f"{self.address}/{name} has {count} bytes, {n_bytes} were wanted.")
        if digest.hexdigest() != sha256:
            raise Damaged(f"{self.address}/{name} has changed: its sha256 is not the manifest's.")

    def fetch(self, name: str, path: Path, n_bytes: int, sha256: str, on_bytes: Callable[[int], None]) -> None:
        """Download a file; it gets its name once its hash was found right. Raises Damaged, Missing, RemoteError, OSError."""

        def once() -> None:
            publish_blocks(path, _counted(self.blocks(name, n_bytes, sha256), on_bytes), replace=True)

        try:
            again(once)
        except Damaged:  # once more: it may have happened on the way
            again(once)

    def has(self, name: str, local: Path, sha256: str) -> bool:
        """Whether the file there is the local one: by its size and whatever hash the store tells; read back where that differs,
        because an encrypted object's ETag is not a hash of it."""
        n_bytes = local.stat().st_size
        if again(lambda: self._size(name)) != n_bytes:
            return False
        stated = again(lambda: stated_hashes(self._info(name)))
        if stated and all(_hash(local, kind) == value for kind, value in stated.items()):
            return True
        if not stated and self.protocol not in ("file", "local"):
            return True  # names hold the contents' hash, so that size is evidence enough

        def read_back() -> bool:
            for _ in self.blocks(name, n_bytes, sha256):
                pass
            return True

        try:
            return again(read_back)
        except Damaged:
            return False

    def put(self, name: str, local: Path) -> None:
        """Upload a file. An object store shows it when it is complete; in a folder it gets its name then."""
        if self.protocol in ("file", "local"):
            publish_blocks(Path(self.path(name)), _blocks_of(local), replace=True)
            return

        def once() -> None:
            with self._translated("written"):
                self._make_folder(name)
                self.fs.put_file(str(local), self.path(name))

        again(once)
        size = again(lambda: self._size(name))
        if size != local.stat().st_size:
            raise RemoteError(f"{self.address}/{name} has {size} bytes, {local.stat().st_size} were sent; push again.")

    def write(self, name: str, data: bytes) -> None:
        """Upload a small file."""
        if self.protocol in ("file", "local"):
            publish(Path(self.path(name)), data, replace=True)
            return

        def once() -> None:
            with self._translated("written"):
                self._make_folder(name)
                self.fs.pipe_file(self.path(name), data)

        again(once)

    def _stream(self, name: str, limit: int) -> Iterator[bytes]:
        """The bytes of a file; raises Damaged as soon as there are more than `limit`."""
        options: dict[str, Any] = {} if self.protocol in ("file", "local") else {"cache_type": "none"}
        if self.protocol in STREAMED:
            options = {"block_size": 0}
        if self.protocol in READ_ONLY:
            options["size"] = 1  # else fsspec asks for the size first, which it then has no use for
        count = 0
        with self._translated("read"):
            stream = self.fs.open(self.path(name), "rb", **options)
        with stream:
            while True:
                with self._translated("read"):
                    block = stream.read(BLOCK_BYTES)
                if not block:
                    return
                count += len(block)
                if count > limit:
                    raise Damaged(f"{self.address}/{name} has more than the {limit} bytes that it may have.")
                yield block

    def _info(self, name: str) -> dict[str, Any]:
        with self._translated("read"):
            self.fs.invalidate_cache()
            return dict(self.fs.info(self.path(name)))

    def _size(self, name: str) -> int | None:
        """Bytes of a file, None where it is not there."""
        try:
            return int(self._info(name).get("size") or 0)
        except Missing:
            return None

    def _make_folder(self, name: str) -> None:
        if self.protocol in MAKES_FOLDERS:
            self.fs.makedirs(self.path(name).rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        with translate_errors(self.address, self.protocol, doing):
            yield


def require_writable(place: Store) -> None:
    """Raise RemoteError for what can be read alone, before anything is sent there."""
    if place.protocol in READ_ONLY:
        raise RemoteError(
            f"{place.address} can be read and not written; push to s3://, gs://, hf:// or the folder that the web server serves."
        )


def is_address(text: object) -> bool:
    """Whether a text is an address (s3://...) rather than a path."""
    return isinstance(text, str) and "://" in text


def store(address: str, hub: Literal["data set", "model"] = "data set") -> Store:
    """The store of an address or of a folder; hub: what hf:// has to be of. Nothing is read yet. Raises RemoteError: unknown
    protocol, package missing."""
    protocol = "file"
    if is_address(address):
        protocol, _, rest = address.partition("://")
        address = f"{protocol}://{rest.rstrip('/')}"
    else:
        address = str(Path(address).expanduser().absolute())
    if protocol == "hf" and not re.match(ON_THE_HUB[hub][0], address):
        raise RemoteError(f"{address} is not a {hub} on the Hugging Face hub; write it as {ON_THE_HUB[hub][1]}.")
    with translate_errors(address, protocol, "opened"):
        from fsspec.core import url_to_fs

        fs, root = url_to_fs(address, **_options(protocol))
    return Store(fs, str(root).rstrip("/"), address, protocol)


def again(action: Callable[[], T], wait: Callable[[float], None] = time.sleep) -> T:
    """The result of an action, which is repeated after failures that may pass."""
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except MayPass as error:
            seconds = FIRST_WAIT_S * 2 ** (attempt - 1)
            print(f"{error} Attempt {attempt + 1} of {ATTEMPTS} in {seconds:g} s.", file=sys.stderr, flush=True)
            wait(seconds)
    return action()


def stated_hashes(info: Mapping[str, Any]) -> dict[str, str]:
    """What a store says of a file's hash, by algorithm: an S3 ETag that is an md5, GCS's md5, the hub's sha256."""
    hashes = {}
    etag = str(info.get("ETag", "")).strip('"')
    if re.fullmatch(r"[0-9a-f]{32}", etag):
        hashes["md5"] = etag
    if info.get("md5Hash"):
        import base64

        hashes["md5"] = base64.b64decode(str(info["md5Hash"])).hex()
    lfs = info.get("lfs")
    sha256 = lfs.get("sha256") if isinstance(lfs, Mapping) else getattr(lfs, "sha256", None)
    if sha256:
        hashes["sha256"] = str(sha256)
    return hashes


def _options(protocol: str) -> dict[str, Any]:
    """No limit on how long a whole transfer may take, but on how long a server may say nothing."""
    if protocol not in READ_ONLY:
        return {}
    from aiohttp import ClientTimeout

    return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=30, sock_read=60)}}


def _counted(blocks: Iterator[bytes], on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    """Tell how many bytes went by, and take it back where they were for nothing."""
    count = 0
    try:
        for block in blocks:
            count += len(block)
            on_bytes(len(block))
            yield block
    except BaseException:
        on_bytes(-count)
        raise


def _blocks_of(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            yield block


def _hash(path: Path, kind: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
