"""A child process that cannot hurt its parent, whatever it does: deadlines, a bounded log, an end that is noticed, no survivors.

Everything it reads and writes goes through pipes that never block the parent. Its standard error is drained while the parent
waits for it, and only the end of it is kept, in memory. Its end is seen in the process table, not by the pipe's: what it forked
may hold the pipe open. It leads a process group, and what it starts inherits a mark in its environment: both end with it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MARK = "HDISTILL_TEACHER_PROCESS"  # the environment variable by which what the child started is known
POLL_S = 0.2  # how late its end may be noticed
LOG_BYTES = 8192
PIECE_BYTES = 1 << 20
KILL_S = 10.0  # a process that does not end after SIGKILL hangs in the kernel: nobody can end it
PROC = Path("/proc")


class ChildProcess:
    """A running command. Raises OSError where it cannot be started."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        self._mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, MARK: self._mark},
            bufsize=0,
            start_new_session=True,  # Ctrl-C goes to the coordinator alone, which then stops the workers in order
        )
        self._in, self._out, self._err = (_fileno(self._process, n) for n in ("stdin", "stdout", "stderr"))
        for descriptor in (self._in, self._out, self._err):
            os.set_blocking(descriptor, False)
        self._log = bytearray()
        self._log_is_open = True

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Of a process that has ended; minus a signal's number where that ended it."""
        return self._process.returncode

    def write(self, message: bytes, end: float) -> None:
        """Write a whole message before time.monotonic() is `end`. Raises TimeoutError, EOFError where the process has ended."""
        rest = memoryview(message)
        while rest:
            self._wait_for(self._in, select.POLLOUT, end)
            try:
                rest = rest[os.write(self._in, rest[:PIECE_BYTES]) :]
            except BlockingIOError:
                continue
            except OSError as error:  # it has closed its end
                raise EOFError from error

    def read(self, n: int, end: float) -> bytearray:
        """Exactly n bytes. Raises TimeoutError, EOFError where the process has ended or closed its end."""
        data = bytearray()
        while len(data) < n:
            self._wait_for(self._out, select.POLLIN, end)
            try:
                piece = os.read(self._out, min(n - len(data), PIECE_BYTES))
            except BlockingIOError:
                continue
            if not piece:
                raise EOFError
            data += piece
        return data

    def has_ended(self) -> bool:
        """Whether the process has ended; then what it started is ended, too, while its number cannot be another's yet."""
        if self._process.returncode is None and _is_over(self._process):
            self.kill_all()
            self._process.wait()
        return self._process.returncode is not None

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end."""
        end = time.monotonic() + seconds
        while not self.has_ended():
            if time.monotonic() > end:
                return False
            time.sleep(POLL_S / 20)
        return True

    def log_tail(self, n_lines: int = 3) -> str:
        """The last lines that it wrote to standard error, joined by slashes."""
        if self._log_is_open:
            self._keep_log()
        lines = self._log.decode(errors="replace").strip().splitlines()
        return " / ".join(line.strip() for line in lines[-n_lines:])

    def kill_all(self) -> None:
        """Kill it, if it runs, and everything that it started; leave the rest to whoever waits for its answer."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        _kill_marked(self._mark)

    def close(self) -> None:
        """End it and everything that it started, at once."""
        if self._process.returncode is None:
            self.kill_all()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(KILL_S)
        if self._log_is_open:
            self._keep_log()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._log_is_open = False

    def _wait_for(self, descriptor: int, event: int, end: float) -> None:
        """Until a pipe can be read or written. Raises TimeoutError at `end`, EOFError where the process has ended for good."""
        while True:
            poll = select.poll()
            poll.register(descriptor, event)
            if self._log_is_open:
                poll.register(self._err, select.POLLIN)
            left = end - time.monotonic()
            ready = {d for d, _ in poll.poll(1000 * max(0.0, min(POLL_S, left)))}
            if self._err in ready:
                self._keep_log()
            if descriptor in ready:
                return
            if self.has_ended():
                if _is_ready(descriptor, event):  # its last words came between the two looks
                    return
                raise EOFError
            if left <= 0:
                raise TimeoutError

    def _keep_log(self) -> None:
        """Take what is in the pipe of standard error; keep its end."""
        try:
            piece = os.read(self._err, PIECE_BYTES)
        except (BlockingIOError, OSError):
            return
        self._log_is_open = bool(piece)
        self._log += piece
        del self._log[:-LOG_BYTES]


def _fileno(process: subprocess.Popen[bytes], name: str) -> int:
    return int(getattr(process, name).fileno())


def _is_ready(descriptor: int, event: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return any(events & event for _, events in poll.poll(0))


def _is_over(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended, without taking note of it: until then the system gives its number to no other."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def end_with_children() -> None:
    """End this process, which was started as a ChildProcess, and everything that it started."""
    _kill_marked(os.environ[MARK])
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _kill_marked(mark: str) -> None:
    """Kill every other process with this mark: what has left the process group, too (Linux alone tells)."""
    marked = f"{MARK}={mark}".encode()
    for folder in PROC.glob("[0-9]*"):
        try:
            pid = int(folder.name)
            if pid != os.getpid() and marked in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)
        except OSError:  # another user's, or gone
            continue


def describe_end(returncode: int | None) -> str:
    """How a process ended, in words."""
    if returncode is None:
        return "it closed its pipe"
    if returncode < 0:
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        return f"killed by {name}" + (", which often means out of memory" if name == "SIGKILL" else "")
    return f"exit code {returncode}"
