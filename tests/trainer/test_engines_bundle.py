"""A bundle: what was published is what is used, nothing in it is run, and what was changed is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import hdistill
from hdistill.data.errors import InputError
from hdistill.trainer.bundles.index import BUNDLE
from hdistill.trainer.fitting.fit import FitResult
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import load_student
from hdistill.trainer.force_field.domain import DOMAIN, fit_domain
from hdistill.trainer.force_field.engines.bundle import export_bundle
from tests.pipelines.test_cli import result
from tests.trainer.test_calculator import cluster


@pytest.fixture
def bundle(fitted: FitResult, argon: Path, tmp_path: Path) -> Path:
    fit_domain(fitted.run, argon)
    return export_bundle(fitted.run, tmp_path / "bundle").folder


def test_a_bundle_says_what_the_run_says(bundle: Path, fitted: FitResult) -> None:
    energies = []
    for place in (fitted.run, bundle):
        calculator = HDistillCalculator(place, compiled=False)
        energies.append(cluster(calculator).get_potential_energy())
        assert calculator.domain_distance is not None
    assert energies[0] == energies[1]
    names = {path.name for path in bundle.iterdir()}
    assert names == {"student.safetensors", DOMAIN, "student.json", "README.md", BUNDLE}
    facts = json.loads((bundle / "student.json").read_text())
    assert (facts["elements"], facts["student"], facts["teacher"]["name"]) == (["Ar"], "painn-small", "made-up")
    assert facts["n_parameters"] > 1000
    readme = (bundle / "README.md").read_text()
    assert "painn-small for Ar" in readme
    assert facts["label_set"] in readme
    assert facts["license"] in readme
    assert readme.startswith("---\nlicense: ")  # what the hub reads
    assert '\nlibrary_name: "hdistill"\n' in readme


def test_what_was_changed_is_refused(bundle: Path) -> None:
    for name in ("student.safetensors", DOMAIN, "README.md"):
        data = (bundle / name).read_bytes()
        (bundle / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(InputError, match=f"'{name}' in .* is missing or not what was published"):
            HDistillCalculator(bundle)
        (bundle / name).write_bytes(data)
    HDistillCalculator(bundle)
    index = json.loads((bundle / BUNDLE).read_text())
    for change, message in (
        ({"files": {**index["files"], "../student.json": "0" * 64}}, "which no file of a bundle is called"),
        ({"version": 9}, "is not of a hdistill bundle of version 1"),
        ({"files": 5}, "is damaged"),
        ({"files": {}}, "does not list student.safetensors"),
    ):
        (bundle / BUNDLE).write_text(json.dumps(index | change))
        with pytest.raises(InputError, match=message):
            HDistillCalculator(bundle)


def test_machine_code_in_a_strangers_bundle_is_not_loaded(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hdistill.trainer.force_field.engines import compiled

    def never(path: Path) -> None:
        raise AssertionError(f"{path} was loaded")

    monkeypatch.setattr(compiled, "load_pt2", never)
    monkeypatch.setenv("HDISTILL_CACHE", str(bundle.parent / "cache"))
    (bundle / "student.pt2").write_bytes(b"\x7fELF")
    assert not HDistillCalculator(bundle).compiled


def test_the_command_makes_one_and_md_takes_it(fitted: FitResult, tmp_path: Path) -> None:
    (tmp_path / "what.md").write_text("## What it is for\n\nArgon.\n")
    made = result("export", fitted.run, "--to", "bundle", "--text", tmp_path / "what.md", "-o", tmp_path / "bundle")
    assert BUNDLE in made["files"]
    assert "## What it is for\n\nArgon." in (tmp_path / "bundle" / "README.md").read_text()
    with pytest.raises(InputError, match="is in use; give another folder"):
        export_bundle(fitted.run, tmp_path / "bundle")
    from ase.io import write

    atoms = cluster(HDistillCalculator(fitted.run))
    write(tmp_path / "start.xyz", atoms)
    words = ("--steps", 20, "--temperature", 20, "--timestep", 2, "--stop-beyond", 0, "--quiet")
    assert result("md", tmp_path / "bundle", tmp_path / "start.xyz", "-o", tmp_path / "md", *words)["fs"] == 40


@pytest.mark.parametrize(("engine", "words"), [("openmm", "openmm_force"), ("torchsim", "torchsim_model")])
def test_engines_that_take_a_run_as_it_is_are_named(engine: str, words: str, fitted: FitResult, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        hdistill.export(fitted.run, tmp_path / "out", to=engine)


def test_a_report_goes_with_its_own_student_only(fitted: FitResult, argon: Path, tmp_path: Path) -> None:
    """report.html is a file of the bundle like the others, and its card has the verdicts."""
    report = tmp_path / "report"
    result("evaluate", fitted.run, argon, "-o", report, "--require", "force_mae<=1e6")
    made = export_bundle(fitted.run, tmp_path / "bundle", report)
    assert "report.html" in made.files
    assert json.loads((made.folder / "student.json").read_text())["verdicts"][0]["passed"]
    assert "| force_mae |" in (made.folder / "README.md").read_text()
    assert HDistillCalculator(made.folder) is not None
    (made.folder / "report.html").write_text("better")
    with pytest.raises(InputError, match=r"report\.html.* is missing or not what was published"):
        HDistillCalculator(made.folder)
    content = json.loads((report / "report.json").read_text())
    (report / "report.json").write_text(json.dumps(content | {"student_sha256": "0" * 64}))
    with pytest.raises(InputError, match="is of another student"):
        export_bundle(fitted.run, tmp_path / "other", report)
    with pytest.raises(InputError, match="no report"):
        export_bundle(fitted.run, tmp_path / "other", tmp_path)


def test_the_publisher_says_what_nobody_has_said_of_the_structures(fitted: FitResult, tmp_path: Path) -> None:
    """And no more than that: the weights' licence stays, and what the label set knows is not contradicted."""
    before = (load_student(fitted.run).card.licenses or {}).get("structures", "unknown")
    if before == "unknown":
        made = export_bundle(fitted.run, tmp_path / "mine", licence="CC-BY-4.0")
        assert "CC-BY-4.0" in json.loads((made.folder / "student.json").read_text())["licenses"]["structures"]
    else:
        with pytest.raises(InputError, match=f"its structures are under {before}"):
            export_bundle(fitted.run, tmp_path / "mine", licence="CC-BY-NC-4.0")
    with pytest.raises(InputError, match=r"not a licence known here|are under"):
        export_bundle(fitted.run, tmp_path / "other", licence="MIT-ish")
