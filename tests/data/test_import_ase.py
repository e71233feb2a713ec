"""Folders and files of ASE's Vibrations and Phonons, made by ASE itself, against what ASE makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from ase.phonons import Phonons
from ase.vibrations import Vibrations, VibrationsData

from hdistill.data.errors import InputError
from tests.data.test_import_hessians_alone import frequencies, imported, matrix


def vibrations(
    folder: Path, delta: float = 0.01, nfree: int = 2, at_rest: bool = False, **how: Any
) -> tuple[Atoms, Vibrations]:
    """Water, off its minimum unless at_rest, so that forces are not 0."""
    atoms = molecule("H2O")
    atoms.positions += np.random.default_rng(1).normal(0, 0.03, (3, 3))
    atoms.calc = EMT()
    if at_rest:
        BFGS(atoms, logfile=None).run(fmax=1e-4, steps=200)
    run = Vibrations(atoms, name=str(folder), delta=delta, nfree=nfree, **how)
    run.run()
    return atoms, run


@pytest.mark.parametrize(("delta", "nfree"), [(0.01, 2), (0.02, 4)])
def test_vibrations_as_ase_reads_them(delta: float, nfree: int, tmp_path: Path) -> None:
    atoms, run = vibrations(tmp_path / "vib", delta, nfree)
    atoms.get_potential_energy()
    atoms.write(tmp_path / "water.traj")
    sample, said = imported(tmp_path / "vib", tmp_path / "labels", delta=delta)
    expected = run.get_vibrations().get_hessian_2d()
    np.testing.assert_allclose(matrix(sample), expected, atol=1e-5)
    np.testing.assert_allclose(sample.labels.forces, atoms.get_forces(), atol=1e-6)
    assert np.abs(atoms.get_forces()).max() > 1  # so that their sign is seen
    assert sample.labels.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_array_equal(sample.structure.positions, atoms.positions)
    assert f"made of {18 * nfree // 2} displacements of {delta:g} A" in said
    assert "energy is that of water.traj" in said
    own = np.asarray(run.get_frequencies())
    assert frequencies(atoms.numbers, matrix(sample))[-2:] == pytest.approx(own.real[-2:], abs=0.1)
    run.combine()
    again, _ = imported(tmp_path / "vib" / "combined.json", tmp_path / "more", delta=delta)
    np.testing.assert_array_equal(matrix(again), matrix(sample))


def test_the_sign_by_the_energy(tmp_path: Path) -> None:
    """v H v is the second difference of the energy along v."""
    atoms, _ = vibrations(tmp_path / "vib")
    atoms.write(tmp_path / "water.xyz")  # with the energy and the forces of the last displacement: ASE does not look
    sample, said = imported(tmp_path / "vib" / "cache.eq.json", tmp_path / "labels", delta=0.01, energy=-3.0)
    assert "water.xyz has other forces, by 0.3 eV/A: they and its energy are not taken" in said
    assert sample.labels.energy == -3.0
    v = np.random.default_rng(2).normal(size=(3, 3))
    v /= np.linalg.norm(v)
    energies = []
    for step in (-1e-3, 0, 1e-3):
        moved = atoms.copy()
        moved.positions += step * v
        moved.calc = EMT()
        energies.append(moved.get_potential_energy())
    curvature = (energies[0] - 2 * energies[1] + energies[2]) / 1e-6
    assert v.ravel() @ matrix(sample) @ v.ravel() == pytest.approx(curvature, rel=1e-3)


def test_vibrations_that_are_not_whole(tmp_path: Path) -> None:
    atoms, _ = vibrations(tmp_path / "vib")
    bare = atoms.copy()
    bare.write(tmp_path / "water.xyz")
    folder = tmp_path / "vib"

    def refused(match: str, **stated: Any) -> None:
        with pytest.raises(InputError, match=match):
            imported(folder, tmp_path / "labels", **{"delta": 0.01, **stated})

    refused(r"does not have the length .* --delta 0\.01 where none was given", delta=None)
    refused(r"--delta is in A, and was 10", delta=10.0)
    refused("no use for --at-minimum; of these it takes --geometry, --energy, --delta", at_minimum=True)
    one = folder / "cache.1y-.json"
    text = one.read_text()
    one.write_text(text[:40])
    refused(r"cache\.1y-\.json is empty or cut short")
    one.write_text("")
    refused(r"cache\.1y-\.json is empty or cut short")
    one.unlink()
    refused(r"has 17 of 18 displacements; the first that is missing is cache\.1y-\.json")
    one.write_text(json.dumps({"forces": {"__ndarray__": [[2, 3], "float64", [0.0] * 6]}}))
    refused(r"cache\.1y-\.json has forces of 2 atoms and cache\.eq\.json of 3")
    one.write_text(json.dumps({"forces": {"__ndarray__": [[3, 3], "object", [0.0] * 9]}}))
    refused("no forces as ASE writes them .*an array of object")
    broken = json.loads(text)
    broken["forces"]["__ndarray__"][2][5] += 0.5
    one.write_text(json.dumps(broken))
    refused(r"its Hessian is not symmetric, by 25 eV/A\^2")
    one.write_text(text)
    (folder / "cache.eq.json").rename(tmp_path / "eq")
    refused(r"has no cache\.eq\.json")


def test_vibrations_and_a_geometry_that_is_not_theirs(tmp_path: Path) -> None:
    atoms, _ = vibrations(tmp_path / "vib")
    with pytest.raises(InputError, match="no file of a structure is beside it; name the file with --geometry"):
        imported(tmp_path / "vib", tmp_path / "labels", delta=0.01)
    other = atoms.copy()
    other.positions[0, 0] += 0.1
    other.write(tmp_path / "water.xyz")
    with pytest.raises(
        InputError, match=r"not of the geometry of water\.xyz: turning that leaves forces of [2-9]\.\d eV/A"
    ):
        imported(tmp_path / "vib", tmp_path / "labels", delta=0.01)
    molecule("CH4").write(tmp_path / "methane.xyz")
    with pytest.raises(InputError, match="2 files of structures are beside it"):
        imported(tmp_path / "vib", tmp_path / "labels", delta=0.01)
    with pytest.raises(InputError, match=r"methane\.xyz is of 5 atoms, and .* of 3"):
        imported(tmp_path / "vib", tmp_path / "labels", delta=0.01, geometry=tmp_path / "methane.xyz")


def test_vibrations_of_some_atoms_alone(tmp_path: Path) -> None:
    atoms, _ = vibrations(tmp_path / "vib", indices=[0, 1])
    atoms.copy().write(tmp_path / "water.xyz")
    with pytest.raises(InputError, match=r"has 3 atoms of which 2 were moved, and water\.xyz is no crystal"):
        imported(tmp_path / "vib", tmp_path / "labels", delta=0.01)


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"is a folder without cache\.eq\.json: not a folder of ASE's Phonons or a folder of"
    ):
        imported(tmp_path, tmp_path / "labels")


def test_vibrations_data(tmp_path: Path) -> None:
    atoms, run = vibrations(tmp_path / "vib", at_rest=True)
    data = run.get_vibrations()
    data.write(tmp_path / "water.json")
    with pytest.raises(InputError, match="has a Hessian and no forces"):
        imported(tmp_path / "water.json", tmp_path / "none")
    sample, said = imported(tmp_path / "water.json", tmp_path / "labels", at_minimum=True, energy=-1.0)
    np.testing.assert_allclose(matrix(sample), data.get_hessian_2d(), atol=1e-6)
    np.testing.assert_array_equal(sample.structure.positions, atoms.positions)
    assert "forces are taken as 0" in said
    text = (tmp_path / "water.json").read_text()
    for cut in (text[:300], text[:-40], text.replace("[3, 3, 3, 3]", "[3, 3, 3]")):
        (tmp_path / "water.json").write_text(cut)
        with pytest.raises(InputError, match="not what ASE writes of VibrationsData, or is cut short"):
            imported(tmp_path / "water.json", tmp_path / "cut", at_minimum=True)
    moved = atoms.copy()
    moved.positions[0, 0] += 0.3
    VibrationsData.from_2d(moved, data.get_hessian_2d()).write(tmp_path / "other.json")
    with pytest.raises(InputError, match=r"not of a minimum of its geometry: turning it shows forces of about \d+"):
        imported(tmp_path / "other.json", tmp_path / "other", at_minimum=True)
    VibrationsData.from_2d(atoms, data.get_hessian_2d()[:6, :6], indices=[0, 1]).write(tmp_path / "part.json")
    with pytest.raises(InputError, match="has a Hessian of 2 of its 3 atoms"):
        imported(tmp_path / "part.json", tmp_path / "part", at_minimum=True)


def salt() -> Atoms:
    """Two elements, no symmetry between the vectors, and an atom off its place, so that nothing is the same by accident."""
    atoms = bulk("CuAu", "rocksalt", a=5.2, cubic=False)
    atoms.set_cell(atoms.cell.array @ np.diag([1.0, 1.03, 0.97]), scale_atoms=True)
    atoms.positions[1] += (0.05, 0.02, -0.03)
    return atoms


@pytest.mark.parametrize("center", [False, True])
def test_phonons_are_the_hessian_of_the_supercell(center: bool, tmp_path: Path) -> None:
    """Against every atom of the supercell moved, by ASE's Vibrations; and against the force constants of ASE's Phonons."""
    times = (2, 3, 1)
    cell = salt()
    run = Phonons(cell, EMT(), supercell=times, name=str(tmp_path / "phonon"), delta=0.01, center_refcell=center)
    run.run()
    supercell = cell * times
    supercell.calc = EMT()
    supercell.get_forces()
    supercell.write(tmp_path / "supercell.traj")
    sample, said = imported(tmp_path / "phonon", tmp_path / "labels", delta=0.01)
    every = Vibrations(supercell, name=str(tmp_path / "vib"), delta=0.01)
    every.run()
    np.testing.assert_allclose(matrix(sample), every.get_vibrations().get_hessian_2d(), atol=1e-5)
    np.testing.assert_allclose(sample.labels.forces, supercell.get_forces(), atol=1e-6)
    assert sample.labels.energy == pytest.approx(supercell.get_potential_energy())
    assert "12 displacements of 0.01 A of the 2 atoms of one cell" in said
    run.read(method="standard", symmetrize=1, acoustic=False)
    n = 6
    first = matrix(sample)[:n].reshape(n, 6, n).transpose(1, 0, 2)
    if not center:
        np.testing.assert_allclose(first, run.get_force_constant(), atol=1e-4)


def test_phonons_with_a_geometry_that_does_not_fit(tmp_path: Path) -> None:
    cell = bulk("Al", "fcc", a=4.05)
    Phonons(cell, EMT(), supercell=(4, 1, 1), name=str(tmp_path / "phonon"), delta=0.02).run()
    cell.write(tmp_path / "cell.traj")
    with pytest.raises(InputError, match=r"cell\.traj is not the supercell of 4 atoms .* \(atoms \* \(l, m, n\)\)"):
        imported(tmp_path / "phonon", tmp_path / "labels", delta=0.02)
    supercell = cell * (4, 1, 1)
    shuffled = supercell.copy()
    shuffled.positions[2] += (0, 0, 0.4)
    shuffled.write(tmp_path / "supercell.traj")
    with pytest.raises(InputError, match=r"supercell\.traj is not the supercell of 4 atoms"):
        imported(tmp_path / "phonon", tmp_path / "labels", delta=0.02, geometry=tmp_path / "supercell.traj")
    (tmp_path / "phonon" / "cache.0z+.json").unlink()
    with pytest.raises(InputError, match="has 5 of 6 displacements"):
        imported(tmp_path / "phonon", tmp_path / "labels", delta=0.02)


def test_a_crystal_cannot_be_turned_and_its_forces_tell(tmp_path: Path) -> None:
    cell = salt()
    Phonons(cell, EMT(), supercell=(2, 1, 1), name=str(tmp_path / "phonon"), delta=0.01).run()
    cell.positions[1] += (0.5, 0, 0)
    other = cell * (2, 1, 1)
    other.calc = EMT()
    other.get_forces()
    other.write(tmp_path / "other.traj")
    with pytest.raises(InputError, match=r"other\.traj has other forces than .*phonon, by \d\.\d eV/A"):
        imported(tmp_path / "phonon", tmp_path / "labels", delta=0.01)
