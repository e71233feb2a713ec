"""Structures in: real SPICE files, a release made with h5py, every kind of ASE file, and wrong input of every kind."""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import json
import re
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect
from ase.io import write

from hdistill.data import sources
from hdistill.data.errors import InputError
from hdistill.data.sources import Keys, SourceReport
from hdistill.data.sources.formula import hill_formula
from hdistill.data.sources.readers.perovskites import LATTICE_CONSTANTS
from hdistill.data.sources.readers.spice import SUBSETS
from hdistill.data.sources.smiles import parse_mapped, unmapped
from hdistill.data.sources.units import stress_matrix

SPICE = Path(__file__).parents[3] / "shared" / "data" / "spice"
needs_spice = pytest.mark.skipif(not SPICE.is_dir(), reason="the SPICE files of ../shared/data/spice are not here")


def labelled(atoms: Atoms, seed: int = 0, **info: object) -> Atoms:
    """Rattled atoms with calculator results, as a DFT run leaves them."""
    generator = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.rattle(0.05, seed=seed)
    results = {"energy": -3.0 - seed, "forces": generator.normal(size=(len(atoms), 3))}
    if atoms.pbc.all():
        results["stress"] = generator.normal(size=6) * 1e-2
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info.update(info)
    return atoms


@pytest.fixture
def trajectory() -> list[Atoms]:
    return [labelled(bulk("NaCl", "rocksalt", a=5.64), seed) for seed in range(6)]


def label_line(report: SourceReport) -> str:
    """The line of the report that says which reference labels were taken."""
    return next(line for line in report.lines() if line.startswith("reference labels: "))


def one(subset: str | Path, **options: object):
    (structure,) = sources.read(str(subset), **options)
    return structure


# Every format of ASE


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a.xyz.gz", "a.traj", "a.db", "a.json"])
def test_formats_with_many_frames(tmp_path, trajectory, name):
    write(tmp_path / name, trajectory)
    report = SourceReport()
    structures = list(sources.read(str(tmp_path / name), report=report))
    assert len(structures) == 6
    for structure, atoms in zip(structures, trajectory, strict=True):
        np.testing.assert_allclose(structure.positions, atoms.positions, atol=1e-7)
        np.testing.assert_allclose(structure.cell, atoms.cell.array, atol=1e-7)
        assert structure.numbers.tolist() == [11, 17]
        assert structure.pbc.all()
        assert structure.group == "ClNa"
        assert structure.ref_energy == pytest.approx(atoms.calc.results["energy"])
        np.testing.assert_allclose(structure.ref_forces, atoms.calc.results["forces"], atol=1e-7)
        np.testing.assert_allclose(structure.ref_stress, stress_matrix(atoms.calc.results["stress"]), atol=1e-7)
        json.dumps(dict(structure.info), allow_nan=False)
    assert structures[3].info["source"] == f"{name}@3"
    assert label_line(report).startswith(
        "reference labels: energy: energy in 6; forces: forces in 6; stress: stress in 6."
    )


@pytest.mark.parametrize(("name", "format"), [("POSCAR", "vasp"), ("a.cif", "cif"), ("a.cube", "cube")])
def test_formats_with_one_frame(tmp_path, name, format):
    crystal = bulk("MgO", "rocksalt", a=4.21, cubic=True)
    write(tmp_path / name, crystal, format=format)
    structure = one(tmp_path / name)
    assert sorted(structure.numbers) == sorted(crystal.numbers)
    assert abs(np.linalg.det(structure.cell)) == pytest.approx(crystal.get_volume(), rel=1e-4)
    assert structure.group == "MgO"
    assert structure.ref_energy is None


def test_plain_xyz_and_molecule(tmp_path):
    write(tmp_path / "a.xyz", molecule("CH3CH2OH"), format="xyz")
    structure = one(tmp_path / "a.xyz")
    assert structure.group == "C2H6O"
    assert not structure.pbc.any()
    assert not structure.cell.any()


def test_cell_vectors_written_after_the_atoms(tmp_path):
    (tmp_path / "a.xyz").write_text(
        "1\n\nHe 0 0 0\nVEC1 4 0 0\nVEC2 0 5 0\nVEC3 0 0 6\n1\n\nHe 1 0 0\nVEC1 4 0 0\nVEC2 0 5 0\nVEC3 0 0 6\n"
    )
    first, second = sources.read(str(tmp_path / "a.xyz"))
    assert np.diag(first.cell).tolist() == np.diag(second.cell).tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("@2", [2]), ("@-1", [5]), ("@1:3", [1, 2]), ("@:", [0, 1, 2, 3, 4, 5]), ("@0:6:2", [0, 2, 4]), ("@-2:", [4, 5])],
)
@pytest.mark.parametrize("name", ["a.xyz", "a.traj", "a.db"])
def test_slices(tmp_path, trajectory, name, text, wanted):
    write(tmp_path / name, trajectory)
    structures = list(sources.read(f"{tmp_path / name}{text}"))
    assert [int(s.info["source"].split("@")[1]) for s in structures] == wanted


def test_at_sign_in_a_file_name(tmp_path, trajectory):
    write(tmp_path / "a.xyz", trajectory)
    (tmp_path / "a.xyz").rename(tmp_path / "run@300K.xyz")
    assert len(list(sources.read(str(tmp_path / "run@300K.xyz")))) == 6
    assert len(list(sources.read(f"{tmp_path / 'run@300K.xyz'}@:2"))) == 2


def test_glob_and_several_subsets(tmp_path, trajectory):
    for i, atoms in enumerate(trajectory):
        write(tmp_path / f"{i}.xyz", atoms)
    report = SourceReport()
    pattern = str(tmp_path / "*.xyz")
    assert len(list(sources.read([pattern, f"{tmp_path / '0.xyz'}"], report=report))) == 7
    assert [path.name for path in sources.files([pattern, str(tmp_path / "0.xyz")])] == [f"{i}.xyz" for i in range(6)]
    assert report.lines()[0] == "7 structures read from 7 files."


def test_database_keys_and_data_become_info(tmp_path):
    with connect(tmp_path / "a.db") as database:
        for i in range(3):
            database.write(
                bulk("Si"), band_gap=0.5 + i, material_id=f"mp-{i}", data={"source": "x", "big": np.zeros(99)}
            )
    structures = list(sources.read(str(tmp_path / "a.db")))
    assert [s.info["band_gap"] for s in structures] == [0.5, 1.5, 2.5]
    assert [s.group for s in structures] == ["mp-0", "mp-1", "mp-2"]
    assert "big" not in structures[0].info


def test_database_of_more_than_one_page(tmp_path):
    with connect(tmp_path / "a.db") as database:
        for i in range(1100):
            database.write(Atoms("He", [(0, 0, i)]))
        del database[7]
    structures = list(sources.read(str(tmp_path / "a.db")))
    assert [int(s.positions[0, 2]) for s in structures] == [i for i in range(1100) if i != 6]


# Keys


def test_order_of_the_usual_keys(tmp_path):
    atoms = [labelled(molecule("H2O"), i) for i in range(3)]
    atoms[0].info["REF_energy"] = -76.0
    atoms[0].arrays["REF_forces"] = np.full((3, 3), 0.5)
    atoms[1].calc = None
    atoms[1].info["dft_energy"] = -75.0
    atoms[2].calc = None
    write(tmp_path / "a.xyz", atoms)
    report = SourceReport()
    structures = list(sources.read(str(tmp_path / "a.xyz"), report=report))
    assert [s.ref_energy for s in structures] == [-76.0, -75.0, None]
    assert structures[0].ref_forces.tolist() == [[0.5] * 3] * 3
    assert structures[1].ref_forces is None
    assert "REF_energy" not in structures[0].info
    assert "energy: REF_energy in 1, dft_energy in 1, none in 1;" in label_line(report)


def test_a_key_that_the_user_names_wins_and_no_other_is_taken(tmp_path):
    atoms = [labelled(molecule("H2O"), i) for i in range(2)]
    atoms[0].info |= {"REF_energy": -76.0, "ccsd": -77.0}
    write(tmp_path / "a.xyz", atoms)
    structures = list(sources.read(str(tmp_path / "a.xyz"), keys=Keys(energy="ccsd")))
    assert [s.ref_energy for s in structures] == [-77.0, None]
    structures = list(sources.read(str(tmp_path / "a.xyz"), keys=Keys(energy="energy", forces="forces")))
    assert [s.ref_energy for s in structures] == [-3.0, -4.0]


def test_a_key_that_no_structure_has_is_an_error_with_the_nearest(tmp_path):
    write(tmp_path / "a.xyz", labelled(molecule("H2O"), ccsd_energy=-77.0))
    with pytest.raises(InputError, match=r"'ccds_energy'.*its energy. Did you mean 'ccsd_energy'\?"):
        list(sources.read(str(tmp_path / "a.xyz"), keys=Keys(energy="ccds_energy")))
    with pytest.raises(InputError, match="key of its group"):
        list(sources.read(str(tmp_path / "a.xyz"), keys=Keys(group="mol")))


def test_forces_of_constrained_atoms_are_read_as_stored(tmp_path):
    atoms = labelled(molecule("H2O"))
    atoms.set_constraint(FixAtoms([0, 1, 2]))
    write(tmp_path / "a.traj", atoms)
    np.testing.assert_allclose(one(tmp_path / "a.traj").ref_forces, atoms.calc.results["forces"])


def test_mixed_levels_of_theory_are_told(tmp_path):
    write(tmp_path / "a.xyz", labelled(molecule("H2O"), REF_energy=-76.0))
    report = SourceReport()
    list(sources.read(str(tmp_path / "a.xyz"), report=report))
    assert any("different keys in 1 structure" in line for line in report.lines())


def test_labels_that_cannot_be_used_are_left_out_and_told(tmp_path):
    bad_shape = molecule("H2O")
    bad_shape.arrays["REF_forces"] = np.ones((3, 2))
    not_finite = molecule("H2O")
    not_finite.info["REF_energy"] = float("nan")
    write(tmp_path / "a.xyz", [bad_shape, not_finite])
    report = SourceReport()
    structures = list(sources.read(str(tmp_path / "a.xyz"), report=report))
    assert [s.ref_energy for s in structures] == [None, None]
    assert structures[0].ref_forces is None
    assert "forces: REF_forces (unusable: left out) in 1, none in 1." in label_line(report)


def test_stress_is_a_matrix_whatever_the_file_has():
    expected = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
    for given in ([1, 2, 3, 4, 5, 6], expected, expected.ravel()):
        np.testing.assert_array_equal(stress_matrix(given), expected)
    with pytest.raises(ValueError, match="6, 9 or 3x3"):
        stress_matrix([1, 2, 3])


def test_charge_spin_and_group(tmp_path):
    write(
        tmp_path / "a.xyz",
        [
            labelled(molecule("H2O"), charge=-1, spin=2),
            labelled(molecule("H2O"), total_charge=1.0, total_spin=2, mp_id="mp-7"),
            labelled(molecule("H2O"), charge=0, spin=0, batch="b3", group="water"),
        ],
    )
    report = SourceReport()
    structures = list(sources.read(str(tmp_path / "a.xyz"), report=report))
    assert [(s.charge, s.spin) for s in structures] == [(-1, 2), (1, 2), (0, 1)]
    assert [s.group for s in structures] == ["H2O", "mp-7", "water"]
    assert report.lines()[2] == (
        "charge -1 in 1, 1 in 1, 0 in 1 (charge in 2, total_charge in 1); "
        "spin (2S+1) 2 in 2, 1 in 1 (spin in 1, total_spin in 1, not stated in 1: the lowest that fits)."
    )
    assert not {"charge", "spin", "total_charge", "group"} & set(structures[2].info)
    by_key = list(sources.read(str(tmp_path / "a.xyz"), keys=Keys(group="batch")))
    assert [s.group for s in by_key] == ["H2O", "H2O", "b3"]


def test_info_is_plain_json(tmp_path):
    atoms = molecule("H2O")
    atoms.info |= {"gap": np.float32(1.5), "n": np.int64(3), "ok": np.True_, "k": np.arange(3), "big": np.arange(99)}
    atoms.info |= {"text": "x" * 5000, "nan": float("nan"), 7: "seven", "nested": {"a": 1}, "none": None}
    write(tmp_path / "a.traj", atoms)
    info = dict(one(tmp_path / "a.traj").info)
    assert info == {"source": "a.traj@0", "gap": 1.5, "n": 3, "ok": True, "k": [0, 1, 2]}
    assert {type(value) for value in info.values()} == {str, float, int, bool, list}


def test_supercells_of_a_crystal_share_a_group_and_isomers_of_a_formula_do_not_merge(tmp_path):
    write(tmp_path / "a.xyz", [bulk("Si"), bulk("Si", cubic=True), molecule("C2H4"), molecule("C3H6_Cs")])
    assert [s.group for s in sources.read(str(tmp_path / "a.xyz"))] == ["Si", "Si", "C2H4", "C3H6"]


# Structures that cannot be made, amid good ones


def test_bad_structures_are_counted_and_the_rest_go_on(tmp_path):
    good = "3\n{}\nO 0 0 0\nH 0 0 1\nH 0 1 0\n"
    frames = [
        good.format(""),
        "1\n\nXx 0 0 0\n",
        "1\n\nX 0 0 0\n",
        "2\n\nH 0 0 0\nH 0 0\n",
        "1\n\nH 0 zero 0\n",
        good.format("charge=0.5"),
        good.format("spin=-2"),
        "0\n\n",
        good.format("Lattice=1"),
        good.format('name="last"'),
        "3\n\nO 0 0 0\nH 0 0 1\n",
    ]
    (tmp_path / "a.xyz").write_text("".join(frames))
    report = SourceReport()
    structures = list(sources.read(str(tmp_path / "a.xyz"), report=report))
    assert [s.info["source"] for s in structures] == ["a.xyz@0", "a.xyz@9"]
    assert report.skipped == Counter(
        {
            "unknown element": 2,
            "cannot be parsed": 3,
            "charge is not a whole number": 1,
            "spin is not a multiplicity": 1,
            "no atoms": 1,
            "cut short": 1,
        }
    )
    assert any(line.startswith("Skipped 2 structures: unknown element (the first: a.xyz@1:") for line in report.lines())


def test_a_broken_physics_is_not_judged_here(tmp_path):
    """Checks of cells and distances come later and lead to quarantine; the reader only hands on."""
    atoms = Atoms("H2", [(0, 0, 0), (0, 0, 0)], pbc=True)
    write(tmp_path / "a.traj", [atoms])
    assert one(tmp_path / "a.traj").pbc.all()
    (tmp_path / "a.xyz").write_text("1\n\nH nan 0 0\n")
    assert np.isnan(one(tmp_path / "a.xyz").positions).any()


CIF = """data_x
_cell_length_a 4.2
_cell_length_b 4.2
_cell_length_c 4.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Mg1 Mg 0 0 0 {}
O1 O 0.5 0.5 0.5 1.0
"""


def test_partly_occupied_sites_are_not_taken_for_full_ones(tmp_path):
    (tmp_path / "full.cif").write_text(CIF.format("1.0"))
    (tmp_path / "part.cif").write_text(CIF.format("0.7"))
    report = SourceReport()
    assert len(list(sources.read(str(tmp_path / "*.cif"), report=report))) == 1
    assert report.skipped == {"partly occupied sites": 1}


# Files that cannot be read


def test_a_frame_with_a_wrong_count_names_file_line_and_frame(tmp_path):
    water = "3\n\nO 0 0 0\nH 0 0 1\nH 0 1 0\n"
    (tmp_path / "a.xyz").write_text(water + "2" + water[1:] + water)
    stream = sources.read(str(tmp_path / "a.xyz"))
    assert next(stream).info["source"] == "a.xyz@0"  # before the error: frames come one at a time
    with pytest.raises(InputError, match=r"a\.xyz, line 10: frame 2 .*not with 'H 0 1 0'.*a\.xyz@:1'"):
        list(stream)
    assert len(list(sources.read(f"{tmp_path / 'a.xyz'}@:1"))) == 1


def test_truncated_and_foreign_files(tmp_path, trajectory):
    write(tmp_path / "a.traj", trajectory)
    (tmp_path / "cut.traj").write_bytes((tmp_path / "a.traj").read_bytes()[:-500])
    (tmp_path / "foreign.db").write_bytes(b"this is not a database at all" * 100)
    (tmp_path / "foreign.json").write_text('{"a": 1}')
    (tmp_path / "bad.cif").write_text("data_x\nloop_\n_atom_site_label\n")
    write(tmp_path / "whole.xyz", trajectory)
    packed = gzip.compress((tmp_path / "whole.xyz").read_bytes())
    (tmp_path / "cut.xyz.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "binary.xyz").write_bytes(bytes(range(128, 256)) * 10)
    for name in ("cut.traj", "foreign.db", "foreign.json", "bad.cif", "cut.xyz.gz", "binary.xyz"):
        with pytest.raises(InputError, match=name):
            list(sources.read(str(tmp_path / name)))


@pytest.mark.parametrize("content", ["hello", "\x7fELF" + "\0" * 64, "# notes\n\n1 2 3\n"])
def test_unknown_format(tmp_path, content):
    (tmp_path / "a.notes").write_text(content)
    with pytest.raises(InputError, match=r"a\.notes has no format that ASE reads"):
        list(sources.read(str(tmp_path / "a.notes")))


def test_no_structure_in_a_file(tmp_path):
    (tmp_path / "blank.xyz").write_text("\n\n")
    with pytest.raises(InputError, match=r"blank\.xyz' has no structure"):
        list(sources.read(str(tmp_path / "blank.xyz")))
    (tmp_path / "dummy.xyz").write_text("1\n\nX 0 0 0\n")
    with pytest.raises(InputError, match=r"1 skipped, unknown element \(dummy\.xyz@0"):
        list(sources.read(str(tmp_path / "dummy.xyz")))
    write(tmp_path / "a.xyz", molecule("H2O"))
    with pytest.raises(InputError, match="the right file, slice or subset"):
        list(sources.read(f"{tmp_path / 'a.xyz'}@5:"))
    with connect(tmp_path / "none.db") as database:
        database.write(Atoms("H"))
        del database[1]
    with pytest.raises(InputError, match="has no structure"):
        list(sources.read(str(tmp_path / "none.db")))


def test_what_is_not_there_is_told_before_anything_is_read(tmp_path, monkeypatch):
    write(tmp_path / "train.xyz", molecule("H2O"))
    (tmp_path / "empty.xyz").touch()
    (tmp_path / "nothing").mkdir()
    monkeypatch.chdir(tmp_path)
    for subset, sentence in {
        "trian.xyz": r"no file and no subset 'trian\.xyz'\. Did you mean 'train\.xyz'\?",
        "perovskite": "Did you mean 'perovskites'",
        "spise:monomers": "Did you mean 'spice:monomers'",
        "spice:monomer": "no subset 'monomer'.*Did you mean 'monomers'",
        "perovskites:6": "no option '6'; it takes 5, 40, by-chemistry",
        "empty.xyz": r"empty\.xyz is empty",
        "*.cif": "no file and no subset",
        "nothing": "There are no files in nothing; a folder with files",
        "train.xyz@first": "'first' in 'train.xyz@first' is not a slice",
        "train.xyz@::0": "step",
        "missing/train.xyz": "no file and no subset",
        "spice:monomers": "needs --data",
    }.items():
        with pytest.raises(InputError, match=sentence):
            sources.read(["perovskites", subset])


def test_a_folder_is_every_file_below_it(tmp_path):
    """Some are no structures, one ends too early, one is of a label set, one is hidden: what can be read is, and the rest is counted."""
    folder = tmp_path / "mine"
    for name in ("a", "b/deep", "b/labels", ".hidden"):
        (folder / name).mkdir(parents=True)
    write(folder / "a" / "water.xyz", molecule("H2O"))
    write(folder / "a" / "salt.cif", bulk("NaCl", "rocksalt", 5.6))
    write(folder / "b" / "deep" / "POSCAR", bulk("Si"), format="vasp")
    write(folder / "b" / "several.xyz", [molecule("CH4"), molecule("NH3")])
    with (folder / "b" / "several.xyz").open("a") as file:
        file.write("5\n\nC 0 0 0\n")
    for name in ("README.md", "empty.xyz", "b/labels/manifest.json", "b/labels/x.xyz", ".hidden/x.xyz", ".x.xyz"):
        (folder / name).write_text("" if name == "empty.xyz" else "1\nwords that are no structure\n")
    (folder / "b" / "again").symlink_to(folder, target_is_directory=True)
    report = sources.SourceReport()
    formulas = [hill_formula(s.numbers) for s in sources.read(str(folder), report=report)]
    assert formulas == ["ClNa", "H2O", "Si2", "CH4", "H3N"]
    assert [Path(name).relative_to(folder).as_posix() for name in report.files] == [
        *("README.md", "a/salt.cif", "a/water.xyz", "b/deep/POSCAR", "b/several.xyz", "empty.xyz")
    ]
    assert sum(report.skipped.values()) == 3
    assert "README.md" in " ".join(report.first_skipped.values())
    assert sources.files(str(folder)) == [Path(name) for name in report.files]
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "README.md").write_text("of structures elsewhere")
    with pytest.raises(InputError, match=r"has no structure that can be used: 1 skipped.*README\.md"):
        list(sources.read(str(tmp_path / "none")))


@pytest.mark.skipif(importlib.util.find_spec("ase_db_backends") is not None, reason="ase-db-backends is installed")
def test_lmdb_databases_need_a_package(tmp_path):
    (tmp_path / "a.aselmdb").write_bytes(b"x")
    with pytest.raises(InputError, match="pip install ase-db-backends"):
        list(sources.read(str(tmp_path / "a.aselmdb")))


def test_memory_does_not_grow_with_the_file(tmp_path):
    frame = "100\nProperties=species:S:1:pos:R:3\n" + "Ar 1.0 2.0 3.0\n" * 100
    (tmp_path / "a.xyz").write_text(frame * 2000)  # 3 MB
    stream = sources.read(str(tmp_path / "a.xyz"))
    next(stream)
    tracemalloc.start()
    for _ in itertools.islice(stream, 300):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


# SMILES


@pytest.mark.parametrize(
    ("smiles", "numbers", "charge"),
    [
        ("[C:1]([H:2])([H:3])([H:4])[H:5]", [6, 1, 1, 1, 1], 0),
        ("[O:10]([H:1])[H:2].[Cl-:3].[Na+:4].[O-2:5].[Mg++:6].[c:7]1[nH0:8]%10", None, 0),
        ("[O-:2][N+:1](=[O:3])[C@@:4]([Br:5])(/[H:6])\\[2H:7]", [7, 8, 8, 6, 35, 1, 1], 0),
        ("[Mg+2:1]", [12], 2),
        ("[Ca++:1].[se:2]1", [20, 34], 2),
        ("[P-3:1]", [15], -3),
    ],
)
def test_mapped_smiles(smiles, numbers, charge):
    if numbers is None:
        with pytest.raises(ValueError, match="implies hydrogens"):
            parse_mapped(smiles)
        return
    actual, found_charge = parse_mapped(smiles)
    assert (actual.tolist(), found_charge) == (numbers, charge)


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("C", "not a bracket atom"),
        ("[C:1]C", "at character 5"),
        ("[CH4:1]", "implies hydrogens"),
        ("[C]", "no map number"),
        ("[C:1][H:1]", "occurs twice"),
        ("[C:1][H:3]", "not 1 to 2"),
        ("[Qq:1]", "is not an element"),
        ("[C:1", "not a bracket atom"),
        ("[C:1]([H:2]) x", "not a bracket atom"),
    ],
)
def test_smiles_that_are_refused(smiles, reason):
    with pytest.raises(ValueError, match=reason):
        parse_mapped(smiles)


def test_formula():
    assert hill_formula([8, 6, 1, 1, 17]) == "CH2ClO"
    assert hill_formula([17, 1]) == "ClH"
    assert hill_formula([22, 8, 8, 22, 8, 8], reduced=True) == "O2Ti"
    assert unmapped("[C:12]([H:2])") == "[C]([H])"


# SPICE input files


def bonds_of_hydrogen(structure) -> list[tuple[int, float]]:
    """Element of the nearest neighbour of each hydrogen, and its distance in A."""
    distance = np.linalg.norm(structure.positions[:, None] - structure.positions[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    return [(structure.numbers[row.argmin()], row.min()) for row in distance[structure.numbers == 1]]


@needs_spice
def test_spice_monomers():
    report = SourceReport()
    structures = list(sources.read("spice:monomers", SPICE / "des-monomers.hdf5", report=report))
    assert len(structures) == report.n_read == 18_900
    assert len({s.group for s in structures}) == 378
    assert {z for s in structures for z in set(s.numbers.tolist())} == {1, 6, 7, 8, 9, 15, 16, 17, 35, 53}
    assert {s.spin for s in structures} == {1}  # every molecule of the set has a closed shell: the charges are right
    assert {s.charge for s in structures} == {-1, 0, 1}
    assert (min(s.n_atoms for s in structures), max(s.n_atoms for s in structures)) == (3, 22)
    methane = [s for s in structures if s.group == "C"]
    assert len(methane) == 50
    assert methane[7].info == {
        "name": "C",
        "smiles": "[C]([H])([H])([H])[H]",
        "subset": "monomers",
        "conformation": 7,
    }
    assert "(smiles in 18900)" in report.lines()[2]


@needs_spice
def test_spice_units_and_order_of_elements_agree_with_the_geometry():
    """Every hydrogen sits at a bond's length from its heavy atom; C-H bonds are 1.09 A long on average."""
    structures = [s for s in sources.read("spice:monomers", SPICE) if s.info["conformation"] == 0]
    actual = [bond for s in structures for bond in bonds_of_hydrogen(s)]
    assert len(actual) == 2735
    assert all(0.7 < r < 1.7 for _, r in actual)
    carbon = [r for z, r in actual if z == 6]
    assert np.mean(carbon) == pytest.approx(1.09, abs=0.015)
    assert np.mean([r for z, r in actual if z == 8]) == pytest.approx(0.97, abs=0.02)


@needs_spice
def test_spice_other_input_files():
    water = list(sources.read("spice:water", SPICE))
    assert len(water) == 1000
    assert {hill_formula(s.numbers.tolist()) for s in water} == {"H60O30"}
    amino = list(sources.read("spice:solvated-amino-acids", SPICE))
    assert len(amino) == 1300
    assert {s.group: s.charge for s in amino if s.group in {"ALA", "ASP", "LYS"}} == {"ALA": 0, "ASP": -1, "LYS": 1}
    iodine = list(sources.read("spice:iodine", SPICE))
    assert {53 in s.numbers for s in iodine} == {True}
    assert len(list(sources.read("spice:all", SPICE))) == 21_200
    assert sources.files("spice:water", SPICE) == [SPICE / "water.hdf5"]
    assert len(list(sources.read(str(SPICE / "water.hdf5")))) == 1000


@needs_spice
def test_spice_wrong_places(tmp_path):
    for subset, data, sentence in [
        ("spice:water", SPICE / "des-monomers.hdf5", "holds spice:monomers, not spice:water"),
        ("spice:pubchem", SPICE, r"no file of spice:pubchem \(wanted: SPICE-\*\.hdf5\)"),
        ("spice:water", tmp_path / "none", "does not exist"),
        ("spice:water", tmp_path, "has no file of spice:water"),
        (f"{SPICE / 'water.hdf5'}@:5", None, "no order to slice"),
    ]:
        with pytest.raises(InputError, match=sentence):
            sources.read(subset, data)


# SPICE releases, in the layout of the released files

METHANE = "[C:1]([H:2])([H:3])([H:4])[H:5]"
IODIDE = "[I-:1]"


def write_release(path: Path, n: int = 3) -> np.ndarray:
    """Three molecules of three subsets; returns the positions of methane in A."""
    positions = molecule("CH4").positions + np.random.default_rng(1).normal(size=(n, 5, 3)) * 0.05
    with h5py.File(path, "w") as file:
        for name, subset, smiles, numbers, geometry in [
            ("C", "SPICE DES Monomers Single Points Dataset v1.1", METHANE, [6, 1, 1, 1, 1], positions),
            ("7/a", "SPICE PubChem Set 1 Single Points Dataset v1.3", METHANE, [6, 1, 1, 1, 1], positions + 1),
            ("I", "SPICE Ion Pairs Single Points Dataset v1.2", IODIDE, [53], np.zeros((n, 1, 3))),
        ]:
            group = file.create_group(name)
            group["subset"] = [subset]
            group["smiles"] = [smiles]
            group["atomic_numbers"] = np.array(numbers, np.int16)
            group["conformations"] = (geometry / 0.529177210903).astype(np.float32)
            group["dft_total_energy"] = -40.5 - np.arange(n) * 0.1
            group["formation_energy"] = -0.7 - np.arange(n) * 0.1
            group["dft_total_gradient"] = np.full(geometry.shape, 0.01, np.float32)
    return positions


def test_release_units_and_signs(tmp_path):
    positions = write_release(tmp_path / "SPICE-2.0.1.hdf5")
    report = SourceReport()
    structures = list(sources.read("spice:monomers", tmp_path, report=report))
    assert len(structures) == 3
    np.testing.assert_allclose(structures[2].positions, positions[2], atol=1e-6)
    assert structures[2].ref_energy == pytest.approx(-40.7 * 27.211386, abs=1e-4)
    np.testing.assert_allclose(structures[2].ref_forces, -0.01 * 51.422067, rtol=1e-5)
    assert structures[0].info["subset"] == "monomers"
    assert "forces: dft_total_gradient (sign changed) in 3." in label_line(report)
    other = list(sources.read("spice:monomers", tmp_path, keys=Keys(energy="formation_energy")))
    assert other[0].ref_energy == pytest.approx(-0.7 * 27.211386, abs=1e-4)
    with pytest.raises(InputError, match="it can be dft_total_energy or formation_energy"):
        list(sources.read("spice:monomers", tmp_path, keys=Keys(energy="energy")))


def test_release_subsets(tmp_path):
    write_release(tmp_path / "SPICE-2.0.1.hdf5")

    def groups(subset: str) -> set[str]:
        return {s.group for s in sources.read(subset, tmp_path)}

    assert groups("spice:pubchem") == {"7/a"}
    assert groups("spice:ion-pairs") == groups("spice:iodine") == {"I"}
    assert groups("spice:all") == {"C", "7/a", "I"}
    assert {(s.charge, s.spin) for s in sources.read("spice:iodine", tmp_path)} == {(-1, 1)}
    with pytest.raises(InputError, match="'spice:water' has no structure"):
        groups("spice:water")
    write_release(tmp_path / "SPICE-1.1.4.hdf5")
    with pytest.raises(InputError, match="2 releases of SPICE"):
        groups("spice:all")


def test_every_subset_field_of_the_releases_is_known():
    fields = {
        "SPICE DES Monomers Single Points Dataset v1.1": "monomers",
        "SPICE DES370K Single Points Dataset v1.0": "dimers",
        "SPICE DES370K Single Points Dataset Supplement v1.1": "dimers",
        "SPICE Dipeptides Single Points Dataset v1.3": "dipeptides",
        "SPICE Solvated Amino Acids Single Points Dataset v1.1": "solvated-amino-acids",
        "SPICE PubChem Set 10 Single Points Dataset v1.0": "pubchem",
        "SPICE PubChem Boron Silicon v1.0": "pubchem",
        "SPICE Solvated PubChem Set 1 v1.0": "solvated-pubchem",
        "SPICE Amino Acid Ligand v1.0": "amino-acid-ligand",
        "SPICE Ion Pairs Single Points Dataset v1.2": "ion-pairs",
        "SPICE Water Clusters v1.0": "water",
    }
    for text, name in fields.items():
        assert [known for known, s in SUBSETS.items() if s.field and re.search(s.field, text)] == [name]


def test_molecules_that_cannot_be_made_are_counted(tmp_path):
    write_release(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        for name in ("ragged", "disagrees", "flat", "linked", "radical", "no charge"):
            file.copy("C", name)
        del file["ragged/atomic_numbers"]
        file["ragged/atomic_numbers"] = [6, 1, 1]
        del file["disagrees/smiles"]
        file["disagrees/smiles"] = [METHANE.replace("C", "Si")]
        del file["flat/conformations"]
        file["flat/conformations"] = np.zeros(15)
        del file["linked/atomic_numbers"]
        file["linked/atomic_numbers"] = h5py.ExternalLink("/etc/hostname", "x")
        del file["radical/smiles"], file["radical/atomic_numbers"]
        file["radical/smiles"] = ["[C:1]([H:2])([H:3])([H:4])[C:5]"]
        file["radical/atomic_numbers"] = [6, 1, 1, 1, 6]
        del file["no charge/smiles"]
        file["outside"] = h5py.ExternalLink("elsewhere.hdf5", "/C")
        file["loop/again"] = file["/"]
    report = SourceReport()
    structures = list(sources.read(str(tmp_path / "a.hdf5"), report=report))
    made = {s.group: s.spin for s in structures if "loop" not in s.group}
    assert made == {"7/a": 1, "C": 1, "I": 1, "linked": 1, "no charge": 1, "radical": 2}
    assert report.skipped["molecule cannot be made"] > 0
    assert report.taken["charge"][""] > 0


def test_hdf5_files_that_are_no_spice(tmp_path):
    (tmp_path / "text.hdf5").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match=r"text\.hdf5 is not an HDF5 file"):
        list(sources.read(str(tmp_path / "text.hdf5")))
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["x"] = [1, 2]
    with pytest.raises(InputError, match="neither layout of a SPICE file"):
        list(sources.read(str(tmp_path / "other.hdf5")))
    write_release(tmp_path / "a.hdf5")
    (tmp_path / "cut.hdf5").write_bytes((tmp_path / "a.hdf5").read_bytes()[:4000])
    with pytest.raises(InputError, match=r"cut\.hdf5: it cannot be read"):
        list(sources.read(str(tmp_path / "cut.hdf5")))


def test_a_release_without_labels_and_with_gaps(tmp_path):
    write_release(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        del file["I"], file["7"], file["C/dft_total_gradient"]
        file["C/dft_total_energy"][1] = np.nan
    report = SourceReport()
    structures = list(sources.read(str(tmp_path / "a.hdf5"), report=report))
    assert [s.ref_energy is None for s in structures] == [False, True, False]
    assert "forces: none in 3." in label_line(report)


# The built-in subset


def test_perovskites():
    structures = list(sources.read("perovskites"))
    assert Counter(s.n_atoms for s in structures) == {5: 480, 40: 64}
    assert len({s.id for s in structures}) == 544
    assert len({s.group for s in structures}) == 224
    assert all(s.pbc.all() for s in structures)
    for s in structures:
        atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=True)
        assert atoms.get_all_distances(mic=True)[np.triu_indices(s.n_atoms, 1)].min() > 1.5
        length = next(a for species, a in LATTICE_CONSTANTS.items() if "".join(species) + "3" == s.info["chemistry"])
        strain = s.cell / length / (2 if s.n_atoms == 40 else 1) - np.eye(3)
        assert np.abs(strain).max() <= 0.03 + 1e-6
        np.testing.assert_allclose(strain, strain.T, atol=1e-6)


def test_perovskites_of_a_series_share_their_cell_and_no_other_has_it():
    cells: dict[str, set[bytes]] = {}
    for s in sources.read("perovskites"):
        cells.setdefault(s.group, set()).add(s.cell.tobytes())
    assert {len(actual) for actual in cells.values()} == {1}
    assert len(set().union(*cells.values())) == len(cells)


def test_perovskites_options_and_determinism():
    small = list(sources.read("perovskites:5"))
    assert len(small) == 480
    assert {s.n_atoms for s in sources.read("perovskites:40")} == {40}
    chemistries = list(sources.read("perovskites:40,by-chemistry"))
    assert {s.group for s in chemistries} == {
        *("SrTiO3", "BaTiO3", "CaTiO3", "KNbO3", "BaZrO3", "KMgF3", "CsCaF3", "CsPbBr3")
    }
    assert small[0].group == "SrTiO3/5-00"
    assert small[0].info.keys() == {"chemistry", "series", "sigma"}
    # A label set made elsewhere must find its structures again.
    assert small[0].id == next(sources.read("perovskites")).id == "5f70b980c3ad3e46d13ed9b06eb2aecb"
    assert sources.files("perovskites") == []


def test_importing_the_package_is_light():
    """The command line shows its help without loading ASE, h5py or torch."""
    code = (
        "import sys, hdistill.data.sources, hdistill.data.sources.select, hdistill.data.labelsets.split;"
        "print([name for name in ('ase', 'h5py', 'torch', 'simpleeval', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_subset_rows():
    rows = {row.name: row for row in sources.subset_rows()}
    assert rows["spice:monomers"].license == "CC0-1.0"
    assert rows["perovskites"].n_structures == len(list(sources.read("perovskites")))
    assert rows["FILE"].license == "unknown"
    assert not rows["perovskites"].needs_data
