"""A label set in formats that other programs read: extended XYZ, an ASE database (SQLite), Parquet.

All have: numbers, positions (A), cell, pbc, charge, spin (multiplicity), id, group, split, the teacher's energy (eV), forces
(eV/A) and stress (eV/A^3, ASE's sign), atom_energies and node_features where there are any, the source's own labels as REF_energy,
REF_forces, REF_stress, and what the source said.
Of Hessian products (eV/A^2; product k is v_k . H, see hessian.py), K of a structure of N atoms:

    extxyz    columns hessian_products (3K, product after product) and hessian_probes (3K of +-1), or hessian_rows in the comment
    ase-db    row.data: hessian_products (K,N,3), hessian_probes (K,N,3) or hessian_rows (K,)
    parquet   columns of the same names, nested lists; units and sign are in the schema's metadata

Positions are written with all their digits, so that a structure that is read back has its id. Files are complete or absent.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError, nearest
from ..format.schema import SPLITS
from ..format.shard import Sample, decode
from ..format.shard_file import read_arrays
from ..labelsets.label_set import LabelSet, open_label_set
from ..support.publish import remove_temporaries
from . import export_ase_db, export_extxyz, export_parquet

AT_ONCE = 512  # structures that are decoded, and written, together
LEFT_AFTER_S = 3600.0
FORMATS = {"extxyz": export_extxyz, "ase-db": export_ase_db, "parquet": export_parquet}


def export(path: Path, to: str, file: Path, split: str | None = None, check: bool = True) -> dict[str, Any]:
    """Write a label set, or one of its splits, into one file; returns path, format, n_structures and bytes.

    A file that is there already is left alone; if it is this very export, from a command that was killed at its end, that is all
    there is to do. Raises InputError for a format that there is not, a package that is missing and a file that exists;
    LabelSetError.
    """
    if to not in FORMATS:
        raise InputError(f"--to was '{to}'; it is {', '.join(FORMATS)}.{nearest(to, FORMATS)}")
    if split is not None and split not in SPLITS:
        raise InputError(f"--split was '{split}'; it is {', '.join(SPLITS)}.{nearest(split, SPLITS)}")
    if file.exists() and not file.is_file():
        raise InputError(f"{file} is not a file; give another -o file.")
    labels = open_label_set(path, check=check)
    writer = FORMATS[to]
    if file.exists():
        n = writer.is_of(labels, split, samples(labels, split), file)
        if n is None:
            raise InputError(f"{file} exists; remove it first, or give another -o file.")
    else:
        with _temporary(file) as temporary:
            n = writer.write(labels, split, samples(labels, split), temporary)
    remove_temporaries(file.parent, LEFT_AFTER_S, file.name)
    return {"path": str(file), "format": to, "n_structures": n, "bytes": file.stat().st_size}


def samples(labels: LabelSet, split: str | None = None) -> Iterator[list[Sample]]:
    """Blocks of samples of a set, in order."""
    for shard in labels.shards:
        arrays = read_arrays(shard.path)[0]
        for start in range(0, shard.n_structures, AT_ONCE):
            block = decode(arrays, start, min(start + AT_ONCE, shard.n_structures))
            wanted = [sample for sample in block if split in (None, sample.split)]
            if wanted:
                yield wanted


@contextmanager
def _temporary(file: Path) -> Iterator[Path]:
    """A hidden path beside a file, for writers that want a path; synced and given the file's name if all went well."""
    file.parent.mkdir(parents=True, exist_ok=True)
    path = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield path
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(path, file)
        except FileExistsError:
            raise InputError(
                f"{file} came into being while it was written; it was left alone. Give another -o file."
            ) from None
        except OSError:  # a file system without hard links
            os.replace(path, file)
    finally:
        for left in file.parent.glob(f"{path.name}*"):  # SQLite keeps a journal beside its file
            left.unlink(missing_ok=True)
