"""The command line as a user types it, the main commands in processes of their own: results, exit codes, errors, instant help."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read
from click.testing import CliRunner

from hdistill.pipelines.cli.main import main
from hdistill.trainer.force_field.calculator import HDistillCalculator
from tests.labeler.conftest import clusters, with_element, write_extxyz

pytestmark = pytest.mark.xdist_group("cli")  # what its fixtures make is made once


def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hdistill.pipelines", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def run_here(*words: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has imported everything already."""
    done = CliRunner().invoke(main, [*map(str, words)])
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def result(*words: object, by: Callable[..., subprocess.CompletedProcess[str]] = run_here) -> Any:
    """The JSON of a command: one object on standard output and nothing else."""
    done = by(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_extxyz(tmp_path_factory.mktemp("source") / "argon.xyz", clusters(60))


@pytest.fixture(scope="module")
def labels(source: Path) -> Path:
    out = source.parent / "labels"
    words = ("--teacher", "lennard-jones", "--subset", source, "--splits", "0.6,0.2,0.2", "--workers", 1)
    done = result("label", *words, "-o", out, by=run)
    assert done["n_structures"] == 60
    assert (done["source"]["elements"], done["source"]["spins"], done["source"]["n_periodic"]) == (["Ar"], {"1": 60}, 0)
    return out


@pytest.fixture(scope="module")
def fitted(labels: Path) -> Path:
    out = labels.parent / "run"
    # DIR may also be its shards/
    done = result(
        *("fit", labels / "shards", "-o", out, "--student", "painn-small", "--steps", 20, "--seed", 1, "--quiet"),
        by=run,
    )
    assert done["steps"] == 20
    return out


def test_info_and_verify(labels: Path) -> None:
    actual = result("labels", "info", labels)
    assert (actual["n_structures"], actual["n_quarantined"]) == (60, 0)
    assert actual["n_atoms"] == sum(len(atoms) for atoms in clusters(60))
    assert actual["hessian"]["kind"] == "probes"
    assert actual["hessian"]["per_structure"] == 4
    assert actual["hessian"]["bytes_per_element"] > 0
    assert actual["teacher"]["name"] == "lennard-jones"
    assert "weights_sha256" in actual["teacher"]
    assert actual["bytes"] == sum(path.stat().st_size for path in (labels / "shards").iterdir())
    assert "60 (" in run("labels", "info", labels).stdout
    assert run("labels", "verify", labels).returncode == 0


def test_a_changed_byte_is_found_by_verify_and_by_fit(labels: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "labels"
    shutil.copytree(labels, copy)
    shard = next((copy / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    for words in (("labels", "verify", copy), ("fit", copy, "-o", tmp_path / "run")):
        done = run(*words)
        assert done.returncode == 1
        assert "has changed" in done.stderr
        assert "Traceback" not in done.stderr


def test_evaluate(fitted: Path, labels: Path) -> None:
    actual = result("evaluate", fitted, labels, "--split", "test", by=run)
    for name in ("energy_mae_mev_per_atom", "force_mae_mev_per_angstrom", "hessian_relative_error"):
        assert np.isfinite(actual[name])
    assert actual["n_structures"] == result("labels", "info", labels)["splits"]["test"]
    assert "force MAE" in run_here("evaluate", fitted, labels).stdout


def test_the_student_is_an_ase_calculator(fitted: Path, source: Path) -> None:
    """The Python lines of the README."""
    atoms = read(source)
    atoms.calc = HDistillCalculator(str(fitted))
    forces = atoms.get_forces()
    hessian = atoms.calc.get_hessian(atoms)
    assert hessian.shape == (3 * len(atoms), len(atoms), 3)
    step = 1e-4
    moved = atoms.copy()
    moved.calc = atoms.calc
    moved.positions[0, 0] += step
    assert np.allclose(-(moved.get_forces() - forces) / step, hessian[0], atol=2e-2)


def test_quarantine_has_its_own_exit_code(tmp_path: Path) -> None:
    structures = clusters(4)
    structures[2].positions[1] = structures[2].positions[0] + [0, 0, 0.1]
    source = write_extxyz(tmp_path / "some.xyz", structures)
    words = ("label", "--teacher", "lennard-jones", "--subset", source, "-o", tmp_path / "labels", "--workers", 1)
    done = run(*words, "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["n_quarantined"] == 1
    assert "1 structures could not be labelled" in done.stderr
    shown = run("labels", "quarantine", tmp_path / "labels")
    assert "0.100 A apart" in shown.stdout
    assert run(*words).returncode == 3  # finished, and still not all labelled


def test_wrong_input_is_one_sentence(labels: Path, fitted: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.xyz").touch()
    (tmp_path / "garbage.xyz").write_text("this is not a structure\nat all\n")
    unknown = write_extxyz(tmp_path / "unknown.xyz", [with_element(atoms, 36) for atoms in clusters(3)])
    other = tmp_path / "other"
    lj = ("label", "--teacher", "lennard-jones", "-o", other, "--subset")
    for words, code, messages in (
        ((*lj, tmp_path / "absent.xyz"), 1, "no file and no subset"),
        ((*lj, tmp_path / "empty.xyz"), 1, "is empty"),
        ((*lj, tmp_path / "garbage.xyz"), 1, "garbage.xyz"),
        ((*lj, source, "--where", "n_atom > 3"), 1, "Did you mean 'n_atoms'"),
        ((*lj, source, "--where", "n_atoms > 99"), 1, "loosen --where"),
        (("label", "--teacher", "ani-1y", "--subset", source, "-o", other), 1, "Did you mean 'ani-1x'"),
        (
            ("label", "--teacher", "lennard-jones", "--subset", source, "-o", labels, "--seed", 7),
            1,
            "seed = 0 and now seed = 7",
        ),
        (("fit", tmp_path, "-o", tmp_path / "run"), 1, "is not a label set"),
        (("fit", labels, "-o", tmp_path / "run", "--student", "pain"), 1, "Did you mean 'painn'"),
        (("fit", labels, "-o", fitted, "--student", "painn-small", "--seed", 2), 1, "seed"),
        (("evaluate", fitted, labels, "--split", "tests"), 1, "Did you mean 'test'"),
        (("evaluate", tmp_path, labels), 1, ""),
        (("teachers", "install", "sevnet"), 1, "Did you mean 'sevennet'"),
        (("lable",), 2, "Did you mean 'label'"),
        (("labels", "verfy", labels), 2, "Did you mean 'verify'"),
    ):
        done = (run if messages in ("is empty", "seed", "Did you mean 'label'") else run_here)(*words)
        assert done.returncode == code, (words, done.stderr)
        assert messages in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr, words
    atoms = read(unknown)
    atoms.calc = HDistillCalculator(fitted)
    with pytest.raises(Exception, match="not trained on Kr"):
        atoms.get_forces()


def test_help_is_instant_and_teaches() -> None:
    began = time.perf_counter()
    done = run("label", "--help")
    seconds = time.perf_counter() - began
    assert "hdistill label --teacher 7net-0" in done.stdout
    assert seconds < 5  # a torch import alone would take about as long on a busy machine; test_architecture is exact
    for words in (("--help",), ("fit", "--help"), ("evaluate", "--help"), ("demo", "--help"), ("labels", "--help")):
        assert run_here(*words).returncode == 0


def test_lists(tmp_path: Path) -> None:
    teachers = {row["name"]: row for row in result("teachers")}
    assert teachers["lennard-jones"]["python"]
    assert teachers["mace-off"]["license_class"] == "nc"
    assert {row["name"] for row in result("subsets")} > {"perovskites", "spice:monomers"}
    assert {row["name"]: row["direct"] for row in result("students")}.items() > {
        "moment": False,
        "gemnet-dt": True,
    }.items()
    assert "gemnet-dt" in run_here("students").stdout
    assert "hdistill teachers install" in run_here("teachers").stdout or all(row["python"] for row in teachers.values())
