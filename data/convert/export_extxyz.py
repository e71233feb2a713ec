"""Extended XYZ, which ASE and this package read back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..format.shard import Sample
from ..labelsets.label_set import LabelSet
from ..sources.formula import symbols

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


def write(labels: LabelSet, split: str | None, blocks: Iterable[list[Sample]], path: Path) -> int:
    """Write the file; returns how many structures it has."""
    n = 0
    with open(path, "wb") as stream:
        for block in blocks:
            stream.write(_text(block))
            n += len(block)
    return n


def is_of(labels: LabelSet, split: str | None, blocks: Iterable[list[Sample]], path: Path) -> int | None:
    """How many structures a file has that `write` would write just so; None of any other."""
    n = 0
    with open(path, "rb") as stream:
        for block in blocks:
            text = _text(block)
            if stream.read(len(text)) != text:
                return None
            n += len(block)
        return None if stream.read(1) else n


def _text(block: list[Sample]) -> bytes:
    return "".join(map(frame, block)).encode()


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
    comment = " ".join(f"{_key(key)}={_value(value)}" for key, value in about.items())
    head = f"{s.n_atoms}\n{lattice}Properties={properties} {comment} pbc={_value(list(s.pbc))}\n"
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
