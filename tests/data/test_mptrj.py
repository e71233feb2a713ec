"""MPtrj as it is published: units, signs, subsets by name, and a file that was not fetched whole."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units

from hdistill.data import sources
from hdistill.data.errors import InputError

PEROVSKITE = Atoms(
    "SrTiO3",
    scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)],
    cell=[3.9] * 3,
    pbc=True,
)
SALT = Atoms("YN", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=2.45 * (1 - np.eye(3)), pbc=True)


def frame(atoms: Atoms, energy: float, gap: float) -> dict[str, Any]:
    """As pymatgen writes a Structure, and CHGNet's authors the rest."""
    species = [[{"element": symbol, "occu": 1}] for symbol in atoms.symbols]
    scaled = atoms.get_scaled_positions(wrap=False)
    sites = [
        {"species": s, "abc": abc.tolist(), "label": s[0]["element"]} for s, abc in zip(species, scaled, strict=True)
    ]
    return {
        "structure": {"lattice": {"matrix": atoms.cell.array.tolist(), "pbc": [True] * 3}, "sites": sites},
        "uncorrected_total_energy": energy,
        "corrected_total_energy": energy - 1.5,
        "energy_per_atom": energy / len(atoms),
        "force": [[0.0, 0.1, -0.1 * k] for k in range(len(atoms))],
        "stress": [[10.0, 0, 0], [0, 20.0, 0], [0, 0, 30.0]],
        "magmom": None,
        "bandgap": gap,
        "mp_id": "mp-1",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mptrj")
    rattled = PEROVSKITE.copy()
    rattled.rattle(0.05, seed=0)
    content = {
        "mp-5229": {"mp-5229-0-0": frame(PEROVSKITE, -40.0, 1.8), "mp-5229-0-1": frame(rattled, -39.5, 1.8)},
        "mp-2114": {"mp-2114-0-0": frame(SALT, -19.0, 5.5)},
    }
    (folder / "MPtrj_2022.9_full.json").write_text(json.dumps(content))
    return folder


def test_units_signs_and_groups(folder: Path) -> None:
    report = sources.SourceReport()
    first, _, last = sources.read("mptrj:all", folder, report=report)
    np.testing.assert_allclose(first.positions, PEROVSKITE.positions, atol=1e-12)
    assert (first.group, first.info["frame"], first.ref_energy) == ("mp-5229", "mp-5229-0-0", -40.0)
    np.testing.assert_allclose(first.ref_forces[4], [0, 0.1, -0.4])
    np.testing.assert_allclose(np.diag(first.ref_stress), [-units.GPa, -2 * units.GPa, -3 * units.GPa])
    assert last.info["band_gap"] == 5.5
    assert any("uncorrected_total_energy" in remark for remark in report.remarks)
    keys = sources.Keys(energy="corrected_total_energy")
    assert next(iter(sources.read("mptrj:all", folder, keys))).ref_energy == -41.5


@pytest.mark.parametrize(
    ("name", "n", "group"), [("perovskites", 1, "mp-5229"), ("yttrium", 1, "mp-2114"), ("band-gap>=5", 1, "mp-2114")]
)
def test_subsets_of_the_paper(folder: Path, name: str, n: int, group: str) -> None:
    """The rattled perovskite is one no more."""
    structures = list(sources.read(f"mptrj:{name}", folder))
    assert [s.group for s in structures] == [group] * n


def test_a_file_is_recognised_and_one_that_is_cut_short_gives_what_it_has(folder: Path, tmp_path: Path) -> None:
    whole = folder / "MPtrj_2022.9_full.json"
    assert len(list(sources.read(str(whole)))) == 3
    short = tmp_path / "part.json"
    short.write_bytes(whole.read_bytes()[:-300])
    report = sources.SourceReport()
    assert len(list(sources.read(str(short), report=report))) == 2
    assert report.skipped == {"cut short": 1}
    (tmp_path / "MPtrj.json.gz").write_bytes(gzip.compress(whole.read_bytes())[:-100])
    with pytest.raises(InputError, match=r"1 skipped, cut short \(MPtrj\.json\.gz"):
        list(sources.read("mptrj:all", tmp_path / "MPtrj.json.gz"))
    for name, data, message in (
        ("perovskite", folder, "Did you mean 'perovskites'"),
        ("all", tmp_path / "none", "found no"),
        ("all", None, "needs --data"),
    ):
        with pytest.raises(InputError, match=message):
            sources.read(f"mptrj:{name}", data)


def test_one_odd_frame_is_counted(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "MPtrj_2022.9_full.json").read_text())
    del content["mp-5229"]["mp-5229-0-0"]["structure"]["lattice"]
    content["mp-5229"]["mp-5229-0-1"]["structure"]["sites"][0]["species"][0]["occu"] = 0.5
    (tmp_path / "MPtrj.json").write_text(json.dumps(content))
    report = sources.SourceReport()
    (left,) = sources.read("mptrj:all", tmp_path, report=report)
    assert left.group == "mp-2114"
    assert report.skipped == {"cannot be parsed": 1, "partly occupied sites": 1}
