"""ASE Atoms as text from which they are read back as they were."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from hdistill.data.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms


def extxyz_frame(atoms: Atoms) -> str:
    """One Atoms as ASE writes it, but for the positions, which keep all their digits (ASE's have eight decimals)."""
    from ase.io.extxyz import write_xyz

    file = io.StringIO()
    try:
        write_xyz(file, [atoms])
    except Exception as error:  # whatever is in info, arrays and results is the user's
        raise InputError(
            f"{atoms.symbols} cannot be written as extended XYZ ({error}); remove what is unusual from its info, arrays or calculator."
        ) from error
    count, comment, *lines = file.getvalue().splitlines()
    rows = [line.split(maxsplit=4) for line in lines]  # the element, three coordinates, the rest
    for row, position in zip(rows, atoms.positions.tolist(), strict=True):
        row[1:4] = map(repr, position)
    return "\n".join([count, comment, *map(" ".join, rows)]) + "\n"
