"""What files state is used or refused, what is guessed is said: units, charge, spin, cells, names, occupancy, encodings.

Every case is made here; where ../shared/data/cases has it as a user met it, that file is read too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.db import connect
from ase.io import write

from hdistill.data import sources
from hdistill.data.errors import InputError
from hdistill.data.sources import Keys, SourceReport
from hdistill.data.sources.charge_spin import UnfitError, charge_and_spin
from hdistill.data.sources.units import BOHR, GPA, HARTREE, UnitError, combine, derived, parse, stated_in
from hdistill.data.structure import Structure
from hdistill.data.support.typed import as_json

CASES = Path(__file__).parents[3] / "shared" / "data" / "cases"
WATER = molecule("H2O").positions


def case(name: str) -> str:
    """The path of a file of ../shared/data/cases; the test is skipped where it is not there."""
    if not (CASES / name).is_file():
        pytest.skip(f"../shared/data/cases/{name} is not here")
    return str(CASES / name)


def read(path: Path | str, keys: Keys = Keys()) -> tuple[list[Structure], SourceReport]:  # noqa: B008 (frozen)
    report = SourceReport()
    return list(sources.read(str(path), keys=keys, report=report)), report


def frame(comment: str, species: str = "OHH", positions: Any = WATER, more: Any = None) -> str:
    columns = positions if more is None else np.hstack([positions, more])
    rows = [f"{s} {' '.join(f'{x:.10f}' for x in row)}" for s, row in zip(species, columns, strict=True)]
    return "\n".join([str(len(rows)), comment, *rows]) + "\n"


def xyz(tmp_path: Path, *frames: str) -> Path:
    (tmp_path / "a.xyz").write_text("".join(frames))
    return tmp_path / "a.xyz"


def skipped(report: SourceReport) -> str:
    return " ".join(report.first_skipped.values())


# 1 and 2: charge and spin


@pytest.mark.parametrize(
    ("keys", "charge", "spin"),
    [
        ("multiplicity=3", 0, 3),
        ("total_charge=1 spin_multiplicity=2", 1, 2),
        ("charge=1 mult=2", 1, 2),
        ("charge=-1.0000000002 uhf=1", -1, 2),
        ("uhf=2", 0, 3),
        ("Charge=1 Multiplicity=4", 1, 4),
        ("net_charge=-2 n_unpaired=0", -2, 1),
        ('nelec="9 7"', 0, 3),
        ("nelectrons=12 spin=3", 0, 3),  # of the valence
        ("spin=0", 0, 1),  # fairchem's word for "not given"
        ("spin=3 uhf=2 multiplicity=3", 0, 3),
        ("", 0, 1),
        ("charge=1", 1, 2),
    ],
)
def test_every_name_of_charge_and_spin(tmp_path, keys, charge, spin):
    structures, report = read(xyz(tmp_path, frame(f"Properties=species:S:1:pos:R:3 {keys}", "OO", WATER[:2])))
    assert [(s.charge, s.spin) for s in structures] == [(charge, spin)]
    assert set(structures[0].info) == {"source"}  # what was used is not kept twice
    assert report.summary().n_spin_guessed == (keys in ("", "charge=1", "spin=0"))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("spin=2", "cannot have the multiplicity 2"),
        ("charge=1 spin=1", "leaves 15 electrons, which cannot have the multiplicity 1"),
        ("uhf=1", "cannot have the multiplicity 2"),
        ("charge=17", "leaves -1 electrons"),
        ("spin=19", "multiplicity 19"),
        ("charge=0 total_charge=1", "charge says 0 and total_charge says 1"),
        ("spin=1 uhf=2", "spin says 1 and uhf says 3"),
        ("spin=0.5", "spin = 0.5"),
        ("nelec=15", "counts 15 electrons"),
        ("multiplicity=-3", "a multiplicity is 1 or more"),
        ("charge=none", "charge = 'none'"),
    ],
)
def test_charge_and_spin_that_do_not_fit_are_refused(tmp_path, keys, words):
    good = frame("charge=0", "OO", WATER[:2])
    structures, report = read(xyz(tmp_path, good, frame(keys, "OO", WATER[:2]), good))
    assert len(structures) == 2
    assert words in skipped(report)


def test_a_crystal_keeps_the_spin_that_is_stated_and_says_so():
    copper = bulk("Cu", cubic=True)
    stated = charge_and_spin({"spin": 2}, copper.numbers, True)
    assert (stated.spin, stated.fits) == (2, False)
    with pytest.raises(UnfitError):
        charge_and_spin({"spin": 2}, copper.numbers, False)


def test_the_cases_of_charge_and_spin_as_they_came():
    structures, _ = read(case("xyz/mult.xyz"))
    assert [(s.charge, s.spin) for s in structures] == [(0, 3), (1, 2), (1, 2), (-1, 2)]


def test_sources_imports_and_label_sets_share_one_rule(tmp_path):
    from hdistill.data.convert.importing import ImportSettings, import_file

    x = WATER[:2] * 1.1
    spring = np.kron(np.array([[1, -1], [-1, 1]]), np.diag([30.0, 1, 1]))
    with h5py.File(tmp_path / "in.h5", "w") as root:
        for number, (charge, spin) in enumerate([(1, 2), (1, 1), (0, None), (1, None)]):
            group = root.create_group(str(number))
            group["atomic_numbers"], group["positions"], group["energy"] = [8, 8], x + number, -1.0
            group["forces"], group["hessian"], group["charge"] = np.zeros((2, 3)), spring, charge
            if spin is not None:
                group["multiplicity"] = spin
    lines: list[str] = []
    settings = ImportSettings(units="eV/A", length="A")
    manifest = import_file(tmp_path / "in.h5", tmp_path / "labels", settings, say=lines.append)
    assert manifest.counts.n_structures == 3
    assert "cannot have the multiplicity 1" in manifest.quarantine[0].text
    again, _ = read(tmp_path / "labels")
    assert sorted((s.charge, s.spin) for s in again) == [(0, 1), (1, 2), (1, 2)]


# 3: formats whose reader in ASE drops charge and multiplicity

GAUSSIAN = """ Entering Gaussian System, Link 0=g16
 Charge =  {charge} Multiplicity = {spin}
 Symbolic Z-matrix:
                         Standard orientation:
 ---------------------------------------------------------------------
 Center     Atomic      Atomic             Coordinates (Angstroms)
 Number     Number       Type             X           Y           Z
 ---------------------------------------------------------------------
      1          8           0        0.000000    0.000000    0.600000
      2          8           0        0.000000    0.000000   -0.600000
 ---------------------------------------------------------------------
 SCF Done:  E(UB3LYP) =  -150.316621     A.U. after   10 cycles
"""


def test_the_charge_and_multiplicity_of_a_gaussian_log(tmp_path):
    (tmp_path / "a.log").write_text(GAUSSIAN.format(charge=0, spin=3))
    (tmp_path / "b.log").write_text(GAUSSIAN.format(charge=-1, spin=2))
    structures, report = read(tmp_path / "*.log")
    assert [(s.charge, s.spin) for s in structures] == [(0, 3), (-1, 2)]
    assert report.summary().n_spin_guessed == 0
    (tmp_path / "c.log").write_text(GAUSSIAN.format(charge=0, spin=3) + GAUSSIAN.format(charge=-1, spin=2))
    with pytest.raises(InputError, match="calculations with the charge -1 and 0"):
        read(tmp_path / "c.log")


def test_formal_charges_of_mdl_and_pdb_files(tmp_path):
    mol = "x\n  y\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n"
    mol += "    0.0000    0.0000    0.0000 O   0  0\n    0.0000    0.0000    0.9600 H   0  0\n  1  2  1  0\n"
    (tmp_path / "oh.mol").write_text(mol + "M  CHG  1   1  -1\nM  END\n")
    structures, _ = read(tmp_path / "oh.mol")
    assert [(s.charge, s.spin) for s in structures] == [(-1, 1)]
    (tmp_path / "na.pdb").write_text(pdb_line("NA", "Na", charge="1+") + "END\n")
    structures, _ = read(tmp_path / "na.pdb")
    assert [(s.charge, s.spin) for s in structures] == [(1, 1)]


# 4 to 8: units. The words:


@pytest.mark.parametrize(
    ("text", "quantity", "factor"),
    [
        *[(text, "length", BOHR) for text in ("bohr", "Bohr", "Bohrs", "a0", "au", "a.u.", "atomic_unit", " BOHR ")],
        *[(text, "length", 10.0) for text in ("nm", "nanometer", "nanometers", "nanometre")],
        *[(text, "length", 1.0) for text in ("A", "Ang", "Angstrom", "angstroms", "\u00c5", "\u212b")],
        *[(text, "energy", HARTREE) for text in ("Ha", "hartree", "Hartree", "Eh", "E_h", "au")],
        ("kcal/mol", "energy", 0.0433641039),
        ("kJ/mol", "energy", 0.01036426966),
        ("kcal mol^-1", "energy", 0.0433641039),
        ("Ry", "energy", HARTREE / 2),
        ("meV", "energy", 1e-3),
        *[(text, "forces", HARTREE / BOHR) for text in ("hartree/bohr", "Ha/a0", "Hartree/Bohr", "Eh bohr^-1", "au")],
        ("kcal/mol/A", "forces", 0.0433641039),
        ("kcal/(mol A)", "forces", None),
        ("eV/Ang", "forces", 1.0),
        *[(text, "hessian", HARTREE / BOHR**2) for text in ("hartree/bohr^2", "hartree/bohr**2", "Ha/bohr2", "au")],
        ("hartree/bohr/bohr", "hessian", HARTREE / BOHR**2),
        ("eV/\u00c5\u00b2", "hessian", 1.0),
        ("kbar", "stress", GPA / 10),
        ("GPa", "stress", GPA),
        ("eV/A^3", "stress", 1.0),
        ("A/ps", "velocities", 1e-3),
        ("nm/ps", "velocities", 1e-2),
    ],
)
def test_words_for_units(text, quantity, factor):
    if factor is None:
        with pytest.raises(UnitError):
            parse(text, quantity)
    else:
        assert parse(text, quantity).factor == pytest.approx(factor, rel=1e-8)


@pytest.mark.parametrize(
    ("text", "quantity"),
    [("parsec", "length"), ("eV", "length"), ("eV/A", "hessian"), ("", "energy"), ("eV/", "forces"), ("lj", "energy")],
)
def test_unknown_words_and_wrong_dimensions_are_refused(text, quantity):
    with pytest.raises(UnitError, match=quantity):
        parse(text, quantity)


def test_whose_unit_is_whose():
    units = derived(stated_in({"energy_unit": "kcal/mol", "units_of_length": "bohr"}, "x"))
    assert units["forces"].factor == pytest.approx(0.0433641039 / BOHR)
    units = derived(
        stated_in({"_property_unit_dict": {"energy": "Ha", "dipole": "debye"}, "_distance_unit": "Bohr"}, "x")
    )
    assert units["length"].factor == BOHR
    assert stated_in({"dipole_unit": "debye", "formula_units": 4, "unit_cell": "x"}, "x") == {}
    assert stated_in({"units": "real"}, "x")["energy"].factor == pytest.approx(0.0433641039)
    with pytest.raises(UnitError, match=r"positions is 'bohr' \(x\) and 'A' \(--length\); one of them is wrong"):
        combine(stated_in({"units": "bohr"}, "x"), {"length": parse("A", "length", "--length")})
    with pytest.raises(UnitError, match="'furlong' is not a known unit"):
        stated_in({"units": "furlong"}, "x")


def test_units_in_a_comment_line(tmp_path):
    forces = np.full((3, 3), 0.01)
    text = frame(
        'Properties=species:S:1:pos:R:3:forces:R:3 energy=-76.0 stress="1 0 0 0 1 0 0 0 1" energy_unit=Ha '
        "length_unit=bohr stress_unit=kbar",
        positions=WATER / BOHR,
        more=forces,
    )
    (s,), report = read(xyz(tmp_path, text))
    np.testing.assert_allclose(s.positions, WATER, atol=1e-9)
    assert s.ref_energy == pytest.approx(-76 * HARTREE)
    np.testing.assert_allclose(s.ref_forces, forces * HARTREE / BOHR)
    np.testing.assert_allclose(s.ref_stress, np.eye(3) * GPA / 10)
    assert {(row.quantity, row.unit) for row in report.summary().units} == {
        *(("length", "bohr"), ("energy", "Ha"), ("forces", "hartree/bohr"), ("stress", "kbar")),
    }
    assert "source" in s.info
    assert not any("unit" in key for key in s.info)


def test_a_unit_that_is_not_understood_or_is_contradicted_is_refused(tmp_path):
    path = xyz(tmp_path, frame("energy=-1 units=cubit"))
    with pytest.raises(InputError, match="'cubit' is not a known unit"):
        read(path)
    path = xyz(tmp_path, frame("energy=-1 units=bohr"))
    with pytest.raises(InputError, match="one of them is wrong"):
        read(path, Keys(units={"length": parse("A", "length", "--length")}))
    (s,), _ = read(xyz(tmp_path, frame("energy=-1")), Keys(units={"length": parse("bohr", "length", "--length")}))
    np.testing.assert_allclose(s.positions, WATER * BOHR)


@pytest.mark.parametrize("unit", ["angstrom", b"angstrom", "Bohrs", "nanometers"])
def test_attributes_of_spice_files_are_read(tmp_path, unit):
    per = {"angstrom": 1.0, b"angstrom": 1.0, "Bohrs": BOHR, "nanometers": 10.0}[unit]
    with h5py.File(tmp_path / "a.h5", "w") as root:
        group = root.create_group("CH4")
        group["atomic_numbers"] = [6, 1, 1, 1, 1]
        group["smiles"] = ["[C:1]([H:2])([H:3])([H:4])[H:5]"]
        group["conformations"] = molecule("CH4").positions[None] / per
        group["conformations"].attrs["units"] = np.bytes_(unit) if isinstance(unit, bytes) else unit
        group["dft_total_energy"] = [-1.0]
        group["dft_total_energy"].attrs["units"] = "kcal/mol"
    (s,), report = read(tmp_path / "a.h5")
    np.testing.assert_allclose(s.positions, molecule("CH4").positions, atol=1e-9)
    assert s.ref_energy == pytest.approx(-0.0433641039)
    assert report.summary().shortest_distance == pytest.approx(1.09, abs=0.01)


def test_the_spice_case_as_it_came():
    structures, report = read(case("hessians/spice_layout_in_angstrom.h5"))
    assert len(structures) == 4
    assert report.summary().shortest_distance == pytest.approx(1.05, abs=0.05)


# 9: SchNetPack's databases


def write_schnetpack(path: Path, lengths: str, energies: str, per_length: float, per_energy: float) -> None:
    with connect(path) as database:
        database.metadata = {
            "_property_unit_dict": {"energy": energies, "forces": f"{energies}/{lengths}"},
            "_distance_unit": lengths,
            "atomrefs": {},
        }
        for number in range(3):
            atoms = Atoms("OHH", (WATER + 0.01 * number) / per_length)
            data = {"energy": np.array([-76.0]), "forces": np.full((3, 3), 0.01)}
            database.write(atoms, data=data)


@pytest.mark.parametrize(
    ("lengths", "energies", "per_length", "per_energy"),
    [("Bohr", "Hartree", BOHR, HARTREE), ("Ang", "Ha", 1.0, HARTREE), ("Ang", "kcal/mol", 1.0, 0.0433641039)],
)
def test_schnetpack_databases(tmp_path, lengths, energies, per_length, per_energy):
    write_schnetpack(tmp_path / "a.db", lengths, energies, per_length, per_energy)
    structures, report = read(tmp_path / "a.db")
    np.testing.assert_allclose(structures[0].positions, WATER, atol=1e-9)
    assert structures[0].ref_energy == pytest.approx(-76 * per_energy)
    np.testing.assert_allclose(structures[2].ref_forces, 0.01 * per_energy / per_length, rtol=1e-8)
    assert "metadata of the database" in " ".join(report.lines())


def test_a_database_of_unknown_units_is_refused(tmp_path):
    write_schnetpack(tmp_path / "a.db", "Smoots", "Hartree", 1.0, 1.0)
    with pytest.raises(InputError, match="Smoots' is not a known unit"):
        read(tmp_path / "a.db")


@pytest.mark.parametrize(("name", "energy"), [("db/spk.db", -4215.04), ("db/qm9.db", -1102.06)])
def test_the_databases_as_they_came(name, energy):
    structures, report = read(case(name))
    assert structures[0].ref_energy == pytest.approx(energy, abs=0.01)
    assert structures[0].ref_forces is not None
    assert 0.8 < (report.summary().shortest_distance or 0) < 1.1


# 10 and 13: units and cells in comment lines


def test_i_pi_and_cp2k_comment_lines(tmp_path):
    ipi = "# CELL(abcABC):   30.0  30.0  30.0  90.0  90.0  90.0  Step: 0  Bead: 0 {}{{{}}}  cell{{{}}}"
    for unit, per in (("atomic_unit", BOHR), ("angstrom", 1.0)):
        (s,), _ = read(xyz(tmp_path, frame(ipi.format("positions", unit, "atomic_unit"), positions=WATER / per)))
        np.testing.assert_allclose(s.positions, WATER, atol=1e-9)
        np.testing.assert_allclose(np.diag(s.cell), 30 * BOHR)
        assert s.pbc.all()
    with pytest.raises(InputError, match="an i-PI file of forces"):
        read(xyz(tmp_path, frame(ipi.format("forces", "atomic_unit", "atomic_unit"))))
    with pytest.raises(InputError, match="'rod' is not a known unit"):
        read(xyz(tmp_path, frame(ipi.format("positions", "rod", "atomic_unit"))))
    _, report = read(xyz(tmp_path, frame(" i =        0, time =        0.000, E =       -17.1643447508")))
    assert any("CP2K" in line and "not periodic" in line for line in report.lines())
    (s,), _ = read(tmp_path / "a.xyz", Keys(energy="E"))
    assert s.ref_energy == pytest.approx(-17.1643447508 * HARTREE)


def test_the_i_pi_file_as_it_came():
    (s,), _ = read(case("xyz/ipi.pos_0.xyz"))
    assert s.cell[0, 0] == pytest.approx(35.233 * BOHR)
    assert np.linalg.norm(s.positions[1] - s.positions[0]) == pytest.approx(0.97, abs=0.03)


@pytest.mark.parametrize("key", ["Lattice", "lattice", "cell", "Cell", "unit_cell", "box", "cell_vectors"])
@pytest.mark.parametrize("pbc", ["", ' pbc="T T F"', " pbc=T", ' PBC="1 1 0"'])
def test_cells_under_any_key(tmp_path, key, pbc):
    (s,), _ = read(xyz(tmp_path, frame(f'{key}="10 0 0 1 11 0 0 0 12" Properties=species:S:1:pos:R:3{pbc}')))
    np.testing.assert_array_equal(s.cell, [[10, 0, 0], [1, 11, 0], [0, 0, 12]])
    assert s.pbc.tolist() == [True, True, pbc in ("", " pbc=T")]


def test_cells_of_lengths_and_angles_and_cells_that_contradict(tmp_path):
    (s,), _ = read(xyz(tmp_path, frame('cell="10 11 12 90 90 120"')))
    lengths = np.linalg.norm(s.cell, axis=1)
    np.testing.assert_allclose(lengths, [10, 11, 12])
    assert s.cell[0] @ s.cell[1] / 110 == pytest.approx(-0.5)
    (s,), _ = read(xyz(tmp_path, frame('cell="[[10, 0, 0], [0, 10, 0], [0, 0, 10]]"')))
    assert np.diag(s.cell).tolist() == [10, 10, 10]
    with pytest.raises(InputError, match="Lattice and cell differ"):
        read(xyz(tmp_path, frame('Lattice="10 0 0 0 10 0 0 0 10" cell="9 0 0 0 9 0 0 0 9"')))
    with pytest.raises(InputError, match="three of T and F were wanted"):
        read(xyz(tmp_path, frame('Lattice="10 0 0 0 10 0 0 0 10" pbc="T T"')))
    (s,), _ = read(xyz(tmp_path, frame("cell=primitive energy=1")))
    assert s.info["cell"] == "primitive"


def test_the_cells_as_they_came():
    structures, report = read(case("xyz/cell_key_names.xyz"))
    assert all(s.pbc.all() and s.cell[0, 0] == 10 for s in structures)
    assert structures[2].ref_forces is not None
    assert report.summary().n_periodic == 3


# 11: LAMMPS


DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0.0 6.8
0.0 6.7
0.0 6.6
ITEM: ATOMS id type{} x y z
1 1{} 3.4 0.06 6.6
2 2{} 3.3 0.03 3.3
"""


def test_lammps_types_are_no_elements(tmp_path):
    (tmp_path / "a.lammpstrj").write_text(DUMP.format("", "", ""))
    with pytest.raises(InputError, match=r"types and no elements.*element C H O"):
        read(tmp_path / "a.lammpstrj")
    (tmp_path / "b.lammpstrj").write_text(DUMP.format(" element", " Pb", " Te"))
    (s,), report = read(tmp_path / "b.lammpstrj")
    assert s.numbers.tolist() == [82, 52]
    assert any("taken as metal" in line for line in report.lines())
    (tmp_path / "c.lammpstrj").write_text("ITEM: UNITS\nlj\n" + DUMP.format(" element", " Pb", " Te"))
    with pytest.raises(InputError, match="LAMMPS's units lj are not read"):
        read(tmp_path / "c.lammpstrj")
    write(tmp_path / "d.data", bulk("Si"), format="lammps-data")
    with pytest.raises(InputError, match="no section Masses"):
        read(tmp_path / "d.data")
    write(tmp_path / "e.data", bulk("Si"), format="lammps-data", masses=True)
    (s,), _ = read(tmp_path / "e.data")
    assert s.numbers.tolist() == [14, 14]


def test_the_dump_as_it_came():
    with pytest.raises(InputError, match="types and no elements"):
        read(case("xyz/types.lammpstrj"))


# 12: PDB, occupancy, isotopes, ghosts


def pdb_line(
    name: str, element: str, alt: str = " ", occupancy: float = 1.0, x: float = 0.0, charge: str = "  "
) -> str:
    head = f"ATOM  {1:5d} {name:^4s}{alt}LYS A   1    "
    return f"{head}{x:8.3f}{0:8.3f}{0:8.3f}{occupancy:6.2f}{10:6.2f}          {element:>2s}{charge}\n"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([pdb_line("CA", "C"), pdb_line("OG", "O", "A", 0.6, 2), pdb_line("OG", "O", "B", 0.4, 3)], "locations A, B"),
        ([pdb_line("OG", "O", "A", 1, 2), pdb_line("OG", "O", "B", 1, 3)], "locations A, B"),
        ([pdb_line("CA", "C"), pdb_line("OG", "O", "A", 0.6, 2)], "occupancy 0.60"),
        ([pdb_line("CA", "  ")], "is blank"),
        ([pdb_line("CA", "Q1")], "'Q1'"),
    ],
)
def test_pdb_files_that_leave_something_open_are_refused(tmp_path, lines, words):
    (tmp_path / "a.pdb").write_text("".join(lines) + "END\n")
    (tmp_path / "b.pdb").write_text(pdb_line("CA", "C") + pdb_line("N", "N", x=1.5) + "END\n")
    structures, report = read(tmp_path / "*.pdb")
    assert [s.numbers.tolist() for s in structures] == [[6, 7]]  # the good file is read all the same
    assert words in skipped(report)


def test_occupancies_of_zero_throughout_are_none(tmp_path):
    (tmp_path / "a.pdb").write_text(pdb_line("CA", "C", occupancy=0) + pdb_line("N", "N", occupancy=0, x=1.5) + "END\n")
    assert len(read(tmp_path / "a.pdb")[0]) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [("pdb/alt.pdb", "locations A, B"), ("pdb/alt2.pdb", "locations A, B"), ("pdb/noelem.pdb", "is blank")],
)
def test_the_pdb_files_as_they_came(name, words):
    with pytest.raises(InputError, match=words):
        read(case(name))


def test_isotopes_ghosts_and_types_in_the_column_of_elements(tmp_path):
    structures, report = read(xyz(tmp_path, frame("", ["O", "D", "H"])))
    assert structures[0].numbers.tolist() == [8, 1, 1]
    assert any("deuterium" in line for line in report.lines())
    for species, words in ((["O", "X", "H"], "ghost"), (["Gh(O)", "H", "H"], "ghost"), (["1", "2", "2"], "atom type")):
        _, report = read(xyz(tmp_path, frame("", species), frame("")))
        assert words in skipped(report)
    (tmp_path / "a.xyz").write_text("2\nProperties=Z:I:1:pos:R:3\n8 0 0 0\n1 0 0 1\n")
    assert read(tmp_path / "a.xyz")[0][0].numbers.tolist() == [8, 1]


def test_partial_occupancy_of_arrays_counts(tmp_path):
    part = frame("Properties=species:S:1:pos:R:3:occupancy:R:1", more=[[1], [0.5], [1]])
    _, report = read(xyz(tmp_path, part, frame("")))
    assert report.skipped == {"partly occupied sites": 1}


# 14: velocities


@pytest.mark.parametrize("key", ["vel", "velo", "velocities"])
def test_velocities_are_kept_for_dynamics_with_their_unit(tmp_path, key):
    v = np.arange(9.0).reshape(3, 3)
    path = xyz(tmp_path, frame(f"Properties=species:S:1:pos:R:3:{key}:R:3", more=v))
    (s,), report = read(path, Keys(velocities=True))
    assert (s.info["velocities"], s.info["velocities_unit"]) == (v.tolist(), "A/fs")
    assert any("taken as A/fs" in line for line in report.lines())
    path = xyz(tmp_path, frame(f"Properties=species:S:1:pos:R:3:{key}:R:3 velocities_unit=A/ps", more=v))
    (s,), report = read(path, Keys(velocities=True))
    np.testing.assert_allclose(s.info["velocities"], v / 1000)
    assert not any("taken as A/fs" in line for line in report.lines())
    assert "velocities" not in read(path)[0][0].info  # only where they are asked for


def test_momenta_become_velocities(tmp_path):
    from ase.units import fs

    atoms = Atoms("OHH", WATER)
    atoms.set_velocities(np.arange(9.0).reshape(3, 3) / fs)  # A/fs
    write(tmp_path / "a.traj", atoms)
    (s,), _ = read(tmp_path / "a.traj", Keys(velocities=True))
    np.testing.assert_allclose(s.info["velocities"], np.arange(9.0).reshape(3, 3))
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    (s,), _ = read(tmp_path / "a.xyz", Keys(velocities=True))
    np.testing.assert_allclose(s.info["velocities"], np.arange(9.0).reshape(3, 3), atol=1e-5)


def test_the_velocities_as_they_came():
    (s,), _ = read(case("xyz/velocities.xyz"), Keys(velocities=True))
    assert s.info["velocities"][0] == [0.02012573, -0.00013210, 0.00064042]


# 15: stress that no matter bears


def test_a_stress_in_kbar_is_not_taken_for_ev(tmp_path):
    text = frame('Lattice="9 0 0 0 9 0 0 0 9" energy=1 stress="-251 0 0 0 -229 0 0 0 55"')
    (s,), report = read(xyz(tmp_path, text))
    assert s.ref_stress is None
    assert any("above 800 GPa; is it in kbar?" in line for line in report.lines())
    (s,), _ = read(xyz(tmp_path, text.replace("energy", "stress_unit=kbar energy")))
    np.testing.assert_allclose(np.diag(s.ref_stress), np.array([-251, -229, 55]) * GPA / 10)
    (s,), _ = read(xyz(tmp_path, text.replace("-251 0 0 0 -229 0 0 0 55", "1 2 3 4 5 -2")))  # Voigt
    np.testing.assert_array_equal(s.ref_stress, [[1, -2, 5], [-2, 2, 4], [5, 4, 3]])


def test_the_stress_as_it_came():
    (s,), report = read(case("xyz/kbar.xyz"))
    assert s.ref_stress is None
    assert any("kbar" in line for line in report.lines())


# 16: text stays text


@pytest.mark.parametrize("name", ["12_3", "0012345", "123e4567", "007", "1e5", "T", "nan", "1_23", "3-5", "-0", "1.50"])
@pytest.mark.parametrize("key", ["name", "material_id", "mp_id", "group"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_names_stay_as_they_are_written(tmp_path, name, key, quote):
    structures, _ = read(xyz(tmp_path, frame(f"{key}={quote}{name}{quote} energy=-1")))
    assert [s.group for s in structures] == [name]


def test_values_that_are_not_numbers_and_values_that_are(tmp_path):
    text = (
        'energy=-1.2D+02 code=0012345 other=12_3 big=123e4567 n=7 x=1e3 flag=T many="1 2 3" long=12345678901234567890'
    )
    (s,), _ = read(xyz(tmp_path, frame(text)), Keys(group="n"))
    assert s.ref_energy == -120
    assert s.group == "7"
    assert {key: s.info[key] for key in ("code", "other", "big", "long")} == {
        **{"code": "0012345", "other": "12_3", "big": "123e4567", "long": "12345678901234567890"},
    }
    assert (s.info["n"], s.info["x"], s.info["flag"], s.info["many"]) == (7, 1000.0, True, [1, 2, 3])
    (s,), _ = read(xyz(tmp_path, frame("batch=12_3 energy=1")), Keys(group="batch"))
    assert s.group == "12_3"
    _, report = read(xyz(tmp_path, frame("", positions=WATER).replace(" 0.0000000000", " 1_0", 1), frame("")))
    assert report.skipped == {"cannot be parsed": 1}  # Python takes 1_0 for 10


def test_the_names_as_they_came():
    structures, _ = read(case("xyz/names.xyz"))
    assert [s.group for s in structures] == ["12_3", "007", "T", "1e5", "mp-149 \u00e9 \u00fc", "nan", "3-5"]
    structures, _ = read(case("xyz/ids.xyz"))
    assert [s.group for s in structures] == ["123e4567", "0012345", "1_23", "12_3", "0012346"]


# 17: the report


def test_the_report_shows_what_was_read_in_six_lines(tmp_path):
    odd = frame("charge=1 energy=-1", positions=WATER * 0.55)
    path = xyz(tmp_path, frame("charge=0 energy=-1"), odd, frame("energy=-1", "OO", WATER[:2]))
    _, report = read(path)
    assert report.lines() == [
        "3 structures read from 1 file.",
        "elements H O; 2 to 3 atoms; periodic 0 of 3; shortest distance 0.53 A (H-O).",
        "charge 0 in 2, 1 in 1 (charge in 2, not stated in 1: taken as 0); "
        "spin (2S+1) 1 in 2, 2 in 1 (not stated in 3: the lowest that fits).",
        "reference labels: energy: energy in 3; forces: none in 3.",
        "group: formula in 3 of 3 structures.",
    ]
    summary = json.loads(json.dumps(as_json(report.summary()), allow_nan=False))
    assert summary["elements"] == ["H", "O"]
    assert summary["charges"] == {"0": 2, "1": 1}
    assert summary["n_spin_guessed"] == 3


@pytest.mark.parametrize(("scale", "warned"), [(1.0, False), (1 / BOHR, True), (BOHR, True), (0.1, True)])
def test_a_wrong_unit_of_length_is_warned_of(tmp_path, scale, warned):
    ethanol = molecule("CH3CH2OH")
    path = xyz(tmp_path, frame("", ethanol.get_chemical_symbols(), ethanol.positions * scale))
    _, report = read(path)
    assert any("is the unit of length right?" in line for line in report.lines()) == warned


def test_argon_is_not_warned_of(tmp_path):
    _, report = read(xyz(tmp_path, frame("", ["Ar", "Ar"], [[0, 0, 0], [3.8, 0, 0]])))
    assert not any("Warning" in line for line in report.lines())


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (np.zeros((3, 3)), "T T T"),
        (np.diag([3, 3, 0.0]), "T T F"),
        ([[0, 3, 0], [0, 0, 3], [20, 0, 0]], "T T F"),
        (np.diag([1e-3] * 3), "T T T"),
        (np.diag([1e9] * 3), "T T T"),
        ([[3, 0, 0], [6, 0, 0], [0, 0, 3]], "T T T"),
        (np.full((3, 3), np.nan), "T T T"),
        (np.diag([-3, 3, 3.0]), "T T T"),
    ],
)
def test_no_cell_breaks_the_report(tmp_path, cell, pbc):
    numbers = " ".join(str(x) for x in np.ravel(cell))
    structures, report = read(xyz(tmp_path, frame(f'Lattice="{numbers}" pbc="{pbc}"')))
    assert len(structures) == 1
    np.testing.assert_array_equal(structures[0].cell, cell)
    json.dumps(as_json(report.summary()), allow_nan=False)


# 28: encodings and odd frames


def test_encodings(tmp_path):
    text = frame('name="m\u00fcll" energy=-1')
    for encoding in ("utf-8", "utf-8-sig", "latin-1"):
        (tmp_path / "a.xyz").write_bytes(text.encode(encoding) + frame("energy=-2").encode())
        structures, report = read(tmp_path / "a.xyz")
        assert [s.group for s in structures] == ["m\u00fcll", "H2O"]
        assert any("Latin-1" in line for line in report.lines()) == (encoding == "latin-1")
    (tmp_path / "a.xyz").write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match="UTF-16: save it as UTF-8"):
        read(tmp_path / "a.xyz")
    (tmp_path / "a.xyz").write_bytes(text.replace("\n", "\r\n").encode())
    assert read(tmp_path / "a.xyz")[0][0].group == "m\u00fcll"


def test_the_encodings_as_they_came():
    assert len(read(case("xyz/utf8bom.xyz"))[0]) == 1
    (s,), report = read(case("xyz/lat1.xyz"))
    assert s.group == "m\u00fcll"
    assert any("'energy' occurs twice" in line for line in report.lines())


def test_a_number_that_cannot_be_a_count_does_not_swallow_the_file(tmp_path):
    path = xyz(tmp_path, frame("energy=-1"), "999999999999\n\nH 0 0 0\n")
    stream = sources.read(str(path))
    next(stream)
    with pytest.raises(InputError, match="should begin with its number of atoms, not with '999999999999'"):
        next(stream)


def test_columns_that_nothing_names_are_said(tmp_path):
    _, report = read(xyz(tmp_path, frame("", more=np.zeros((3, 3)))))
    assert any("columns that no Properties names" in line for line in report.lines())
    _, report = read(xyz(tmp_path, frame("0 1")))
    assert any("may be charge and multiplicity" in line for line in report.lines())


# 31: near misses


def test_near_misses_of_keys_are_suggested(tmp_path):
    first = frame("Properties=species:S:1:pos:R:3:force:R:3 energy=-1 max_force=3", more=np.zeros((3, 3)))
    second = frame(
        'Properties=species:S:1:pos:R:3:dft_force:R:3 dft_energy=-1 dft_virial="1 0 0 0 1 0 0 0 1"', more=WATER
    )
    _, report = read(xyz(tmp_path, first, second))
    (line,) = (line for line in report.lines() if line.startswith("Not taken"))
    assert "'dft_force', 'force' look like forces (--forces-key dft_force)" in line
    assert "--stress-key" not in line  # the sign of a virial is not known
    assert "'dft_virial' (gradients are minus the forces" in line
    assert report.summary().near_misses == {"forces": ("dft_force", "force")}
    structures, _ = read(tmp_path / "a.xyz", Keys(forces="dft_force"))
    assert structures[1].ref_forces is not None


def test_the_near_misses_as_they_came():
    _, report = read(case("xyz/quip.xyz"))
    assert any("--forces-key dft_force" in line for line in report.lines())


# One file a source


def test_a_source_is_one_file(tmp_path, monkeypatch):
    """A reader that is put beside the others is found, listed and used, and nothing else changes."""
    from hdistill.data.sources import readers as package, registry

    (tmp_path / "dummy_source.py").write_text(
        "from hdistill.data.sources.reader import Located, Reader, SubsetRow\n"
        "from hdistill.data.sources.readers.perovskites import locate, read\n"
        "READER = Reader('dummy', 'a test', lambda p, l, k, r: read(p, Located(options=frozenset('5')), k, r),\n"
        "    locate=lambda name, data: Located(READER, name=name), rows=(SubsetRow('dummy', 'a test', license='MIT'),))\n"
    )
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    registry.readers.cache_clear()
    try:
        assert len(read("dummy")[0]) == 480
        assert "dummy" in {row.name for row in sources.subset_rows()}
        assert sources.row_of("dummy:x").license == "MIT"
    finally:
        registry.readers.cache_clear()
