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

import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, LabelSetError, nearest
from ..format.schema import SIGN, SPLITS, UNITS
from ..format.shard import Sample, decode
from ..format.shard_file import read_arrays
from ..labelsets.label_set import LabelSet, open_label_set
from ..sources.formula import symbols
from ..support.publish import publish_blocks

if TYPE_CHECKING:
    from ase import Atoms

AT_ONCE = 512  # structures that are decoded, and written, together
RESERVED = {
    *(
        "Lattice",
        "Properties",
        "pbc",
        "species",
        "pos",
        "energy",
        "free_energy",
        "forces",
        "stress",
        "virial",
        "dipole",
        "magmom",
    ),
    *("charge", "spin", "id", "group", "split", "REF_energy", "REF_forces", "REF_stress"),
    *("hessian_rows", "hessian_products", "hessian_probes", "atom_energies", "node_features"),
}  # names of our own or with a meaning to ASE: an info entry of that name is left out


def export(path: Path, to: str, file: Path, split: str | None = None, check: bool = True) -> dict[str, Any]:
    """Write a label set, or one of its splits, into one file; returns path, format, n_structures and bytes.

    Raises InputError for a format that there is not, a package that is missing and a file that exists; LabelSetError.
    """
    if to not in FORMATS:
        raise InputError(f"--to was '{to}'; it is {', '.join(FORMATS)}.{nearest(to, FORMATS)}")
    if split is not None and split not in SPLITS:
        raise InputError(f"--split was '{split}'; it is {', '.join(SPLITS)}.{nearest(split, SPLITS)}")
    if file.exists():
        raise InputError(f"{file} exists; remove it first, or give another -o file.")
    labels = open_label_set(path, check=check)
    n = FORMATS[to](labels, samples(labels, split), file)
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


def to_extxyz(labels: LabelSet, blocks: Iterator[list[Sample]], file: Path) -> int:
    """Extended XYZ, which ASE and this package read back. Returns the structures written."""
    n = 0

    def texts() -> Iterator[bytes]:
        nonlocal n
        for block in blocks:
            n += len(block)
            yield "".join(map(frame, block)).encode()

    _claimed(publish_blocks(file, texts()), file)
    return n


def frame(sample: Sample) -> str:
    """One structure as the text of an extended XYZ frame."""
    s, labels = sample.structure, sample.labels
    columns: list[tuple[str, str, NDArray[Any]]] = [("pos", "R", s.positions), ("forces", "R", labels.forces)]
    about: dict[str, Any] = {"energy": labels.energy}
    if labels.stress is not None:
        about["stress"] = np.ravel(labels.stress, order="F")  # the format's order for this key and the lattice alone
    if s.ref_energy is not None:
        about["REF_energy"] = s.ref_energy
    if s.ref_forces is not None:
        columns.append(("REF_forces", "R", s.ref_forces))
    if s.ref_stress is not None:
        about["REF_stress"] = np.ravel(s.ref_stress)
    about |= {"charge": s.charge, "spin": s.spin, "id": s.id, "group": s.group, "split": sample.split}
    if labels.atom_energies is not None:
        columns.append(("atom_energies", "R", labels.atom_energies[:, None]))
    if labels.node_features is not None:
        columns.append(("node_features", "R", labels.node_features))
    if labels.hessian is not None:
        directions = labels.hessian.directions
        columns.append(("hessian_products", "R", _per_atom(labels.hessian.values)))
        if directions.coordinate is not None:
            about["hessian_rows"] = directions.coordinate
        if directions.signs is not None:
            columns.append(("hessian_probes", "I", _per_atom(directions.signs)))
    about |= {key: value for key, value in s.info.items() if key not in RESERVED and value is not None}
    properties = "species:S:1:" + ":".join(f"{name}:{kind}:{array.shape[1]}" for name, kind, array in columns)
    lattice = f"Lattice={_value(np.ravel(s.cell))} " if np.any(s.cell) else ""
    said = " ".join(f"{_key(key)}={_value(value)}" for key, value in about.items())
    head = f"{s.n_atoms}\n{lattice}Properties={properties} {said} pbc={_value(list(s.pbc))}\n"
    texts = [[symbols()[z] for z in s.numbers.tolist()]]
    texts += [
        [" ".join(map(str, row)) for row in array] for _, _, array in columns
    ]  # str of float32: no digits too many
    return head + "".join(" ".join(line) + "\n" for line in zip(*texts, strict=True))


def _per_atom(products: NDArray[Any]) -> NDArray[Any]:
    """(K,N,3) as columns of atoms, (N,3K)."""
    return products.transpose(1, 0, 2).reshape(products.shape[1], -1)


def _key(key: str) -> str:
    return key if key.isidentifier() else _quoted(key)


def _value(value: Any) -> str:
    """A value of the comment line. Texts that a reader would take for numbers or truth values are written as ASE's JSON."""
    if isinstance(value, np.ndarray):
        return _quoted(" ".join(map(str, value)))
    if isinstance(value, list) and all(isinstance(item, bool | np.bool_) for item in value):
        return _quoted(" ".join("T" if item else "F" for item in value))
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, int | float):
        return repr(value)
    words = value.replace(",", " ").split() if isinstance(value, str) else []
    if not words or value.startswith("_JSON") or "\n" in value or "\r" in value or all(map(_is_value, words)):
        return _quoted(f"_JSON {json.dumps(value)}")
    return _quoted(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_value(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return word in ("T", "F", "true", "false", "True", "False", "TRUE", "FALSE")
    return True


def to_ase_db(labels: LabelSet, blocks: Iterator[list[Sample]], file: Path) -> int:
    """An SQLite database of ASE. Key-value pairs: split; the rest is in each row's data (ASE has names of its own for much)."""
    import ase.db

    n = 0
    with _temporary(file) as path:
        database = ase.db.connect(str(path), type="db", append=False)
        for block in blocks:
            with database:  # one transaction
                for sample in block:
                    database.write(_atoms(sample), key_value_pairs={"split": sample.split}, data=_data(sample))
            n += len(block)
        database.metadata = {"title": "hdistill label set", "sign": SIGN, "units": UNITS, "label_set": labels.digest}
    return n


def _atoms(sample: Sample) -> Atoms:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.stress import full_3x3_to_voigt_6_stress

    s, labels = sample.structure, sample.labels
    atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc)
    results: dict[str, Any] = {"energy": labels.energy, "forces": np.asarray(labels.forces, np.float64)}
    if labels.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(np.asarray(labels.stress, np.float64))
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _data(sample: Sample) -> dict[str, Any]:
    s, hessian = sample.structure, sample.labels.hessian
    data: dict[str, Any] = {key: value for key, value in s.info.items() if key not in RESERVED}
    data |= {"id": s.id, "group": s.group, "charge": s.charge, "spin": s.spin}
    for name, value in (("energy", s.ref_energy), ("forces", s.ref_forces), ("stress", s.ref_stress)):
        if value is not None:
            data[f"REF_{name}"] = value
    for name in ("atom_energies", "node_features"):
        if (signal := getattr(sample.labels, name)) is not None:
            data[name] = signal
    if hessian is not None:
        data["hessian_products"] = hessian.values
        if hessian.directions.coordinate is not None:
            data["hessian_rows"] = hessian.directions.coordinate
        else:
            data["hessian_probes"] = hessian.directions.signs
    return data


def to_parquet(labels: LabelSet, blocks: Iterator[list[Sample]], file: Path) -> int:
    """Parquet: one row a structure, a row group for each block."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise InputError("Parquet needs the package pyarrow: type `pip install 'hdistill[export]'`.") from error
    kind = labels.manifest.hessian.kind
    metadata = {"hdistill": json.dumps({"sign": SIGN, "units": UNITS, "label_set": labels.digest})}
    n = 0
    with _temporary(file) as path:
        writer = None
        try:
            for block in blocks:
                table = pa.table(_columns(block, kind)).replace_schema_metadata(metadata)
                writer = writer or parquet.ParquetWriter(path, table.schema, compression="zstd")
                writer.write_table(table)
                n += len(block)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise LabelSetError("There is no structure to export.")
    return n


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
            _claimed(False, file)
        except OSError:  # a file system without hard links
            os.replace(path, file)
    finally:
        for left in file.parent.glob(f"{path.name}*"):  # SQLite keeps a journal beside its file
            left.unlink(missing_ok=True)


def _claimed(won: bool, file: Path) -> None:
    if not won:
        raise InputError(f"{file} came into being while it was written; it was left alone. Give another -o file.")


FORMATS: dict[str, Callable[[LabelSet, Iterator[list[Sample]], Path], int]] = {
    "extxyz": to_extxyz,
    "ase-db": to_ase_db,
    "parquet": to_parquet,
}
