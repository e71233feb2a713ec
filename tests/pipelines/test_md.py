"""hdistill md as a user types it: what it writes, that a trajectory goes on, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.io import read, write
from click.testing import CliRunner

from hdistill.data.errors import InputError
from hdistill.labeler.teacher_calculator import TeacherCalculator
from hdistill.pipelines.cli.main import main
from hdistill.pipelines.dynamics.files import RESTART
from hdistill.pipelines.dynamics.run import run_md
from hdistill.pipelines.dynamics.settings import MdSettings
from hdistill.pipelines.report.student_tables import simulation_summary
from hdistill.trainer.evaluation.dynamics import Limits
from hdistill.trainer.evaluation.simulation import Conditions
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
    messages = result("md", run, start, "-o", out, *words)
    assert messages == json.loads((out / "summary.json").read_text())
    assert (messages["ensemble"], messages["n_atoms"], messages["fs"], messages["stable"]) == ("NVE", 6, 110.0, True)
    assert abs(messages["drift_mev_per_atom"]) < 0.1
    assert 0 < messages["excursion_mev_per_atom"] < 0.1
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


def test_velocities_that_a_file_has_as_an_array_are_kept(
    run: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    atoms = read(start)
    velocities = np.zeros((len(atoms), 3))
    velocities[:2, 0] = 1e-3, -1e-3  # A/fs
    atoms.arrays["vel"] = velocities
    write(tmp_path / "moving.xyz", atoms)
    run_md(run, str(tmp_path / "moving.xyz"), tmp_path / "md", MdSettings(steps=1, every=1))
    assert "Velocities 'vel' of the file are kept, in A/fs since no unit is stated" in capsys.readouterr().err
    first = read(tmp_path / "md" / "trajectory.xyz", "0")
    assert first.get_velocities() * units.fs == pytest.approx(velocities, abs=1e-7)


def test_a_trajectory_goes_on_with_its_velocities(run: Path, start: Path, tmp_path: Path) -> None:
    def moved(name: str, begin: Path, steps: int) -> Path:
        settings = MdSettings(Conditions(timestep_fs=2.0, temperature_K=20.0), steps=steps)
        run_md(run, str(begin), tmp_path / name, settings, progress=False)
        return tmp_path / name / "trajectory.xyz"

    whole = read(moved("whole", start, 40))
    then = read(moved("then", moved("first", start, 20), 20))
    assert whole.info["time_fs"] == 80
    np.testing.assert_allclose(whole.positions, then.positions, atol=1e-4)
    np.testing.assert_allclose(whole.get_momenta(), then.get_momenta(), atol=1e-4)


def test_a_thermostat_heats(run: Path, start: Path, tmp_path: Path) -> None:
    conditions = Conditions("nvt", timestep_fs=5.0, temperature_K=30.0, thermostat_fs=20)
    messages = run_md(run, str(start), tmp_path / "md", MdSettings(conditions, steps=300), progress=False)
    assert messages["ensemble"] == "NVT"
    assert 10 < messages["mean_temperature_kelvin"] < 60
    assert messages["drift_mev_per_atom"] is None
    assert json.loads((tmp_path / "md" / "summary.json").read_text())["excursion_mev_per_atom"] is None
    assert messages["ns_per_day"] > 0
    shown = simulation_summary(messages)
    assert "1500 fs (NVT)" in shown
    assert "ns/day" in shown
    assert "drift" not in shown


def test_what_cannot_be_is_one_sentence(run: Path, start: Path, tmp_path: Path) -> None:
    used, none = tmp_path / "used", tmp_path / "none"
    used.mkdir()
    shutil.copy(start, used)
    with pytest.raises(InputError, match=r"used is in use; give another -o folder"):
        run_md(run, str(start), used)
    with pytest.raises(InputError, match="could not be read as a structure"):
        run_md(run, str(tmp_path / "none.xyz"), none)
    with pytest.raises(InputError, match="holds no student"):
        run_md(tmp_path, str(start), none)
    with pytest.raises(InputError, match="not trained on Kr"):
        run_md(run, with_element(clusters(1)[0], 36), none)
    with pytest.raises(InputError, match="not periodic"):
        run_md(run, str(start), none, MdSettings(Conditions("npt")))
    assert not none.exists()
    done = typed("md", run, start, "-o", none, "--steps", 0)
    assert done.returncode == 1
    assert done.stderr == "error: steps was 0; it must be more than 0.\n"


@pytest.mark.parametrize("form", ["xyz", pytest.param("traj", marks=pytest.mark.long), "nc"])
def test_a_run_that_is_killed_goes_on_to_the_same_numbers(run: Path, start: Path, tmp_path: Path, form: str) -> None:
    """Killed with SIGKILL after its restart file, with frames and rows after it that are to be taken back."""
    settings = MdSettings(
        Conditions("nvt", timestep_fs=2.0, temperature_K=20.0, thermostat_fs=50.0), steps=80, every=20, form=form
    )
    whole = run_md(run, str(start), tmp_path / "whole", settings, progress=False)
    code = (
        "import os, sys; from pathlib import Path; from hdistill.pipelines.dynamics.loop import MovingRun\n"
        "from hdistill.pipelines.dynamics.run import run_md\n"
        "from hdistill.pipelines.dynamics.settings import MdSettings\n"
        "from hdistill.trainer.evaluation.simulation import Conditions\n"
        "c = Conditions('nvt', timestep_fs=2.0, temperature_K=20.0, thermostat_fs=50.0)\n"
        "s = MdSettings(c, steps=80, every=20, form=sys.argv[4])\n"
        "keep, sample, n = MovingRun._keep, MovingRun._sample, [0]\n"
        "def counted(self):\n"
        "    n[0] += 1\n"
        "    shown = sample(self)\n"
        "    if n[0] == 2: keep(self)\n"
        "    if n[0] == 4: os.kill(os.getpid(), 9)\n"
        "    return shown\n"
        "MovingRun._sample = counted\n"
        "run_md(sys.argv[1], sys.argv[2], Path(sys.argv[3]), s, progress=False)\n"
    )
    out = tmp_path / "killed"
    killed = subprocess.run([sys.executable, "-c", code, str(run), str(start), str(out), form], check=False)
    assert killed.returncode == -9
    assert (out / RESTART).exists()
    assert len(list(csv.DictReader((out / "log.csv").open()))) == 4
    messages = run_md(run, str(start), out, settings, progress=False)
    assert messages["continued_from_step"] == 20
    frames, wanted = (read(folder / f"trajectory.{form}", ":") for folder in (out, tmp_path / "whole"))
    assert len(frames) == len(wanted) == 5
    for frame, right in zip(frames, wanted, strict=True):
        np.testing.assert_array_equal(frame.positions, right.positions)
        np.testing.assert_array_equal(frame.get_momenta(), right.get_momenta())
    assert (out / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()
    assert {n: messages[n] for n in ("fs", "mean_temperature_kelvin")} == {
        n: whole[n] for n in ("fs", "mean_temperature_kelvin")
    }
    # Over: the same call says the same, more steps lengthen it, another temperature is another run.
    assert run_md(run, str(start), out, settings, progress=False) == messages
    longer = run_md(run, str(start), out, replace(settings, steps=100), progress=False)
    assert (longer["fs"], longer["continued_from_step"]) == (200, 80)
    hotter = replace(settings, conditions=replace(settings.conditions, temperature_K=30.0))
    with pytest.raises(InputError, match=r"is in use: it holds a run with another temperature_K; give another -o"):
        run_md(run, str(start), out, hotter, progress=False)


def test_dynamics_that_physics_ends_has_an_exit_code_of_its_own(run: Path, tmp_path: Path) -> None:
    write(tmp_path / "near.xyz", Atoms("Ar2", [[0, 0, 0], [0, 0, 0.4]]))
    done = typed("md", run, tmp_path / "near.xyz", "-o", tmp_path / "md", "--steps", 20, "--quiet")
    assert done.returncode == 4, done.stderr
    assert "stopped: Ar0 and Ar1 are 0.40 A apart at step 0 (0 fs)" in done.stdout
    summary = json.loads((tmp_path / "md" / "summary.json").read_text())
    assert summary["stable"] is False
    assert len(read(tmp_path / "md" / "trajectory.xyz", ":")) == 1


def test_a_run_ends_where_atoms_are_unlike_the_training_set(run: Path, start: Path, tmp_path: Path) -> None:
    """They fly at each other: a gas that is squeezed."""
    atoms = read(start)
    atoms.set_momenta(-0.8 * (atoms.positions - atoms.positions.mean(axis=0)))
    calm = MdSettings(Conditions(timestep_fs=1.0), steps=400, limits=Limits(stretch=100))
    ended = run_md(run, atoms, tmp_path / "ended", replace(calm, stop_beyond=3.0), progress=False)
    assert re.match(r"Ar\d is at a domain_distance of .*, beyond 3 at step \d+ \(\d+ fs\)", ended["why"])
    frames = read(tmp_path / "ended" / "trajectory.xyz", ":")
    assert len(frames) > 1
    assert frames[-1].arrays["domain_distance"].max() > 3
    again = run_md(run, atoms, tmp_path / "ended", replace(calm, stop_beyond=3.0), progress=False)
    assert again == ended


def test_a_crystal_under_pressure_and_replicas(run: Path, tmp_path: Path) -> None:
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True).repeat(2)
    write(tmp_path / "crystal.extxyz", atoms)
    words = ("--ensemble", "npt", "--pressure", 0.5, "--timestep", 4, "--temperature", 20, "--steps", 60, "--quiet")
    more = ("--barostat-time", 200, "--replicas", 2, "--stop-beyond", 0)
    messages = result("md", run, tmp_path / "crystal.extxyz", "-o", tmp_path / "npt", *words, *more)
    assert [s["ensemble"] for s in messages["replicas"]] == ["NPT", "NPT"]
    assert messages["stable"]
    rows = [list(csv.DictReader((tmp_path / "npt" / f"replica-{k}" / "log.csv").open())) for k in (0, 1)]
    volumes = [[float(row["volume_angstrom3"]) for row in some] for some in rows]
    assert volumes[0][0] == volumes[1][0] == pytest.approx(8 * 5.4**3)
    assert volumes[0][-1] < volumes[0][0]
    assert volumes[0][-1] != volumes[1][-1]
    assert all(row["pressure_gpa"] for some in rows for row in some)


def test_any_ase_calculator_can_drive_it(tmp_path: Path) -> None:
    from ase.calculators.emt import EMT

    messages = run_md(EMT(), bulk("Cu", cubic=True), tmp_path / "md", MdSettings(steps=20), progress=False)
    assert messages["stable"]
    assert messages["run"] == "EMT"


def test_a_teacher_can_drive_it(tmp_path: Path) -> None:
    write(tmp_path / "start.xyz", Atoms("Ar3", [(0, 0, 0), (3.7, 0, 0), (0, 3.7, 0)]))
    words = [
        "md",
        "--teacher",
        "lennard-jones",
        str(tmp_path / "start.xyz"),
        "-o",
        str(tmp_path / "md"),
        "--steps",
        "20",
    ]
    done = CliRunner().invoke(main, [*words, "--quiet", "--json", "--temperature", "20"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["stable"]
    frames = read(tmp_path / "md" / "trajectory.xyz", ":")
    with TeacherCalculator("lennard-jones") as teacher:
        assert teacher.get_potential_energy(frames[-1]) == pytest.approx(frames[-1].get_potential_energy(), abs=1e-5)
    for wrong, words_said in ((["md", "start.xyz"], "1 places were given"), ([*words, "more.xyz"], "START alone")):
        refused = CliRunner().invoke(main, [*wrong, "-o", str(tmp_path / "other")])
        assert refused.exit_code == 2
        assert words_said in refused.stderr
