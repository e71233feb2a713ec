"""A student in torch-sim, OpenMM and LAMMPS, each run for real: the numbers of the ASE calculator, and energy that is conserved."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.io import read, write
from ase.stress import full_3x3_to_voigt_6_stress

from hdistill.data.errors import InputError
from hdistill.trainer.evaluation.simulation import Conditions, Simulation
from hdistill.trainer.fitting.fit import FitResult, fit
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.engines import steps
from hdistill.trainer.force_field.engines.compiled import export_pt2
from hdistill.trainer.force_field.engines.lammps import LammpsExport, export_lammps, library_path, mpi_folder
from hdistill.trainer.force_field.engines.metatomic import export_metatomic
from hdistill.trainer.force_field.engines.openmm import openmm_force
from hdistill.trainer.force_field.engines.parity import made_structures, repelled_pair
from hdistill.trainer.force_field.engines.torchsim import nve_in, torchsim_model
from hdistill.trainer.students.registry import size_of
from hdistill.trainer.students.sizes import SIZES
from tests.trainer.structures import ELEMENTS, argon_samples, crystal as small_cell, molecule, saved_student

pytestmark = pytest.mark.xdist_group("machine-code")  # one worker, one build


@pytest.fixture(scope="module")
def moment(argon: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = FitSettings(student="moment", steps=60, warmup=5, validate_every=30, hessian_weight=0)
    return fit(argon, tmp_path_factory.mktemp("moment") / "run", settings, progress=False).run


def crystal(repeat: int = 2, seed: int = 0) -> Atoms:
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True).repeat(repeat)
    atoms.rattle(0.1, seed=seed)
    return atoms


def cluster() -> Atoms:
    structure = argon_samples(4)[3].structure
    return Atoms(structure.numbers, structure.positions)


def with_ase(run: Path, atoms: Atoms) -> Atoms:
    actual = atoms.copy()
    actual.calc = HDistillCalculator(run, dtype="float64", warn_beyond=None)
    return actual


def test_torch_sim_says_what_ase_says(moment: Path) -> None:
    ts = pytest.importorskip("torch_sim")
    import torch

    model = torchsim_model(moment, dtype="float64")
    systems = [crystal(1), crystal(2, seed=1), crystal(1, seed=2)]
    state = ts.io.atoms_to_state(systems, torch.device("cpu"), torch.float64)
    results = model(state)
    stop = 0
    for k, atoms in enumerate(systems):
        right, stop = with_ase(moment, atoms), stop + len(atoms)
        assert float(results["energy"][k]) == pytest.approx(right.get_potential_energy(), abs=1e-9)
        assert np.allclose(results["forces"][stop - len(atoms) : stop], right.get_forces(), atol=1e-10)
        assert np.allclose(results["stress"][k], right.get_stress(voigt=False), atol=1e-11)
    with pytest.raises(InputError, match="not trained on Si; it knows Ar"):
        model(ts.io.atoms_to_state([bulk("Si")], torch.device("cpu"), torch.float64))


def test_torch_sim_conserves_energy_in_a_batch(moment: Path) -> None:
    pytest.importorskip("torch_sim")
    import torch

    model = torchsim_model(moment, dtype="float64")
    state, step = nve_in(model, [crystal(1), crystal(2)], timestep_fs=2, temperature_K=20)

    def total() -> np.ndarray:
        kinetic = (state.momenta**2).sum(1) / (2 * state.masses)
        of_system = torch.zeros(2, dtype=torch.float64).index_add(0, state.system_idx, kinetic)
        return (state.energy + of_system).numpy()

    before, start, velocity = total(), state.positions.clone(), state.momenta / state.masses[:, None]
    state = step(state)
    # x = v t to first order, in A and ASE's unit of time: what the timestep's unit is.
    moved, expected = (state.positions - start).numpy(), (velocity * 2 * units.fs).numpy()
    assert np.median(np.abs(moved - expected)) < 0.05 * np.abs(expected).max()  # some cross the border of the cell
    for _ in range(99):
        state = step(state)
    assert np.allclose(total(), before, atol=2e-5 * 32)


@pytest.mark.parametrize("periodic", [False, True])
def test_openmm_says_what_ase_says_and_conserves_energy(moment: Path, periodic: bool) -> None:
    openmm = pytest.importorskip("openmm")
    from openmm import unit

    atoms = crystal() if periodic else cluster()
    context = _context(openmm, atoms, openmm_force(moment, atoms.numbers, periodic=periodic, dtype="float64"))
    right = with_ase(moment, atoms)
    state = context.getState(energy=True, forces=True)
    ev, per_angstrom = units.kJ / units.mol, units.kJ / units.mol / 10
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * ev
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer) * per_angstrom
    assert energy == pytest.approx(right.get_potential_energy(), abs=1e-6)
    assert np.allclose(forces, right.get_forces(), atol=1e-6)
    context.setVelocitiesToTemperature(20.0, 0)
    totals = []
    for _ in range(5):
        context.getIntegrator().step(20)
        state = context.getState(energy=True)
        total = state.getPotentialEnergy() + state.getKineticEnergy()
        totals.append(total.value_in_unit(unit.kilojoule_per_mole) * ev / len(atoms))
    assert np.ptp(totals) < 2e-5


def test_openmm_moves_a_part_of_a_system(moment: Path) -> None:
    openmm = pytest.importorskip("openmm")
    from openmm import unit

    atoms = cluster()
    part = [1, 3, 4]
    context = _context(openmm, atoms, openmm_force(moment, atoms.numbers[part], part, dtype="float64"))
    state = context.getState(forces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    right = with_ase(moment, atoms[part]).get_forces()
    assert np.allclose(forces[part] * units.kJ / units.mol / 10, right, atol=1e-6)
    assert (np.delete(forces, part, axis=0) == 0).all()
    with pytest.raises(InputError, match="2 atomic numbers for 3 particles"):
        openmm_force(moment, [18, 18], part)
    with pytest.raises(InputError, match="not trained on Si"):
        openmm_force(moment, [14])


def test_a_cell_that_is_turned_for_openmm_has_the_same_energy_and_power(moment: Path) -> None:
    """Positions, velocities and cell turn together: F . v is the same. A cell that is too skewed is left out of the engines."""
    atoms = crystal()
    atoms.set_velocities(np.random.default_rng(0).normal(scale=0.01, size=(len(atoms), 3)))
    atoms.rotate(20, (1, 2, 3), rotate_cell=True)
    powers = []
    for each in (atoms, steps._turned(atoms)):
        each.calc = HDistillCalculator(moment, dtype="float64", warn_beyond=None, compiled=False)
        powers.append((each.get_potential_energy(), float((each.get_forces() * each.get_velocities()).sum())))
    assert powers[0] == pytest.approx(powers[1], rel=1e-6)
    assert np.abs(np.triu(steps._turned(atoms).cell.array, 1)).max() == 0
    assert steps._is_upright(atoms)
    assert not steps._is_upright(Atoms("Ar", cell=[[4, 0, 0], [3, 4, 0], [0, 0, 4]], pbc=True))


ONE_OF_EACH = ("painn-small", "moment", "ace-local-small", "gemnet-t")  # architecture: with a repulsion, too
EVERY = [
    *((name, False) for name in SIZES),
    *(
        pytest.param(name, True, marks=() if name in ONE_OF_EACH else pytest.mark.long)
        for name, size in SIZES.items()
        if not size.direct
    ),
]


@pytest.fixture(scope="module")
def cells() -> list[Atoms]:
    """A molecule, cells smaller than any cutoff, and a pair that is repelled."""
    few = [s for s in made_structures(ELEMENTS) if s.n_atoms < 8 and s.pbc.all() == s.pbc.any()]
    structures = (*few, repelled_pair(ELEMENTS), molecule(8), small_cell())
    return [Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc) for s in structures]


@pytest.mark.parametrize(("name", "repulsion"), EVERY)
def test_every_student_says_the_same_in_each_engine(
    name: str, repulsion: bool, cells: list[Atoms], tmp_path: Path
) -> None:
    """Not compiled: what the engines add to the student is what is compared. A student with direct forces has no stress to give."""
    ts, openmm = pytest.importorskip("torch_sim"), pytest.importorskip("openmm")
    import torch
    from openmm import unit

    run = saved_student(tmp_path / "run", size_of(name, repulsion), name)
    right = HDistillCalculator(run, dtype="float64", warn_beyond=None, compiled=False)
    model = torchsim_model(run, dtype="float64", compiled=False)
    for periodic in (True, False):
        systems = [atoms for atoms in cells if atoms.pbc.all() == periodic]
        results = model(ts.io.atoms_to_state(systems, torch.device("cpu"), torch.float64))
        assert ("stress" in results) == right.conservative
        stops = np.cumsum([len(atoms) for atoms in systems])
        for k, atoms in enumerate(systems):
            right.calculate(atoms)
            wanted = dict(right.results)
            largest = 1 + np.abs(wanted["forces"]).max()
            assert float(results["energy"][k]) == pytest.approx(wanted["energy"], rel=1e-9, abs=1e-9)
            forces = results["forces"][stops[k] - len(atoms) : stops[k]].numpy()
            assert np.allclose(forces, wanted["forces"], atol=1e-9 * largest)
            if periodic and right.conservative:
                stress = full_3x3_to_voigt_6_stress(results["stress"][k].numpy())
                assert np.allclose(stress, wanted["stress"], rtol=1e-9, atol=1e-9)
    force = openmm_force(run, atoms.numbers, dtype="float64", compiled=False)
    state = _context(openmm, atoms, force).getState(forces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    assert np.allclose(forces * units.kJ / units.mol / 10, wanted["forces"], atol=1e-6 * largest)


def test_the_pair_that_is_repelled_is_repelled(tmp_path: Path) -> None:
    """Else no export would be compared where the repulsion acts."""
    energies = []
    for repulsion in (False, True):
        run = saved_student(tmp_path / str(repulsion), size_of("moment", repulsion), "moment")
        pair = repelled_pair(ELEMENTS)
        calculator = HDistillCalculator(run, compiled=False)
        energies.append(Atoms(pair.numbers, pair.positions, calculator=calculator).get_potential_energy())
    assert energies[1] > energies[0] + 1


def _context(openmm: object, atoms: Atoms, force: object) -> object:
    from openmm import Context, Platform, System, VerletIntegrator, unit

    system = System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    if atoms.pbc.any():
        system.setDefaultPeriodicBoxVectors(*(atoms.cell.array / 10))
    system.addForce(force)
    integrator = VerletIntegrator(2 * unit.femtosecond)
    context = Context(system, integrator, Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / 10)
    return context


@pytest.fixture(scope="module")
def lammps(moment: Path, compiled_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> LammpsExport:
    pytest.importorskip("lammps")
    return export_lammps(moment, tmp_path_factory.mktemp("lammps"), "float64")


def lmp(export: LammpsExport, text: str, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    (export.folder / "in.test").write_text(text)
    program = export.command.split()[1]
    words = [str(mpi_folder() / "bin" / "mpiexec"), "-n", str(ranks), program, "-in", "in.test", "-log", "none"]
    environment = {**os.environ, "LD_LIBRARY_PATH": library_path()}
    return subprocess.run(words, cwd=export.folder, env=environment, capture_output=True, text=True, check=False)


COMPARED = """
units metal
atom_style atomic
newton on
plugin load ./hdistillplugin.so
read_data start.data
pair_style hdistill
pair_coeff * * {student} Ar
mass 1 39.948
velocity all create 20 1 loop geom
fix 1 all nve
timestep 0.002
compute virial all pressure NULL virial
thermo_style custom step pe etotal c_virial[1] c_virial[2] c_virial[3] c_virial[6] c_virial[5] c_virial[4]
thermo_modify format float %.12g norm no
dump 1 all custom 1 forces.dump id type x y z fx fy fz
dump_modify 1 sort id format float %.12g
run 0
undump 1
compute each all pe/atom
compute whole all reduce sum c_each
thermo_style custom step pe etotal c_whole
thermo_modify format float %.12g norm no
run 100
"""


def rows(output: str, columns: int) -> list[list[float]]:
    """Rows of numbers under a thermo header."""
    lines = [line.split() for line in output.splitlines()]
    return [
        [float(word) for word in line]
        for line in lines
        if len(line) == columns and all(re.fullmatch(r"[-+0-9.e]+", word) for word in line)
    ]


@pytest.mark.long
@pytest.mark.parametrize("ranks", [1, 2])
def test_lammps_says_what_ase_says_and_conserves_energy(lammps: LammpsExport, moment: Path, ranks: int) -> None:
    atoms = crystal(3)
    write(lammps.folder / "start.data", atoms, format="lammps-data", masses=False, atom_style="atomic")
    done = lmp(lammps, COMPARED.format(student="student.pt2"), ranks)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    right = with_ase(moment, atoms)
    (first, *_) = rows(done.stdout, 9)
    assert first[1] == pytest.approx(right.get_potential_energy(), abs=1e-7)
    pressure = -right.get_stress() / units.bar
    assert np.allclose(first[3:], pressure, atol=1e-3 + 1e-6 * np.abs(pressure).max())
    frame = read(lammps.folder / "forces.dump", format="lammps-dump-text")
    assert np.allclose(frame.get_forces(), right.get_forces(), atol=1e-7)
    (start, end) = rows(done.stdout, 4)[-2:]
    assert start[3] == pytest.approx(start[1], abs=1e-7)  # the energies of the atoms
    assert end[2] == pytest.approx(start[2], abs=2e-5 * len(atoms))
    assert end[1] != start[1]
    ase = Simulation(atoms, right.calc, Conditions(timestep_fs=2.0, temperature_K=20.0), 100)
    before = ase.atoms.get_total_energy()
    ase.advance(100)
    assert abs(end[2] - start[2]) < 3 * abs(ase.atoms.get_total_energy() - before) + 1e-4


@pytest.mark.long
def test_the_input_that_is_written_runs(lammps: LammpsExport) -> None:
    write(lammps.folder / "start.data", crystal(3), format="lammps-data", masses=True, atom_style="atomic")
    done = lmp(lammps, lammps.input.read_text())
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert lammps.command in lammps.input.read_text()


@pytest.mark.long
def test_lammps_refuses_what_cannot_be(lammps: LammpsExport, fitted: FitResult, compiled_cache: Path) -> None:
    export_pt2(fitted.run, lammps.folder / "painn.pt2")
    write(lammps.folder / "start.data", crystal(3), format="lammps-data", masses=False, atom_style="atomic")
    for text, ranks, message in (
        (COMPARED.format(student="painn.pt2"), 2, "passes messages between atoms and runs on one MPI rank"),
        (COMPARED.format(student="student.pt2").replace("Ar\n", "Xe\n"), 1, "was not trained on Xe"),
        (COMPARED.format(student="none.pt2"), 1, "none.pt2 could not be read"),
        (COMPARED.format(student="student.pt2").replace("newton on", "newton off"), 1, "needs `newton on`"),
        (COMPARED.format(student="student.pt2").replace("units metal", "units real"), 1, "needs `units metal`"),
    ):
        done = lmp(lammps, text, ranks)
        assert done.returncode != 0
        assert message in done.stdout + done.stderr
    done = lmp(lammps, COMPARED.format(student="painn.pt2"))
    assert done.returncode == 0, done.stdout[-2000:]
    energy = HDistillCalculator(fitted.run, compiled=False, warn_beyond=None).get_potential_energy(crystal(3))
    assert rows(done.stdout, 9)[0][1] == pytest.approx(energy, abs=1e-4)


PAGE = Path(__file__).resolve().parents[2] / "docs" / "engines.md"


@pytest.mark.long
def test_the_python_of_the_page_runs(
    moment: Path, compiled_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block, in order, on a run of this name: ASE, torch-sim, OpenMM, metatomic. What they share is what their names say."""
    openmm = pytest.importorskip("openmm")
    pytest.importorskip("torch_sim")
    pytest.importorskip("metatomic_ase")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 4
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(moment)
    assert export_pt2(moment, tmp_path / "student.pt2").path.exists()
    assert export_metatomic(moment, tmp_path / "student.pt").path.exists()
    atoms = crystal()
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    names = {"atoms": atoms, "numbers": atoms.numbers, "numbers_of_part": atoms.numbers[:3], "system": system}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert np.isfinite(atoms.get_forces()).all()
    assert system.getNumForces() == 2
    assert names["final"].n_systems == 32


@pytest.mark.long
def test_the_commands_of_the_page_run(moment: Path, compiled_cache: Path, tmp_path: Path) -> None:
    """Those of `hdistill md`, as they stand, with fewer steps and colder: argon melts at 84 K."""
    (tmp_path / "run").symlink_to(moment)
    atoms = crystal()
    write(tmp_path / "start.xyz", atoms)
    write(tmp_path / "crystal.cif", atoms)
    (commands,) = (block for block in PAGE.read_text().split("```")[1::2] if "md run/ start.xyz" in block)
    lines = [line.partition("#")[0].split() for line in commands.strip().splitlines()]
    assert len(lines) == 4
    for words in lines:
        quick = ["--steps", "20", "--temperature", "20", "--stop-beyond", "0", "--quiet"]
        quick += ["--to-temperature", "25"] if "--to-temperature" in words else []
        done = subprocess.run(
            [sys.executable, "-m", "hdistill.pipelines", *words[1:], *quick],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (words, done.stderr)
    assert (tmp_path / "npt" / "trajectory.nc").exists()
    assert len(list((tmp_path / "eight").iterdir())) >= 8
