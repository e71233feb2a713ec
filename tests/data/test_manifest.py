"""A manifest as typed records: one way to write it, one way to read it, and old versions of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hdistill.data.errors import LabelSetError
from hdistill.data.format.manifest import parse_manifest, read_manifest
from hdistill.data.format.migrate import MANIFEST_VERSION, STEPS, migrated
from hdistill.data.format.records import Manifest
from hdistill.data.labelsets.label_set import info, verify
from hdistill.data.support.typed import as_bytes, as_json
from tests.data.published import label_set


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_set(tmp_path_factory.mktemp("manifest") / "labels", n=8)


def test_what_is_read_is_written_as_the_same_bytes(labels: Path) -> None:
    data = (labels / "manifest.json").read_bytes()
    manifest = parse_manifest(data, "manifest.json")
    assert as_bytes(manifest) == data
    assert data.isascii()
    assert manifest == read_manifest(labels)
    with pytest.raises(AttributeError):
        manifest.plan = "another"  # type: ignore[misc]


def test_splits_without_a_number_are_refused(labels: Path) -> None:
    manifest = json.loads((labels / "manifest.json").read_bytes())
    del manifest["splits"]["n_structures"]["val"]
    with pytest.raises(LabelSetError, match="has no number for val"):
        parse_manifest(json.dumps(manifest).encode(), "manifest.json")


def as_version_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest as hdistill wrote it when its version was 1, with the fields that the oldest sets lacked left out."""
    old = json.loads(json.dumps(manifest)) | {"version": 1}
    del old["teacher"]["arguments"]
    del old["hessian"]["n_computed"]
    for key in ("n_read", "n_duplicates", "inputs", "taken"):
        del old["subset"][key]
    old["history"] = {
        **{"made_by": "subset", "where": "n_atoms > 3", "split": None, "limit": None, "seed": 0},
        "parents": [
            {
                **{"digest": "ab" * 32, "plan": "a plan", "subset": old["subset"], "splits": old["splits"]},
                **{"preflight": old["preflight"], "environment": old["environment"]},
                **{"teacher": {"device": "cpu", "versions": {}}, "counts": {"n_structures": 9, "n_quarantined": 1}},
                "history": {"made_by": "import", "units": "eV/A", "negate": False, "seed": 0},
            }
        ],
    }
    return dict(old)


def test_a_set_of_version_1_is_read_and_left_as_it_is(labels: Path) -> None:
    file = labels / "manifest.json"
    present = file.read_bytes()
    old = json.dumps(as_version_1(json.loads(present)), indent=1).encode()
    file.write_bytes(old)
    manifest = verify(labels).manifest
    assert manifest.version == MANIFEST_VERSION
    assert manifest.teacher.arguments == {}
    assert manifest.hessian.n_computed is None
    assert (manifest.subset.n_read, manifest.subset.inputs) == (0, ())
    assert manifest.history is not None
    assert manifest.history.settings == {"where": "n_atoms > 3", "split": None, "limit": None, "seed": 0}
    (parent,) = manifest.history.parents
    assert parent.history is not None
    assert parent.history.settings == {"units": "eV/A", "negate": False, "seed": 0}
    assert info(labels)["n_structures"] == 8
    assert file.read_bytes() == old
    assert parse_manifest(as_bytes(manifest), "again") == manifest
    file.write_bytes(present)


def test_every_version_has_a_step_to_the_next() -> None:
    assert set(STEPS) == set(range(1, MANIFEST_VERSION))


@pytest.mark.parametrize("section", ["teacher", "hessian", "subset", "quarantine", "history", "shards"])
@pytest.mark.parametrize(
    "wrong", [None, 3, "text", [], [3], {"parents": 3}, {"parents": [3]}, {"parents": [{"history": 3}]}]
)
def test_a_damaged_old_manifest_is_refused_in_a_sentence(labels: Path, section: str, wrong: Any) -> None:
    old = as_version_1(json.loads((labels / "manifest.json").read_bytes())) | {section: wrong}
    try:
        manifest = parse_manifest(json.dumps(old).encode(), "manifest.json")
    except LabelSetError as error:
        assert section in str(error)  # noqa: PT017 (some of these are right)
    else:
        assert (section, wrong) in [("quarantine", []), ("shards", []), ("history", None)]
        assert isinstance(manifest, Manifest)


@pytest.mark.parametrize("version", [0, -1, MANIFEST_VERSION + 1, "1", None, True])
def test_a_version_that_nobody_knows_is_named(version: object) -> None:
    with pytest.raises(LabelSetError, match=f"versions 1 to {MANIFEST_VERSION}"):
        migrated({"version": version}, "x")


def test_json_of_a_manifest_is_what_is_in_the_file(labels: Path) -> None:
    assert json.loads(json.dumps(as_json(read_manifest(labels)))) == json.loads((labels / "manifest.json").read_bytes())
