"""The parent side: start a teacher in its own interpreter, ask it for labels with a deadline, say why it failed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType

from hdistill.data.errors import TeacherCrashed, TeacherError
from hdistill.data.structure import Directions, Labels, Structure

from ..teachers.contract import TeacherInfo, TeacherRequest
from . import gpus, wire

CHILD = Path(__file__).with_name("child.py")
LOAD_DEADLINE_S = 600.0
# glibc hands large freed blocks back to the kernel, and page faults then cost a third of a large batch of SevenNet.
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


class TeacherOutOfMemory(TeacherError):
    """The batch did not fit; a smaller one may. The process lives on."""


class TeacherException(TeacherError):
    """The teacher raised an error of its own on this batch. The process lives on."""


class TeacherHung(TeacherCrashed):
    """No answer within the deadline; the process was stopped."""


class TeacherProcess:
    """A loaded teacher in a process of its own. Use as a context manager.

    Raises TeacherError where the teacher cannot be loaded or refuses a structure, TeacherOutOfMemory, TeacherException, and
    TeacherCrashed where the process died or missed a deadline; after TeacherCrashed this object is closed.
    memory_bytes: an allocation on a CPU beyond it fails inside the teacher, and is answered with TeacherOutOfMemory.
    """

    def __init__(
        self,
        python: Path,
        request: TeacherRequest,
        threads: int = 1,
        memory_bytes: int | None = None,
        deadline_s: float = LOAD_DEADLINE_S,
        gpu: str | None = None,
    ):
        environment = dict(os.environ)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(threads)
        environment |= KEEP_FREED_MEMORY
        if gpu is not None:
            environment[gpus.VARIABLE] = gpu
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
        try:
            self._process = subprocess.Popen(
                [str(python), str(CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
                bufsize=0,
                start_new_session=True,  # Ctrl-C goes to the coordinator alone, which then stops the workers in order
            )
        except OSError as error:
            self._log.close()
            raise TeacherError(f"The teacher's interpreter {python} does not start: {error.strerror}.") from error
        self.name = request.name
        try:
            first = {"request": asdict(request), "memory_bytes": memory_bytes}
            header, _ = self._exchange(wire.encode(first), deadline_s)
            if "failed" in header:
                raise TeacherError(f"Teacher {request.name} does not load: {header['text']}")
        except BaseException:
            self.close()
            raise
        header["info"]["elements"] = tuple(header["info"]["elements"])
        self.info = TeacherInfo(**header["info"])
        self.seconds = 0.0  # that the last batch took
        self.peak_bytes = int(header["peak_bytes"])  # the most it has had until now: of the GPU, else of the machine
        self.device_bytes: int | None = header["device_bytes"]  # memory of the GPU, if it is on one

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def label(
        self, structures: Sequence[Structure], directions: Sequence[Directions | None], deadline_s: float = 3600.0
    ) -> list[Labels]:
        """Labels of a batch, in order, within deadline_s seconds."""
        header, arrays = wire.pack_structures(structures)
        header_d, arrays_d = wire.pack_directions(directions)
        message = wire.encode({**header, **header_d}, {**arrays, **arrays_d})
        began = time.monotonic()
        header, arrays = self._exchange(message, deadline_s)
        self.seconds = time.monotonic() - began
        if "failed" in header:
            kind = {"refused": TeacherError, "out of memory": TeacherOutOfMemory}.get(
                header["failed"], TeacherException
            )
            raise kind(header["text"])
        # Some teachers find out only from a structure whether their forces are a gradient.
        self.info = replace(self.info, conservative=header["conservative"])
        self.peak_bytes = int(header["peak_bytes"])
        return wire.unpack_labels(header, arrays, directions)

    def kill(self) -> None:
        """Kill the process and leave the rest to whoever waits for its answer."""
        self._process.kill()

    def close(self) -> None:
        """End the process, at once."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._log.close()

    def __enter__(self) -> TeacherProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _exchange(self, message: bytes, deadline_s: float) -> wire.Message:
        """Send a message and wait for the answer; a dead or late child becomes TeacherCrashed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        end = time.monotonic() + deadline_s
        source = self._process.stdout.fileno()

        def read(n: int) -> bytes:
            pieces = []
            while n > 0:
                ready, _, _ = select.select([source], [], [], max(0.0, end - time.monotonic()))
                if not ready:
                    raise TimeoutError
                piece = os.read(source, min(n, 1 << 20))
                if not piece:
                    raise EOFError
                pieces.append(piece)
                n -= len(piece)
            return b"".join(pieces)

        try:
            _write_all(self._process.stdin.fileno(), message)
            return wire.decode(read)
        except TimeoutError:
            self.close()
            raise TeacherHung(
                f"Teacher {self.name} gave no answer within {deadline_s:.0f} s and was stopped."
            ) from None
        except (EOFError, OSError):
            self._process.wait()
            reason = f"Teacher {self.name}'s process ended ({_how_it_ended(self._process.returncode)})."
            tail = self._tail_of_log()
            self.close()
            raise TeacherCrashed(reason + (f" Its last words: {tail}" if tail else "")) from None

    def _tail_of_log(self) -> str:
        self._log.seek(max(0, os.fstat(self._log.fileno()).st_size - 2000))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return " / ".join(line.strip() for line in lines[-3:])


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _how_it_ended(returncode: int) -> str:
    if returncode < 0:
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        return f"killed by {name}" + (", which often means out of memory" if name == "SIGKILL" else "")
    return f"exit code {returncode}"
