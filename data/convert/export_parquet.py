"""Parquet: one row a structure, a row group for each block."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, LabelSetError
from ..format.schema import SIGN, UNITS
from ..format.shard import Sample
from ..labelsets.label_set import LabelSet


def write(labels: LabelSet, split: str | None, blocks: Iterable[list[Sample]], path: Path) -> int:
    """Write the file; returns how many structures it has. Raises InputError where pyarrow is missing."""
    pa, parquet = _arrow()
    n, writer = 0, None
    try:
        for block in blocks:
            table = pa.table(_columns(block, labels.manifest.hessian.kind)).replace_schema_metadata(
                _about(labels, split)
            )
            writer = writer or parquet.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            n += len(block)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise LabelSetError("There is no structure to export.")
    return n


def is_of(labels: LabelSet, split: str | None, blocks: Iterable[list[Sample]], path: Path) -> int | None:
    """How many structures a file has that says it was made of this set, whole; None of any other."""
    _, parquet = _arrow()
    try:
        metadata = parquet.read_metadata(path)
    except (OSError, ValueError):
        return None
    about = {key.decode(): value.decode() for key, value in (metadata.metadata or {}).items() if key == b"hdistill"}
    n = int(metadata.num_rows)
    return n if about == _about(labels, split) and n == sum(map(len, blocks)) else None


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise InputError(
            "Parquet needs the package pyarrow: type `pip install -c constraints.txt '.[export]'`."
        ) from error
    return pa, parquet


def _about(labels: LabelSet, split: str | None) -> dict[str, str]:
    about = {"sign": SIGN, "units": UNITS, "label_set": labels.digest} | ({} if split is None else {"split": split})
    return {"hdistill": json.dumps(about)}


def _columns(block: Sequence[Sample], kind: str) -> dict[str, Any]:
    """Arrow arrays of a block; every block has the same columns, null where a structure has none."""
    import pyarrow as pa

    structures = [sample.structure for sample in block]
    labels = [sample.labels for sample in block]
    products = [x.hessian for x in labels]
    columns = {
        "id": pa.array([s.id for s in structures]),
        "group": pa.array([s.group for s in structures]),
        "split": pa.array([sample.split for sample in block]),
        "info": pa.array([json.dumps(dict(s.info), sort_keys=True) for s in structures]),
        "numbers": _nested([s.numbers for s in structures], np.uint8, 1),
        "positions": _nested([s.positions for s in structures], np.float64, 2),
        "cell": _nested([s.cell for s in structures], np.float64, 2),
        "pbc": _nested([s.pbc for s in structures], np.bool_, 1),
        "charge": pa.array([s.charge for s in structures], pa.int32()),
        "spin": pa.array([s.spin for s in structures], pa.int32()),
        "energy": pa.array([x.energy for x in labels], pa.float64()),
        "forces": _nested([x.forces for x in labels], np.float32, 2),
        "stress": _nested([x.stress for x in labels], np.float32, 2),
        "REF_energy": pa.array([s.ref_energy for s in structures], pa.float64()),
        "REF_forces": _nested([s.ref_forces for s in structures], np.float32, 2),
        "REF_stress": _nested([s.ref_stress for s in structures], np.float32, 2),
    }
    columns["atom_energies"] = _nested([x.atom_energies for x in labels], np.float64, 1)
    columns["node_features"] = _nested([x.node_features for x in labels], np.float32, 2)
    if kind != "none":
        columns["hessian_products"] = _nested([None if p is None else p.values for p in products], np.float32, 3)
    if kind == "probes":
        signs = [None if p is None else p.directions.signs for p in products]
        columns["hessian_probes"] = _nested(signs, np.int8, 3)
    elif kind != "none":
        rows = [None if p is None else p.directions.coordinate for p in products]
        columns["hessian_rows"] = _nested(rows, np.int32, 1)
    return columns


def _nested(arrays: Sequence[NDArray[Any] | None], dtype: Any, rank: int) -> Any:
    """Arrays of `rank` dimensions as an Arrow column of lists of lists; None is null."""
    import pyarrow as pa

    present = [np.asarray(array) for array in arrays if array is not None]
    flat = np.concatenate([array.ravel() for array in present]).astype(dtype) if present else np.zeros(0, dtype)
    column = pa.array(flat)
    for depth in range(rank - 1, 0, -1):  # the innermost lists first
        lengths = [np.full(int(np.prod(array.shape[:depth])), array.shape[depth]) for array in present]
        column = pa.ListArray.from_arrays(_offsets(lengths), column)
    counts = [0 if array is None else len(array) for array in arrays]
    missing = pa.array([array is None for array in arrays])
    return pa.ListArray.from_arrays(_offsets([np.array(counts)]), column, mask=missing)


def _offsets(lengths: Sequence[NDArray[Any]]) -> Any:
    import pyarrow as pa

    return pa.array(np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0), *lengths]))]).astype(np.int32))
