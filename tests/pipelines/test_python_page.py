"""docs/python.md, run from top to bottom, and what else the functions take."""

from __future__ import annotations

import pickle
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.io import write

import hdistill
from hdistill.data import sources
from hdistill.pipelines.api.arguments import subset_names
from hdistill.pipelines.api.printed import result_of
from hdistill.pipelines.api.results import Evaluation
from hdistill.pipelines.live_calculator import load, stored
from tests.labeler.conftest import clusters

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All names of the page, once its examples have run in an empty folder."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        patch.setenv("HDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)):
            exec(compile(block, f"docs/python.md, example {number + 1}", "exec"), names)
        names["labels_again"] = hdistill.label(
            names["clusters"], "labels", teacher="lennard-jones", splits="0.6,0.2,0.2", workers=1, say=lambda _: None
        )
        return names


def test_the_page_says_what_happens(names: dict[str, Any]) -> None:
    assert (names["labels"].n_structures, names["labels"].n_quarantined) == (24, 0)
    assert "labels: 24 structures, 96 atoms, 0 in quarantine, " in repr(names["labels"])
    assert names["run"].steps == 40
    assert names["hessian"].shape == (12, 4, 3)
    assert len(hdistill.frequencies(names["atoms"])) == 6
    assert names["motion"].stable
    assert names["student"].card.teacher["name"] == "lennard-jones"
    assert names["small"].n_structures == 5


def test_the_same_atoms_continue_what_was_begun(names: dict[str, Any]) -> None:
    assert names["labels_again"].n_labelled_now == 0
    assert names["labels_again"].n_structures == 24


def test_a_calculator_of_this_session_labels(names: dict[str, Any]) -> None:
    """Its labels are what it says itself, of structures and of products."""
    assert names["own"].n_structures == 4
    samples = [sample for split in ("train", "val", "test") for sample in _samples(names["own"], split)]
    assert len(samples) == 4
    for sample in samples:
        atoms = Atoms(sample.structure.numbers, sample.structure.positions, calculator=names["argon"])
        assert sample.labels.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        assert sample.labels.hessian.values.shape == (4, 4, 3)


def _samples(labels: Any, split: str) -> list[Any]:
    try:
        return list(hdistill.samples(labels, split))
    except hdistill.HDistillError:  # a split without structures
        return []


def test_a_stored_calculator_is_the_same_one_and_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDISTILL_CACHE", str(tmp_path / "cache"))
    calculator = LennardJones(sigma=3.4)
    arguments = stored(calculator)
    assert stored(LennardJones(sigma=3.4)) == arguments
    atoms = clusters(1)[0]
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    assert stored(LennardJones(sigma=3.5)) != arguments
    (digest, name) = (argument.partition("=")[2] for argument in arguments)
    atoms.calc = load(digest, name)
    assert atoms.get_potential_energy() == energy
    file = tmp_path / "cache" / "calculators" / f"{digest}.pickle"
    assert file.parent.stat().st_mode & 0o077 == 0
    file.chmod(0o600)
    file.write_bytes(pickle.dumps(LennardJones(sigma=9.9)))
    with pytest.raises(hdistill.HDistillError, match="has changed"):
        load(digest, name)
    for wrong in ("../../x", "0" * 64):
        with pytest.raises(hdistill.HDistillError, match="is not stored here"):
            load(wrong, name)
    file.parent.chmod(0o777)
    with pytest.raises(hdistill.HDistillError, match="chmod 700"):
        load(digest, name)
    calculator.lock = threading.Lock()
    file.parent.chmod(0o700)
    with pytest.raises(hdistill.HDistillError, match="cannot be sent to a process of its own"):
        stored(calculator)


def test_results_print_and_are_json(names: dict[str, Any]) -> None:
    errors = names["errors"]
    assert "force MAE" in str(errors)
    assert str(errors) == repr(errors)
    assert "<pre>" in errors._repr_html_()
    assert errors.as_json()["split"] == "test"
    with_more = result_of(Evaluation, errors.as_json() | {"pair_error": 1.5})
    assert with_more.more == {"pair_error": 1.5}
    assert with_more.as_json()["pair_error"] == 1.5
    rows = hdistill.students()
    assert rows[0]["name"] in str(rows)


def test_atoms_are_read_back_as_they_were(tmp_path: Path) -> None:
    """All digits of positions, periodicity, charge and spin, labels, groups and the arrays of a list of Atoms."""
    given = clusters(5)
    given[0].info |= {"charge": 1, "spin": 2}
    given[1].set_cell([9.1234567890123, 9, 9])
    given[1].pbc = True
    given[2].info["REF_energy"] = -1.25
    given[2].arrays["REF_forces"] = given[2].positions * 0.1
    (name,) = subset_names(given, tmp_path)
    assert subset_names(given, tmp_path) == (name,)
    structures = list(sources.read(name))
    assert len(structures) == 5
    for atoms, structure in zip(given, structures, strict=True):
        assert structure.positions.tolist() == atoms.positions.tolist()
        assert structure.pbc.tolist() == atoms.pbc.tolist()
        assert structure.cell.tolist() == atoms.cell.array.tolist()
    assert (structures[0].charge, structures[0].spin) == (1, 2)
    assert structures[2].ref_energy == -1.25
    assert structures[4].group == "cluster-4"


def test_a_name_a_path_and_one_atoms_are_subsets(tmp_path: Path) -> None:
    """One text is one subset, not its letters; what was given is what the plan holds."""
    write(tmp_path / "my.xyz", clusters(3))
    text = str(tmp_path / "my.xyz")
    assert subset_names(text, tmp_path) == (text,)
    assert subset_names(tmp_path / "my.xyz", tmp_path) == (text,)
    assert subset_names([text, tmp_path / "my.xyz"], tmp_path) == (text, text)
    (one,) = subset_names(clusters(1)[0], tmp_path)
    assert len(list(sources.read(one))) == 1
    with pytest.raises(hdistill.HDistillError, match="mixes Atoms with names"):
        subset_names([text, Atoms("Ar")], tmp_path)


def test_what_is_no_setting_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(hdistill.HDistillError, match="Did you mean 'splits'"):
        hdistill.label("my.xyz", tmp_path, teacher="lennard-jones", split="0.8,0.1,0.1")  # type: ignore[call-arg]
    with pytest.raises(hdistill.HDistillError, match="Did you mean 'student'"):
        hdistill.fit(tmp_path, tmp_path / "run", studnet="painn")  # type: ignore[call-arg]


def test_the_tests_that_the_security_page_names_are_there() -> None:
    root = PAGE.parents[1]
    names = re.findall(r"`(tests/[^`]+)`", (PAGE.parent / "security.md").read_text())
    assert len(names) > 5
    for name in names:
        file, _, function = name.partition("::")
        assert f"def {function or 'test_'}" in (root / file).read_text(), name
