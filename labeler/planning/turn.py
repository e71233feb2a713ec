"""Who makes the plan, where many labelers start on one directory at once: one does, the others wait for it.

Planning twice would be safe (a plan is published atomically and is the same whoever makes it), but sixty-four tasks of a job array
would read the input sixty-four times. A file with a heartbeat, and no lock: whoever waits takes over when the heart stops.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hdistill.data.support.publish import publish

HEARTBEAT_S = 2.0
STOPPED_S = 60.0  # network file systems show a file's new time late
POLL_S = 0.5
PLANNING = ".planning"


@contextmanager
def turn(folder: Path, ready: Callable[[], bool], say: Callable[[str], None]) -> Iterator[bool]:
    """True: it is this process's turn to plan. False: somebody else has done it meanwhile, and ready() holds."""
    mark = folder / PLANNING
    if ready():
        _remove(mark)  # of one that was killed between the plan and its last breath
        yield False
        return
    is_new = not folder.exists()
    has_said = False
    while not publish(mark, f"{socket.gethostname()} {os.getpid()}".encode()):
        if not has_said:
            say(f"Another labeler is planning {folder.name}/; waiting for it.")
            has_said = True
        if _wait_while_alive(mark, ready):
            yield False
            return
        mark.unlink(missing_ok=True)  # two that wait may both do this; the worst is that both plan
    if ready():  # done between our look and our turn
        _remove(mark)
        yield False
        return
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(mark, stop), daemon=True)
    heart.start()
    try:
        yield True
    finally:
        stop.set()
        heart.join()
        mark.unlink(missing_ok=True)
        if is_new:
            with suppress(OSError):  # a plan that could not be made leaves no empty folder behind
                folder.rmdir()


def _remove(mark: Path) -> None:
    """Where it cannot be removed (a finished set on a disk that can only be read) it does no harm."""
    if mark.exists():
        with suppress(OSError):
            mark.unlink(missing_ok=True)


def _wait_while_alive(mark: Path, ready: Callable[[], bool]) -> bool:
    """Wait until ready() (True) or until whoever planned is gone (False)."""
    seen, since = _time_of(mark), time.monotonic()
    while not ready():
        now = _time_of(mark)
        if now is None or _is_dead_here(mark) or (now == seen and time.monotonic() - since > STOPPED_S):
            return ready()
        if now != seen:  # compared with itself only: the clocks of two machines differ
            seen, since = now, time.monotonic()
        time.sleep(POLL_S)
    return True


def _is_dead_here(mark: Path) -> bool:
    """Whether the planner was a process of this machine that is no more."""
    try:
        host, pid = mark.read_text().split()
        if host != socket.gethostname():
            return False
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _time_of(mark: Path) -> int | None:
    try:
        return mark.stat().st_mtime_ns
    except OSError:
        return None


def _beat(mark: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        try:
            os.utime(mark)
        except OSError:  # removed by one that took over: plan on, it is safe
            return
