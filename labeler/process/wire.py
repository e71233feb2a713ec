"""Messages between the labeler and a teacher process: a JSON header and raw arrays, never pickle.

A message is: 8 bytes little-endian length of the header, the header (UTF-8 JSON), then the bytes of each array in the order of
header["arrays"] = [[name, dtype, shape], ...]. The two sides may run different Python and numpy versions.
A teacher may be wrong or broken: its labels are checked where it gives them, and what a message claims before it is believed.
Used by both sides, so it imports only numpy, the plain types of `data` and the contract.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdistill.data.structure import Directions, HessianProducts, Labels, Structure
from hdistill.labeler.teachers.contract import NoLabels, Shape, kind_of, real_array

Header = Mapping[str, Any]
Arrays = Mapping[str, NDArray[Any]]
Message = tuple[dict[str, Any], dict[str, NDArray[Any]]]
MAX_HEADER_BYTES = 64 << 20
MAX_FEATURES = 1 << 15  # node features of an atom
DTYPE = re.compile("[<>|=][biuf][1248]")


class NoMessage(ValueError):
    """Bytes that are not a message, or one that claims more than it may."""


def encode(header: Mapping[str, Any], arrays: Arrays | None = None) -> bytes:
    """One message as bytes."""
    arrays = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    described = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    head = json.dumps({**header, "arrays": described}).encode()
    return b"".join([len(head).to_bytes(8, "little"), head, *(array.tobytes() for array in arrays.values())])


def decode(read: Callable[[int], bytes | bytearray], max_bytes: float = math.inf) -> Message:
    """One message from read(n), which returns exactly n bytes or raises; its arrays have at most max_bytes.

    Raises NoMessage before anything is allocated for what the message claims.
    """
    n_header = int.from_bytes(read(8), "little")
    if n_header > MAX_HEADER_BYTES:
        raise NoMessage(f"a header of {n_header} bytes")
    try:
        header = json.loads(read(n_header))
        described = [(str(name), str(dtype), [int(n) for n in shape]) for name, dtype, shape in header.pop("arrays")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NoMessage(f"a header that is not one: {error}") from error
    arrays = {}
    for name, dtype, shape in described:
        if not DTYPE.fullmatch(dtype) or min(shape, default=0) < 0:
            raise NoMessage(f"an array of dtype {dtype} and shape {shape}")
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        max_bytes -= n_bytes
        if max_bytes < 0:
            raise NoMessage(f"more bytes than were asked for, in '{name}' of shape {shape}")
        arrays[name] = np.frombuffer(bytearray(read(n_bytes)), dtype).reshape(shape)
    return header, arrays


def pack_structures(structures: Sequence[Structure]) -> Message:
    """Structures as flat arrays and one header."""
    header: dict[str, Any] = {"structures": []}
    arrays: dict[str, NDArray[Any]] = {
        "numbers": np.concatenate([np.asarray(s.numbers, np.uint8) for s in structures]),
        "positions": np.concatenate([np.asarray(s.positions, np.float64) for s in structures]),
        "cell": np.stack([np.asarray(s.cell, np.float64) for s in structures]),
        "pbc": np.stack([np.asarray(s.pbc, bool) for s in structures]),
    }
    for index, s in enumerate(structures):
        header["structures"].append(
            {"n_atoms": s.n_atoms, "charge": s.charge, "spin": s.spin, "group": s.group}
            | ({"info": dict(s.info)} if s.info else {})
            | ({} if s.ref_energy is None else {"ref_energy": s.ref_energy})
        )
        if s.ref_forces is not None:
            arrays[f"ref_forces {index}"] = s.ref_forces
        if s.ref_stress is not None:
            arrays[f"ref_stress {index}"] = s.ref_stress
    return header, arrays


def unpack_structures(header: Mapping[str, Any], arrays: Arrays) -> list[Structure]:
    """The inverse of pack_structures."""
    structures = []
    start = 0
    for index, row in enumerate(header["structures"]):
        stop = start + row["n_atoms"]
        structures.append(
            Structure(
                numbers=arrays["numbers"][start:stop],
                positions=arrays["positions"][start:stop],
                cell=arrays["cell"][index],
                pbc=arrays["pbc"][index],
                charge=row["charge"],
                spin=row["spin"],
                group=row["group"],
                info=row.get("info", {}),
                ref_energy=row.get("ref_energy"),
                ref_forces=arrays.get(f"ref_forces {index}"),
                ref_stress=arrays.get(f"ref_stress {index}"),
            )
        )
        start = stop
    return structures


def pack_directions(directions: Sequence[Directions | None]) -> Message:
    """Directions of each structure; None stays None."""
    header: dict[str, Any] = {"directions": [None if d is None else d.kind for d in directions]}
    arrays: dict[str, NDArray[Any]] = {}
    for index, d in enumerate(directions):
        if d is not None:
            arrays[f"direction {index}"] = d.coordinate if d.coordinate is not None else d.signs  # type: ignore[assignment]
    return header, arrays


def unpack_directions(header: Mapping[str, Any], arrays: Arrays) -> list[Directions | None]:
    """The inverse of pack_directions."""
    field = {"rows": "coordinate", "probes": "signs"}
    return [
        None if kind is None else Directions(kind, **{field[kind]: arrays[f"direction {index}"]})
        for index, kind in enumerate(header["directions"])
    ]


def pack_labels(
    labels: Sequence[Labels], structures: Sequence[Structure], directions: Sequence[Directions | None]
) -> Message:
    """Labels of each structure, without the directions, which the other side already has. Raises NoLabels."""
    if not isinstance(labels, list) or not all(isinstance(x, Labels) for x in labels) or len(labels) != len(structures):
        raise NoLabels(f"It gave {kind_of(labels)} where a list of labels of {len(structures)} structures was wanted.")
    arrays: dict[str, NDArray[Any]] = {
        "energy": np.stack(
            [real_array(x.energy, (), "energy", s).astype(np.float64) for x, s in zip(labels, structures, strict=True)]
        )
    }
    for index, (x, s, wanted) in enumerate(zip(labels, structures, directions, strict=True)):
        products = None if x.hessian is None else x.hessian.values
        if (products is None) != (wanted is None):
            raise NoLabels(f"Structure {s.id}: products were {'not ' if wanted is None else ''}wanted.")
        values = (x.forces, x.stress, products, x.atom_energies, x.node_features)
        for (name, shape), value in zip(_shapes(s, wanted).items(), values, strict=True):
            if value is not None or name == "forces":
                arrays[f"{name} {index}"] = real_array(value, shape, name, s)
    return {"n_labels": len(labels)}, arrays


def unpack_labels(
    arrays: Arrays, structures: Sequence[Structure], directions: Sequence[Directions | None]
) -> list[Labels]:
    """The inverse of pack_labels, given what was asked. Raises NoLabels where it is not the answer to that."""
    energy = arrays["energy"].astype(np.float64)
    if energy.shape != (len(structures),):
        raise NoLabels(f"energies of shape {energy.shape} for {len(structures)} structures")
    labels = []
    for index, (s, wanted) in enumerate(zip(structures, directions, strict=True)):
        given = {
            name: real_array(arrays[f"{name} {index}"], shape, name, s)
            for name, shape in _shapes(s, wanted).items()
            if f"{name} {index}" in arrays
        }
        products = None if wanted is None else HessianProducts(wanted, given["products"])
        labels.append(
            Labels(
                float(energy[index]),
                given["forces"],
                given.get("stress"),
                products,
                given.get("atom energies"),
                given.get("node features"),
            )
        )
    return labels


def max_bytes_of_labels(structures: Sequence[Structure], directions: Sequence[Directions | None]) -> int:
    """What an answer may have at most, in float64."""
    numbers = 0
    for s, wanted in zip(structures, directions, strict=True):
        numbers += 1 + 9 + s.n_atoms * (3 + 3 * len(wanted or ()) + 1 + MAX_FEATURES)
    return 8 * numbers


def _shapes(structure: Structure, wanted: Directions | None) -> dict[str, Shape]:
    """The arrays that labels of a structure may have; None stands for any length."""
    n = structure.n_atoms
    return {
        "forces": (n, 3),
        "stress": (3, 3),
        "products": (len(wanted or ()), n, 3),
        "atom energies": (n,),
        "node features": (n, None),
    }
