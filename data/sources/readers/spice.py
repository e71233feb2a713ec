"""The two HDF5 layouts of the SPICE project: its input files and its releases, one molecule at a time.

    input    group: conformations (n,N,3) nm, smiles (1,) atom-mapped
    release  group: atomic_numbers (N,), conformations (n,N,3) bohr, smiles (1,) atom-mapped, subset (1,),
                    dft_total_energy (n,) hartree, dft_total_gradient (n,N,3) hartree/bohr = -forces, formation_energy (n,)

These are the units where an array has no attribute `units`; one that is there is used, or refused.

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

from ...errors import InputError, nearest
from ...structure import Structure
from ..charge_spin import lowest_spin
from ..files import check_file
from ..hdf5 import dataset, is_here, text, unit_text
from ..reader import Located, Reader, SubsetRow
from ..report import Keys, SourceReport
from ..smiles import parse_mapped, unmapped
from ..units import parse

BLOCK = 64  # conformations read at a time
MAX_ATOMS = 100_000
MAX_DEPTH = 3  # names with '/' in them make groups in groups
ENERGY_KEYS = ("dft_total_energy", "formation_energy")
FORCES_KEYS = ("dft_total_gradient",)
SUFFIXES = (".hdf5", ".h5")
SITE = "doi.org/10.5281/zenodo.10975225 (release) or github.com/openmm/spice-dataset (input files)"
PAPER = "P. Eastman et al., Sci. Data 10, 11 (2023); J. Chem. Theory Comput. 20, 8583 (2024)"


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


def read(path: Path | None, located: Located, keys: Keys, report: SourceReport) -> Iterator[Structure]:
    """The structures of one file that are in the subset. group is the molecule's name in the file.

    info: name, conformation, smiles (without map numbers) and subset (our name where we know it). Raises InputError.
    """
    import h5py

    assert path is not None
    energy_key = _known(keys.energy, ENERGY_KEYS, "energy") or ENERGY_KEYS[0]
    _known(keys.forces, FORCES_KEYS, "forces")
    _known(keys.stress, (), "stress")
    wanted = SUBSETS[located.name or "all"]
    if not h5py.is_hdf5(path):
        raise InputError(f"{path} is not an HDF5 file (or only a pointer to one); fetch it again.")
    name = ""
    try:
        with h5py.File(path, "r", locking=False) as file:
            for name, group in _molecules(file):
                subset = _subset_of(group, path)
                if wanted.field is None or subset in (located.name, None):
                    yield from _conformations(path, name, group, subset, wanted.element, energy_key, report)
    except (OSError, RuntimeError, KeyError) as error:
        place = f"molecule '{name}' or the one after it" if name else "it"
        raise InputError(f"{path}: {place} cannot be read ({error}); fetch the file again.") from error
    if not name:
        raise InputError(f"{path} has no group with 'conformations': it is neither layout of a SPICE file.")


def locate(name: str, data: Path | None) -> Located:
    """The files of spice:NAME: the one that was named, or those in the folder that was. Raises InputError."""
    if name not in SUBSETS:
        raise InputError(f"SPICE has no subset '{name}'; there are {', '.join(SUBSETS)}.{nearest(name, SUBSETS)}")
    if data is None:
        raise InputError(f"spice:{name} needs --data with the path of a SPICE HDF5 file or of its folder, from {SITE}.")
    data = data.expanduser()
    if not data.exists():
        raise InputError(f"--data {data} does not exist; give the path of a SPICE HDF5 file or of its folder.")
    if not data.is_dir():
        check_file(data)
        _check_input_file(data, name)
        return Located(READER, (data,), name=name)
    paths = tuple(_in_folder(data, name))
    if not paths:
        raise InputError(f"The folder {data} has no file of spice:{name} (wanted: {_wanted(name)}), from {SITE}.")
    for path in paths:
        check_file(path)
    return Located(READER, paths, name=name)


def _molecules(group: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Name and group of every molecule, by name."""
    import h5py

    for name in group:
        child = group[name] if is_here(group, name) else None
        if not isinstance(child, h5py.Group):
            continue
        if is_here(child, "conformations"):
            yield prefix + name, child
        elif depth < MAX_DEPTH:
            yield from _molecules(child, f"{prefix}{name}/", depth + 1)


def _subset_of(group: Any, path: Path) -> str | None:
    """Our name of the molecule's subset, else what the file says; None where it says nothing."""
    stated = text(group, "subset")
    if stated is None:
        return next((name for name, known in SUBSETS.items() if known.file == path.stem), None)
    return next((name for name, known in SUBSETS.items() if known.field and re.search(known.field, stated)), stated)


def _conformations(
    path: Path, name: str, group: Any, subset: str | None, element: int | None, energy_key: str, report: SourceReport
) -> Iterator[Structure]:
    report.seen_keys.update(group)
    released = is_here(group, "atomic_numbers")
    smiles = text(group, "smiles")
    shape: tuple[int, ...] = ()
    try:
        positions = dataset(group, "conformations")
        shape = positions.shape
        numbers, charge = _molecule(group, shape, smiles, released)
        energies = _labels(group, energy_key, shape[:1])
        gradients = _labels(group, FORCES_KEYS[0], shape)
        length = _factor(positions, "length", "bohr" if released else "nm", report, shape[0])
        energy_unit = _factor(energies, "energy", "hartree", report, shape[0])
        gradient_unit = _factor(gradients, "forces", "hartree/bohr", report, shape[0])
    except ValueError as error:
        report.skip("molecule cannot be made", f"{path.name}, '{name}': {error}", shape[0] if shape else 1)
        return
    if element is not None and element not in numbers:
        return
    spin = lowest_spin(numbers, charge or 0)
    info = {"name": name, "smiles": unmapped(smiles or ""), "subset": subset}
    info = {key: value for key, value in info.items() if value}
    for start in range(0, shape[0], BLOCK):
        block = slice(start, start + BLOCK)
        geometry = np.asarray(positions[block], np.float64) * length
        energy = None if energies is None else np.asarray(energies[block], np.float64) * energy_unit
        forces = None if gradients is None else -np.asarray(gradients[block], np.float64) * gradient_unit
        for i, frame in enumerate(geometry):
            ref_energy = _finite(None if energy is None else energy[i])
            ref_forces = _finite(None if forces is None else forces[i])
            report.take("energy", None if ref_energy is None else energy_key)
            report.take("forces", None if ref_forces is None else f"{FORCES_KEYS[0]} (sign changed)")
            report.take("charge", None if charge is None else "smiles")
            report.take("spin", None)
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
        listed_in = dataset(group, "atomic_numbers")
        if listed_in.shape != (shape[1],):
            raise ValueError(f"atomic_numbers of shape {listed_in.shape} for conformations of {shape[1]} atoms")
        listed = np.asarray(listed_in[:], np.int64)
        if numbers is not None and not np.array_equal(listed, numbers):
            raise ValueError("atomic_numbers and SMILES name different atoms")
        numbers = listed
    assert numbers is not None
    if len(numbers) != shape[1]:
        raise ValueError(f"a SMILES of {len(numbers)} atoms for conformations of {shape[1]} atoms")
    if numbers.min() < 1 or numbers.max() > 118:
        raise ValueError("an atomic number is not in 1 to 118")
    return numbers, charge


def _labels(group: Any, name: str, shape: tuple[int, ...]) -> Any:
    """The dataset of labels, or None where there is none of that shape. Raises ValueError."""
    labels = dataset(group, name) if is_here(group, name) else None
    return labels if labels is not None and labels.shape == shape else None


def _finite(value: Any) -> Any:
    return value if value is not None and np.isfinite(value).all() else None


def _known(key: str | None, known: tuple[str, ...], quantity: str) -> str | None:
    """The key that the user gave, if it is one whose unit we know. Raises InputError."""
    if key is not None and key not in known:
        offered = f"it can be {' or '.join(known)}" if known else f"SPICE has no {quantity}"
        raise InputError(f"--{quantity}-key was '{key}'; in a SPICE file {offered}.{nearest(key, known)}")
    return key


def _factor(values: Any, quantity: str, usual: str, report: SourceReport, n: int) -> float:
    """What the numbers of an array are multiplied by: its attribute `units`, or what the layout has. Raises UnitError."""
    if values is None:
        return 1.0
    stated = unit_text(values.attrs)
    unit = parse(stated or usual, quantity, "attribute of the array" if stated else "layout of SPICE")
    report.units[(quantity, unit.text, unit.where)] += n
    return unit.factor


def _in_folder(folder: Path, name: str) -> Iterator[Path]:
    """A release if there is one (it holds every subset, and labels), else the input files that may hold the subset."""
    releases = sorted(path for path in folder.iterdir() if re.fullmatch(r"SPICE.*\.(hdf5|h5)", path.name))
    if len(releases) > 1:
        raise InputError(
            f"The folder {folder} has {len(releases)} releases of SPICE ({', '.join(path.name for path in releases)}); "
            "name one of them with --data."
        )
    if releases:
        yield releases[0]
        return
    stem = SUBSETS[name].file
    every = SUBSETS[name].field is None  # all, iodine: any of the files
    known = [subset.file for subset in SUBSETS.values() if subset.file]
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and (path.stem == stem or (every and path.stem in known)):
            yield path


def _check_input_file(path: Path, name: str) -> None:
    """An input file says by its name what it holds; another subset cannot be in it."""
    holds = next((known for known, subset in SUBSETS.items() if subset.file == path.stem), None)
    if holds not in (None, name) and SUBSETS[name].field is not None:
        raise InputError(
            f"{path} holds spice:{holds}, not spice:{name}; say --subset spice:{holds} or give another file."
        )


def _wanted(name: str) -> str:
    stem = SUBSETS[name].file
    return f"{stem}.hdf5 or SPICE-*.hdf5" if stem else "SPICE-*.hdf5"


READER = Reader(
    name="spice",
    what="SPICE's HDF5 files",
    read=read,
    recognises=lambda path: path.suffix.lower() in SUFFIXES,
    locate=locate,
    rows=tuple(
        SubsetRow(f"spice:{name}", s.what, True, s.n_structures, "CC0-1.0", PAPER) for name, s in SUBSETS.items()
    ),
    order=10,
    not_sliced="a SPICE file has no order to slice by; use --where 'conformation < 10' or --limit",
)
