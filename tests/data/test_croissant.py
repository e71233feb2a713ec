"""croissant.json, as mlcroissant reads it without a network: valid, every file with its hash, licence, citation, splits."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path
from typing import Any

import mlcroissant
import pytest

from hdistill.data.labelsets.label_set import open_label_set
from hdistill.data.publication.documents import CROISSANT, documents, state
from hdistill.data.publication.statement import Publication
from tests.data.published import label_set


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("croissant.json must be read without a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_set(tmp_path_factory.mktemp("croissant") / "labels")


def test_mlcroissant_validates_and_loads_it(tmp_path: Path) -> None:
    labels = label_set(tmp_path / "labels")
    state(
        labels,
        title="A set",
        authors=("A. One", "B. Two"),
        url="https://example.org/x",
        date="2026-11-22",
        release="2.1.0",
    )
    dataset = mlcroissant.Dataset(jsonld=str(labels / CROISSANT))
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    metadata = dataset.metadata.to_json()
    assert metadata["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert (metadata["name"], metadata["version"], metadata["url"]) == ("A set", "2.1.0", "https://example.org/x")
    assert metadata["license"] == "https://spdx.org/licenses/MIT.html"
    assert [creator["name"] for creator in metadata["creator"]] == ["A. One", "B. Two"]
    assert "A. Source (2020)" in metadata["citeAs"]
    assert "arXiv:2501.09009" in metadata["citeAs"]
    assert "HDF5" in metadata["description"]
    assert "hessian = +d2E/dR2" in metadata["description"]


def test_every_file_is_there_with_its_hash(labels: Path) -> None:
    files = mlcroissant.Dataset(jsonld=str(labels / CROISSANT)).metadata.distribution
    shards = open_label_set(labels).shards
    assert [file.content_url for file in files] == ["manifest.json", *(f"shards/{shard.path.name}" for shard in shards)]
    for file in files:
        data = (labels / file.content_url).read_bytes()
        assert file.sha256 == hashlib.sha256(data).hexdigest()
        assert file.content_size == f"{len(data)} B"
    assert {tuple(file.encoding_formats) for file in files[1:]} == {("application/x-hdf5",)}


def test_the_splits_can_be_read(labels: Path) -> None:
    actual = list(mlcroissant.Dataset(jsonld=str(labels / CROISSANT)).records("splits"))
    counts = json.loads((labels / "manifest.json").read_bytes())["splits"]["n_structures"]
    assert {_text(row["splits/name"]): row["splits/n_structures"] for row in actual} == counts


def test_without_a_statement_only_what_nobody_can_know_is_missing(labels: Path) -> None:
    dataset = mlcroissant.Dataset(jsonld=str(labels / CROISSANT))
    assert not dataset.metadata.ctx.issues.errors
    assert len(dataset.metadata.ctx.issues.warnings) == 1
    assert "datePublished" in dataset.metadata.ctx.issues.report()


def test_several_licences_that_hold_at_once(labels: Path) -> None:
    manifest = json.loads((labels / "manifest.json").read_bytes())
    manifest["licenses"] |= {"structures": "CC-BY-SA-4.0", "weights": "GPL-3.0", "weights_class": "copyleft"}
    document = json.loads(documents(json.dumps(manifest).encode(), Publication())[CROISSANT])
    assert document["license"] == [f"https://spdx.org/licenses/{name}.html" for name in ("CC-BY-SA-4.0", "GPL-3.0")]
    assert not mlcroissant.Dataset(jsonld=document).metadata.ctx.issues.errors


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
