"""Progress of long work: a bar with rate and remaining time on a terminal and in a notebook, a plain line every ten seconds
elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

PLAIN_INTERVAL_S = 10.0
UNKNOWN_DELAY_S = 2.0  # on a terminal


class Progress(Protocol):
    def advance(self, n: int = 1, **shown: object) -> None:
        """n more units are done; `shown` replaces what is displayed beside the bar (str, int or float)."""
        ...


@contextmanager
def progress(total: int | None, unit: str, description: str, enabled: bool = True, done: int = 0) -> Iterator[Progress]:
    """Shows on stderr how far work of `total` units is; `done` of them were finished before, by a run that is resumed.

    total None: nobody knows yet how much there is, so count and rate are shown, and nothing at all of work that is soon over.
    """
    if not enabled:
        yield _Silent()
    elif sys.stderr.isatty() or in_notebook():
        from tqdm.auto import tqdm

        unknown: dict[str, Any] = {"delay": UNKNOWN_DELAY_S, "leave": False} if total is None else {}
        with tqdm(total=total, unit=unit, desc=description, initial=done, dynamic_ncols=True, **unknown) as bar:
            yield _Bar(bar)
    else:
        lines = _Lines(total, unit, description, done)
        yield lines
        lines.close()


def in_notebook() -> bool:
    """Whether this code runs in a Jupyter kernel, where standard error is not a terminal but bars can be drawn."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


class _Silent:
    def advance(self, n: int = 1, **shown: object) -> None:
        pass


class _Bar:
    def __init__(self, bar: Any):
        self._bar = bar

    def advance(self, n: int = 1, **shown: object) -> None:
        if shown:
            self._bar.set_postfix_str(_text(shown), refresh=False)
        self._bar.update(n)


class _Lines:
    """One line at the first unit, then one every PLAIN_INTERVAL_S seconds, and a last one.

    Of an unknown total the first line comes after PLAIN_INTERVAL_S seconds, and a last one only where there was a first.
    """

    def __init__(
        self,
        total: int | None,
        unit: str,
        description: str,
        done: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._unit, self._description = total, unit, description
        self._first, self._done, self._clock = done, done, clock
        self._began = clock()
        self._printed_at = -float("inf") if total is not None else self._began
        self._printed_done = -1
        self._shown: dict[str, object] = {}

    def advance(self, n: int = 1, **shown: object) -> None:
        self._done += n
        self._shown = shown or self._shown
        if self._clock() - self._printed_at >= PLAIN_INTERVAL_S:
            self._print()

    def close(self) -> None:
        if self._printed_done != self._done and (self._total is not None or self._printed_done >= 0):
            self._print()

    def _print(self) -> None:
        elapsed = max(self._clock() - self._began, 1e-9)
        rate = (self._done - self._first) / elapsed
        of, left = "", ""
        if self._total is not None:
            of = f"/{self._total}"
            left = f", {(self._total - self._done) / rate:.0f} s left" if rate > 0 and self._done < self._total else ""
        shown = f", {_text(self._shown)}" if self._shown else ""
        line = f"{self._description}: {self._done}{of} {self._unit} ({rate:.2f} {self._unit}/s{left}){shown}"
        print(line, file=sys.stderr, flush=True)
        self._printed_at, self._printed_done = self._clock(), self._done


def _text(shown: dict[str, object]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in shown.items()
    )
