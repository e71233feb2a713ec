"""The demo on a few structures: the real SevenNet-0, three fits, the table, the picture, and running on when it is asked again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hdistill.pipelines.api.demo import run_demo, summary


@pytest.mark.xdist_group("sevennet")
@pytest.mark.usefixtures("warm_sevennet")
def test_the_demo_from_labels_to_picture(tmp_path: Path) -> None:
    messages: list[str] = []
    result = run_demo(tmp_path / "demo", say=messages.append, limit=8, steps=12, compiled=False)
    assert [row["folder"] for row in result["rows"]] == ["distilled", "plain-same-steps", "plain-same-time"]
    distilled, same_steps, same_time = result["rows"]
    assert distilled["steps"] == same_steps["steps"] == 12
    assert same_time["seconds"] >= distilled["seconds"]
    assert same_steps["label_bytes"] < distilled["label_bytes"]
    for row in result["rows"]:
        assert row["force_mae_mev_per_angstrom"] > 0
        assert row["hessian_relative_error"] > 0
    assert all(row["teacher_ms"] > row["student_ms"] > 0 for row in result["speed"])
    text = summary(result)
    assert "hdistill label --teacher 7net-0 --subset my.xyz" in text
    picture = tmp_path / "demo" / "demo.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "demo" / "demo.json").read_text())["rows"][0]["n_train"] == distilled["n_train"]
    assert result["md"]["n_atoms"] in (5, 40)
    assert f"{result['md']['n_atoms']} atoms" in text
    assert "at constant energy" in text
    report = (tmp_path / "demo" / "report" / "report.html").read_text()
    assert "its twin" in report
    assert "<h2>Smoothness</h2>" in report
    again = run_demo(tmp_path / "demo", say=messages.append, limit=8, steps=12, compiled=False)
    assert any("complete already" in line for line in messages)
    assert again["rows"][0]["force_mae_mev_per_angstrom"] == distilled["force_mae_mev_per_angstrom"]
