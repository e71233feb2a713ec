"""Packs of structures that a teacher takes at once."""

from __future__ import annotations

from collections.abc import Sequence


def pack(n_atoms: Sequence[int], max_atoms: int) -> list[list[int]]:
    """Indices of structures in batches of at most max_atoms atoms; a larger structure is a batch of its own.

    Sorted by size first, so that the structures of a batch need about as many products each. A pure function of the sizes: what
    shares a batch must not depend on timing, or labels would not be the same byte for byte.
    """
    batches: list[list[int]] = []
    atoms = 0
    for index in sorted(range(len(n_atoms)), key=lambda i: (n_atoms[i], i)):
        if not batches or atoms + n_atoms[index] > max_atoms:
            batches.append([])
            atoms = 0
        batches[-1].append(index)
        atoms += n_atoms[index]
    return batches
