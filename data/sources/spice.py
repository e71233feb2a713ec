"""The two HDF5 layouts of the SPICE project: its input files and its releases, one molecule at a time.

    input    group: conformations (n,N,3) nm, smiles (1,) atom-mapped
    release  group: atomic_numbers (N,), conformations (n,N,3) bohr, smiles (1,) atom-mapped, subset (1,),
                    dft_total_energy (n,) hartree, dft_total_gradient (n,N,3) hartree/bohr = -forces, formation_energy (n,)

P. Eastman et al., Scientific Data 10, 11 (2023); J. Chem. Theory Comput. 20, 8583 (2024).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, nearest
from ..structure import Structure
from .report import Keys, SourceReport
from .smiles import parse_mapped, unmapped
from .units import BOHR, HARTREE, NANOMETRE

BLOCK = 64  # conformations read at a time
MAX_ATOMS = 100_000
MAX_DEPTH = 3  # names with '/' in them make groups in groups
ENERGY_KEYS = ("dft_total_energy", "formation_energy")
FORCES_KEYS = ("dft_total_gradient",)


@dataclass(frozen=True)
class SpiceSubset:
    """One of SPICE's subsets: how a release and an input file name it, or the element that its structures contain."""

    what: str
    n_structures: int | None = None  # in SPICE 2.0
    field: str | None = None  # pattern of a release's `subset` field
    file: str | None = None  # stem of the input file
    element: int | None = None


SUBSETS = {
    "monomers": SpiceSubset("DES370K monomers, 3-22 atoms", 18_700, r"DES(370K)? Monomers", "des-monomers"),
    "dimers": SpiceSubset("DES370K dimers, 2-34 atoms", 345_676, r"DES370K (Single|Dimers)"),
    "dipeptides": SpiceSubset("dipeptides, 26-60 atoms", 33_850, "Dipeptides", "dipeptides"),
    "solvated-amino-acids": SpiceSubset(
        "capped amino acids in water, 79-96 atoms", 1_300, "Solvated Amino Acids", "solvated-amino-acids"
    ),
    "pubchem": SpiceSubset("drug-like molecules of PubChem, 3-50 atoms", 1_398_566, "(?<!Solvated )PubChem"),
    "solvated-pubchem": SpiceSubset("PubChem molecules in water, 63-110 atoms", 13_934, "Solvated PubChem"),
    "amino-acid-ligand": SpiceSubset("pairs of an amino acid and a ligand, 24-72 atoms", 194_174, "Amino Acid Ligand"),
    "ion-pairs": SpiceSubset("pairs of monatomic ions", 1_426, "Ion Pairs", "ions"),
    "water": SpiceSubset("clusters of 30 water molecules", 1_000, "Water Clusters", "water"),
    "iodine": SpiceSubset("everything that contains iodine", element=53),
    "all": SpiceSubset("everything", 2_008_628),
}


def read(path: Path, subset: str, keys: Keys, report: SourceReport) -> Iterator[Structure]:
    """The structures of one file that are in the subset. group is the molecule's name in the file.

    info: name, conformation, smiles (without map numbers) and subset (our name where we know it). Raises InputError.
    """
    import h5py

    energy_key = _known(keys.energy, ENERGY_KEYS, "energy") or ENERGY_KEYS[0]
    _known(keys.forces, FORCES_KEYS, "forces")
    _known(keys.stress, (), "stress")
    wanted = SUBSETS[subset]
    if not h5py.is_hdf5(path):
        raise InputError(f"{path} is not an HDF5 file (or only a pointer to one); fetch it again.")
    name = ""
    try:
        with h5py.File(path, "r", locking=False) as file:
            for name, group in _molecules(file):
                found = _subset_of(group, path)
                if wanted.field is None or found in (subset, None):
                    yield from _conformations(path, name, group, found, wanted.element, energy_key, report)
    except (OSError, RuntimeError, KeyError) as error:
        place = f"molecule '{name}' or the one after it" if name else "it"
        raise InputError(f"{path}: {place} cannot be read ({error}); fetch the file again.") from error
    if not name:
        raise InputError(f"{path} has no group with 'conformations': it is neither layout of a SPICE file.")


def _molecules(group: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Name and group of every molecule, by name."""
    import h5py

    for name in group:
        child = group[name] if _is_here(group, name) else None
        if not isinstance(child, h5py.Group):
            continue
        if _is_here(child, "conformations"):
            yield prefix + name, child
        elif depth < MAX_DEPTH:
            yield from _molecules(child, f"{prefix}{name}/", depth + 1)


def _subset_of(group: Any, path: Path) -> str | None:
    """Our name of the molecule's subset, else what the file says; None where it says nothing."""
    text = _text(group, "subset")
    if text is None:
        return next((name for name, known in SUBSETS.items() if known.file == path.stem), None)
    return next((name for name, known in SUBSETS.items() if known.field and re.search(known.field, text)), text)


def _conformations(
    path: Path, name: str, group: Any, subset: str | None, element: int | None, energy_key: str, report: SourceReport
) -> Iterator[Structure]:
    report.seen_keys.update(group)
    released = _is_here(group, "atomic_numbers")
    smiles = _text(group, "smiles")
    shape: tuple[int, ...] = ()
    try:
        positions = _dataset(group, "conformations")
        shape = positions.shape
        numbers, charge = _molecule(group, shape, smiles, released)
        energies = _labels(group, energy_key, shape[:1])
        gradients = _labels(group, FORCES_KEYS[0], shape)
    except ValueError as error:
        report.skip("molecule cannot be made", f"{path.name}, '{name}': {error}", shape[0] if shape else 1)
        return
    if element is not None and element not in numbers:
        return
    spin = 1 + int(numbers.sum() - (charge or 0)) % 2  # closed shell, or a doublet where a count is odd
    info = {"name": name, "smiles": unmapped(smiles or ""), "subset": subset}
    info = {key: value for key, value in info.items() if value}
    for start in range(0, shape[0], BLOCK):
        block = slice(start, start + BLOCK)
        geometry = np.asarray(positions[block], np.float64) * (BOHR if released else NANOMETRE)
        energy = None if energies is None else np.asarray(energies[block], np.float64) * HARTREE
        forces = None if gradients is None else np.asarray(gradients[block], np.float64) * (-HARTREE / BOHR)
        for i, frame in enumerate(geometry):
            ref_energy = _finite(None if energy is None else energy[i])
            ref_forces = _finite(None if forces is None else forces[i])
            report.n_read += 1
            report.take("energy", None if ref_energy is None else energy_key)
            report.take("forces", None if ref_forces is None else f"{FORCES_KEYS[0]} (sign changed)")
            report.take("charge", None if charge is None else "smiles")
            report.take("group", "name of the molecule")
            yield Structure(
                numbers=numbers,
                positions=frame,
                charge=charge or 0,
                spin=spin,
                group=name,
                info=info | {"conformation": start + i},
                ref_energy=None if ref_energy is None else float(ref_energy),
                ref_forces=ref_forces,
            )


def _molecule(
    group: Any, shape: tuple[int, ...], smiles: str | None, released: bool
) -> tuple[NDArray[np.int64], int | None]:
    """Atomic numbers and charge; a release's charge is None where its SMILES does not tell. Raises ValueError."""
    if len(shape) != 3 or shape[2] != 3 or not 1 <= shape[1] <= MAX_ATOMS:
        raise ValueError(f"conformations have the shape {shape}, not (n_conformations, n_atoms, 3)")
    numbers = charge = None
    if smiles is not None:
        try:
            numbers, charge = parse_mapped(smiles)
        except ValueError as error:
            if not released:
                raise ValueError(f"its SMILES cannot be used: {error}") from error
    elif not released:
        raise ValueError("it has neither atomic_numbers nor a SMILES")
    if released:
        dataset = _dataset(group, "atomic_numbers")
        if dataset.shape != (shape[1],):
            raise ValueError(f"atomic_numbers of shape {dataset.shape} for conformations of {shape[1]} atoms")
        listed = np.asarray(dataset[:], np.int64)
        if numbers is not None and not np.array_equal(listed, numbers):
            raise ValueError("atomic_numbers and SMILES name different atoms")
        numbers = listed
    assert numbers is not None
    if len(numbers) != shape[1]:
        raise ValueError(f"a SMILES of {len(numbers)} atoms for conformations of {shape[1]} atoms")
    if numbers.min() < 1 or numbers.max() > 118:
        raise ValueError("an atomic number is not in 1 to 118")
    return numbers, charge


def _is_here(group: Any, name: str) -> bool:
    """Whether the group has the name by a hard link: soft and external links could lead anywhere."""
    import h5py

    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def _dataset(group: Any, name: str) -> Any:
    """A dataset whose data lie in this file. Raises ValueError."""
    import h5py

    dataset = group[name] if _is_here(group, name) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise ValueError(f"'{name}' is not a plain dataset of this file")
    return dataset


def _labels(group: Any, name: str, shape: tuple[int, ...]) -> Any:
    """The dataset of labels, or None where there is none of that shape. Raises ValueError."""
    dataset = _dataset(group, name) if _is_here(group, name) else None
    return dataset if dataset is not None and dataset.shape == shape else None


def _text(group: Any, name: str) -> str | None:
    """The string in a dataset () or (1,), or None."""
    try:
        dataset = _dataset(group, name)
    except ValueError:
        return None
    if dataset.size != 1:
        return None
    value = np.asarray(dataset[()]).reshape(-1)[0]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _finite(value: Any) -> Any:
    return value if value is not None and np.isfinite(value).all() else None


def _known(key: str | None, known: tuple[str, ...], quantity: str) -> str | None:
    """The key that the user gave, if it is one whose unit we know. Raises InputError."""
    if key is not None and key not in known:
        offered = f"it can be {' or '.join(known)}" if known else f"SPICE has no {quantity}"
        raise InputError(f"--{quantity}-key was '{key}'; in a SPICE file {offered}.{nearest(key, known)}")
    return key
