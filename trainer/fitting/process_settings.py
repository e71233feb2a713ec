"""This process while a fit runs: its CPU time, memory kept between steps, precision of matrix products."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h of glibc
_TRAINING = {
    _M_MMAP_THRESHOLD: 32 << 20,
    _M_TRIM_THRESHOLD: (1 << 31) - 1,
    _M_TOP_PAD: 64 << 20,
}  # the largest that glibc takes
_DEFAULTS = {_M_MMAP_THRESHOLD: 128 << 10, _M_TRIM_THRESHOLD: 128 << 10, _M_TOP_PAD: 128 << 10}  # mallopt(3)


class TrainingClock:
    """CPU time of this process, but for what is not training."""

    def __init__(self) -> None:
        self._mark = time.process_time()

    def lap(self) -> float:
        """Seconds since the clock was made, or since the last lap."""
        before, self._mark = self._mark, time.process_time()
        return self._mark - before

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within is not counted."""
        began = time.process_time()
        try:
            yield
        finally:
            self._mark += time.process_time() - began


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Training steps allocate and free the same megabytes over and over; without page faults they take 10-20 % less CPU time.

    Linux with glibc only, elsewhere without effect; the process keeps at most what it had at its peak, and gives it back at the
    end.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    for name, value in _TRAINING.items():
        libc.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in _DEFAULTS.items():
            libc.mallopt(name, value)
        libc.malloc_trim(0)


@contextmanager
def tf32_allowed(allowed: bool) -> Iterator[None]:
    """Whether GPUs may take 10 bits of mantissa in products of matrices."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(None)
        _ = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        return None
    return libc
