"""The card: front matter that the hub reads, every number from the manifest, nothing that a text in a manifest could inject."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hdistill.data.errors import InputError, LabelSetError
from hdistill.data.labelsets.label_set import open_label_set
from hdistill.data.publication.documents import CARD, CROISSANT, documents, state
from hdistill.data.publication.licences import KNOWN
from hdistill.data.publication.statement import PUBLICATION, Permission, Publication, read_publication
from tests.data.published import OPEN, PREFLIGHT, TEACHER, label_set

# https://huggingface.co/docs/hub/repositories-licenses, as far as licences of ours go
HUB = {
    *("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
    *("cc-by-nc-sa-4.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "odc-by", "odbl", "pddl", "unknown", "other"),
}


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_set(tmp_path_factory.mktemp("card") / "labels")


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return manifest


def front_matter(card: bytes) -> tuple[dict[str, Any], str]:
    _, head, text = card.decode().split("---\n", 2)
    return yaml.safe_load(head), text


def rows(text: str) -> dict[str, str]:
    """First and second cell of every row of every table."""
    return {cells[0]: cells[1] for cells in re.findall(r"^\| (.*?) \| (.*) \|$", text, re.MULTILINE)}


def test_it_is_written_with_the_set_and_the_same_every_time(labels: Path, tmp_path: Path) -> None:
    manifest = (labels / "manifest.json").read_bytes()
    assert documents(manifest) == documents(manifest)
    for name, data in documents(manifest).items():
        assert (labels / name).read_bytes() == data
    again = label_set(tmp_path / "again")
    assert (again / CARD).read_bytes() == (labels / CARD).read_bytes()


def test_the_front_matter(labels: Path) -> None:
    head, _ = front_matter((labels / CARD).read_bytes())
    assert head["license"] == "mit"
    assert head["size_categories"] == ["n<1K"]
    assert head["viewer"] is False
    assert {"hessian", "lennard-jones"} <= set(head["tags"])
    assert head["pretty_name"] == "Energies, forces and Hessian products of lennard-jones on some.xyz"
    assert set(head) == {"license", "pretty_name", "tags", "task_categories", "size_categories", "viewer"}


@pytest.mark.parametrize(
    ("n", "category"), [(999, "n<1K"), (1000, "1K<n<10K"), (10**6, "1M<n<10M"), (10**7, "10M<n<100M"), (10**10, "n>1B")]
)
def test_sizes(labels: Path, n: int, category: str) -> None:
    manifest = manifest_of(labels)
    manifest["counts"]["n_structures"] = n
    assert front_matter(documents(json.dumps(manifest).encode())[CARD])[0]["size_categories"] == [category]


def test_every_number_is_the_manifests(labels: Path) -> None:
    manifest = manifest_of(labels)
    _, text = front_matter((labels / CARD).read_bytes())
    actual, counts, hessian = rows(text), manifest["counts"], manifest["hessian"]
    assert actual["structures"] == str(counts["n_structures"]) == "40"
    assert actual["atoms"] == str(counts["n_atoms"])
    assert actual["groups (molecules or materials)"] == str(counts["n_groups"])
    assert actual["Hessian products"] == str(hessian["n_products"])
    assert actual["in quarantine"] == str(counts["n_quarantined"]) == "1"
    for split, n in manifest["splits"]["n_structures"].items():
        assert actual[f"split {split}"] == str(n)
    elements = actual["elements (structures that have them)"].split()
    assert dict(zip(elements[::2], map(int, elements[1::2]), strict=True)) == {
        symbol: counts["elements"][str(z)]
        for z, symbol in enumerate(["X", "H", "He", "Li", "Be", "B", "C", "N", "O"])
        if str(z) in counts["elements"]
    }
    assert actual["shards"] == f"4, {sum(shard['bytes'] for shard in manifest['shards'])} bytes"
    assert actual["digest of the shards"] == open_label_set(labels).digest
    for name, unit in manifest["units"].items():
        assert actual[name] == unit
    assert f"{hessian['bytes_per_element']:.3g} bytes per element" in text
    assert f"{hessian['codec_error_mean']:.2g} in the mean and {hessian['codec_error_max']:.2g} at most" in text
    for figure in ("product_difference_error", "force_difference_error", "product_run_precision_error"):
        assert f"{PREFLIGHT[figure]:.2g}" in text
    assert actual["level of theory"] == r"a formula \| with a bar"
    assert actual["nan"] == "1"  # structures in quarantine, by reason
    assert "hessian = +d2E/dR2 = -dF/dR" in text
    for citation in (TEACHER["citation"], "A. Source (2020)", "2501.09009", "2603.04523"):
        assert str(citation) in text
    assert actual["**these labels**"] == "**MIT**, open"
    assert "hdistill fit labels/" in text
    assert "hdistill labels verify" in text


def test_a_changed_number_changes_the_card(labels: Path) -> None:
    """Nothing of what is shown is remembered or made up: change any number of the manifest, and the card has the new one."""
    manifest = manifest_of(labels)
    for path in (
        "counts.n_structures",
        "counts.n_atoms",
        "counts.n_groups",
        "counts.n_quarantined",
        "hessian.n_products",
    ):
        outer, inner = path.split(".")
        changed = json.loads(json.dumps(manifest))
        changed[outer][inner] = 987654
        assert b"987654" in documents(json.dumps(changed).encode())[CARD], path
    for path in ("codec_error_mean", "codec_error_max", "bytes_per_element"):
        changed = json.loads(json.dumps(manifest))
        changed["hessian"][path] = 0.0777
        assert (
            b"0.0777" in documents(json.dumps(changed).encode())[CARD]
            or b"0.078" in documents(json.dumps(changed).encode())[CARD]
        )


def test_texts_of_a_manifest_stay_texts(labels: Path) -> None:
    manifest = manifest_of(labels)
    manifest["teacher"]["name"] = 'x"\nlicense: "mit"\n--- <script>alert(1)</script> | [a](http://b)'
    manifest["subset"]["names"] = ["`rm` *x*.xyz"]
    head, text = front_matter(documents(json.dumps(manifest).encode())[CARD])
    assert head["license"] == "mit"  # its own, once: YAML would have refused or taken a second one
    assert "license" in head["pretty_name"]
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "[a](" not in text.replace("\\[a\\](", "")


def test_a_checkpoint_is_called_by_its_file_and_not_by_its_folder(labels: Path) -> None:
    manifest = manifest_of(labels)
    manifest["teacher"]["name"] = "/home/somebody/private/my.model"
    for data in documents(json.dumps(manifest).encode()).values():
        assert b"my.model" in data
        assert b"private" not in data


def test_a_licence_that_the_hub_does_not_know_has_a_name(labels: Path) -> None:
    manifest = manifest_of(labels)
    manifest["licenses"] |= {"weights": "Academic Software License (non-commercial)", "weights_class": "nc"}
    head, _ = front_matter(documents(json.dumps(manifest).encode())[CARD])
    assert (head["license"], head["license_name"]) == ("other", "academic-software-license-non-commercial")


def test_licences_of_the_front_matter_are_the_hubs(labels: Path) -> None:
    for name in (*KNOWN, "unknown"):
        manifest = manifest_of(labels)
        manifest["licenses"] |= {"structures": name, "weights": "CC0-1.0", "weights_class": "open"}
        head, _ = front_matter(documents(json.dumps(manifest).encode())[CARD])
        assert head["license"] in HUB
        assert ("license_name" in head) == (head["license"] == "other")


def test_what_the_publisher_states_survives(tmp_path: Path) -> None:
    folder = label_set(tmp_path / "labels", licenses=OPEN | {"structures": "unknown"})
    manifest = (folder / "manifest.json").read_bytes()
    assert front_matter((folder / CARD).read_bytes())[0]["license"] == "unknown"
    state(folder, title="Clusters: 'a' set", authors=("A. One", "B. Two"), url="https://example.org/x")
    state(folder, structures_license="cc-by-4.0", date="2026-11-22", title="")
    head, text = front_matter((folder / CARD).read_bytes())
    assert (head["license"], head["pretty_name"]) == ("cc-by-4.0", "Clusters: 'a' set")
    assert "By A. One, B. Two. Home: <https://example.org/x>." in text
    assert rows(text)["the structures"] == "CC-BY-4.0 (stated by the publisher)"
    assert rows(text)["the teacher's weights"] == "MIT, open"
    assert (folder / "manifest.json").read_bytes() == manifest
    label_set(folder)  # labelled once more, as a later pass does
    assert front_matter((folder / CARD).read_bytes())[0]["pretty_name"] == "Clusters: 'a' set"
    assert read_publication(folder).authors == ("A. One", "B. Two")


@pytest.mark.parametrize(
    ("stated", "messages"),
    [
        ({"date": "22.11.2026"}, "2026-11-22"),
        ({"url": "example.org"}, "https://"),
        ({"url": "https://a> <script"}, "https://"),
        ({"structures_license": "mine"}, "not a licence known"),
    ],
)
def test_a_wrong_statement_is_one_sentence_and_changes_nothing(
    labels: Path, stated: dict[str, str], messages: str
) -> None:
    with pytest.raises(InputError, match=messages):
        state(labels, **stated)
    assert not (labels / PUBLICATION).exists()


@pytest.mark.parametrize("text", ["[]", "{", '{"title": 3}', '{"colour": "red"}', '{"authors": [1]}', '{"authors": 1}'])
def test_a_damaged_publication_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / PUBLICATION).write_text(text)
    with pytest.raises(LabelSetError, match=r"publication\.json"):
        read_publication(tmp_path)


def test_a_permission_is_in_the_card(labels: Path) -> None:
    manifest = (labels / "manifest.json").read_bytes()
    permission = Permission("C. Three", "2026-11-22", open_label_set(labels).digest, "nc")
    actual = documents(manifest, Publication(), permission)
    assert "C. Three stated on 2026-11-22 to have permission" in actual[CARD].decode()
    other = Permission("C. Three", "2026-11-22", "00", "nc")  # for a set that was extended since
    assert documents(manifest, Publication(), other) == documents(manifest)


def test_what_is_no_manifest_has_no_card(labels: Path) -> None:
    with pytest.raises(LabelSetError, match="says its format is None"):
        documents(b'{"shards": []}')
    manifest = manifest_of(labels)
    del manifest["teacher"]["citation"]
    with pytest.raises(LabelSetError, match=r"it lacks teacher\.citation"):
        documents(json.dumps(manifest).encode())
    assert CROISSANT  # both come from one call, so neither is written
