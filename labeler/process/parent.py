"""The parent side: start a teacher in its own interpreter, ask it for labels with a deadline, say why it failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from hdistill.data.errors import TeacherCrashed, TeacherError
from hdistill.data.structure import Directions, Labels, Structure
from hdistill.data.support.text import plain_text

from ..teachers.contract import TeacherInfo, TeacherRequest
from . import gpus, wire
from .child_process import ChildProcess, describe_end

CHILD = Path(__file__).with_name("child.py")
LOAD_DEADLINE_S = 600.0
END_S = 2.0  # a process that has closed its pipe is about to end: its exit code says more
# glibc hands large freed blocks back to the kernel, and page faults then cost a third of a large batch of SevenNet.
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
T = TypeVar("T")


class TeacherOutOfMemory(TeacherError):
    """The batch did not fit; a smaller one may. The process lives on."""


class TeacherException(TeacherError):
    """The teacher raised an error of its own on this batch. The process lives on."""


class TeacherBadLabels(TeacherException):
    """What the teacher gave for this batch is no labels: another type or shape, complex, missing. The process lives on."""


class TeacherHung(TeacherCrashed):
    """No answer within the deadline; the process was stopped."""


ERRORS = {
    "refused": TeacherError,
    "out of memory": TeacherOutOfMemory,
    "exception": TeacherException,
    "bad labels": TeacherBadLabels,
}


class TeacherProcess:
    """A loaded teacher in a process of its own. Use as a context manager.

    Raises TeacherError where the teacher cannot be loaded or refuses a structure, TeacherOutOfMemory, TeacherException,
    TeacherBadLabels, and TeacherCrashed where the process died, missed a deadline or answered with something that cannot be
    read; after TeacherCrashed this object is closed.
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
        self.name = request.name
        self.seconds = 0.0  # that the last batch took
        try:
            self._process = ChildProcess([str(python), str(CHILD)], environment)
        except OSError as error:
            raise TeacherError(f"The teacher's interpreter {python} does not start: {error.strerror}.") from error
        try:
            message = wire.encode({"request": asdict(request), "memory_bytes": memory_bytes})
            self.info, self.peak_bytes, self.device_bytes = self._exchange(message, _unpack_loaded, 0, deadline_s)
        except TeacherCrashed as error:
            raise type(error)(" ".join([str(error), *getattr(error, "__notes__", ())])) from error
        except TeacherError as error:
            raise TeacherError(f"Teacher {request.name} does not load: {error}") from error
        finally:
            if not hasattr(self, "info"):
                self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._process.has_ended()

    def label(
        self, structures: Sequence[Structure], directions: Sequence[Directions | None], deadline_s: float = 3600.0
    ) -> list[Labels]:
        """Labels of a batch, in order, within deadline_s seconds."""

        def unpack(header: wire.Header, arrays: wire.Arrays) -> tuple[list[Labels], bool, int]:
            labels = wire.unpack_labels(arrays, structures, directions)
            return labels, bool(header["conservative"]), int(header["peak_bytes"])

        header, arrays = wire.pack_structures(structures)
        header_d, arrays_d = wire.pack_directions(directions)
        message = wire.encode({**header, **header_d}, {**arrays, **arrays_d})
        began = time.monotonic()
        limit = wire.max_bytes_of_labels(structures, directions)
        labels, conservative, self.peak_bytes = self._exchange(message, unpack, limit, deadline_s)
        self.seconds = time.monotonic() - began
        # Some teachers find out only from a structure whether their forces are a gradient.
        self.info = replace(self.info, conservative=conservative)
        return labels

    def kill(self) -> None:
        """Kill the process and leave the rest to whoever waits for its answer."""
        self._process.kill_all()

    def close(self) -> None:
        """End the process and all that it started, at once."""
        self._process.close()

    def __enter__(self) -> TeacherProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _exchange(
        self, message: bytes, unpack: Callable[[wire.Header, wire.Arrays], T], max_bytes: int, deadline_s: float
    ) -> T:
        """Send a message and unpack the answer, whose arrays may have max_bytes.

        A dead or late child, and an answer that cannot be read, become TeacherCrashed.
        """
        end = time.monotonic() + deadline_s
        try:
            self._process.write(message, end)
            header, arrays = wire.decode(lambda n: self._process.read(n, end), max_bytes)
            if "failed" in header:
                raise ERRORS[header["failed"]](plain_text(str(header["text"])))
            return unpack(header, arrays)
        except TimeoutError:
            self.close()
            raise TeacherHung(
                f"Teacher {self.name} gave no answer within {deadline_s:.0f} s and was stopped."
            ) from None
        except (EOFError, OSError):
            self._process.ends_within(END_S)
            how = describe_end(self._process.returncode)
            self.close()
            if "bad_alloc" in (tail := plain_text(self._process.log_tail())):
                how += ", std::bad_alloc"
            crash = TeacherCrashed(f"Teacher {self.name}'s process ended ({how}).")
            if tail:  # it has paths of this machine in it: not for the message, which is published with the labels
                crash.add_note(f"Its last words: {tail}")
            raise crash from None
        except TeacherError:
            raise
        except (
            Exception
        ) as error:  # whatever is wrong with its answer, the next one cannot be told from the rest of this one
            self.close()
            what = plain_text(f"{type(error).__name__}: {error}", 200)
            raise TeacherCrashed(
                f"Teacher {self.name}'s process gave an answer that cannot be read ({what}) and was stopped."
            ) from None
        except BaseException:  # Ctrl-C: half of an answer may be in the pipe
            self.close()
            raise


def _unpack_loaded(header: wire.Header, arrays: wire.Arrays) -> tuple[TeacherInfo, int, int | None]:
    """What the teacher says of itself; the most memory it has had until now: of the GPU, else of the machine; the GPU's."""
    info = TeacherInfo(**{**header["info"], "elements": tuple(int(z) for z in header["info"]["elements"])})
    device_bytes = header["device_bytes"]
    return info, int(header["peak_bytes"]), None if device_bytes is None else int(device_bytes)
