"""From a size to a student with fresh weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hdistill.data.errors import InputError

from .sizes import StudentSize


def build(size: StudentSize, elements: Sequence[int], scale: float, seed: int = 0) -> nn.Module:
    """A float32 student for these elements, weights drawn from `seed` alone; scale (eV) multiplies what it says of an atom.

    Raises InputError for an architecture that is neither ours nor of an installed package, PackageMissing for MACE without it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = _student(size, elements, scale)
    if not size.repulsion:
        return student
    from .repulsion import WithRepulsion

    return WithRepulsion(student, elements, size.cutoff)


def _student(size: StudentSize, elements: Sequence[int], scale: float) -> nn.Module:
    numbers = (size.channels, size.layers, size.cutoff, size.basis)
    if size.architecture == "mace":
        from .mace import Mace

        return Mace(elements, size, scale)
    if size.package:
        from .outside import build_offered

        return build_offered(size, elements, scale)
    if size.architecture == "painn":
        from .painn import PaiNN

        return PaiNN(elements, *numbers, scale, size.direct)
    if size.architecture == "gemnet":
        from .gemnet import GemNet

        return GemNet(elements, *numbers, scale, size.direct)
    if size.architecture == "moment":
        from .moment import Moment

        return Moment(elements, size.channels, size.cutoff, size.basis, scale)
    if size.architecture == "ace":
        from .ace import Ace

        return Ace(elements, *numbers, size.max_l, scale)
    raise InputError(
        f"This hdistill knows no student architecture '{size.architecture}'; install the one that wrote it."
    )
