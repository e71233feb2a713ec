"""From a size to a student with fresh weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hdistill.data.errors import InputError

from .sizes import StudentSize


def build(size: StudentSize, elements: Sequence[int], scale: float, seed: int = 0) -> nn.Module:
    """A float32 student for these elements, weights drawn from `seed` alone; scale (eV) multiplies what it says of an atom."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if size.architecture == "painn":
            from .painn import PaiNN

            return PaiNN(elements, size.channels, size.layers, size.cutoff, size.basis, scale)
    raise InputError(
        f"This hdistill knows no student architecture '{size.architecture}'; install the one that wrote it."
    )
