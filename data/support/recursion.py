"""What packages change for the whole process, put back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

NEEDED = 100_000  # what symfc sets when it is imported


@contextmanager
def deep_recursion() -> Iterator[None]:
    """Room for packages that call themselves deeply; afterwards the limit is what it was, also where a package raised it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, NEEDED))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
