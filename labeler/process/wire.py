"""Messages between the labeler and a teacher process: a JSON header and raw arrays, never pickle.

A message is: 8 bytes little-endian length of the header, the header (UTF-8 JSON), then the bytes of each array in the order of
header["arrays"] = [[name, dtype, shape], ...]. The two sides may run different Python and numpy versions.
Used by both sides, so it imports only numpy and the plain types of `data`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdistill.data.structure import Directions, HessianProducts, Labels, Structure

Arrays = Mapping[str, NDArray[Any]]
Message = tuple[dict[str, Any], dict[str, NDArray[Any]]]


def encode(header: Mapping[str, Any], arrays: Arrays | None = None) -> bytes:
    """One message as bytes."""
    arrays = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    described = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    head = json.dumps({**header, "arrays": described}).encode()
    return b"".join([len(head).to_bytes(8, "little"), head, *(array.tobytes() for array in arrays.values())])


def decode(read: Callable[[int], bytes]) -> Message:
    """One message from read(n), which returns exactly n bytes or raises."""
    header = json.loads(read(int.from_bytes(read(8), "little")))
    arrays = {}
    for name, dtype, shape in header.pop("arrays"):
        n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
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


def pack_labels(labels: Sequence[Labels]) -> Message:
    """Labels of each structure, without the directions, which the other side already has."""
    arrays: dict[str, NDArray[Any]] = {"energy": np.array([x.energy for x in labels], np.float64)}
    for index, x in enumerate(labels):
        arrays[f"forces {index}"] = x.forces
        if x.stress is not None:
            arrays[f"stress {index}"] = x.stress
        if x.hessian is not None:
            arrays[f"products {index}"] = x.hessian.values
        if x.atom_energies is not None:
            arrays[f"atom energies {index}"] = x.atom_energies
        if x.node_features is not None:
            arrays[f"node features {index}"] = x.node_features
    return {"n_labels": len(labels)}, arrays


def unpack_labels(header: Mapping[str, Any], arrays: Arrays, directions: Sequence[Directions | None]) -> list[Labels]:
    """The inverse of pack_labels, given the directions that were asked for."""
    return [
        Labels(
            energy=float(arrays["energy"][index]),
            forces=arrays[f"forces {index}"],
            stress=arrays.get(f"stress {index}"),
            hessian=None if wanted is None else HessianProducts(wanted, arrays[f"products {index}"]),
            atom_energies=arrays.get(f"atom energies {index}"),
            node_features=arrays.get(f"node features {index}"),
        )
        for index, wanted in enumerate(directions[: header["n_labels"]])
    ]
