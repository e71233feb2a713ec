"""hdistill md as a user types it: what it writes, that a trajectory goes on, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from hdistill.data.errors import InputError
from hdistill.pipelines.md import run_md
from hdistill.pipelines.report.tables import simulation_summary
from hdistill.trainer.evaluation.dynamics import Motion
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.force_field.domain import fit_domain
from tests.data.samples import write_label_set
from tests.labeler.conftest import clusters, with_element
from tests.pipelines.test_cli import result, run as typed
from tests.trainer.structures import argon_samples


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("md")
    labels = write_label_set(folder / "labels", argon_samples(60), per_shard=20)
    settings = FitSettings(student="painn-small", steps=60, warmup=5, validate_every=30, hessian_weight=0)
    out = fit(labels, folder / "run", settings, progress=False).run
    fit_domain(out, labels)
    return Path(out)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    write(tmp_path / "start.xyz", clusters(4)[3])
    return tmp_path / "start.xyz"


def test_a_run_at_constant_energy_is_written_down(run: Path, start: Path, tmp_path: Path) -> None:
    out = tmp_path / "md"
    words = ("--steps", 55, "--timestep", 2, "--temperature", 20, "--every", 20, "--quiet")
    said = result("md", run, start, "-o", out, *words)
    assert said == json.loads((out / "summary.json").read_text())
    assert (said["ensemble"], said["n_atoms"], said["fs"], said["stable"]) == ("NVE", 6, 110.0, True)
    assert abs(said["drift_mev_per_atom"]) < 0.1
    assert 0 < said["excursion_mev_per_atom"] < 0.1
    frames = read(out / "trajectory.xyz", ":")
    assert [frame.info["time_fs"] for frame in frames] == [0, 40, 80, 110]
    rows = list(csv.DictReader((out / "log.csv").open()))
    for frame, row in zip(frames, rows, strict=True):
        assert float(row["fs"]) == frame.info["time_fs"]
        assert float(row["potential_ev_per_atom"]) == pytest.approx(frame.get_potential_energy() / 6, abs=1e-7)
        assert float(row["temperature_kelvin"]) == pytest.approx(frame.get_temperature(), abs=0.01)
        assert float(row["domain_distance"]) == pytest.approx(frame.arrays["domain_distance"].max(), abs=1e-3)
    assert frames[0].get_temperature() == pytest.approx(20, abs=0.1)
    assert not np.allclose(frames[0].positions, frames[-1].positions, atol=1e-3)


def test_a_trajectory_goes_on_with_its_velocities(run: Path, start: Path, tmp_path: Path) -> None:
    def moved(name: str, begin: Path, steps: int) -> Path:
        motion = Motion(steps=steps, timestep_fs=2.0, temperature_K=20.0, sample_every=10)
        run_md(run, str(begin), tmp_path / name, motion, progress=False)
        return tmp_path / name / "trajectory.xyz"

    whole = read(moved("whole", start, 40))
    then = read(moved("then", moved("first", start, 20), 20))
    assert whole.info["time_fs"] == 80
    np.testing.assert_allclose(whole.positions, then.positions, atol=1e-4)
    np.testing.assert_allclose(whole.get_momenta(), then.get_momenta(), atol=1e-4)


def test_a_thermostat_heats(run: Path, start: Path, tmp_path: Path) -> None:
    motion = Motion(steps=300, timestep_fs=5.0, temperature_K=30.0, friction=0.05)
    said = run_md(run, str(start), tmp_path / "md", motion, progress=False)
    assert said["ensemble"] == "NVT"
    assert said["drift_mev_per_atom"] is None
    assert json.loads((tmp_path / "md" / "summary.json").read_text())["excursion_mev_per_atom"] is None
    assert 10 < said["mean_temperature_kelvin"] < 60
    shown = simulation_summary(said)
    assert "1500 fs (NVT)" in shown
    assert "drift" not in shown


def test_what_cannot_be_is_one_sentence(run: Path, start: Path, tmp_path: Path) -> None:
    used, none = tmp_path / "used", tmp_path / "none"
    used.mkdir()
    shutil.copy(start, used)
    with pytest.raises(InputError, match=r"used is in use; give another -o folder"):
        run_md(run, str(start), used, Motion())
    with pytest.raises(InputError, match="could not be read as a structure"):
        run_md(run, str(tmp_path / "none.xyz"), none, Motion())
    with pytest.raises(InputError, match="holds no student"):
        run_md(tmp_path, str(start), none, Motion())
    with pytest.raises(InputError, match="not trained on Kr"):
        run_md(run, with_element(clusters(1)[0], 36), none, Motion())
    assert not none.exists()
    done = typed("md", run, start, "-o", none, "--steps", 0)
    assert done.returncode == 1
    assert done.stderr == "error: steps was 0; it must be more than 0.\n"


def test_dynamics_that_physics_ends_has_an_exit_code_of_its_own(run: Path, tmp_path: Path) -> None:
    write(tmp_path / "near.xyz", Atoms("Ar2", [[0, 0, 0], [0, 0, 0.4]]))
    done = typed("md", run, tmp_path / "near.xyz", "-o", tmp_path / "md", "--steps", 20, "--quiet")
    assert done.returncode == 4, done.stderr
    assert "stopped: Ar0 and Ar1 are 0.40 A apart" in done.stdout
    assert json.loads((tmp_path / "md" / "summary.json").read_text())["stable"] is False
