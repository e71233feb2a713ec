"""MACE students: fitted, exported and used by the environment that has mace-torch, which a command finds by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

import hdistill
from hdistill.data.errors import InputError, PackageMissing
from hdistill.trainer.force_field.engines.parity import NotExported
from hdistill.trainer.students.registry import size_of
from tests.files import files_of

pytestmark = pytest.mark.xdist_group("mace")
HERE = Path(__file__).parent
AGAIN = Path(hdistill.__file__).parent / "pipelines" / "cli" / "again.py"
WORDS = ("--student", "mace-small", "--eager", "--seed", 2, "--quiet")


@pytest.fixture(scope="module")
def environment(warm: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a user who has typed `hdistill teachers install mace`; the interpreter is a warm one."""
    family = tmp_path_factory.mktemp("teachers") / "mace"
    (family / "bin").mkdir(parents=True)
    (family / "bin" / "python").symlink_to(warm("mace"))
    (family / "installed").touch()
    return {**os.environ, "HDISTILL_TEACHERS": str(family.parent)}


def run(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hdistill.pipelines", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of molecules by the built-in pair potential."""
    folder = tmp_path_factory.mktemp("labels")
    rng = np.random.default_rng(0)
    frames = []
    for number in range(24):
        atoms = molecule(("CH3OH", "H2O", "CH4")[number % 3])
        atoms.positions *= 3.5  # at distances that it likes
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        frames.append(Atoms(atoms.numbers, atoms.positions, info={"group": f"g{number}"}))
    write(folder / "some.xyz", frames)
    hdistill.label(folder / "some.xyz", folder / "labels", teacher="lennard-jones", hessian="probes:1", progress=False)
    return folder / "labels"


@pytest.fixture(scope="module")
def fitted(environment: dict[str, str], labels: Path) -> Path:
    out = labels.parent / "run"
    done = run(environment, "fit", labels, "-o", out, *WORDS, "--steps", 6, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_parameters"] == 29_424  # nothing else on standard output
    assert done.stderr.startswith("Going on with the interpreter of `hdistill teachers install mace`")
    return out


@pytest.fixture(scope="module")
def exported(environment: dict[str, str], fitted: Path) -> Path:
    out = fitted.parent / "student.model"
    done = run(environment, "export", fitted, "--to", "mace", "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["dtype"] == "float64"
    return out


@pytest.fixture(scope="module")
def figures(environment: dict[str, str], fitted: Path, exported: Path) -> dict[str, Any]:
    python = Path(environment["HDISTILL_TEACHERS"]) / "mace" / "bin" / "python"
    words = [str(python), str(HERE / "mace_student.py"), str(fitted), str(exported)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


@pytest.mark.parametrize("name", ["mace-small", "mace-medium"])
def test_the_contract_of_students(figures: dict[str, Any], name: str) -> None:
    found = figures[name]
    assert found["forces"] < 1e-6  # eV/A beside differences of the energy
    assert found["products"] < 1e-5  # relative, beside differences of the forces
    assert found["parameters"] < 1e-6  # relative, of a loss of forces and products
    assert found["turned"] < 1e-10  # turned, mirrored, in another order
    assert found["scripted"] == 0  # a copy, of which averages are made, is as quick


def test_the_packages_own_calculator_says_the_same(figures: dict[str, Any]) -> None:
    own = figures["own"]
    assert own["energy"] < 1e-6
    assert own["forces"] < 1e-7
    assert own["stress"] < 1e-8


def test_cards_of_networks_that_nobody_has_are_refused(figures: dict[str, Any]) -> None:
    assert len(figures["refused"]) == 3
    for said in figures["refused"]:
        assert "there is no MACE of the size that its card says" in said


def test_a_run_goes_on_there(environment: dict[str, str], fitted: Path) -> None:
    before = files_of(fitted)
    done = run(environment, "fit", "--resume", fitted, "--quiet", "--json")
    assert json.loads(done.stdout)["steps"] == 6, done.stderr
    assert files_of(fitted) == before
    done = run(environment, "fit", "--resume", fitted, "--steps", 8, "--quiet", "--json")
    assert json.loads(done.stdout)["steps"] == 8, done.stderr


@pytest.mark.long
def test_dynamics_of_it(environment: dict[str, str], labels: Path, fitted: Path) -> None:
    words = ("md", fitted, labels.parent / "some.xyz@0", "-o", labels.parent / "md", "--steps", 5, "--stop-beyond", 0)
    done = run(environment, *words, "--eager", "--quiet", "--json")
    assert done.returncode in (0, 4), done.stderr
    assert json.loads(done.stdout)


def test_without_the_package_it_is_said_what_to_install(labels: Path, fitted: Path, tmp_path: Path) -> None:
    nowhere = {**os.environ, "HDISTILL_TEACHERS": str(tmp_path)}
    done = run(nowhere, "fit", labels, "-o", tmp_path / "run", *WORDS)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "type `hdistill teachers install mace`" in done.stderr
    assert not (tmp_path / "run").exists()
    with pytest.raises(PackageMissing, match="pip install mace-torch"):
        hdistill.HDistillCalculator(fitted)
    assert size_of("mace-small").channels == 16  # listing needs no package


def test_other_students_are_no_mace(tmp_path: Path) -> None:
    with pytest.raises(NotExported, match=r"A \.model file holds a MACE alone, and this student is 'ace-small'"):
        hdistill.export("organics", tmp_path / "student.model", to="mace")
    with pytest.raises(InputError, match=r"does not end in \.model"):
        hdistill.export("organics", tmp_path / "student.pt", to="mace")
