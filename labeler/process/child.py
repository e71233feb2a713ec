"""The child side: runs in the teacher's own interpreter, loads the teacher once and answers batches until its input ends.

Started as a script, `TEACHER_PYTHON child.py`, so that hdistill need not be installed beside the teacher: only numpy, torch,
ase and the teacher's package must be there. Whatever a teacher prints goes to standard error.
"""

from __future__ import annotations

import copy
import importlib
import os
import sys
import threading
import time
import types
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from hdistill.labeler.teachers.contract import Teacher

PARENT_POLL_S = 1.0
MAX_TEXT = 10_000  # characters of an error's text


def make_hdistill_importable() -> None:
    """Give this interpreter the package `hdistill` from the folder above this file: the parent's own version."""
    here = os.path.dirname(os.path.abspath(__file__))
    # Python put this script's folder first: `import run` or `import plan` must not find the labeler's own files.
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    package = types.ModuleType("hdistill")
    package.__path__ = [os.path.dirname(os.path.dirname(here))]
    sys.modules["hdistill"] = package


def _leave_with_parent() -> None:
    """End this process and its children when its parent is gone, so that a killed labeler leaves no orphan at work."""
    from hdistill.labeler.process.child_process import end_with_children

    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        end_with_children()

    threading.Thread(target=watch, daemon=True).start()


def _limit_memory(n_bytes: int) -> None:
    """An allocation beyond n_bytes fails, as an exception that can be answered, before the kernel kills somebody."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _dump_no_core() -> None:
    """A crash ends the process at once: an image of a teacher's memory takes gigabytes and longer than a deadline.

    A limit of 1 is what Linux takes for "neither a file nor a pipe".
    """
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (1 if hard == resource.RLIM_INFINITY else min(1, hard), hard))


def _peak_bytes(device: str) -> int:
    """The most memory this process has had: of the GPU, else of the machine."""
    import resource

    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    try:
        with open("/proc/self/status") as status:  # Linux; its ru_maxrss begins with what the parent had at the fork
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _device_bytes(device: str) -> int | None:
    """Memory of the GPU, None for a CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory)


def _is_out_of_memory(error: BaseException) -> bool:
    """Memory and nothing else: any other error must be seen, not retried with half a batch."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, for CUDA
        return True
    messages = ("can't allocate memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc")
    return isinstance(error, RuntimeError) and any(message in _text(error) for message in messages)


def _text(error: BaseException) -> str:
    """An exception's own text, empty where it has none or cannot say it."""
    try:
        return str(error)[:MAX_TEXT]
    except BaseException:
        return ""


def _failure(error: BaseException) -> dict[str, Any]:
    """An exception as an answer: why, in one of four words, and its text."""
    from hdistill.data.errors import HDistillError
    from hdistill.labeler.teachers.contract import NoLabels

    name, text = type(error).__name__, _text(error)
    if _is_out_of_memory(error):
        if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return {"failed": "out of memory", "text": (text or name).splitlines()[0]}
    if isinstance(error, NoLabels):
        return {"failed": "bad labels", "text": text}
    if isinstance(error, HDistillError):
        return {"failed": "refused", "text": text or name}
    return {"failed": "exception", "text": f"{name}: {text}" if text else name}


def _be_deterministic() -> None:
    """On a GPU, sums over edges use atomics in random order unless told otherwise; labels must not depend on luck."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def serve(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Load the teacher that the first message asks for, then answer {"op": "label"} messages until end of file.

    Whatever a teacher raises is an answer, also what is not an Exception: sys.exit and Ctrl-C inside of it end no process.
    """
    from hdistill.labeler.process import wire
    from hdistill.labeler.process.child_process import end_with_children
    from hdistill.labeler.teachers.contract import TeacherRequest

    server = os.getpid()

    def read(n: int) -> bytes:
        data = incoming.read(n)
        if len(data) < n:
            end_with_children()  # the parent is gone, or done with this process
        return data

    def answer(header: dict[str, Any], arrays: wire.Arrays | None = None) -> None:
        if os.getpid() != server:  # a teacher has forked, and its child has come back from what it was asked
            os._exit(0)
        outgoing.write(wire.encode(header, arrays))
        outgoing.flush()

    def load(header: dict[str, Any]) -> Teacher:
        request = TeacherRequest(**header["request"])
        if header["memory_bytes"] is not None and request.device == "cpu":  # CUDA maps far more than it uses
            _limit_memory(header["memory_bytes"])
        if request.device != "cpu":
            _be_deterministic()
        adapter = importlib.import_module(f"hdistill.labeler.teachers.{request.family}")
        teacher: Teacher = adapter.load(request)
        return teacher

    header, _ = wire.decode(read)
    try:
        teacher = load(header)
        device = header["request"]["device"]
        about = {"peak_bytes": _peak_bytes(device), "device_bytes": _device_bytes(device)}
        loaded = {"info": teacher.info.as_json(), **about}
    except BaseException as error:
        answer(_failure(error))
        return
    answer(loaded)
    while True:
        header, arrays = wire.decode(read)
        try:
            directions = wire.unpack_directions(header, arrays)
            given = wire.unpack_structures(header, arrays)
            labels = teacher.label(copy.deepcopy(given), directions)  # what it does to them must change no label
            header, arrays = wire.pack_labels(labels, given, directions)
            seen = {"conservative": bool(teacher.info.conservative), "peak_bytes": _peak_bytes(device)}
        except BaseException as error:
            answer(_failure(error))
        else:
            answer({**header, **seen}, arrays)


def main() -> None:
    make_hdistill_importable()
    _leave_with_parent()
    _dump_no_core()
    # A teacher that prints or reads must not do so in the protocol, nor what it starts.
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    serve(incoming, outgoing)


if __name__ == "__main__":
    main()
