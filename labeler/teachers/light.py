"""Processes of our own that hold no model: they do without PyTorch, which is 190 MB and seconds for each of them."""

from __future__ import annotations

import sys


def import_vesin_without_torch() -> None:
    """Import vesin as if PyTorch were not there; it would load it to take tensors, and we give it numpy arrays.

    For the command line, Dask workers and teacher processes only: elsewhere somebody else may want vesin with tensors.
    """
    if "torch" in sys.modules or "vesin" in sys.modules:
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # what `import torch` takes for "not installed"
    try:
        import vesin  # noqa: F401
    finally:
        del sys.modules["torch"]
