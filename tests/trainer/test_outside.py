"""Students of installed packages: the example package beside this file, with its entry point where pip would put it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from hdistill.data.errors import InputError
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import load_student
from hdistill.trainer.force_field.domain import DOMAIN
from hdistill.trainer.students.build import build
from hdistill.trainer.students.registry import size_of
from hdistill.trainer.students.sizes import SIZES
from tests.trainer.structures import ELEMENTS, install_example

LOAD = """
import sys
from ase.build import molecule
from hdistill.trainer.force_field.calculator import HDistillCalculator
before = "pair_student" in sys.modules
atoms = molecule("H2O")
atoms.numbers[:] = 18
atoms.positions *= 4
atoms.calc = HDistillCalculator(sys.argv[1], dtype="float64")
print(before, repr(float(atoms.get_potential_energy())), float(abs(atoms.get_forces()).max()))
"""
HELP = """
import sys
from click.testing import CliRunner
from hdistill.pipelines.cli.main import main
assert CliRunner().invoke(main, ["--help"]).exit_code == 0
print("torch" in sys.modules, "pair_student" in sys.modules, "importlib.metadata" in sys.modules)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path with the example package as an installer leaves it."""
    folder = install_example(tmp_path / "site")
    monkeypatch.syspath_prepend(folder)
    return folder


def declare(site: Path, package: str, entries: str) -> None:
    """One more installed package that offers students."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hdistill.students]\n{entries}\n")


def in_fresh_process(code: str, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    return subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)


def test_fit_and_load_in_a_fresh_process(site: Path, argon: Path, tmp_path: Path) -> None:
    settings = FitSettings(student="pairs", steps=120, warmup=5, batch_size=8, validate_every=60)
    done = fit(argon, tmp_path / "run", settings, progress=False)
    assert done.validation["force_mae_mev_per_angstrom"] < 15  # argon's own forces are several times that
    assert not (done.run / DOMAIN).exists()  # its readout reads pairs, not atoms
    size = load_student(done.run).card.size
    assert (size.architecture, size.cutoff, size.package) == ("pairs", 6.0, "pair-student 0.3")
    assert size.options == {"gaussians": 12, "width": 16}
    here = HDistillCalculator(done.run, dtype="float64")
    there = in_fresh_process(LOAD, str(done.run), path=site)
    assert there.returncode == 0, there.stderr
    before, energy, force = there.stdout.split()
    atoms = molecule("H2O")
    atoms.numbers[:] = 18
    atoms.positions *= 4
    atoms.calc = here
    assert before == "False"
    assert float(energy) == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    assert float(force) == pytest.approx(np.abs(atoms.get_forces()).max(), abs=1e-12)


def test_without_its_package_a_student_says_which_one(site: Path, argon: Path, tmp_path: Path) -> None:
    settings = FitSettings(student="pairs", steps=1, warmup=0, validate_every=1)
    run = fit(argon, tmp_path / "run", settings, progress=False).run
    alone = in_fresh_process(LOAD, str(run))
    assert alone.returncode == 1
    assert alone.stderr.splitlines()[-1].endswith(
        "This student is a 'pairs' of the package pair-student 0.3, which is not installed here; install it and try again."
    )


def test_the_options_of_a_stored_student_are_kept(site: Path) -> None:
    import pair_student  # type: ignore[import-not-found]

    size = size_of("pairs")
    pair_student.PairStudent.options = {"gaussians": 5, "width": 4}
    model = build(size, ELEMENTS, 1.0)
    assert model.readout[2].out_features == 12  # type: ignore[index, union-attr]
    assert build(size_of("pairs"), ELEMENTS, 1.0).readout[2].out_features == 5  # type: ignore[index, union-attr]


def test_weights_of_an_outside_student_depend_on_the_seed_alone(site: Path) -> None:
    first, second, other = (next(build(size_of("pairs"), ELEMENTS, 1.0, s).parameters()) for s in (3, 3, 4))
    assert first.equal(second)
    assert not first.equal(other)


def test_errors_name_outside_students_too(site: Path) -> None:
    with pytest.raises(InputError, match=r"no student 'pars'; there are painn, .*, pairs\. Did you mean 'pairs'\?"):
        size_of("pars")


def test_our_own_names_win(site: Path) -> None:
    declare(site, "rival", "painn = no_such_module:Painn")
    assert size_of("painn") == SIZES["painn"]
    with pytest.raises(InputError, match=r"^(?!.*painn.*painn,).*no student 'other'"):
        size_of("other")


def test_two_packages_with_one_name_are_refused(site: Path) -> None:
    declare(site, "rival", "pairs = rival:Pairs")
    with pytest.raises(InputError, match=r"Two packages offer a student 'pairs'.*rival:Pairs.*uninstall one"):
        size_of("pairs")


def test_a_package_that_does_not_load_is_named(site: Path) -> None:
    declare(site, "broken-pack", "broken = no_such_module:Broken")
    with pytest.raises(InputError, match=r"'broken' of broken-pack 1\.0 .*does not load: ModuleNotFoundError"):
        size_of("broken")


def test_a_student_without_a_cutoff_is_refused(site: Path) -> None:
    declare(site, "endless", "endless = collections:OrderedDict")
    with pytest.raises(InputError, match=r"'endless' of endless 1\.0 has the cutoff None"):
        size_of("endless")


def test_a_student_that_cannot_be_built_says_why(site: Path) -> None:
    with pytest.raises(InputError, match=r"pair-student 0\.3 could not build its student 'pairs'.*TypeError.*width"):
        build(replace(size_of("pairs"), options={"gaussians": 3}), ELEMENTS, 1.0)


def test_direct_must_agree(site: Path) -> None:
    with pytest.raises(InputError, match=r"direct = False, but its class says True"):
        build(replace(size_of("pairs"), direct=True), ELEMENTS, 1.0)


def test_help_imports_no_package(site: Path) -> None:
    actual = in_fresh_process(HELP, path=site)
    assert actual.stdout.split()[:2] == ["False", "False"], actual.stderr
