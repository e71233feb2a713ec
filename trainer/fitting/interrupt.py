"""Ctrl-C and SIGTERM that wait for the end of a training step, so that what is saved is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether an end was asked for. A second Ctrl-C ends at once, and so does the first where nothing is half done."""

    def __init__(self) -> None:
        self.asked = False
        self._at_once = False

    def remember(self, number: int, frame: FrameType | None) -> None:
        """The handler of signals."""
        if self.asked or self._at_once:
            raise KeyboardInterrupt
        self.asked = True

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, a signal raises KeyboardInterrupt: long work that training does not depend on, such as compiling."""
        if self.asked:
            raise KeyboardInterrupt
        before, self._at_once = self._at_once, True
        try:
            yield
        finally:
            self._at_once = before


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Signals are remembered until the end. In the main thread; elsewhere they have their usual effect."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt.remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
