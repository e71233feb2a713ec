"""The report of `hdistill evaluate`: figures by an independent way, bars, what is kept, and the page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from click.testing import CliRunner

import hdistill
from hdistill.data.errors import InputError
from hdistill.data.labelsets.label_set import open_label_set
from hdistill.pipelines.cli.main import main
from hdistill.pipelines.judging import motion, parts as judging
from hdistill.pipelines.judging.bars import measured, verdicts
from hdistill.pipelines.judging.parts import Part, parts_of
from hdistill.trainer.evaluation.smoothness import WALL, smoothness
from hdistill.trainer.force_field.engines.batched import BatchedStudent
from tests.labeler.conftest import clusters

pytestmark = pytest.mark.xdist_group("report")
QUIET: dict[str, Any] = {"say": lambda _: None, "workers": 1}
SHORT: dict[str, Any] = {"steps": 60, "warmup": 5, "validate_every": 30, "progress": False}
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "labels"
    return hdistill.label(clusters(60), out, teacher="lennard-jones", splits="0.6,0.2,0.2", **QUIET).path


@pytest.fixture(scope="module")
def run(labels: Path) -> Path:
    return hdistill.fit(labels, labels.parent / "run", student="painn-small", **SHORT).run


@pytest.fixture(scope="module")
def report(run: Path, labels: Path) -> Path:
    out = run.parent / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(motion, "NVE_PS", 0.1)
        patch.setattr(motion, "NVT_PS", 0.1)
        hdistill.evaluate(run, labels, out=out, parts="all", require=["force_mae<=1e6", "hessian_error<=1e6"])
    return out


def test_the_figures_are_those_of_one_structure_after_the_other(run: Path, labels: Path, report: Path) -> None:
    part = json.loads((report / "report.json").read_text())["parts"]["accuracy"]
    calculator = hdistill.HDistillCalculator(run)
    off, energy, per_structure, distances = [], [], {}, []
    for sample in hdistill.samples(open_label_set(labels), "test"):
        s = sample.structure
        atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc, calculator=calculator)
        off.append(atoms.get_forces() - sample.labels.forces)
        energy.append((atoms.get_potential_energy() - sample.labels.energy) / s.n_atoms)
        per_structure[s.id] = 1e3 * np.abs(off[-1]).mean()
        distances.append(calculator.domain_distance)
    all_off = np.concatenate(off)
    assert part["n_structures"] == len(off)
    assert part["force_rmse"] == pytest.approx(1e3 * np.sqrt((all_off**2).mean()), rel=1e-4)
    assert part["energy_rmse"] == pytest.approx(1e3 * np.sqrt(np.square(energy).mean()), rel=1e-3, abs=1e-3)
    of_test = part["by_split"]["test"]
    assert of_test["n_structures"] == len(off)
    assert of_test["force_mae"] == pytest.approx(1e3 * np.abs(all_off).mean(), rel=1e-4)
    assert of_test["energy_mae"] == pytest.approx(1e3 * np.abs(energy).mean(), rel=1e-3, abs=1e-3)
    assert set(part["by_split"]) == {"train", "val", "test"}
    assert part["by_element"]["Ar"]["force_mae"] == pytest.approx(1e3 * np.abs(all_off).mean(), rel=1e-4)
    worst = max(per_structure, key=lambda key: per_structure[key])
    assert part["worst"][0]["structure"] == part["pictured"][0]["structure"] == worst
    assert [row["structure"] for row in part["pictured"]] == [row["structure"] for row in part["worst"][:3]]
    assert max(part["pictured"][0]["force_error"]) <= 1e3 * np.linalg.norm(all_off, axis=1).max() * (1 + 1e-4)
    assert part["worst"][0]["force_mae_mev_per_angstrom"] == pytest.approx(per_structure[worst], rel=1e-4)
    size, far = np.linalg.norm(all_off, axis=1), np.concatenate(distances)
    ranks = [np.argsort(np.argsort(values)) for values in (size, far)]
    assert part["domain"]["rank_correlation"] == pytest.approx(np.corrcoef(ranks[0], ranks[1])[0, 1], abs=1e-3)


def test_the_keys_of_before_are_there_and_the_report_beside_them(run: Path, labels: Path) -> None:
    plain = hdistill.evaluate(run, labels).as_json()
    assert {"force_mae_mev_per_angstrom", "by_group", "n_unknown_elements"} <= set(plain)
    assert not {"parts", "verdicts", "report"} & set(plain)


def test_what_is_there_is_not_computed_again(
    run: Path, labels: Path, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = shutil.copytree(report, tmp_path / "report")
    asked: list[str] = []

    def recorded(name: str) -> Part:
        of = judging.PARTS[name]
        return Part(lambda subject: asked.append(name) or {"n_holes": 0}, of.gives, of.quick, of.needs)  # type: ignore[func-returns-value]

    before = json.loads((report / "report.json").read_text())["parts"]
    monkeypatch.setattr(judging, "PARTS", {name: recorded(name) for name in judging.PARTS})
    hdistill.evaluate(run, labels, out=report, parts="all")
    assert asked == []
    assert json.loads((report / "report.json").read_text())["parts"] == before
    hdistill.evaluate(run, labels, split="val", parts="smoothness")  # another split, and nowhere to keep it
    assert asked == ["smoothness"]


def test_bars_decide_the_exit_code_and_what_was_not_measured_fails(run: Path, labels: Path) -> None:
    def exit_code(*bars: str) -> tuple[int, str]:
        words = [word for bar in bars for word in ("--require", bar)]
        done = CliRunner().invoke(main, ["evaluate", str(run), str(labels), *words])
        return done.exit_code, done.stdout

    assert exit_code("force_mae<=1e6", "rank_correlation > -2")[0] == 0
    code, text = exit_code("force_mae<=1e6", "force_mae<1e-6")
    assert code == 1
    assert re.search(r"force_mae +\S+ +< 1e-06 +FAILED", text)
    code, text = exit_code("stress_mae<=100")  # clusters have no stress
    assert code == 1
    assert re.search(r"stress_mae +not measured +<= 100 +FAILED", text)
    assert exit_code("from_scratch_ratio<=2")[0] == 1
    done = hdistill.evaluate(run, labels, twin=run, require="from_scratch_ratio<=1")
    assert done.more["verdicts"][0]["measured"] == 1
    assert done.more["passed"]


@pytest.mark.parametrize(
    ("bar", "words"),
    [
        ("force_mae=30", "such as force_mae<=30"),
        ("force_mea<=30", "Did you mean 'force_mae'"),
        ("force_mae<=x", "a number"),
    ],
)
def test_a_bar_that_cannot_be_meant_is_one_sentence_before_anything_is_computed(bar: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        verdicts([bar], measured({}, {}))


def test_parts_have_names() -> None:
    assert parts_of("quick") == ["accuracy", "smoothness", "cost"]
    assert "scans" not in parts_of("all")
    assert "scans" in parts_of("all", frozenset({"teacher"}))
    assert parts_of(["speed,dynamics", "speed"]) == ["speed", "dynamics"]
    with pytest.raises(InputError, match="Did you mean 'smoothness'"):
        parts_of("smothness")


def test_a_hole_is_found_and_a_wall_is_none(labels: Path) -> None:
    """Two untrained students of the same weights, one of which stands on a short-range repulsion."""
    settings: dict[str, Any] = SHORT | {"steps": 1, "warmup": 0}
    walls = {}
    for repulsion in (False, True):
        out = labels.parent / f"untrained-{repulsion}"
        walls[repulsion] = smoothness(hdistill.fit(labels, out, student="moment", repulsion=repulsion, **settings).run)
    assert walls[True]["n_holes"] == 0
    dimer = walls[False]["dimers"]["Ar-Ar"]
    reach = WALL * 2 * covalent_radii[18]
    slopes = np.diff(dimer["energies"]) / np.diff(dimer["distances"])
    inside = np.array(dimer["distances"][1:]) < reach
    assert (dimer["hole"] is not None) == bool((slopes[inside] > 0).any())
    for wall in walls.values():
        assert wall["n_pairs"] == 1
        assert wall["cutoff_step"] < 1e-6
        assert wall["extensivity"] < 1e-5


class WithWell(BatchedStudent):
    """A student whose atoms fall into each other 0.8 A apart."""

    def __call__(self, structures: Any) -> Any:
        outputs = super().__call__(structures)
        energies, forces = outputs.energies.clone(), outputs.forces.clone()
        first = 0
        for s in structures:
            i, j, d, vectors = neighbor_list("ijdD", Atoms(s.numbers, s.positions), 2.0)
            well = -2000 * np.exp(-(((d - 0.8) / 0.2) ** 2))
            slope = well * -2 * (d - 0.8) / 0.2**2
            for a, _, e, f, r, v in zip(i, j, well, slope, d, vectors, strict=True):
                energies[first + a] += e / 2
                forces[first + a] += torch.as_tensor(f / r * v)
            first += s.n_atoms
        return replace(outputs, energies=energies, forces=forces)


def test_a_hole_at_0_8_A_is_caught(run: Path, labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The student stands on a repulsion, so that without the well there is no hole."""
    out = labels.parent / "walled"
    settings: dict[str, Any] = SHORT | {"steps": 1, "warmup": 0}
    walled = hdistill.fit(labels, out, student="moment", repulsion=True, **settings).run
    assert hdistill.evaluate(walled, labels, require="holes<=0").more["passed"]
    monkeypatch.setattr("hdistill.trainer.evaluation.smoothness.BatchedStudent", WithWell)
    monkeypatch.setattr("hdistill.trainer.evaluation.smoothness.SHORTEST", 0.3)
    done = hdistill.evaluate(walled, labels, require="holes<=0", parts="smoothness")
    assert not done.more["passed"]
    assert done.more["parts"]["smoothness"]["dimers"]["Ar-Ar"]["hole"] > 0.8


def test_an_element_that_the_student_does_not_know_is_counted_and_named(run: Path, tmp_path: Path) -> None:
    """Half of the held-out structures have krypton: they are left out, and counted in the table and in the report."""
    mixed = clusters(20)
    for atoms in mixed[::2]:
        atoms.symbols[0] = "Kr"
    labels = hdistill.label(mixed, tmp_path / "labels", teacher="lennard-jones", splits="1,0,0", **QUIET).path
    done = hdistill.evaluate(run, labels, split="train", out=tmp_path / "report")
    assert (done.n_structures, done.n_unknown_elements) == (10, 10)
    assert "Left out: 10 structures with elements that the student was not trained on" in str(done)
    assert (
        "10 structures with elements that the student was not trained on"
        in (tmp_path / "report" / "report.md").read_text()
    )


def test_a_student_that_is_the_teacher_has_no_error_at_all(run: Path, labels: Path, tmp_path: Path) -> None:
    """Its own labels, by `student:RUN` as a teacher by name: errors, Hessians, scans, minima and dynamics are all the same."""
    own = hdistill.label(
        clusters(20), tmp_path / "own", teacher=f"student:{run}", codec="exact", splits="1,0,0", **QUIET
    ).path
    done = hdistill.evaluate(
        run,
        own,
        split="train",
        out=tmp_path / "report",
        teacher=f"student:{run}",
        parts="accuracy,curvature,relaxation,distortions,speed",
        require=[
            "force_mae<=1e-3",
            "energy_mae<=1e-3",
            "hessian_error<=1e-3",
            "frequency_mae<=0.05",
            "energy_above<=1",  # the clusters are floppy: forces of 2e-3 eV/A are a minimum
        ],
    )
    assert done.more["passed"], done.more["verdicts"]
    assert done.more["parts"]["accuracy"]["force_cosine"] == pytest.approx(1, abs=1e-6)
    assert done.rank_correlation == pytest.approx(1)


def test_direct_forces_conserve_nothing_and_the_part_says_so(labels: Path) -> None:
    direct = hdistill.fit(labels, labels.parent / "direct", student="painn-small-direct", **SHORT)
    done = hdistill.evaluate(direct, labels, require="nve_drift<1")
    assert "the gradient of no energy" in done.more["parts"]["dynamics"]["does_not_apply"]
    assert not done.more["passed"]


def test_dynamics_and_speed_are_measured(report: Path) -> None:
    parts = json.loads((report / "report.json").read_text())["parts"]
    assert [each["temperature"] for each in parts["dynamics"]["runs"]] == [300.0, 600.0]
    assert parts["speed"]["ms_per_call"] > 0
    assert parts["cost"]["fit_cpu_seconds"] > 0
    engines = parts["speed"]["engines"]
    assert {"ASE", "OpenMM", "torch-sim", "torch-sim, 32 at once"} <= set(engines)
    for engine in engines.values():
        assert engine["ns_per_day_at_1_fs"] == pytest.approx(86.4 / engine["ms"])
    assert engines["torch-sim, 32 at once"]["ms"] < engines["torch-sim"]["ms"]
    assert parts["speed"]["ns_per_day_at_1_fs"] == pytest.approx(86.4 / parts["speed"]["ms_per_call"])


def test_the_page_is_whole_in_itself(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "http" not in page
    markdown = (report / "report.md").read_text()
    for picture in re.findall(r"\((figures/\w+\.png)\)", markdown):
        assert (report / picture).read_bytes().startswith(b"\x89PNG")
    for title in ("Verdict", "Errors on held-out structures", "Accuracy", "Smoothness", "Dynamics", "Speed"):
        assert f"<h2>{title}</h2>" in page
        assert f"## {title}" in markdown


MEASURE = """<script>addEventListener("load", () => {
const style = getComputedStyle(document.body);
document.title = [document.documentElement.scrollWidth, innerWidth, document.images.length,
[...document.images].every(i => i.complete && i.naturalWidth > 0), style.color, style.backgroundColor,
matchMedia("(prefers-color-scheme: dark)").matches].join("|"); });</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here; `make browser` as root installs it on Debian")
@pytest.mark.parametrize("width", [500, 1400])  # a window of Chromium is no narrower than 500
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_in_a_real_browser(report: Path, tmp_path: Path, width: int, dark: bool) -> None:
    page = tmp_path / "page.html"
    text = (report / "report.html").read_text()
    page.write_text(text.replace("</body>", f"{MEASURE}</body>"))
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    command += ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    title = re.search(r"<title>([^<]*)</title>", done.stdout)
    assert title is not None
    scroll, inner_width, n_images, whole, color, background, is_dark = title[1].split("|")
    assert int(scroll) <= int(inner_width)
    assert (int(n_images), whole) == (text.count("<img "), "true")
    assert "CONSOLE" not in done.stderr
    assert is_dark == str(dark).lower()
    letters = np.mean([int(n) for n in re.findall(r"\d+", color)[:3]])
    assert letters > 200 if dark else letters < 60  # light on dark, dark on light
    assert background  # the browser's own, which follows the scheme


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here; `make browser` as root installs it on Debian")
def test_the_page_prints(report: Path, tmp_path: Path) -> None:
    """On paper: several pages, and every heading and number is in the text."""
    assert BROWSER is not None
    pdf = tmp_path / "report.pdf"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    page = (report / "report.html").as_uri()
    subprocess.run([*command, f"--print-to-pdf={pdf}", page], capture_output=True, timeout=120, check=True)
    data = pdf.read_bytes()
    assert data.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 2
    assert len(re.findall(rb"/Subtype\s*/Image", data)) >= (report / "report.html").read_text().count("<img ")
