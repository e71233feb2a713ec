"""What a GPU says is what a CPU says: students eager and as machine code, batches, dynamics, a fit. Skipped where there is no GPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule

from hdistill.data.structure import Structure
from hdistill.trainer.evaluation.errors import evaluate_student
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.engines.batched import BatchedStudent
from hdistill.trainer.force_field.engines.compiled import export_pt2
from hdistill.trainer.force_field.engines.pt2 import build_pt2
from hdistill.trainer.force_field.engines.steps import engines
from hdistill.trainer.students.registry import size_of
from tests.trainer.structures import saved_student

pytestmark = [
    pytest.mark.xdist_group("cuda"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here"),
]

STUDENTS = ["moment", "painn-small", "ace"]
ELEMENTS = (1, 6, 8, 18)


@pytest.fixture(scope="module", params=STUDENTS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_student(tmp_path_factory.mktemp("cuda") / "run", size_of(request.param), request.param, ELEMENTS)


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def machine_code(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where torch cannot load on this GPU what it has built of one linear layer."""
    done = subprocess.run([sys.executable, "-c", LINEAR, str(tmp_path_factory.mktemp("linear") / "linear.pt2")])
    if done.returncode:
        pytest.skip(f"torch {torch.__version__} does not load its own machine code here ({done.returncode})")


LINEAR = """
import sys, torch
model, x = torch.nn.Linear(8, 8).cuda(), torch.randn(16, 8, device="cuda")
program = torch.export.export(model, (x,))
torch._inductor.aoti_load_package(torch._inductor.aoti_compile_and_package(program, package_path=sys.argv[1]))(x)
"""


def matter() -> list[Atoms]:
    crystal = bulk("Ar", "fcc", a=5.0, cubic=True).repeat(2)
    crystal.rattle(0.1, seed=0)
    return [Atoms("Ar"), molecule("CH3CH2OH"), crystal]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_says_what_a_cpu_says(run: Path, compiled: bool, request: pytest.FixtureRequest) -> None:
    if compiled:
        request.getfixturevalue("machine_code")
    exact = HDistillCalculator(run, "cpu", "float64", compiled=False)
    there = HDistillCalculator(run, "cuda", compiled=compiled)
    assert there.compiled == compiled
    for atoms in matter():
        actual, expected = atoms.copy(), atoms.copy()
        actual.calc, expected.calc = there, exact
        scale = np.abs(expected.get_forces()).max() + 1
        assert actual.get_potential_energy() == pytest.approx(expected.get_potential_energy(), abs=1e-5 * len(atoms))
        np.testing.assert_allclose(actual.get_forces(), expected.get_forces(), atol=1e-5 * scale)
        if atoms.pbc.all():
            np.testing.assert_allclose(actual.get_stress(), expected.get_stress(), atol=1e-6 * scale)
        assert there.get_hessian(actual) == pytest.approx(exact.get_hessian(expected), abs=1e-4 * scale)


def test_machine_code_of_a_gpu_in_a_file(machine_code: None, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "student.pt2"
    assert export_pt2(run, path, device="cuda").path == path
    atoms = matter()[2]
    atoms.calc = HDistillCalculator(path, "cuda")
    assert atoms.calc.compiled
    moved = atoms.get_forces()
    atoms.calc = HDistillCalculator(run, "cpu", "float64", compiled=False)
    np.testing.assert_allclose(moved, atoms.get_forces(), atol=1e-4)


def test_double_precision_is_exact(machine_code: None, run: Path, tmp_path: Path) -> None:
    difference = build_pt2(run, tmp_path / "student.pt2", "float64", "cuda").difference
    assert max(difference.energy, difference.forces, difference.stress) < 1e-10


def test_structures_at_once(run: Path) -> None:
    calculator = HDistillCalculator(run, "cuda")
    all_atoms = matter()
    outputs = BatchedStudent(calculator)([Structure(a.numbers, a.positions, a.cell.array, a.pbc) for a in all_atoms])
    start = 0
    for atoms in all_atoms:
        atoms.calc = calculator
        actual = outputs.forces[start : start + len(atoms)].cpu().numpy()
        np.testing.assert_allclose(actual, atoms.get_forces(), atol=1e-4)
        start += len(atoms)


def test_each_engine_that_is_here_goes_on(run: Path) -> None:
    atoms = matter()[2]
    atoms.set_velocities(np.random.default_rng(0).normal(scale=0.01, size=atoms.positions.shape) / units.fs * 0.01)
    rows, failed = engines(run, atoms, "auto", "cuda")
    assert not failed
    for steps, _ in rows.values():
        steps(3)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_fit_goes_on_elsewhere(argon: Path, tmp_path: Path, compiled: bool) -> None:
    """On the GPU it learns what it learns on the CPU, and is judged there as here."""
    settings = FitSettings(student="painn-small", steps=60, warmup=5, batch_size=16, compile=compiled, device="cuda")
    there = fit(argon, tmp_path / "there", settings, progress=False)
    here = fit(argon, tmp_path / "here", replace(settings, compile=False, device="cpu"), progress=False)
    name = "force_mae_mev_per_angstrom"
    assert there.validation[name] == pytest.approx(here.validation[name], rel=0.2)
    assert evaluate_student(there.run, argon, "test", device="cuda")[name] == pytest.approx(
        evaluate_student(there.run, argon, "test")[name], rel=1e-3
    )
