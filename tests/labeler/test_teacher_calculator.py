"""A teacher as an ASE calculator: the numbers of its package, whatever ASE does with it, and its process ends."""

from __future__ import annotations

import gc
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.optimize import BFGS

from hdistill.data.errors import InputError, TeacherCrashed, TeacherError
from hdistill.labeler.process.parent import TeacherProcess
from hdistill.labeler.teacher_calculator import TeacherCalculator
from tests.labeler.misbehaving import ACTS

HERE = Path(__file__).parent


def argon() -> Atoms:
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.1, seed=0)
    return atoms


@pytest.fixture(scope="module")
def lennard_jones() -> Iterator[TeacherCalculator]:
    with TeacherCalculator("lennard-jones", dtype="float64", atom_energies=True) as calculator:
        yield calculator


def test_forces_stress_and_hessian_are_derivatives_of_its_energy(lennard_jones: TeacherCalculator) -> None:
    atoms = argon()
    atoms.calc = lennard_jones
    forces, stress, hessian = atoms.get_forces(), atoms.get_stress(voigt=False), lennard_jones.get_hessian(atoms)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy())
    assert hessian.shape == (12, 4, 3)
    h = 1e-5
    for coordinate in (0, 7):
        energies, moved_forces = [], []
        for step in (h, -h):
            moved = atoms.copy()
            moved.positions.flat[coordinate] += step
            moved.calc = lennard_jones
            energies.append(moved.get_potential_energy())
            moved_forces.append(moved.get_forces())
        assert -(energies[0] - energies[1]) / (2 * h) == pytest.approx(forces.flat[coordinate], abs=1e-8)
        np.testing.assert_allclose(hessian[coordinate], -(moved_forces[0] - moved_forces[1]) / (2 * h), atol=1e-7)
    strained = []
    for step in (h, -h):
        other = atoms.copy()
        other.set_cell(atoms.cell.array @ (np.eye(3) + step * np.diag([0, 1, 0])), scale_atoms=True)
        other.calc = lennard_jones
        strained.append(other.get_potential_energy())
    assert (strained[0] - strained[1]) / (2 * h * atoms.get_volume()) == pytest.approx(stress[1, 1], abs=1e-9)


def test_many_structures_in_one_call_have_the_labels_of_each(lennard_jones: TeacherCalculator) -> None:
    replicas = [argon() for _ in range(5)]
    for seed, atoms in enumerate(replicas):
        atoms.rattle(0.05, seed=seed)
    labels = lennard_jones.label(replicas)
    for atoms, actual in zip(replicas, labels, strict=True):
        atoms.calc = lennard_jones
        assert actual.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(actual.forces, atoms.get_forces(), atol=1e-12)


def test_ase_relaxes_with_it(lennard_jones: TeacherCalculator) -> None:
    atoms = Atoms("Ar2", [(0, 0, 0), (4.2, 0.3, 0)])
    atoms.calc = lennard_jones
    assert BFGS(atoms, logfile=None).run(fmax=1e-5, steps=100)
    assert atoms.get_distance(0, 1) == pytest.approx(3.4 * 2 ** (1 / 6), abs=1e-3)


def test_stress_of_a_molecule_is_not_defined(lennard_jones: TeacherCalculator) -> None:
    atoms = Atoms("Ar2", [(0, 0, 0), (3.7, 0, 0)], calculator=lennard_jones)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


@pytest.mark.xdist_group("sevennet")
def test_its_numbers_are_those_of_the_packages_own_calculator(warm: Callable[[str], Path]) -> None:
    """Every adapter's are compared in test_teacher_contract.py; this is the way through a calculator."""
    python = warm("sevennet")
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.rattle(0.05, seed=1)
    row = {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist(), "cell": atoms.cell.tolist()}
    asked = {"family": "sevennet", "model": "7net-0", "task": None, "dtype": "float32"}
    done = subprocess.run(
        [str(python), str(HERE / "own_calculators" / "run.py")],
        input=json.dumps([{**asked, "structures": [{**row, "pbc": [True] * 3, "charge": 0, "spin": 1}]}]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    ((own,),) = json.loads(done.stdout.strip().splitlines()[-1])
    with TeacherCalculator("7net-0", python=python) as calculator:
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(own["energy"], abs=2e-5)
        np.testing.assert_allclose(atoms.get_forces(), own["forces"], atol=1e-4)
        np.testing.assert_allclose(atoms.get_stress(voigt=False), own["stress"], atol=1e-5)


@pytest.mark.parametrize(
    ("atoms", "says"),
    [
        (Atoms("Ar2", [(0, 0, 0), (0.1, 0, 0)]), "0.100 A apart"),
        (Atoms("Ar2", [(0, 0, 0), (np.nan, 0, 0)]), "not finite"),
        (Atoms(), "no atoms"),
    ],
)
def test_what_no_teacher_should_see_is_refused(lennard_jones: TeacherCalculator, atoms: Atoms, says: str) -> None:
    atoms.calc = lennard_jones
    with pytest.raises(InputError, match=says):
        atoms.get_potential_energy()


def test_a_name_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="Did you mean '7net-0'"):
        TeacherCalculator("7net0")


def test_charge_reaches_the_teacher_and_a_crash_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE.parents[1]))
    atoms = Atoms("Ar3", [(0, 0, 0), (3.6, 0, 0), (0, 3.5, 0)])
    with TeacherCalculator("ase:tests.labeler.misbehaving.Misbehaving") as calculator:
        atoms.calc = calculator
        before = atoms.get_potential_energy()
        for act, error in (("SystemExit", TeacherError), ("segfault", TeacherCrashed)):
            atoms.info["charge"] = list(ACTS).index(act)
            with pytest.raises(error):
                atoms.get_potential_energy()
            atoms.info["charge"] = 0
            assert atoms.get_potential_energy() == before


def test_its_process_ends_with_it() -> None:
    calculator = TeacherCalculator("lennard-jones")
    assert calculator.info.name == "lennard-jones"
    process = calculator._host._process
    assert isinstance(process, TeacherProcess)
    assert process.alive
    del calculator
    gc.collect()
    assert not process.alive


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("sevennet", "'7net-0' or '7net-l3i5' or '7net-mf-0'"),
        ("SevenNet-0", "'7net-0' or '7net-l3i5' or '7net-mf-0'"),
        ("MACE-MP", "'mace-mp'"),
        ("mace_off:small", "'mace-off:small'"),
        ("mace", "'mace-mp' or 'mace-off'"),
        ("CHGNet", "'chgnet'"),
        ("ANI-1x", "'ani-1x'"),
        ("uma", "'uma-s-1p1' or 'uma-s-1p2' or 'uma-m-1p1'"),
    ],
)
def test_a_name_of_a_family_or_in_other_letters_is_understood(name: str, suggestion: str) -> None:
    with pytest.raises(InputError, match=rf"Did you mean {re.escape(suggestion)}\?"):
        TeacherCalculator(name)
