"""Alexandria's layout, compressed and not: entries one by one, forces of the sites, the sign of the stress."""

from __future__ import annotations

import bz2
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import units
from ase.build import bulk

from hdistill.data import sources
from hdistill.data.errors import InputError

SALT = bulk("NaCl", "rocksalt", a=5.6)


def entry(k: int, **more: Any) -> dict[str, Any]:
    sites = [
        {
            "species": [{"element": symbol, "occu": 1.0}],
            "abc": abc.tolist(),
            "properties": {"forces": [0.1 * k, 0.0, -0.2], "magmom": 0.0},
        }
        for symbol, abc in zip(SALT.symbols, SALT.get_scaled_positions(wrap=False), strict=True)
    ]
    return {
        "@class": "ComputedStructureEntry",
        "energy": -6.0 - k,
        "correction": -0.4,
        "entry_id": f"agm-{k}",
        "data": {"mat_id": f"agm00{k}", "band_gap_ind": 5.0, "stress": (np.diag([10.0, 20, 30])).tolist()},
        "structure": {"lattice": {"matrix": SALT.cell.array.tolist()}, "charge": 0, "sites": sites},
        **more,
    }


def check(structures: list) -> None:  # type: ignore[type-arg]
    assert [s.ref_energy for s in structures] == [-6.0, -7.0, -8.0]
    assert [s.group for s in structures] == ["agm000", "agm001", "agm002"]
    np.testing.assert_allclose(structures[2].ref_forces, [[0.2, 0, -0.2]] * 2)
    np.testing.assert_allclose(np.diag(structures[0].ref_stress), [-units.GPa, -2 * units.GPa, -3 * units.GPa])
    np.testing.assert_allclose(structures[0].positions, SALT.positions, atol=1e-12)
    assert structures[0].info["band_gap_ind"] == 5.0


def test_entries_as_alexandria_has_them(tmp_path: Path) -> None:
    entries = [entry(k) for k in range(3)]
    (tmp_path / "alexandria_000.json.bz2").write_bytes(bz2.compress(json.dumps({"entries": entries}).encode()))
    check(list(sources.read(str(tmp_path / "alexandria_000.json.bz2"))))
    (tmp_path / "mine.json").write_text(json.dumps(entries))
    check(list(sources.read(str(tmp_path / "mine.json"))))


def test_six_numbers_are_no_stress_and_an_odd_entry_is_counted(tmp_path: Path) -> None:
    odd, half = entry(1), entry(2)
    del odd["structure"]["sites"]
    half["structure"]["sites"][0]["species"][0]["occu"] = 0.5
    entries = [entry(0, data={}, stress=[1.0, 2, 3, 4, 5, 6], forces=[[0.0, 0, 1]] * 2), odd, half]
    (tmp_path / "matpes.json").write_text(json.dumps(entries))
    report = sources.SourceReport()
    (left,) = sources.read(str(tmp_path / "matpes.json"), report=report)
    assert left.ref_stress is None
    np.testing.assert_array_equal(left.ref_forces, [[0, 0, 1]] * 2)
    assert any("six numbers" in remark for remark in report.remarks)
    assert report.skipped == {"cannot be parsed": 1, "partly occupied sites": 1}


def test_half_a_file_gives_what_it_has(tmp_path: Path) -> None:
    text = json.dumps({"entries": [entry(k) for k in range(3)]})
    (tmp_path / "half.json").write_text(text[:-200])
    report = sources.SourceReport()
    assert len(list(sources.read(str(tmp_path / "half.json"), report=report))) == 2
    assert report.skipped == {"cut short": 1}
    (tmp_path / "none.json").write_text(text[:300])
    with pytest.raises(InputError, match="cut short"):
        list(sources.read(str(tmp_path / "none.json")))
