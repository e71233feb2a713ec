"""The arrays of a shard, each stated once. Format version 1; docs/format.md says the same in prose.

Dimensions: S structures, A atoms of all structures, P Hessian products of all structures, V = sum over products of 3 * n_atoms,
D features of an atom.
Flat arrays with offsets: structure s owns atoms atom_offsets[s]:atom_offsets[s+1] and products
product_offsets[s]:product_offsets[s+1]; its values follow each other in hessian_values, product after product, each (N,3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FORMAT: Literal["hdistill label set"] = "hdistill label set"
VERSION = 1
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, SplitName, SplitName] = ("train", "val", "test")
MAX_QUARANTINE_ROWS = 20_000  # that a manifest lists, so that it stays below what readers take; all are counted
UNITS = {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3 (ASE sign)", "hessian": "eV/A^2", "length": "A"}
SIGN = "hessian = +d2E/dR2 = -dF/dR; forces = -dE/dR; a product of v is v . H; index = 3*atom + axis"


@dataclass(frozen=True)
class Array:
    """One dataset: dtypes it may have, named dimensions, unit, meaning; optional ones may be missing."""

    name: str
    dtypes: tuple[str, ...]
    dims: tuple[str | int, ...]
    unit: str
    meaning: str
    optional: bool = False


ARRAYS = {
    array.name: array
    for array in (
        Array("id", ("|u1",), ("S", 16), "", "BLAKE2b-128 of numbers, positions, cell, pbc, charge, spin"),
        Array("group", ("|S",), ("S",), "", "molecule or material, UTF-8: the unit of splits"),
        Array("split", ("|u1",), ("S",), "", "0 train, 1 val, 2 test"),
        Array("info_offsets", ("<i8",), ("S+1",), "", "structure s said info_text[info_offsets[s]:info_offsets[s+1]]"),
        Array("info_text", ("|u1",), ("I",), "", "what the source said of each structure, UTF-8 JSON"),
        Array("atom_offsets", ("<i8",), ("S+1",), "", "first atom of each structure"),
        Array("numbers", ("|u1",), ("A",), "", "atomic numbers"),
        Array("positions", ("<f8",), ("A", 3), "A", "Cartesian positions"),
        Array("cell", ("<f8",), ("S", 3, 3), "A", "lattice vectors in rows; zeros where there is none"),
        Array("pbc", ("|u1",), ("S", 3), "", "1 where periodic"),
        Array("charge", ("<i4",), ("S",), "e", "total charge"),
        Array("spin", ("<i4",), ("S",), "", "multiplicity 2S+1"),
        Array("energy", ("<f8",), ("S",), "eV", "the teacher's energy"),
        Array("forces", ("<f4",), ("A", 3), "eV/A", "the teacher's forces"),
        Array("stress", ("<f4",), ("S", 3, 3), "eV/A^3", "the teacher's stress, ASE's sign; NaN where none", True),
        Array("ref_energy", ("<f8",), ("S",), "eV", "the source's own energy; NaN where none", True),
        Array("ref_forces", ("<f4",), ("A", 3), "eV/A", "the source's own forces; NaN where none", True),
        Array("ref_stress", ("<f4",), ("S", 3, 3), "eV/A^3", "the source's own stress; NaN where none", True),
        Array("atom_energies", ("<f8",), ("A",), "eV", "the teacher's energy of each atom; NaN where none", True),
        Array("node_features", ("<f4",), ("A", "D"), "", "the teacher's invariant features; NaN where none", True),
        Array("product_offsets", ("<i8",), ("S+1",), "", "first Hessian product of each structure"),
        Array("hessian_coordinate", ("<i4",), ("P",), "", "rows: the row's index, 3*atom + axis", True),
        Array(
            "hessian_signs",
            ("|u1",),
            ("B",),
            "",
            "probes: bit i (big-endian in a byte) is 1 where element i of v is +1",
            True,
        ),
        Array(
            "hessian_values",
            ("<u2", "<f4"),
            ("V",),
            "eV/A^2",
            "products; compact: zigzag, u = 2q for q >= 0 and -2q-1 for q < 0; the value is q * 2**exponent",
            True,
        ),
        Array("hessian_exponent", ("|i1",), ("P",), "", "compact: the step of a product is 2**exponent eV/A^2", True),
    )
}
