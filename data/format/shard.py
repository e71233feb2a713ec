"""Samples to the arrays of a shard and back. Chunks of the labeler and shards of a label set are the same kind of file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LabelSetError
from ..structure import Directions, HessianProducts, Labels, Structure
from ..support.strict_json import read_info
from .codec import Codec, decode_flat, encode
from .schema import ARRAYS, SPLITS
from .shard_file import Arrays, OpenShard, open_shard


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled structure and its split (train, val or test)."""

    structure: Structure
    labels: Labels
    split: str


def to_arrays(samples: Sequence[Sample], codec: Codec) -> Arrays:
    """The arrays of schema.ARRAYS for these samples. All samples must have products of one kind, or none."""
    structures = [s.structure for s in samples]
    labels = [s.labels for s in samples]
    infos = [json.dumps(dict(s.info), sort_keys=True, separators=(",", ":")).encode() for s in structures]
    arrays: Arrays = {
        "id": np.frombuffer(b"".join(bytes.fromhex(s.id) for s in structures), np.uint8).reshape(-1, 16),
        "group": np.array([s.group.encode() for s in structures], dtype="S"),
        "split": np.array([SPLITS.index(s.split) for s in samples], np.uint8),
        "info_offsets": _offsets([len(text) for text in infos]),
        "info_text": np.frombuffer(b"".join(infos), np.uint8),
        "atom_offsets": _offsets([s.n_atoms for s in structures]),
        "numbers": _flat([s.numbers for s in structures], "|u1"),
        "positions": _flat([s.positions for s in structures], "<f8", (3,)),
        "cell": np.array([s.cell for s in structures], "<f8").reshape(-1, 3, 3),
        "pbc": np.array([s.pbc for s in structures], "|u1").reshape(-1, 3),
        "charge": np.array([s.charge for s in structures], "<i4"),
        "spin": np.array([s.spin for s in structures], "<i4"),
        "energy": np.array([x.energy for x in labels], "<f8"),
        "forces": _flat([x.forces for x in labels], "<f4", (3,)),
    }
    if any(x.stress is not None for x in labels):
        arrays["stress"] = _flat([_or_nan(x.stress, (3, 3))[None] for x in labels], "<f4", (3, 3))
    if any(s.ref_energy is not None for s in structures):
        arrays["ref_energy"] = np.array([np.nan if s.ref_energy is None else s.ref_energy for s in structures], "<f8")
    if any(s.ref_forces is not None for s in structures):
        arrays["ref_forces"] = _flat([_or_nan(s.ref_forces, (s.n_atoms, 3)) for s in structures], "<f4", (3,))
    if any(s.ref_stress is not None for s in structures):
        arrays["ref_stress"] = _flat([_or_nan(s.ref_stress, (3, 3))[None] for s in structures], "<f4", (3, 3))
    if any(x.atom_energies is not None for x in labels):
        arrays["atom_energies"] = _flat([_or_nan(x.atom_energies, (len(x.forces),)) for x in labels], "<f8")
    widths = {x.node_features.shape[1] for x in labels if x.node_features is not None}
    if widths:
        (width,) = widths  # of one teacher
        arrays["node_features"] = _flat([_or_nan(x.node_features, (len(x.forces), width)) for x in labels], "<f4")
    return arrays | _hessian_arrays([x.hessian for x in labels], codec)


def _hessian_arrays(products: Sequence[HessianProducts | None], codec: Codec) -> Arrays:
    present = [p for p in products if p is not None]
    arrays: Arrays = {"product_offsets": _offsets([0 if p is None else len(p.directions) for p in products])}
    if not present:
        return arrays
    coded = [encode(p.values, codec) for p in present]
    arrays["hessian_values"] = np.concatenate([stored.ravel() for stored, _ in coded])
    if codec == "compact":
        arrays["hessian_exponent"] = _flat([exponent for _, exponent in coded], "|i1")
    if present[0].directions.kind == "rows":
        arrays["hessian_coordinate"] = _flat([p.directions.coordinate for p in present], "<i4")
    else:
        arrays["hessian_signs"] = np.packbits(_flat([np.ravel(p.directions.signs) for p in present], "|i1") > 0)  # type: ignore[arg-type]
    return arrays


def codec_errors(samples: Sequence[Sample], arrays: Arrays) -> NDArray[np.float64]:
    """What the codec cost: |stored - values|_2 / |values|_2 of each product of these samples, (P,), given their arrays."""
    values = [s.labels.hessian.values for s in samples if s.labels.hessian is not None]
    lengths = np.concatenate([np.full(len(v), v[0].size) for v in values] or [np.zeros(0, np.int64)])
    if not len(lengths):
        return np.zeros(0)
    decoded = decode_flat(arrays["hessian_values"], arrays.get("hessian_exponent"), lengths).astype(np.float64)
    exact = np.concatenate([np.ravel(v) for v in values]).astype(np.float64)
    starts = np.cumsum(lengths) - lengths
    error, norm = (np.sqrt(np.add.reduceat(x**2, starts)) for x in (decoded - exact, exact))
    return np.where(norm > 0, error / np.where(norm > 0, norm, 1), 0.0)


def packed_ids(source: Mapping[str, Any]) -> NDArray[np.bytes_]:
    """The id of every structure of an open shard or of arrays, (S,) of 16 bytes each, to sort and to compare."""
    return np.ascontiguousarray(source["id"][:]).view("S16").reshape(-1)


def concatenate(parts: Sequence[Arrays]) -> Arrays:
    """The arrays of several chunks as those of one shard: nothing is decoded, so nothing changes but the offsets."""
    parts = [part for part in parts if len(part["id"])]
    names = {name for part in parts for name in part}
    joined: Arrays = {}
    for name in (n for n in ARRAYS if n in names):
        array = ARRAYS[name]
        if array.dims == ("S+1",):
            joined[name] = _offsets(np.concatenate([np.diff(part[name]) for part in parts]))
        elif name == "hessian_signs":
            bits = [np.unpackbits(part[name])[: len(part["hessian_values"])] for part in parts if name in part]
            joined[name] = np.packbits(np.concatenate(bits))
        else:
            tail = next(part[name].shape[1:] for part in parts if name in part)
            joined[name] = np.concatenate(
                [part[name] if name in part else _missing(name, part, tail) for part in parts]
            )
    return joined


def select(arrays: Arrays, indices: Sequence[int] | NDArray[np.int64]) -> Arrays:
    """The arrays of some structures alone, in the order of the indices: nothing is decoded, so values stay as they are stored."""
    chosen = np.asarray(indices, np.int64)
    atoms, products = np.diff(arrays["atom_offsets"]), np.diff(arrays["product_offsets"])
    offsets = {
        "A": arrays["atom_offsets"],
        "I": arrays["info_offsets"],
        "P": arrays["product_offsets"],
        "V": _offsets(3 * atoms * products),
    }
    rows = {"S": chosen} | {dim: _ranges(ends, chosen) for dim, ends in offsets.items()}
    selected: Arrays = {}
    for name, array in arrays.items():
        dim = str(ARRAYS[name].dims[0])
        if dim == "S+1":
            selected[name] = _offsets(np.diff(array)[chosen])
        elif dim == "B":
            selected[name] = np.packbits(np.unpackbits(array)[rows["V"]])
        else:
            selected[name] = array[rows[dim]]
    return selected


def append_products(arrays: Arrays, more: Arrays) -> Arrays:
    """The arrays with the products of `more`, which has the same structures in the same order, behind each structure's own."""
    n = len(arrays["id"])
    both = select(
        concatenate([arrays, more]), np.arange(2 * n).reshape(2, n).T.ravel()
    )  # each structure twice, side by side
    products = {name: array for name, array in both.items() if ARRAYS[name].dims[0] in ("P", "V", "B")}
    return arrays | products | {"product_offsets": both["product_offsets"][::2]}


def without_products(arrays: Arrays) -> Arrays:
    """The same structures and labels without Hessian products."""
    kept = {name: array for name, array in arrays.items() if ARRAYS[name].dims[0] not in ("P", "V", "B")}
    return kept | {"product_offsets": np.zeros_like(arrays["product_offsets"])}


def _ranges(offsets: NDArray[np.int64], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of all elements that belong to the chosen structures, one structure after the other."""
    counts = np.diff(offsets)[chosen]
    before = np.cumsum(counts) - counts
    within = np.arange(int(counts.sum())) - np.repeat(before, counts)
    return np.asarray(np.repeat(offsets[chosen], counts) + within, np.int64)


def read_samples(path: Path, start: int = 0, stop: int | None = None) -> list[Sample]:
    """Samples start:stop of a shard, decoded in one go; reading neighbours together is several times cheaper than one by one."""
    with open_shard(path) as file:
        return decode(file, start, len(file["id"]) if stop is None else min(stop, len(file["id"])))


def decode(source: Mapping[str, Any], start: int, stop: int) -> list[Sample]:
    """Samples start:stop from an open shard or from arrays in memory."""
    try:
        return _decode(source, start, stop)
    except OSError as error:  # fletcher32 found a damaged HDF5 chunk
        raise LabelSetError(f"A shard is damaged ({error}); restore it from its origin.") from error


def _decode(source: Mapping[str, Any], start: int, stop: int) -> list[Sample]:
    atom = source["atom_offsets"][start : stop + 1]
    text = source["info_offsets"][start : stop + 1]
    per_structure = {
        name: source[name][start:stop]
        for name in ("group", "split", "cell", "pbc", "charge", "spin", "energy", "stress", "ref_energy", "ref_stress")
        if name in source
    }
    per_atom = {
        name: source[name][atom[0] : atom[-1]]
        for name in ("numbers", "positions", "forces", "ref_forces", "atom_energies", "node_features")
        if name in source
    }
    infos = source["info_text"][text[0] : text[-1]].tobytes()
    products = _decode_products(source, start, stop)
    samples = []
    for s in range(stop - start):
        own = slice(atom[s] - atom[0], atom[s + 1] - atom[0])
        structure = Structure(
            numbers=per_atom["numbers"][own],
            positions=per_atom["positions"][own],
            cell=per_structure["cell"][s],
            pbc=per_structure["pbc"][s].astype(bool),
            charge=int(per_structure["charge"][s]),
            spin=int(per_structure["spin"][s]),
            group=per_structure["group"][s].decode(),
            info=read_info(infos[text[s] - text[0] : text[s + 1] - text[0]]),
            ref_energy=_none_if_nan(per_structure, "ref_energy", s),
            ref_forces=_none_if_nan(per_atom, "ref_forces", own),
            ref_stress=_none_if_nan(per_structure, "ref_stress", s),
        )
        labels = Labels(
            energy=float(per_structure["energy"][s]),
            forces=per_atom["forces"][own],
            stress=_none_if_nan(per_structure, "stress", s),
            hessian=products[s],
            atom_energies=_none_if_nan(per_atom, "atom_energies", own),
            node_features=_none_if_nan(per_atom, "node_features", own),
        )
        samples.append(Sample(structure, labels, SPLITS[per_structure["split"][s]]))
    return samples


def _decode_products(source: Mapping[str, Any], start: int, stop: int) -> list[HessianProducts | None]:
    atoms = np.diff(source["atom_offsets"][start : stop + 1])
    product = source["product_offsets"][start : stop + 1]
    counts = np.diff(product)
    ends = _value_offsets(source)[start : stop + 1]
    first, last = int(ends[0]), int(ends[-1])
    if "hessian_values" not in source or first == last:
        return [None] * (stop - start)
    exponent = source["hessian_exponent"][product[0] : product[-1]] if "hessian_exponent" in source else None
    values = decode_flat(source["hessian_values"][first:last], exponent, 3 * np.repeat(atoms, counts))
    rows = source["hessian_coordinate"][product[0] : product[-1]] if "hessian_coordinate" in source else None
    signs = None
    if rows is None:
        bits = np.unpackbits(source["hessian_signs"][first // 8 : (last + 7) // 8])[first % 8 :][: last - first]
        signs = bits.view(np.int8) * np.int8(2) - np.int8(1)
    of_structures: list[HessianProducts | None] = []
    for s in range(stop - start):
        k, n = int(counts[s]), int(atoms[s])
        own = slice(int(ends[s]) - first, int(ends[s + 1]) - first)
        if k == 0:
            of_structures.append(None)
            continue
        if rows is not None:
            which = slice(int(product[s] - product[0]), int(product[s + 1] - product[0]))
            directions = Directions("rows", coordinate=rows[which])
        else:
            assert signs is not None
            directions = Directions("probes", signs=signs[own].reshape(k, n, 3))
        of_structures.append(HessianProducts(directions, values[own].reshape(k, n, 3)))
    return of_structures


def _value_offsets(source: Mapping[str, Any]) -> NDArray[np.int64]:
    """Where each structure's Hessian values begin, (S+1,); an open shard knows them, so that a block costs no more in a large one."""
    if isinstance(source, OpenShard):
        return source.value_offsets
    return _offsets(3 * np.diff(source["atom_offsets"]) * np.diff(source["product_offsets"]))


def _offsets(counts: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))]).astype("<i8")


def _flat(arrays: Sequence[Any], dtype: str, tail: tuple[int, ...] = ()) -> NDArray[Any]:
    return np.concatenate([np.asarray(a, dtype) for a in arrays]) if arrays else np.zeros((0, *tail), dtype)


def _or_nan(array: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.full(shape, np.nan) if array is None else array


def _missing(name: str, part: Arrays, tail: tuple[int, ...]) -> NDArray[Any]:
    """What an optional array holds for a chunk that has none of it: NaN per structure or atom, nothing per product."""
    dims = ARRAYS[name].dims
    count = {"S": len(part["id"]), "A": len(part["numbers"])}.get(str(dims[0]), 0)
    return np.full((count, *tail), np.nan if count else 0).astype(ARRAYS[name].dtypes[0])


def _none_if_nan(arrays: Mapping[str, Any], name: str, index: Any) -> Any:
    if name not in arrays:
        return None
    value = arrays[name][index]
    if np.isnan(value).any():
        return None
    return float(value) if np.ndim(value) == 0 else value
