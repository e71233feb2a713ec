"""What a malicious or broken publisher can do to a label set, and a child process that reads the results as every reader does.

The child answers for each label set with "right", or with the name and text of the error. It may hold little memory, and sees
whether anything in a folder of bait was opened, by Python or by HDF5's own code (inotify).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import json
import os
import resource
import selectors
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hdistill.data.errors import LabelSetError
from hdistill.data.format import shard_file
from hdistill.data.format.schema import ARRAYS, FORMAT, SPLITS, VERSION
from hdistill.data.format.shard_file import Arrays, read_arrays
from hdistill.data.labelsets.label_set import info, open_label_set, verify
from hdistill.data.labelsets.stream import in_order, shuffled
from tests.data.manifests import manifest_json

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 150 << 20  # that the child may take, beyond what Python, numpy and h5py have at the start
DEADLINE_S = 20.0
IN_ISDIR = 0x40000000


def sign(folder: Path, image: bytes, arrays: Arrays) -> Path:
    """A label set of one shard whose manifest vouches for it, as its malicious publisher would; its counts are those of `arrays`."""
    (folder / "shards").mkdir(parents=True)
    (folder / "shards" / "00000-shard.h5").write_bytes(image)
    row = {
        "name": "00000-shard.h5",
        "bytes": len(image),
        "sha256": hashlib.sha256(image).hexdigest(),
        "n_structures": len(arrays["id"]),
        "n_atoms": len(arrays["numbers"]),
        "n_products": int(arrays["product_offsets"][-1]),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest_json([arrays], [row])))
    return folder


Change = Callable[[h5py.File], None]


def built(arrays: Arrays, *changes: Change, libver: Any = "v110") -> bytes:
    """An HDF5 image of these arrays and whatever the changes do to it; `image` of shard_file.py refuses nothing, but is tidy."""
    with h5py.File("image", "w", driver="core", backing_store=False, libver=libver) as file:
        file.attrs["format"] = np.bytes_(FORMAT)
        file.attrs["version"] = VERSION
        for name, array in arrays.items():
            filters = (
                {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": True}
                if array.ndim and array.size
                else {}
            )
            file.create_dataset(name, data=array, track_times=False, **filters)
        for change in changes:
            change(file)
        file.flush()
        return bytes(file.id.get_file_image())


class Bait:
    """A folder in which any opened file is noticed, whoever opens it: Python, or C code in this process or another."""

    def __init__(self, folder: Path):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        opened_or_read = 0x20 | 0x1
        if self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), opened_or_read) < 0:
            raise OSError(ctypes.get_errno(), "no inotify here")

    def touched(self) -> bool:
        """Whether a file in the folder was opened since the last call. That somebody lists the folder, as a search of the disk does, is
        no bait taken."""
        try:
            events = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return False
        at, of_a_file = 0, False
        while at < len(events):
            _, mask, _, length = struct.unpack_from("iIII", events, at)
            of_a_file |= not mask & IN_ISDIR
            at += 16 + length
        return of_a_file


def read_everything(folder: Path) -> None:
    """What readers do with a label set, and then verify. Raises what they raise; ValueError where an answer is wrong."""
    labels = open_label_set(folder)
    for split in SPLITS:
        for sample in in_order(labels, split):
            if not (sample.structure.n_atoms and sample.split == split):
                raise ValueError("a sample without atoms or of another split")
        list(islice(shuffled(labels, split, 0), 3))
    for shard in labels.shards:
        arrays, _ = read_arrays(shard.path)
        with h5py.File(shard.path, "r", locking=False) as file:  # another reader, of a file that is known to be sound
            for name, array in arrays.items():
                if not np.array_equal(array, file[name][()], equal_nan=ARRAYS[name].dtypes[0][1] == "f"):
                    raise ValueError(f"{name} reads differently with HDF5 alone")
    with contextlib.suppress(LabelSetError):
        info(folder)
    verify(folder)


def answer(folder: Path) -> list[str]:
    """["right"], or the name of the error and its text."""
    try:
        read_everything(folder)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["right"]


def serve(bait: Path, memory: int) -> None:
    """The child: a label set's folder on each line of standard input, an answer for each on standard output."""
    shard_file.SETTLED_S = -1.0  # each label set has a folder of its own
    status = Path("/proc/self/status").read_text().splitlines()
    used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (used + memory, used + memory))
    watch = Bait(bait)
    for line in sys.stdin:
        actual = answer(Path(line.rstrip("\n")))
        if watch.touched():
            actual = ["BaitTaken", f"something outside was opened; then {actual}"]
        print(json.dumps(actual), flush=True)


class Child:
    """A process that runs `serve`; `ask` names what happened to it where it does not answer."""

    def __init__(self, bait: Path, memory: int = MEMORY):
        command = [sys.executable, "-m", "tests.data.strangers", str(bait), str(memory)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=env)
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._stream(self._process.stdout), selectors.EVENT_READ)

    def ask(self, folder: Path) -> list[str]:
        """The child's answer; ["Crash", signal] where it died, ["Hang", ...] where it missed the deadline."""
        given, taken = self._stream(self._process.stdin), self._stream(self._process.stdout)
        given.write(f"{folder}\n")
        given.flush()
        if not self._ready.select(DEADLINE_S):
            self._process.kill()
            return ["Hang", f"no answer in {DEADLINE_S} s"]
        line = taken.readline()
        return list(json.loads(line)) if line else ["Crash", f"exit code {self._process.wait()}"]

    def peak_megabytes(self) -> float:
        """The most memory it ever had, MB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM"))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._ready.close()

    @staticmethod
    def _stream(stream: Any) -> io.TextIOWrapper:
        assert stream is not None
        return stream  # type: ignore[no-any-return]


@contextlib.contextmanager
def child(bait: Path, memory: int = MEMORY) -> Iterator[Child]:
    bait.mkdir(exist_ok=True)
    started = Child(bait, memory)
    try:
        yield started
    finally:
        started.close()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
