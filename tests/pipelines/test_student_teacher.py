"""Students, and models of other packages, as teachers; a teacher with direct forces makes a student that conserves energy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from hdistill.data.errors import TeacherError
from hdistill.data.labelsets.label_set import open_label_set
from hdistill.data.support.publish import sha256_of
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.process.parent import TeacherProcess
from hdistill.labeler.run import RunSettings, label
from hdistill.labeler.teachers import environments, registry
from hdistill.trainer.evaluation.dynamics import nve
from hdistill.trainer.evaluation.errors import evaluate_student, samples_of
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import STUDENT
from tests.labeler.conftest import clusters, write_extxyz

RUN = RunSettings(workers=1, progress=False)
CHECKPOINTS = Path(__file__).parents[1] / "labeler" / "checkpoints"


def refusal(name: str) -> str:
    with pytest.raises(TeacherError) as error:
        TeacherProcess(Path(sys.executable), registry.request(name), deadline_s=120)
    return str(error.value)


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Argon clusters labelled by Lennard-Jones, and a student with direct forces fitted to them."""
    folder = tmp_path_factory.mktemp("direct")
    source = write_extxyz(folder / "argon.xyz", clusters(100))
    labels = label(LabelSettings("lennard-jones", (str(source),), hessian="none"), folder / "labels", None, RUN).path
    settings = FitSettings(
        student="painn-small-direct", steps=150, warmup=10, validate_every=50, energy_weight=0.1, hessian_weight=0
    )
    return labels, fit(labels, folder / "run", settings, progress=False).run


def test_a_student_with_direct_forces_teaches_one_that_conserves_energy(
    direct: tuple[Path, Path], tmp_path: Path
) -> None:
    labels, run = direct
    teacher = HDistillCalculator(run)
    asked = LabelSettings(f"student:{run}", (str(labels),), codec="exact")
    taught = label(asked, tmp_path / "labels", None, RUN).path

    label_set = open_label_set(taught)
    actual = label_set.manifest.teacher
    assert actual.conservative is False
    assert actual.has_stress is False
    assert actual.weights_sha256 == sha256_of(run / STUDENT)
    assert actual.level_of_theory.startswith("Lennard-Jones 12-6")
    assert actual.level_of_theory.endswith("by a student of lennard-jones")
    licences = label_set.manifest.licenses
    # Nobody stated a licence of the structures: what was learned from them has none either.
    assert (licences.weights, licences.weights_class) == ("unknown", "unknown")

    asymmetric = 0
    for sample in samples_of(label_set, "test"):
        n, products = sample.structure.n_atoms, sample.labels.hessian
        atoms = Atoms(sample.structure.numbers, sample.structure.positions, calculator=teacher)
        assert sample.labels.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
        np.testing.assert_allclose(sample.labels.forces, atoms.get_forces(), atol=1e-5)
        assert products is not None
        jacobian = teacher.get_hessian(atoms).reshape(3 * n, 3 * n)
        rows = (products.directions.vectors(n).reshape(-1, 3 * n) @ jacobian).reshape(-1, n, 3)
        size = np.abs(rows).max()
        np.testing.assert_allclose(products.values, rows, atol=1e-4 * size)
        columns = (products.directions.vectors(n).reshape(-1, 3 * n) @ jacobian.T).reshape(-1, n, 3)
        asymmetric += np.abs(columns - rows).max() > 1e-3 * size
    assert asymmetric > 0

    settings = FitSettings(student="painn-small", steps=150, warmup=10, validate_every=50)
    conservative = fit(taught, tmp_path / "run", settings, progress=False).run
    errors = evaluate_student(conservative, taught, "test")
    assert errors["force_mae_mev_per_angstrom"] < 5.0
    start = clusters(4)[3]  # six atoms
    drifts = [
        nve(start, HDistillCalculator(each), steps=1000, timestep_fs=5.0, temperature_K=5.0).excursion
        for each in (run, conservative)
    ]
    assert drifts[1] < 0.1 * drifts[0]


def test_a_student_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "holds no student" in refusal(f"student:{tmp_path}")
    assert "nowhere holds no student" in refusal("student:nowhere")


def test_a_teacher_that_nobody_offers_is_named_with_those_offered() -> None:
    messages = refusal("outside:studnet:x")
    assert "No package installed here offers a teacher 'studnet'. Did you mean 'student'?" in messages
    assert "--teacher-python" in messages


def test_a_model_of_another_package_is_a_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is two files on the path of the teacher's process; hdistill knows its name from the command line alone."""
    site = tmp_path / "site"
    (site / "springs-1.2.dist-info").mkdir(parents=True)
    (site / "springs-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: springs\nVersion: 1.2\n")
    (site / "springs-1.2.dist-info" / "entry_points.txt").write_text("[hdistill.teachers]\nsprings = springs:load\n")
    (site / "springs.py").write_text(SPRINGS)
    monkeypatch.setenv("PYTHONPATH", str(site))
    source = write_extxyz(tmp_path / "argon.xyz", clusters(12))
    asked = LabelSettings("outside:springs:0.5", (str(source),), hessian="full", codec="exact")
    labels = open_label_set(label(asked, tmp_path / "labels", None, RUN).path)
    teacher = labels.manifest.teacher
    assert (teacher.family, teacher.weights_license, teacher.license_class) == ("outside", "MIT", "open")
    assert teacher.versions["springs"] == "1.2"
    for sample in samples_of(labels, "train"):
        n = sample.structure.n_atoms
        assert sample.labels.hessian is not None
        diagonal = np.array([sample.labels.hessian.values[3 * i, i, 0] for i in range(n)])
        np.testing.assert_allclose(diagonal, 0.5 * (n - 1), rtol=1e-6)
    with TeacherProcess(Path(sys.executable), registry.request("outside:springs:0.5"), deadline_s=60) as process:
        assert process.info.elements == (18,)
    assert "could not be loaded: ValueError: could not convert" in refusal("outside:springs:soft")


SPRINGS = '''
import torch

class Springs:
    """Every pair of atoms, E = k/2 |r|^2."""

    def __init__(self, k):
        self.k = k
        self.about = {"elements": [18], "weights_license": "MIT", "license_class": "open", "has_stress": False}

    def evaluate(self, structures):
        sizes = [s.n_atoms for s in structures]
        positions = torch.cat([torch.as_tensor(s.positions) for s in structures]).requires_grad_()
        energy = torch.stack([0.25 * self.k * (x[:, None] - x[None]).square().sum() for x in positions.split(sizes)])
        (slope,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
        return {"energy": energy, "forces": -slope, "positions": positions}

def load(model, dtype, device):
    return Springs(float(model))
'''


@pytest.mark.long
def test_a_fairchem_checkpoint_with_direct_forces_teaches_one_that_conserves_energy(tmp_path: Path) -> None:
    python = environments.find("fairchem")
    if python is None:
        pytest.skip("fairchem is not installed; `hdistill teachers install fairchem`")
    subprocess.run([str(python), str(CHECKPOINTS / "fairchem.py"), str(tmp_path)], check=True, stdout=sys.stderr)
    rng = np.random.default_rng(0)
    corners = 2.2 * np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    salts = [Atoms("MgOMgO", corners[[0, 1, 3, 2]] + rng.normal(scale=0.08, size=(4, 3))) for _ in range(60)]
    source = write_extxyz(tmp_path / "salts.xyz", salts)
    asked = LabelSettings(str(tmp_path / "direct.pt"), (str(source),), splits="0.8,0.1,0.1")
    labels = label(asked, tmp_path / "labels", None, RUN).path
    assert json.loads((labels / "manifest.json").read_text())["teacher"]["conservative"] is False
    settings = FitSettings(student="painn-small", steps=100, warmup=10, validate_every=50)
    run = fit(labels, tmp_path / "run", settings, progress=False).run
    moved = nve(salts[0], HDistillCalculator(run), steps=400, timestep_fs=0.5, temperature_K=50)
    assert np.isfinite(moved.total).all()
    assert abs(moved.drift) < 1.0
