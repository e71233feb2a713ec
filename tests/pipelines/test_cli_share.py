"""`hdistill labels card|push|pull` and `hdistill fit ADDRESS` as a user types them, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdistill.data.labelsets.label_set import open_label_set
from tests.data.published import OPEN, label_set, web_server
from tests.pipelines.test_cli import result, run, run_here

pytestmark = pytest.mark.xdist_group("cli-share")  # what its fixtures make is made once


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_set(tmp_path_factory.mktemp("share") / "labels", licenses=OPEN | {"structures": "unknown"})


def test_from_a_refusal_to_a_publication(labels: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    refused = run("labels", "push", labels, there)
    assert refused.returncode == 1
    assert "--structures-license" in refused.stderr
    assert "Traceback" not in refused.stderr
    stated = result(
        "labels", "card", labels, "--title", "Mine", "--author", "A", "--author", "B", "--structures-license", "mit"
    )
    assert (stated["title"], stated["authors"], stated["structures_license"]) == ("Mine", ["A", "B"], "MIT")
    pushed = result("labels", "push", labels, there)
    assert (pushed["n_moved"], pushed["n_shards"], pushed["license"]) == (4, 4, "MIT")
    assert pushed["label_set"] == open_label_set(labels).digest
    with web_server(there) as web:
        pulled = run("labels", "pull", web.address, tmp_path / "back", "--quiet")
    assert pulled.returncode == 0
    assert f"digest {pushed['label_set']}" in pulled.stdout
    assert pulled.stderr == ""
    assert 'pretty_name: "Mine"' in (tmp_path / "back" / "README.md").read_text()
    assert run("labels", "verify", tmp_path / "back").returncode == 0


def test_a_permission_is_recorded_with_a_name(labels: Path, tmp_path: Path) -> None:
    closed = label_set(
        tmp_path / "closed", licenses=OPEN | {"weights": "FAIR Chemistry License v1", "weights_class": "gated"}
    )
    assert "class gated" in run("labels", "push", closed, tmp_path / "there").stderr
    result("labels", "push", closed, tmp_path / "there", "--i-have-permission", "--as", "C. Three")
    assert "C. Three stated on" in (tmp_path / "there" / "README.md").read_text()


def test_fit_reads_an_address_through_its_cache(labels: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    words = ("--student", "painn-small", "--steps", 2, "--quiet", "--cache", cache)
    with web_server(labels) as web:
        fit = ("fit", web.address, "-o", tmp_path / "run", *words)
        small = run_here(*fit, "--cache-size", "5kB")
        assert small.returncode == 1
        assert "give --cache-size 1MB or more" in small.stderr
        assert result(*fit, by=run)["steps"] == 2
    assert len(list(cache.glob("*.h5"))) == 4


def test_help_shows_what_to_type() -> None:
    for command, example in (
        ("card", "--author"),
        ("push", "hdistill labels push labels/ s3://bucket/labels"),
        ("pull", "hdistill labels pull hf://datasets/OWNER/NAME labels/"),
    ):
        assert example in run_here("labels", command, "--help").stdout
    assert "hdistill fit s3://bucket/labels" in run_here("fit", "--help").stdout
