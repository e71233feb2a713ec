"""`hdistill labels merge|subset|export|import` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hdistill.pipelines.cli.main import main
from tests.data.made import make_label_set, samples_of


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["labels", *map(str, words)])


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    samples = samples_of("probes:2")
    return make_label_set(tmp_path / "a", samples[:3]), make_label_set(tmp_path / "b", samples[2:])


def test_merge_subset_and_info(two: tuple[Path, Path], tmp_path: Path) -> None:
    merged = run("merge", *two, "-o", tmp_path / "ab", "--json")
    assert merged.exit_code == 0
    assert json.loads(merged.stdout)["n_structures"] == 5
    cut = run("subset", tmp_path / "ab", "-o", tmp_path / "part", "--where", "n_atoms <= 3")
    assert cut.exit_code == 0
    assert "3 structures, 6 Hessian products" in cut.stdout
    info = run("info", tmp_path / "part")
    assert "made by" in info.stdout
    assert "5 structures of made.xyz" in info.stdout
    history = json.loads(run("info", tmp_path / "part", "--json").stdout)["history"]
    assert history["parents"][0]["history"]["made_by"] == "merge"
    assert run("verify", tmp_path / "part").exit_code == 0


def test_export_and_import(two: tuple[Path, Path], tmp_path: Path) -> None:
    done = run("export", two[0], "--to", "extxyz", "-o", tmp_path / "a.xyz", "--json")
    assert json.loads(done.stdout)["n_structures"] == 3
    again = run("export", two[0], "--to", "extxyz", "-o", tmp_path / "a.xyz", "--json")
    assert json.loads(again.stdout) == json.loads(done.stdout)  # it is this very export: nothing to do
    other = run("export", two[1], "--to", "extxyz", "-o", tmp_path / "a.xyz")
    assert other.exit_code == 1
    assert other.stderr.startswith("error: ")
    assert "exists" in other.stderr
    spring = 10 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    hessian = np.kron(spring, np.diag([1.0, 0.0, 0.0]))
    positions = np.array([[[0, 0, 0], [1.1, 0, 0]], [[0, 0, 0], [1.2, 0, 0]], [[0, 0, 0], [1.3, 0, 0]]])
    np.savez(tmp_path / "in.npz", z=[7, 7], R=positions, E=np.zeros(3), F=np.zeros((3, 2, 3)), hessian=[hessian] * 3)
    unsaid = run("import", tmp_path / "in.npz", "-o", tmp_path / "labels")
    assert unsaid.exit_code == 1
    assert "--units" in unsaid.stderr
    made = run(
        "import", tmp_path / "in.npz", "-o", tmp_path / "labels", "--units", "eV/A", "--hessian", "full", "--json"
    )
    assert json.loads(made.stdout)["n_products"] == 18
    assert "reference data" in run("info", tmp_path / "labels").stdout
    assert "cannot" not in run("verify", tmp_path / "labels").output
    audited = run("audit", tmp_path / "labels")
    assert audited.exit_code == 1
    assert "no teacher that could be asked" in audited.stderr
