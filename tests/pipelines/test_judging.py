"""Parts of the report against known answers: a calculator and the same one with all energies times 1.1, measured force constants, the
teacher itself as the student."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import phonopy
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress

import hdistill
from hdistill.data.errors import InputError
from hdistill.data.support.recursion import deep_recursion
from hdistill.pipelines.judging import curvature, elastic, motion, phonons, relaxation, scans, trajectories
from hdistill.pipelines.judging.distortions import too_close
from hdistill.pipelines.judging.minimum import minimum, rmsd
from hdistill.pipelines.judging.reference import Reference, hessian_by_differences
from hdistill.trainer.evaluation import dynamics
from tests.labeler.conftest import clusters

FORMATS = Path(__file__).resolve().parents[3] / "shared" / "data" / "formats" / "phonopy"
EPSILON, MORE = 0.0104, 1.1
QUIET: dict[str, Any] = {"say": lambda _: None, "workers": 1}
with_run = pytest.mark.xdist_group("judging")
with_files = pytest.mark.skipif(not FORMATS.is_dir(), reason="the measured force sets are not here")


def argon(more: float = 1.0) -> LennardJones:
    return LennardJones(sigma=3.405, epsilon=EPSILON * more, rc=8.5, smooth=True)


class Scaled(Calculator):  # type: ignore[misc]
    """EMT with all energies times a number."""

    implemented_properties = ("energy", "forces")

    def __init__(self, more: float = 1.0):
        super().__init__()
        self.more = more

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        at = self.atoms.copy()
        at.calc = EMT()
        self.results = {"energy": self.more * at.get_potential_energy(), "forces": self.more * at.get_forces()}

    def get_hessian(self, atoms: Atoms) -> Any:
        return hessian_by_differences(atoms, Scaled(self.more))


class Springs(Calculator):  # type: ignore[misc]
    """Forces of given force constants (N,N,3,3) eV/A^2 around the places of a supercell."""

    implemented_properties = ("energy", "forces")

    def __init__(self, constants: np.ndarray, supercell: Any):
        super().__init__()
        self.constants, self.cell, self.places = constants, np.array(supercell.cell), supercell.scaled_positions

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        off = self.atoms.get_scaled_positions(wrap=False) - self.places
        moved = (off - np.round(off)) @ self.cell
        forces = -np.einsum("ijab,jb->ia", self.constants, moved)
        self.results = {"energy": float(-0.5 * (forces * moved).sum()), "forces": forces}


class Bond(Calculator):  # type: ignore[misc]
    """Nearest neighbours on springs: k (r - r0)^2 / 2 for every pair nearer than 1.2 r0; stress too."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, k: float, r0: float):
        super().__init__()
        self.k, self.r0 = k, r0

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        i, _, d, vectors = neighbor_list("ijdD", self.atoms, 1.2 * self.r0)
        pulls = (self.k * (d - self.r0) / d)[:, None] * vectors
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, pulls)
        self.results = {"energy": float(0.25 * self.k * ((d - self.r0) ** 2).sum()), "forces": forces}
        if self.atoms.pbc.all():
            virial = 0.5 * np.einsum("ea,eb->ab", vectors, pulls) / self.atoms.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(virial)


def test_a_crystal_of_springs_has_the_constants_of_the_textbook() -> None:
    """fcc, nearest neighbours: C11 = 2k/a, C12 = C44 = k/a, B = 4k/(3a); at X the frequencies are (8k/M)^(1/2) and twice
    (4k/M)^(1/2) (Ashcroft and Mermin, chapter 22, problem 1)."""
    a, k = 4.0, 2.0
    springs, at = Bond(k, a / np.sqrt(2)), bulk("Ar", "fcc", a)
    c = elastic.elastic_constants(at, springs)
    unit = k / a / units.GPa
    assert c[0, 0] == pytest.approx(2 * unit, rel=1e-3)
    assert (c[0, 1], c[3, 3]) == (pytest.approx(unit, rel=1e-3), pytest.approx(unit, rel=1e-3))
    row = relaxation.relaxed(at, springs, springs)
    assert row["student"]["bulk_modulus"] == pytest.approx(4 / 3 * unit, rel=5e-3)
    vibrating = curvature.crystal(at, springs, None)["student"]
    at_x = [
        np.sort(line[end])
        for pair, line in zip(vibrating["names"], vibrating["bands"], strict=True)
        for end, name in zip((0, -1), pair, strict=True)
        if name == "X"
    ]
    thz = np.sqrt(np.array([4, 4, 8]) * k / at.get_masses()[0]) * units.fs * 1e3 / (2 * np.pi)
    assert at_x[0] == pytest.approx(thz, rel=1e-3)


def test_a_crystal_of_the_same_law_and_of_one_that_is_a_tenth_stiffer() -> None:
    """Lattice: the same; bulk modulus and elastic constants: times 1.1; frequencies: times its root."""
    start = bulk("Ar", "fcc", 5.3, cubic=True)
    same = relaxation.relaxed(start, argon(), argon())
    assert same["lattice_error"] == pytest.approx(0, abs=1e-3)
    assert same["bulk_modulus_error"] == pytest.approx(0, abs=1e-2)
    assert 0 <= same["energy_above"] < 0.05
    assert same["rmsd"] < 0.02
    stiffer = relaxation.relaxed(start, argon(MORE), argon())
    assert stiffer["bulk_modulus_error"] == pytest.approx(10, abs=0.05)
    constants = np.array(stiffer["teacher"]["elastic"])
    assert np.array(stiffer["student"]["elastic"]) == pytest.approx(MORE * constants, rel=2e-3, abs=2e-3)
    assert stiffer["elastic_error"] == pytest.approx((MORE - 1) * constants.max(), rel=0.03)
    # Pairs without pressure: Cauchy's relation; and the bulk modulus is that of the energies.
    assert constants[0, 1] == pytest.approx(constants[3, 3], rel=1e-2)
    assert (constants[0, 0] + 2 * constants[0, 1]) / 3 == pytest.approx(stiffer["teacher"]["bulk_modulus"], rel=1e-2)
    vibrating = curvature.crystal(start, argon(MORE), argon())
    own, its = np.array(vibrating["student"]["mesh"]), np.array(vibrating["teacher"]["mesh"])
    assert own == pytest.approx(np.sqrt(MORE) * its, rel=1e-4, abs=1e-4)
    assert vibrating["frequency_mae"] == pytest.approx((np.sqrt(MORE) - 1) * _mean(its, vibrating), rel=1e-2)
    assert vibrating["student"]["imaginary_share"] == 0
    assert vibrating["sum_rule"] < 1e-10
    assert (
        vibrating["student"]["heat_capacity"]
        < vibrating["teacher"]["heat_capacity"]
        < 3 * units.kB / units.J * units.mol
    )


def _mean(frequencies: np.ndarray, of: dict[str, Any]) -> float:
    weights = np.array(of["student"]["weights"])[:, None]
    return float((weights * frequencies).sum() / weights.sum() / frequencies.shape[1])


@with_files
@pytest.mark.parametrize("name", ["NaCl", "Si/phonopy_params_Si.yaml", "NaCl-rd"])
def test_force_constants_of_a_file_come_back(name: str) -> None:
    """A model that is the measured springs has the measured phonons, and those are phonopy's own."""
    measured = phonons.measured_phonons(FORMATS / name)
    full = measured.replicate()
    full.dataset, full.forces = _displacements(measured), measured.forces
    with deep_recursion():
        full.produce_force_constants(show_drift=False, fc_calculator="symfc" if name == "NaCl-rd" else None)
    full.symmetrize_force_constants(show_drift=False)
    springs = Springs(np.array(full.force_constants), measured.supercell)
    row = curvature.beside_forces(FORMATS / name, springs, None)
    assert row["student_off"]["largest"] < 1e-3
    assert row["frequency_mae"] < 1e-3
    if name == "NaCl":
        own = phonopy.load(
            FORMATS / name / "phonopy_disp.yaml",
            force_sets_filename=FORMATS / name / "FORCE_SETS",
            is_nac=False,
            log_level=0,
        )
        own.run_qpoints([[0, 0, 0], [0.5, 0, 0.5]])
        at = np.array(own.qpoints.frequencies)
        assert np.array(row["dft"]["bands"][0])[[0, -1]] == pytest.approx(at, abs=1e-3)


def _displacements(measured: Any) -> dict[str, Any]:
    if "displacements" in measured.dataset:
        return {"displacements": measured.dataset["displacements"]}
    first = [{key: each[key] for key in ("number", "displacement")} for each in measured.dataset["first_atoms"]]
    return {"natom": measured.dataset["natom"], "first_atoms": first}


def test_what_phonopy_cannot_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no phonopy_disp\.yaml"):
        phonons.measured_phonons(tmp_path)
    (tmp_path / "phonopy_disp.yaml").write_text("unit_cell: 3\n")
    with pytest.raises(InputError, match="cannot be read by phonopy"):
        phonons.measured_phonons(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        phonons.measured_phonons(tmp_path / "none.yaml")


def test_a_crystal_without_symmetry_is_not_tried() -> None:
    atoms = bulk("Ar", "fcc", 5.3, cubic=True) * (2, 2, 1)
    atoms.rattle(0.2, seed=0)
    with pytest.raises(InputError, match="little symmetry"):
        phonons.displaced(atoms)


def test_a_molecule_of_the_same_law_and_of_one_that_is_a_tenth_stiffer() -> None:
    atoms = molecule("H2O")
    same = curvature.vibrations(atoms, Scaled(), Scaled())
    assert same["own_mae"] == pytest.approx(0, abs=1e-6)
    assert same["n_imaginary"] == 0
    stiffer = curvature.vibrations(atoms, Scaled(MORE), Scaled())
    its = np.array(stiffer["teacher"])
    assert np.array(stiffer["student"]) == pytest.approx(np.sqrt(MORE) * its, rel=5e-3)
    assert stiffer["same_mae"] == pytest.approx((np.sqrt(MORE) - 1) * its.mean(), rel=1e-3)


def test_heat_capacities_have_their_limits() -> None:
    gas = units.kB / units.J * units.mol
    assert curvature.heat_capacity(np.full(3, 2.0)) == pytest.approx(3 * gas, rel=1e-4)  # soft: equipartition
    assert curvature.heat_capacity(np.array([20000.0, -500.0])) == pytest.approx(0, abs=1e-9)  # frozen, imaginary


def test_scans_of_the_same_law_and_of_twice_its_energies() -> None:
    at = molecule("CH3CH2OH")
    kinds = set()
    for kind, name, values, geometries in scans.of_molecule(at):
        kinds.add(kind)
        same = scans.curve(at, kind, name, values, geometries, Scaled(), Scaled())
        twice = scans.curve(at, kind, name, values, geometries, Scaled(), Scaled(2.0))
        assert same["mae"] == pytest.approx(0, abs=1e-9)
        assert twice["student"] == pytest.approx(2 * np.array(twice["teacher"]), abs=1e-9)
        assert twice["mae"] == pytest.approx(np.abs(twice["teacher"]).mean())
    assert kinds == {"bond", "angle", "torsion"}
    # Geometries are what they are called.
    kind, _, values, geometries = next(s for s in scans.of_molecule(at) if s[0] == "angle")
    i, j, k = (int("".join(filter(str.isdigit, word))) for word in _.split("-"))
    bent = at.copy()
    bent.positions = geometries[0]
    assert bent.get_angle(i, j, k) == pytest.approx(values[0], abs=1e-6)


def test_distributions_of_distances_know_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trajectories, "SHORT_PS", 0.4)
    crystal = bulk("Cu", cubic=True)
    here = trajectories.frames(crystal, Scaled(), 300.0)
    row = trajectories.beside(here, here, crystal)
    assert row["pairs"]["Cu-Cu"]["overlap"] == pytest.approx(1)
    assert row["vibration"]["Cu"]["student"] == row["vibration"]["Cu"]["teacher"] > 0
    softer = trajectories.beside(trajectories.frames(crystal, Scaled(0.3), 300.0), here, crystal)
    assert softer["vibration"]["Cu"]["student"] > 1.5 * row["vibration"]["Cu"]["teacher"]
    assert softer["pairs"]["Cu-Cu"]["overlap"] < softer["pairs"]["Cu-Cu"]["overlap_of_halves"]


def test_mean_square_displacements_of_a_flight_and_of_a_walk() -> None:
    """(v t)^2 without collisions; in proportion to the time for a random walk: 3 s^2 a step."""
    steps = np.arange(2000)
    flight = np.broadcast_to((0.01 * steps)[:, None, None] * np.array([1.0, 2.0, 2.0]), (2000, 5, 3))
    lags = trajectories.lags_of(2000)
    assert trajectories.displacements(flight) == pytest.approx((0.03 * np.array(lags)) ** 2)
    walk = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (2000, 200, 3)), axis=0)
    first = trajectories.displacements(walk)[:3]
    assert first == pytest.approx(0.03 * np.array(lags[:3]), rel=0.05)


def test_the_drift_of_an_oscillator_is_none_and_its_fluctuation_that_of_verlet() -> None:
    """Velocity Verlet keeps the energy up to (w dt)^2 / 4 of the kinetic one's swing; a made line is found as it was made."""
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1.1]])
    k, step = 10.0, 0.2  # eV/A^2, fs
    omega = np.sqrt(k / (atoms.get_masses()[0] / 2)) * units.fs  # 1/fs
    atoms.set_momenta([[0, 0, -0.2], [0, 0, 0.2]])
    kinetic = atoms.get_kinetic_energy()
    done = dynamics.run(atoms, Bond(k, 1.1), dynamics.Motion(2000, step, sample_every=1))
    figures = motion.conserved(done)
    swing = 1e3 * kinetic * (omega * step) ** 2 / 4 / 2  # meV/atom, from lowest to highest
    assert figures["fluctuation_mev_per_atom"] == pytest.approx(swing / np.sqrt(8), rel=0.02)  # a sine's rms
    assert abs(figures["drift_mev_per_atom"]) < 0.05 * swing
    times = np.linspace(0, 100, 101)
    made = dynamics.Trajectory(times, times, 1e-3 * times, times, 100.0, 100.0, 100.0, "")
    assert motion.conserved(made)["drift_mev_per_atom_ns"] == pytest.approx(1e6)  # 1 meV/atom each fs


def test_two_arrangements_are_compared_without_motion_of_the_whole() -> None:
    atoms = molecule("CH3CH2OH")
    moved = atoms.copy()
    moved.rotate(50, (1, 2, 3))
    moved.translate((1, 2, 3))
    assert rmsd(moved, atoms) < 1e-6
    crystal = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    shifted = crystal.copy()
    shifted.positions += 0.7
    shifted.wrap()
    assert rmsd(shifted, crystal) < 1e-6
    shifted.positions[0, 0] += 0.8
    assert rmsd(shifted, crystal) == pytest.approx(0.8 * np.sqrt(7 / 64), rel=1e-6)


def test_no_minimum_is_a_sentence_with_a_number() -> None:
    with pytest.raises(InputError, match=r"no minimum within 1 steps: the largest force is still \d"):
        minimum(molecule("C2H6"), EMT(), steps=1)


def test_answers_of_a_teacher_are_kept_and_those_of_another_are_not(tmp_path: Path) -> None:
    file, atoms = tmp_path / "teacher.sqlite", molecule("H2O")
    asked = []

    def make(name: str, more: float) -> Any:
        def start() -> Scaled:
            asked.append(name)
            return Scaled(more)

        return start

    first = Reference(make("one", 1.0), "one", file)
    atoms.calc = first
    energy, forces, hessian = atoms.get_potential_energy(), atoms.get_forces(), first.get_hessian(atoms)
    assert first.n_asked == 2
    again = Reference(make("one", 1.0), "one", file)
    other = atoms.copy()
    other.calc = again
    assert (other.get_potential_energy(), again.n_asked) == (energy, 0)
    assert np.array_equal(other.get_forces(), forces)
    assert np.array_equal(again.get_hessian(other), hessian)
    assert asked == ["one"]
    another = Reference(make("two", 2.0), "two", file)
    other.calc = another
    assert other.get_potential_energy() == pytest.approx(2 * energy)
    file.write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match="remove it"):
        Reference(make("one", 1.0), "one", file)


def test_elastic_constants_are_in_the_order_of_voigt() -> None:
    """hcp along z: C33 is not C11, C13 is not C12, C44 is not C66 = (C11 - C12) / 2."""
    at = minimum(bulk("Ar", "hcp", a=3.75, c=6.12), argon(), cell=True)
    c = elastic.elastic_constants(at, argon())
    assert c[5, 5] == pytest.approx((c[0, 0] - c[0, 1]) / 2, rel=1e-2)
    assert c[0, 0] == pytest.approx(c[1, 1], rel=1e-2)
    assert c[3, 3] == pytest.approx(c[4, 4], rel=1e-2)
    assert abs(c[2, 2] / c[0, 0] - 1) > 0.05
    assert np.abs(c[:3, 3:]).max() < 0.02 * c[0, 0]


def test_atoms_that_are_too_close_are_no_test() -> None:
    atoms = molecule("H2O")
    assert not too_close(atoms)
    atoms.positions[1] = atoms.positions[0] + (0.3, 0, 0)
    assert too_close(atoms)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judging")
    labels = hdistill.label(clusters(60), folder / "labels", teacher="lennard-jones", splits="0.6,0.2,0.2", **QUIET)
    return hdistill.fit(
        labels, folder / "run", student="painn-small", steps=80, warmup=5, validate_every=40, progress=False
    ).run


@with_run
def test_a_student_that_is_the_teacher_is_right_everywhere(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The labels are not its own, so that the errors on them are not 0; what is asked of the teacher is."""
    monkeypatch.setattr(trajectories, "SHORT_PS", 0.2)
    done = hdistill.evaluate(
        run,
        out=tmp_path / "report",
        teacher=hdistill.HDistillCalculator(run, dtype="float64"),
        parts=["curvature", "distortions", "trajectories"],
        require=["frequency_mae<=0.5", "overlap>=0.999"],
    )
    assert done.more["passed"], done.more["verdicts"]
    rows = done.more["parts"]["distortions"]["rows"]
    assert [row["amount"] for row in rows] == [0.05, 0.1, 0.2, 0.3]  # clusters have no cell to strain
    assert max(row["force_mae"] / row["force_rms"] for row in rows) < 1e-4
    page = (tmp_path / "report" / "report.html").read_text()
    for title in ("Curvature", "Distortions", "Where atoms are and go"):
        assert f"<h2>{title}</h2>" in page
    kept = json.loads((tmp_path / "report" / "report.json").read_text())
    assert kept["parts"]["distortions"] == done.more["parts"]["distortions"]


@with_run
def test_a_real_name_of_a_teacher_and_a_crystal_of_the_users(run: Path, tmp_path: Path) -> None:
    """The student knows clusters: it is wrong about the crystal, and the report says by how much."""
    argon_crystal = bulk("Ar", "fcc", 5.3)
    arguments: dict[str, Any] = {
        "out": tmp_path / "report",
        "teacher": "lennard-jones",
        "structures": argon_crystal,
        "parts": ["relaxation", "dft"],
    }
    first = hdistill.evaluate(run, **arguments).more["parts"]
    assert "--phonopy" in first["dft"]["does_not_apply"]
    row = first["relaxation"]["structures"][0]
    if "why" not in row:
        assert row["teacher"]["bulk_modulus"] > 0
        assert abs(row["lattice_error"]) < 50
    for file in (tmp_path / "report" / "parts").iterdir():
        file.unlink()
    size = (tmp_path / "report" / "teacher.sqlite").stat().st_size
    again = hdistill.evaluate(run, **arguments).more["parts"]
    assert again == first
    assert (tmp_path / "report" / "teacher.sqlite").stat().st_size == size


@with_run
def test_what_needs_a_teacher_says_so_and_all_is_what_can_be_had(run: Path) -> None:
    done = hdistill.evaluate(run, parts="scans,trajectories", require="torsion_scan_mae<=1")
    assert "--teacher" in done.more["parts"]["scans"]["does_not_apply"]
    assert not done.more["passed"]
    with pytest.raises(InputError, match="Did you mean"):
        hdistill.evaluate(run, teacher="lennard-jonse", parts="scans")
    water = hdistill.evaluate(run, structures=molecule("H2O"), parts="dynamics").more["parts"]["dynamics"]
    assert "no structure of the student's elements" in water["does_not_apply"]
