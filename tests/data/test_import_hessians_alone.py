"""Formats that have a Hessian and nothing else: ORCA, xTB, Turbomole, phonopy; made in their layouts, and as they came."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.data import atomic_masses
from ase.optimize import BFGS

from hdistill.data.convert.hessians.contract import reader_of
from hdistill.data.convert.hessians.turbomole import matrix_of
from hdistill.data.convert.importing import ImportSettings, import_file
from hdistill.data.errors import InputError
from hdistill.data.format.shard import Sample
from hdistill.data.support.recursion import deep_recursion
from tests.data.test_importing import samples_of

FORMATS = Path(__file__).resolve().parents[3] / "shared" / "data" / "formats"
as_they_came = pytest.mark.skipif(not FORMATS.is_dir(), reason="the files as they came are not here")
TO_AU = units.Bohr**2 / units.Hartree  # of eV/A^2
CM = units._hbar * 1e10 * np.sqrt(units._e / units._amu) / (units._e * units.invcm)


@pytest.fixture(scope="module")
def water() -> tuple[Atoms, np.ndarray]:
    """At the minimum of a force field, with its Hessian (9,9) eV/A^2."""
    atoms = molecule("H2O")
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=1e-5, steps=200)
    rows = []
    for i in range(9):
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = EMT()
            moved.positions[i // 3, i % 3] += sign * 1e-3
            sides.append(moved.get_forces().ravel())
        rows.append((sides[1] - sides[0]) / 2e-3)
    hessian = np.array(rows)
    return atoms, 0.5 * (hessian + hessian.T)


def frequencies(numbers: Any, hessian: np.ndarray) -> np.ndarray:
    """cm^-1 of (3N,3N) in eV/A^2, ascending."""
    weights = np.repeat(atomic_masses[numbers] ** -0.5, 3)
    squares = np.linalg.eigvalsh(hessian * np.outer(weights, weights))
    return np.asarray(np.sign(squares) * np.sqrt(np.abs(squares)) * CM)


def imported(file: Path, out: Path, **stated: Any) -> tuple[Sample, str]:
    said: list[str] = []
    settings = ImportSettings(hessian="full", codec="exact", splits="1,0,0", **stated)
    import_file(file, out, settings, said.append)
    return samples_of(out)[0], "\n".join(said)


def matrix(sample: Sample) -> np.ndarray:
    assert sample.labels.hessian is not None
    n = 3 * sample.structure.n_atoms
    return np.asarray(sample.labels.hessian.values, np.float64).reshape(n, n)


def write_orca(path: Path, atoms: Atoms, hessian: np.ndarray, shift: float = 0.0) -> Path:
    n = 3 * len(atoms)
    lines = ["", "$orca_hessian_file", "", "$act_energy", "        0.000000", "", "$hessian", str(n)]
    for first in range(0, n, 5):
        columns = range(first, min(first + 5, n))
        lines.append("      ".join(map(str, columns)))
        lines += [f"{row} " + " ".join(f"{hessian[row, c] * TO_AU:.10E}" for c in columns) for row in range(n)]
    stated = frequencies(atoms.numbers, hessian)
    stated = np.where(np.abs(stated) > 300, stated + shift, 0)
    lines += ["", "$vibrational_frequencies", str(n), *(f"{i} {f:.6f}" for i, f in enumerate(stated))]
    lines += ["", "#comment", "$atoms", str(len(atoms))]
    lines += [f" {a.symbol}  {a.mass:.4f} " + " ".join(f"{x / units.Bohr:.12f}" for x in a.position) for a in atoms]
    path.write_text("\n".join([*lines, "", "$end", ""]))
    return path


def write_engrad(path: Path, atoms: Atoms, moved: float = 0.0) -> None:
    gradient = (-atoms.get_forces() / units.Hartree * units.Bohr).ravel()
    energy = atoms.get_potential_energy() / units.Hartree
    rows = [f"{a.number} " + " ".join(f"{x / units.Bohr + moved:.9f}" for x in a.position) for a in atoms]
    text = ["#", "# Number of atoms", "#", str(len(atoms)), "# energy", f"{energy:.12f}", "# gradient"]
    path.write_text("\n".join([*text, *(f"{g:.12f}" for g in gradient), "# atoms", *rows, ""]))


def test_orca_with_the_gradient_beside_it(water: tuple[Atoms, np.ndarray], tmp_path: Path) -> None:
    atoms, hessian = water
    file = write_orca(tmp_path / "opt.hess", atoms, hessian)
    with pytest.raises(InputError, match=r"opt\.engrad is not beside it; say --at-minimum"):
        imported(file, tmp_path / "none")
    write_engrad(tmp_path / "opt.engrad", atoms)
    sample, said = imported(file, tmp_path / "labels")
    assert "energy and forces are those of opt.engrad" in said
    assert sample.labels.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    np.testing.assert_allclose(sample.labels.forces, atoms.get_forces(), atol=1e-6)
    np.testing.assert_allclose(sample.structure.positions, atoms.positions, atol=1e-9)
    np.testing.assert_allclose(matrix(sample), hessian, atol=1e-5)
    with pytest.raises(InputError, match="is not needed"):
        imported(file, tmp_path / "twice", at_minimum=True)
    write_engrad(tmp_path / "opt.engrad", atoms, moved=0.1)
    with pytest.raises(InputError, match=r"another geometry than the Hessian beside it, by 0\.1 bohr"):
        imported(file, tmp_path / "other")


def test_orca_at_a_minimum(water: tuple[Atoms, np.ndarray], tmp_path: Path) -> None:
    atoms, hessian = water
    file = write_orca(tmp_path / "opt.hess", atoms, hessian)
    sample, said = imported(file, tmp_path / "labels", at_minimum=True, energy=-2079.5)
    assert sample.labels.energy == pytest.approx(-2079.5, abs=1e-9)
    assert not sample.labels.forces.any()
    assert "forces are taken as 0" in said
    assert "taken as 0 eV" not in said
    assert "no energy is stated: taken as 0 eV" in imported(file, tmp_path / "more", at_minimum=True)[1]
    with pytest.raises(InputError, match="ORCA Hessian, which has no use for --geometry"):
        imported(file, tmp_path / "no", geometry=tmp_path / "x.xyz", at_minimum=True)


def test_a_hessian_of_other_frequencies_or_cut_short_is_refused(
    water: tuple[Atoms, np.ndarray], tmp_path: Path
) -> None:
    atoms, hessian = water
    with pytest.raises(InputError, match=r"has a frequency of \d+\.\d cm\^-1 where the file says"):
        imported(write_orca(tmp_path / "a.hess", atoms, hessian, shift=100.0), tmp_path / "a", at_minimum=True)
    text = write_orca(tmp_path / "b.hess", atoms, hessian).read_text()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        (tmp_path / "b.hess").write_text(text[: int(share * len(text))])
        with pytest.raises(InputError, match="complete"):
            imported(tmp_path / "b.hess", tmp_path / "b", at_minimum=True)


def write_turbomole(folder: Path, atoms: Atoms, hessian: np.ndarray) -> Path:
    words = [f"{x * TO_AU:.10f}" for x in hessian.ravel()]
    rows = ["  ".join(words[i : i + 5]) for i in range(0, len(words), 5)]
    (folder / "hessian").write_text("\n".join(["$hessian", *rows, "$end", ""]))
    atoms.write(folder / "opt.xyz", format="xyz")
    return folder / "hessian"


def test_xtb_with_its_geometry_gradient_and_spectrum(water: tuple[Atoms, np.ndarray], tmp_path: Path) -> None:
    atoms, hessian = water
    file = write_turbomole(tmp_path, atoms, hessian)
    stated = frequencies(atoms.numbers, hessian)
    spectrum = [f"  {i}    a     {f:.2f}   1.0" for i, f in enumerate(np.where(np.abs(stated) > 300, stated, 0), 1)]
    (tmp_path / "vibspectrum").write_text("\n".join(["$vibrational spectrum", *spectrum, "$end"]))
    sample, said = imported(file, tmp_path / "labels", at_minimum=True)
    assert "geometry is that of opt.xyz" in said
    np.testing.assert_allclose(matrix(sample), hessian, atol=1e-5)
    gradient = -atoms.get_forces() / units.Hartree * units.Bohr
    rows = ["  ".join(f"{x / units.Bohr:.12f}" for x in a.position) + f"  {a.symbol.lower()}" for a in atoms]
    rows += ["  ".join(f"{x:.12E}".replace("E", "D") for x in g) for g in gradient]
    energy = atoms.get_potential_energy() / units.Hartree
    head = f"  cycle =      1    SCF energy =   {energy:.10f}   |dE/dxyz| =  0.000001"
    (tmp_path / "gradient").write_text("\n".join(["$grad", head, *rows, "$end", ""]))
    sample, said = imported(file, tmp_path / "more")
    assert "energy and forces are those of gradient" in said
    assert sample.labels.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    np.testing.assert_allclose(sample.labels.forces, atoms.get_forces(), atol=1e-6)
    (tmp_path / "vibspectrum").write_text("1  a  4000.00  1.0\n2  a  3900.00  1.0\n3  a  1600.00 1.0\n")
    with pytest.raises(InputError, match="where vibspectrum says"):
        imported(file, tmp_path / "wrong")


def test_a_hessian_without_a_geometry_or_with_two(water: tuple[Atoms, np.ndarray], tmp_path: Path) -> None:
    atoms, hessian = water
    file = write_turbomole(tmp_path, atoms, hessian)
    atoms.write(tmp_path / "other.xyz")
    with pytest.raises(InputError, match=r"2 \.xyz files are beside it; name the file with --geometry"):
        imported(file, tmp_path / "two", at_minimum=True)
    assert imported(file, tmp_path / "named", at_minimum=True, geometry=tmp_path / "opt.xyz")
    molecule("CH4").write(tmp_path / "methane.xyz")
    with pytest.raises(InputError, match="81 numbers; 225 were wanted for the 5 atoms"):
        imported(file, tmp_path / "methane", at_minimum=True, geometry=tmp_path / "methane.xyz")


def test_blocks_of_the_triangle_in_either_order(water: tuple[Atoms, np.ndarray]) -> None:
    atoms, hessian = water
    blocks = hessian.reshape(3, 3, 3, 3).transpose(0, 2, 1, 3)  # atom, atom, axis, axis
    for turned in (False, True):
        rows = []
        for i in range(3):
            for j in range(i + 1):
                block = blocks[i, j].T if turned else blocks[i, j]
                rows += [[f"{x:.12E}" for x in line] for line in block]
        np.testing.assert_allclose(matrix_of(rows, atoms.positions), hessian, atol=1e-3)


@as_they_came
def test_the_files_of_orca_xtb_and_turbomole(tmp_path: Path) -> None:
    """Each has the frequencies that it, or the file beside it, states: the reader compares them."""
    for number, name in enumerate(("orca/sn2_TS.hess", "xtb/hessian")):
        sample, said = imported(FORMATS / name, tmp_path / str(number), at_minimum=True)
        found = frequencies(sample.structure.numbers, matrix(sample))
        assert 900 < found.max() < 4500
        assert bool((found < -100).any()) == (name == "orca/sn2_TS.hess")
        assert ("turning it shows forces" in said) == (name == "orca/sn2_TS.hess")
    for name in (
        "orca/H2O_hess_orca.hess",
        "turbomole/hessian",
    ):  # neither is of a minimum of the geometry that is with it
        with pytest.raises(
            InputError, match=r"not of a minimum of its geometry: turning it shows forces of about [0-9.]+ eV/A"
        ):
            imported(FORMATS / name, tmp_path / "none", at_minimum=True)
    with pytest.raises(InputError, match="complete"):
        imported(FORMATS / "orca" / "H2O_hess_orca_broken.hess", tmp_path / "broken", at_minimum=True)


@as_they_came
@pytest.mark.parametrize(
    "name", ["NaCl/FORCE_SETS", "NaCl-rd/phonopy_params_NaCl-rd.yaml.xz", "Si/phonopy_params_Si.yaml"]
)
def test_phonopys_files_have_phonopys_frequencies(name: str, tmp_path: Path) -> None:
    import phonopy

    file = FORMATS / "phonopy" / name
    sample, said = imported(file, tmp_path / "labels", at_minimum=True)
    assert "displaced supercells" in said
    assert sys.getrecursionlimit() < 100_000  # symfc raises it for the whole process
    yaml = file if "yaml" in file.name else file.with_name("phonopy_disp.yaml")
    sets = file if file.name == "FORCE_SETS" else None
    with deep_recursion():
        own = phonopy.load(
            yaml, force_sets_filename=sets, is_nac=False, is_compact_fc=False, log_level=0,
            fc_calculator="symfc" if "rd" in name else None,
        )  # fmt: skip
    own.symmetrize_force_constants(show_drift=False)
    assert sample.structure.pbc.all()
    n = 3 * sample.structure.n_atoms
    weights = np.repeat(own.supercell.masses**-0.5, 3)
    full = np.asarray(own.force_constants).transpose(0, 2, 1, 3).reshape(n, n)
    np.testing.assert_allclose(matrix(sample), full, atol=2e-4)
    highest = np.sqrt(np.linalg.eigvalsh(full * np.outer(weights, weights)).max()) * CM / 33.35640951981521
    own.run_mesh([2, 2, 2], is_gamma_center=True)
    assert highest == pytest.approx(np.max(own.mesh.frequencies), abs=0.5)


def test_phonopys_file_without_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "FORCE_SETS").write_text("1\n")
    with pytest.raises(InputError, match="has no geometry"):
        imported(tmp_path / "FORCE_SETS", tmp_path / "labels", at_minimum=True)


def write_nwchem(path: Path, atoms: Atoms, hessian: np.ndarray, charge: int = 0, spin: int = 1) -> Path:
    """Two Hessians: the one that is wanted, and a projected one of nonsense after it."""
    n, masses = 3 * len(atoms), atomic_masses[atoms.numbers]
    weighted = hessian * TO_AU / np.sqrt(np.outer(np.repeat(masses, 3), np.repeat(masses, 3))) * 1000
    lines = [
        "              Northwest Computational Chemistry Package (NWChem) 7.0",
        f"          Charge           :{charge:6d}",
    ]
    lines += [f"          Spin multiplicity:{spin:6d}", "         Total DFT energy =      -76.000000000000"]
    lines += [
        "         Total DFT energy =      -76.277848922646",
        "     - Atom information -",
        "     atom    #   X   Y   Z   mass",
    ]
    for i, (a, mass) in enumerate(zip(atoms, masses, strict=True)):
        row = [*(a.position / units.Bohr), mass]
        lines.append(f"    {a.symbol}{' ' * 8}{i + 1}" + "".join(f" {x:.7E}".replace("E", "D") for x in row))
    for title, matrix in (
        ("MASS-WEIGHTED NUCLEAR HESSIAN", weighted),
        ("MASS-WEIGHTED PROJECTED HESSIAN", 7 * weighted),
    ):
        lines += ["", f"          {title} (Hartree/Bohr/Bohr/Kamu)", ""]
        for first in range(0, n, 10):
            lines += ["  ".join(str(c + 1) for c in range(first, min(first + 10, n))), "   ----- ----- -----"]
            for row in range(first, n):
                words = [f"{matrix[row, c]:.5E}".replace("E", "D") for c in range(first, min(first + 10, row + 1))]
                lines.append(f"    {row + 1}    " + " ".join(words))
            lines.append("")
    waves = frequencies(atoms.numbers, hessian)
    lines += [f" P.Frequency {' '.join(f'{w:.2f}' for w in waves[k : k + 6])}" for k in range(0, n, 6)]
    path.write_text("\n".join([*lines, ""]))
    return path


def write_qchem(path: Path, atoms: Atoms, hessian: np.ndarray) -> Path:
    n, masses = 3 * len(atoms), atomic_masses[atoms.numbers]
    weighted = hessian * TO_AU / np.sqrt(np.outer(np.repeat(masses, 3), np.repeat(masses, 3)))
    lines = [
        "You are running Q-Chem version: 5.4.1",
        " Q-Chem 5.4, Q-Chem, Inc., Pleasanton, CA (2021)",
        "$molecule",
        "0 1",
        "$end",
    ]
    lines += ["             Standard Nuclear Orientation (Angstroms)", "    I     Atom           X   Y   Z"]
    lines += [f"    {i + 1}      {a.symbol}  " + " ".join(f"{x:.10f}" for x in a.position) for i, a in enumerate(atoms)]
    lines += [" Total energy in the final basis set =      -76.2725767968"]
    for title, matrix in (
        (" Mass-Weighted Hessian Matrix:", weighted),
        (" Projected Mass-Weighted Hessian Matrix:", 7 * weighted),
    ):
        lines += [title, "", ""]
        for first in range(0, n, 6):
            lines += ["  ".join(f"{x:.6f}" for x in row[first : first + 6]) for row in matrix] + ["", ""]
        lines += [" Translations and Rotations Projected Out of Hessian"]
    waves = frequencies(atoms.numbers, hessian)[6:]
    lines += [" Frequency:      " + "      ".join(f"{w:.2f}" for w in waves)]
    lines += [
        f"   Atom    {i + 1} Element {a.symbol}  Has Mass   {m:.5f}"
        for i, (a, m) in enumerate(zip(atoms, masses, strict=True))
    ]
    path.write_text("\n".join([*lines, ""]))
    return path


@pytest.mark.parametrize("write", [write_nwchem, write_qchem])
def test_outputs_for_people(write: Any, water: tuple[Atoms, np.ndarray], tmp_path: Path) -> None:
    """The first of two Hessians, weights taken off, to the digits that are printed; the energy is the last one before it."""
    atoms, hessian = water
    file = write(tmp_path / "water.out", atoms, hessian)
    with pytest.raises(InputError, match="say --at-minimum"):
        imported(file, tmp_path / "none")
    sample, said = imported(file, tmp_path / "labels", at_minimum=True)
    assert "as it is printed" in said
    energy = -76.277848922646 if write is write_nwchem else -76.2725767968
    assert sample.labels.energy == pytest.approx(energy * units.Hartree, abs=1e-4)  # ASE has other constants
    assert (sample.structure.charge, sample.structure.spin) == (0, 1)
    np.testing.assert_allclose(sample.structure.positions, atoms.positions, atol=1e-6)
    np.testing.assert_allclose(
        matrix(sample), hessian, atol=2e-3 if write is write_qchem else 1e-5 * np.abs(hessian).max()
    )
    text = file.read_text()
    file.write_text(text[: text.index("Projected" if write is write_qchem else "PROJECTED") - 400])
    with pytest.raises(InputError, match=r"is it complete, and does it have a Hessian\?"):
        imported(file, tmp_path / "short", at_minimum=True)
    wrong = write(tmp_path / "other.out", atoms, hessian)
    wrong.write_text(
        wrong.read_text().replace("Frequency", "Frequency  9999.99", 1)
        if write is write_nwchem
        else text.replace("Frequency:", "Frequency:   9999.99", 1)
    )
    with pytest.raises(InputError, match="it is of another structure, or of another isotope"):
        imported(wrong, tmp_path / "wrong", at_minimum=True)


def test_a_structure_file_that_names_a_program_is_not_its_output(tmp_path: Path) -> None:
    file = tmp_path / "water.xyz"
    file.write_text("3\nmethod=NWChem\nO 0 0 0\nH 0 0 1\nH 1 0 0\n")
    assert reader_of(file).name == reader_of(write_plain(tmp_path / "plain.xyz")).name


def write_plain(file: Path) -> Path:
    file.write_text("3\n\nO 0 0 0\nH 0 0 1\nH 1 0 0\n")
    return file


def test_the_charge_of_an_output_is_kept(water: tuple[Atoms, np.ndarray], tmp_path: Path) -> None:
    atoms, hessian = water
    sample, _ = imported(write_nwchem(tmp_path / "ion.out", atoms, hessian, 1, 2), tmp_path / "labels", at_minimum=True)
    assert (sample.structure.charge, sample.structure.spin) == (1, 2)


@as_they_came
def test_the_outputs_as_they_came(tmp_path: Path) -> None:
    """NWChem's water has the frequencies that it states; Q-Chem's is not at a minimum, as turning it shows."""
    sample, _ = imported(FORMATS / "nwchem" / "H2O_hess_nwchem.out", tmp_path / "labels", at_minimum=True)
    assert frequencies(sample.structure.numbers, matrix(sample))[-3:] == pytest.approx(
        [1642.79, 3860.38, 3959.20], abs=0.5
    )
    assert sample.labels.energy == pytest.approx(-76.277848922646 * units.Hartree)
    with pytest.raises(
        InputError, match=r"not of a minimum of its geometry: turning it shows forces of about 1\.8 eV/A"
    ):
        imported(FORMATS / "qchem" / "H2O_hess_qchem.out", tmp_path / "other", at_minimum=True)
    from hdistill.data.convert.hessians.qchem import printed

    found = printed((FORMATS / "qchem" / "H2O_hess_qchem.out").read_text())
    assert frequencies(found.numbers, found.hessian / TO_AU)[-3:] == pytest.approx(
        [1571.38, 3464.15, 3649.58], rel=3e-3
    )
    assert found.energy == -76.2725767968


def write_pysisyphus(path: Path, atoms: Atoms, hessian: np.ndarray, shift: float = 0.0) -> Path:
    """As pysisyphus/io/hessian.py does."""
    with h5py.File(path, "w") as root:
        root["hessian"] = hessian * TO_AU
        root["coords3d"] = atoms.positions / units.Bohr
        root["masses"] = atoms.get_masses()
        waves = frequencies(atoms.numbers, hessian)
        root["vibfreqs"] = np.where(np.abs(waves) > 300, waves + shift, 0)
        root.attrs["atoms"] = [symbol.lower() for symbol in atoms.get_chemical_symbols()]
        root.attrs["energy"] = -76.4
        root.attrs["mult"], root.attrs["charge"] = 2, 1
    return path


def test_pysisyphus(water: tuple[Atoms, np.ndarray], tmp_path: Path) -> None:
    atoms, hessian = water
    file = write_pysisyphus(tmp_path / "final_hessian.h5", atoms, hessian)
    with pytest.raises(InputError, match="say --at-minimum"):
        imported(file, tmp_path / "none")
    with pytest.raises(InputError, match="has the energy: --energy is not needed"):
        imported(file, tmp_path / "twice", at_minimum=True, energy=-1.0)
    sample, _ = imported(file, tmp_path / "labels", at_minimum=True)
    np.testing.assert_allclose(matrix(sample), hessian, atol=1e-5)
    np.testing.assert_allclose(sample.structure.positions, atoms.positions, atol=1e-7)
    assert (sample.structure.charge, sample.structure.spin) == (1, 2)
    assert sample.labels.energy == pytest.approx(-76.4 * units.Hartree, rel=1e-6)
    with pytest.raises(InputError, match=r"has a frequency of [\d.]+ cm\^-1 where the file says"):
        imported(write_pysisyphus(tmp_path / "other.h5", atoms, hessian, 500), tmp_path / "other", at_minimum=True)
    with h5py.File(file, "a") as root:
        root.attrs["atoms"] = ["o", "h"]
    with pytest.raises(InputError, match=r"has hessian of shape \(9, 9\) for 2 atoms; \(6, 6\) was wanted"):
        imported(file, tmp_path / "shape", at_minimum=True)
