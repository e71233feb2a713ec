"""The licence of labels: the stricter of structures and weights, whatever a manifest claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdistill.data.errors import InputError
from hdistill.data.format.manifest import read_manifest
from hdistill.data.publication.licences import (
    CLASSES,
    KNOWN,
    labels_licence,
    of_licenses,
    of_manifest,
    require_known,
    with_stated,
)
from hdistill.labeler.teachers.registry import ENTRIES
from tests.data.published import label_set

ASL = "Academic Software License (non-commercial)"
GPL = "GPL-3.0 (as listed for the weights; the package is MIT)"


@pytest.mark.parametrize(
    ("structures", "weights", "weights_class", "id", "license_class"),
    [
        ("CC0-1.0", "MIT", "open", "MIT", "open"),
        ("CC-BY-4.0", "MIT", "open", "CC-BY-4.0", "open"),
        ("CC0-1.0", "modified BSD", "open", "BSD-3-Clause", "open"),
        ("CC0-1.0 + CC-BY-4.0 + MIT", "MIT", "open", "CC-BY-4.0", "open"),
        ("CC-BY-4.0", GPL, "copyleft", "GPL-3.0", "copyleft"),
        ("CC-BY-SA-4.0", GPL, "copyleft", "CC-BY-SA-4.0 + GPL-3.0", "copyleft"),
        ("CC0-1.0", ASL, "nc", ASL, "nc"),
        ("CC-BY-NC-4.0", "MIT", "open", "CC-BY-NC-4.0", "nc"),
        ("CC-BY-NC-4.0", ASL, "nc", f"CC-BY-NC-4.0 + {ASL}", "nc"),
        ("CC-BY-NC-4.0", "FAIR Chemistry License v1", "gated", "FAIR Chemistry License v1", "gated"),
        ("unknown", "MIT", "open", "unknown", "unknown"),
        ("CC0-1.0 + unknown", "MIT", "open", "unknown", "unknown"),
        ("CC0-1.0", "unknown", "unknown", "unknown", "unknown"),
        ("my own terms", "MIT", "open", "unknown", "unknown"),
        ("CC0-1.0", "MIT", "something else", "unknown", "unknown"),
        # A class that is wider than the licence's own name says is not believed.
        ("CC0-1.0", "CC-BY-NC-4.0", "open", "CC-BY-NC-4.0", "nc"),
        ("CC0-1.0", f"{ASL} + MIT", "nc", f"MIT + {ASL}", "nc"),
    ],
)
def test_the_stricter_one_wins(structures: str, weights: str, weights_class: str, id: str, license_class: str) -> None:
    actual = labels_licence(structures, weights, weights_class)
    assert (actual.id, actual.license_class) == (id, license_class)
    assert structures in actual.why
    assert weights in actual.why


def test_labels_are_never_wider_than_what_they_were_made_of() -> None:
    """Every known licence of structures with every teacher of the catalogue."""
    for structures in (*KNOWN, "unknown"):
        for teacher in ENTRIES.values():
            actual = labels_licence(structures, teacher.weights_license, teacher.license_class)
            assert CLASSES.index(actual.license_class) >= CLASSES.index(teacher.license_class)
            own = KNOWN[structures].license_class if structures in KNOWN else "unknown"
            assert CLASSES.index(actual.license_class) >= CLASSES.index(own)


def test_a_manifest_claim_is_worked_out_again() -> None:
    licenses = {"structures": "CC0-1.0", "weights": ASL, "weights_class": "nc", "labels": "MIT", "labels_class": "open"}
    assert of_licenses(licenses).license_class == "nc"
    assert of_licenses({}).license_class == "unknown"


def test_a_manifest_says_the_licence_of_its_labels(tmp_path: Path) -> None:
    licenses = {"structures": "CC0-1.0", "weights": ASL, "weights_class": "nc", "code": "MIT"}
    manifest = read_manifest(label_set(tmp_path / "labels", n=4, licenses=licenses))
    assert (manifest.licenses.labels, manifest.licenses.labels_class) == (ASL, "nc")
    assert manifest.licenses.labels_why == of_manifest(manifest).why == of_licenses(licenses).why


def test_what_a_publisher_states_fills_gaps_and_no_more() -> None:
    licenses = {"structures": "MIT + unknown", "weights": ASL, "weights_class": "nc"}
    stated = {"structures": "CC-BY-4.0", "weights": "MIT"}
    assert with_stated(licenses, stated) == {"structures": "MIT + CC-BY-4.0", "weights": ASL, "weights_class": "nc"}
    unknown = {"structures": "MIT", "weights": "unknown", "weights_class": "unknown"}
    assert with_stated(unknown, {"weights": "GPL-3.0"})["weights_class"] == "copyleft"


def test_licences_are_named_as_spdx_does() -> None:
    assert require_known("cc-by-4.0") == "CC-BY-4.0"
    assert require_known("CC0") == "CC0-1.0"
    with pytest.raises(InputError, match=r"Did you mean 'CC-BY-4\.0'"):
        require_known("CC-BY-4")
