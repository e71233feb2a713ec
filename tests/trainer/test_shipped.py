"""Students that come with the package: whole, small, honest about what they are for, and good at it without anything else installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import hdistill
from hdistill.data.errors import InputError
from hdistill.pipelines.recipe import BUNDLES, named_recipes
from hdistill.trainer.bundles import names, place_of
from hdistill.trainer.force_field.checkpoint import load_student
from tests.pipelines.test_cli import result

MOST_BYTES = 1 << 20
# cm^-1: ethanol by ANI-1x at its own minimum.
OF_THE_TEACHER = np.array(
    [
        272,
        307,
        452,
        883,
        956,
        1107,
        1143,
        1222,
        1277,
        1323,
        1476,
        1516,
        1523,
        1542,
        1574,
        3071,
        3112,
        3122,
        3239,
        3279,
        3733,
    ]
)


@pytest.mark.parametrize("name", names())
def test_a_bundle_is_whole_small_and_says_what_it_is(name: str) -> None:
    """A calculator checks every sha256; the card is the student's; the licence lets it be passed on; a recipe of its name made it."""
    folder = place_of(name)
    hdistill.HDistillCalculator(name, compiled=False)
    files = list(folder.iterdir())
    assert sum(file.stat().st_size for file in files) < MOST_BYTES
    assert {"student.safetensors", "domain.safetensors", "student.json", "README.md", "report.html"} <= {
        f.name for f in files
    }
    card = json.loads((folder / "student.json").read_text())
    trained = load_student(name)
    assert card["n_parameters"] == sum(p.numel() for p in trained.model.parameters())
    assert card["license"] == "MIT"
    recipe = (named_recipes(BUNDLES)[name]).read_text()
    assert f'teacher = "{card["teacher"]["name"]}"' in recipe
    assert f'student = "{card["student"]}"' in recipe
    readme = (folder / "README.md").read_text()
    for heading in ("## What it is for", "## What it is not for"):
        assert heading in readme
    assert str(Path.home()) not in readme + (folder / "report.html").read_text()


def test_they_are_listed_and_each_has_a_recipe() -> None:
    assert names() == ["organics"]
    assert set(names()) <= set(named_recipes(BUNDLES))
    rows = hdistill.students(bundles=True)
    assert [row["name"] for row in rows] == names()
    text = str(rows)
    for name in names():
        assert name in text
    assert result("students", "--bundles")[0]["name"] == "organics"


def test_a_name_gives_way_to_a_file_and_a_wrong_one_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "organics").mkdir()
    with pytest.raises(InputError, match="organics holds no student"):
        hdistill.HDistillCalculator("organics")
    with pytest.raises(InputError, match="Did you mean 'organics'"):
        hdistill.HDistillCalculator("organcs")


def test_organics_know_bonds_and_frequencies() -> None:
    """Ethanol's C-C, C-O and O-H bonds near where chemistry has them, its frequencies near the teacher's."""
    from hdistill.pipelines.judging.minimum import minimum

    calculator = hdistill.HDistillCalculator("organics", compiled=False)
    ethanol = minimum(molecule("CH3CH2OH"), calculator, fmax=0.01)
    at = {name: [i for i, s in enumerate(ethanol.symbols) if s == name] for name in "CHO"}
    (oxygen,), carbons = at["O"], at["C"]
    lengths = sorted(ethanol.get_distance(c, oxygen) for c in carbons)
    assert ethanol.get_distance(*carbons) == pytest.approx(1.52, abs=0.03)
    assert lengths[0] == pytest.approx(1.42, abs=0.03)
    assert min(ethanol.get_distance(oxygen, h) for h in at["H"]) == pytest.approx(0.96, abs=0.02)
    assert float(np.max(calculator.domain_distance)) < 3
    waves = hdistill.frequencies(ethanol, calculator.get_hessian(ethanol))
    assert np.abs(waves - OF_THE_TEACHER).mean() < 30


def test_md_takes_the_name(tmp_path: Path) -> None:
    ethanol: Atoms = molecule("CH3CH2OH")
    done = hdistill.md("organics", ethanol, tmp_path / "md", steps=400, temperature=300, compiled=False, progress=False)
    assert done.stable
    assert done.drift_mev_per_atom is not None
    assert abs(done.drift_mev_per_atom) < 0.5
