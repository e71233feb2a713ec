"""Phonons by phonopy (Togo, J. Phys. Soc. Jpn. 92, 012001, 2023) with any calculator: finite displacements of one supercell.

Frequencies in THz, imaginary ones negative. Without the non-analytical term of polar crystals: no charges are known here.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hdistill.data.convert.hessians.phonopy_files import YAMLS, produce_force_constants, require_phonopy
from hdistill.data.errors import InputError
from hdistill.data.structure import geometry_of

Array = NDArray[np.float64]
DISPLACEMENT = 0.01  # A
SYMMETRY = 1e-2  # A, of a relaxed crystal
MOST_DISPLACED, MOST_ATOMS, EDGE = 60, 200, 10.0  # supercells, atoms of one, its shortest height in A
POINTS = 31  # of a segment of the path
MESH = 8  # points along each axis
IMAGINARY = -0.1  # THz
HEAT_AT = 300.0  # K
SIGMA = 0.15  # THz, of the density of states


def primitive_of(crystal: Atoms) -> Atoms:
    """The standard primitive cell of a relaxed crystal, its symmetry made exact. Raises InputError."""
    import spglib

    cell = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    standard = spglib.standardize_cell(cell, to_primitive=True, symprec=SYMMETRY)
    if standard is None:
        raise InputError(f"No space group of {crystal.get_chemical_formula()} was found.")
    lattice, fractions, numbers = standard
    return Atoms(numbers, scaled_positions=fractions, cell=lattice, pbc=True)


def repeats_of(primitive: Atoms) -> list[int]:
    from hdistill.data.sampling.supercell import Supercell, best_repeats

    return list(best_repeats(geometry_of(primitive), Supercell(edge=EDGE, max_atoms=MOST_ATOMS)))


def displaced(primitive: Atoms) -> Any:
    """A Phonopy with its displaced supercells. Raises InputError where there are too many of them."""
    require_phonopy("Phonons need")
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    unit = PhonopyAtoms(
        numbers=primitive.numbers, cell=primitive.cell.array, scaled_positions=primitive.get_scaled_positions()
    )
    phonons = Phonopy(unit, np.diag(repeats_of(primitive)), primitive_matrix=np.eye(3), log_level=0)
    phonons.generate_displacements(distance=DISPLACEMENT)
    n = len(phonons.displacements)
    if n > MOST_DISPLACED:
        raise InputError(
            f"{primitive.get_chemical_formula()} has little symmetry: {n} displaced supercells are more than "
            f"the {MOST_DISPLACED} that are tried."
        )
    return phonons


def with_forces(phonons: Any, calculator: Any) -> Any:
    """A copy with the force constants that a calculator gives for the same displacements; forces without one are subtracted."""
    copy = phonons.replicate()
    copy.dataset = _bare(phonons.dataset)
    rest = _forces(phonons.supercell, calculator)
    copy.forces = np.array([_forces(cell, calculator) - rest for cell in phonons.supercells_with_displacements])
    make_force_constants(copy)
    return copy


def make_force_constants(phonons: Any) -> None:
    produce_force_constants(phonons)
    phonons.symmetrize_force_constants(show_drift=False)


def sum_rule(phonons: Any) -> float:
    """Largest |sum of force constants over all atoms|, eV/A^2, before it is made 0: how far from the acoustic sum rule."""
    copy = phonons.replicate()
    copy.dataset, copy.forces = _bare(phonons.dataset), phonons.forces
    produce_force_constants(copy)
    return float(np.abs(copy.force_constants.sum(axis=1)).max())


def path_of(phonons: Any) -> tuple[list[Array], list[tuple[str, str]]]:
    """Segments of points in the Brillouin zone, and the names of their ends (ASE's standard path of the lattice)."""
    from ase.dft.kpoints import parse_path_string

    primitive = phonons.primitive
    path = Atoms(primitive.symbols, cell=primitive.cell, pbc=True).cell.bandpath(npoints=0)
    segments, names = [], []
    for run in parse_path_string(path.path):
        for start, end in itertools.pairwise(run):
            a, b = np.array(path.special_points[start]), np.array(path.special_points[end])
            segments.append(a + (b - a) * np.linspace(0, 1, POINTS)[:, None])
            names.append((start, end))
    return segments, names


def figures(phonons: Any) -> dict[str, Any]:
    """bands: (segments, points, branches) THz; distances of the points; mesh: frequencies (q,branches) with weights; dos; lowest;
    n_imaginary: of the mesh, share; heat: J/K/mol of a primitive cell at HEAT_AT."""
    segments, names = path_of(phonons)
    phonons.run_band_structure(segments)
    phonons.run_mesh([MESH] * 3, is_gamma_center=True)
    phonons.run_total_dos(sigma=SIGMA, use_tetrahedron_method=False)
    phonons.run_thermal_properties(temperatures=[HEAT_AT], exclude_gamma_acoustic=True)
    bands, dos = phonons.band_structure, phonons.total_dos
    frequencies, weights = np.array(phonons.mesh.frequencies), np.array(phonons.mesh.weights, np.float64)
    return {
        "names": [list(pair) for pair in names],
        "distances": [np.asarray(d).tolist() for d in bands.distances],
        "bands": [np.asarray(f).tolist() for f in bands.frequencies],
        "mesh": frequencies.tolist(),
        "weights": weights.tolist(),
        "dos": {
            "frequency": np.asarray(dos.frequency_points).tolist(),
            "density": np.asarray(dos.dos).tolist(),
        },
        "lowest": float(min(frequencies.min(), *(np.min(f) for f in bands.frequencies))),
        "imaginary_share": float(
            (weights[:, None] * (frequencies < IMAGINARY)).sum() / weights.sum() / frequencies.shape[1]
        ),
        "heat_capacity": float(phonons.thermal_properties.heat_capacity[0]),
    }


def difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Mean absolute and largest difference of frequencies over the mesh and the path, THz, branches in order of frequency."""
    weights = np.array(one["weights"])[:, None]
    off = np.abs(np.array(one["mesh"]) - np.array(other["mesh"]))
    path = [np.abs(np.array(a) - np.array(b)).max() for a, b in zip(one["bands"], other["bands"], strict=True)]
    return {
        "frequency_mae": float((weights * off).sum() / weights.sum() / off.shape[1]),
        "largest": float(max(off.max(), *path)),
        "heat_capacity": one["heat_capacity"] - other["heat_capacity"],
    }


def measured_phonons(path: Path) -> Any:
    """A Phonopy with forces, from phonopy_params.yaml, or a folder of phonopy_disp.yaml and FORCE_SETS. Raises InputError."""
    phonopy = require_phonopy("Phonons need")
    file, sets = path, None
    if path.is_dir():
        found = [path / name for name in YAMLS]
        found = [each for each in found if each.is_file()] or sorted(path.glob("phonopy_params*.yaml*"))
        if not found:
            raise InputError(f"{path} has no phonopy_disp.yaml and no phonopy_params.yaml; give one of them.")
        file, sets = found[0], path / "FORCE_SETS"
        sets = sets if sets.is_file() else None
    if not file.is_file():
        raise InputError(
            f"{file} does not exist; give phonopy_params.yaml, or a folder with phonopy_disp.yaml and FORCE_SETS."
        )
    try:
        phonons = phonopy.load(file, force_sets_filename=sets, is_nac=False, produce_fc=False, log_level=0)
        has_forces = phonons.forces is not None and len(phonons.forces) > 0
    except Exception as error:
        raise InputError(f"{file} cannot be read by phonopy ({type(error).__name__}: {error}).") from error
    if not has_forces:
        raise InputError(
            f"{path} has displacements but no forces; FORCE_SETS beside it, or phonopy_params.yaml, has them."
        )
    make_force_constants(phonons)
    return phonons


def _forces(cell: Any, calculator: Any) -> Array:
    atoms = Atoms(cell.numbers, scaled_positions=cell.scaled_positions, cell=cell.cell, pbc=True)
    atoms.calc = calculator
    return np.asarray(atoms.get_forces(), np.float64)


def _bare(dataset: dict[str, Any]) -> dict[str, Any]:
    """Displacements without forces."""
    if "displacements" in dataset:
        return {"displacements": dataset["displacements"]}
    first = [{key: each[key] for key in ("number", "displacement")} for each in dataset["first_atoms"]]
    return {"natom": dataset["natom"], "first_atoms": first}
