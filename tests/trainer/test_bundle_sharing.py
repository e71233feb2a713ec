"""Bundles at an address: there and back, used from there, killed, lied to, changed, not to be shared. A folder, http and the hub's own
client against a server here; s3 and gs go through the same store as label sets do (tests/data/test_remote.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fsspec.config
import numpy as np
import pytest
from ase.build import molecule
from click.testing import CliRunner

import hdistill
from hdistill.data.errors import InputError, LicenceError, RemoteError
from hdistill.data.sharing import store as stores
from hdistill.pipelines.cli.main import main
from hdistill.trainer.bundles import place_of, remote
from hdistill.trainer.bundles.index import BUNDLE, write_index
from hdistill.trainer.force_field.engines.bundle import export_bundle
from hdistill.trainer.students.registry import size_of
from tests.data.published import web_server
from tests.files import files_of
from tests.pipelines.test_cli import run as typed
from tests.trainer.structures import saved_student

ORGANICS = place_of("organics")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stores, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("HDISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bundles"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ORGANICS, tmp_path / "copy")
    return tmp_path / "copy"


def energy(of: str | Path) -> float:
    return float(molecule("CH3OH", calculator=hdistill.HDistillCalculator(of, compiled=False)).get_potential_energy())


def test_there_and_back_gives_the_same_bytes(tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    pushed = hdistill.push_bundle(ORGANICS, there)
    assert files_of(there) == files_of(ORGANICS)
    pulled = hdistill.pull_bundle(there, back)
    assert files_of(back) == files_of(ORGANICS)
    assert (pushed["n_moved"], pulled["n_moved"], pulled["license"]) == (5, 5, "MIT")
    assert pushed["digest"] == pulled["digest"]
    assert hdistill.pull_bundle(there, back)["n_moved"] == 0
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes").touch()
    with pytest.raises(InputError, match="is in use, and not by this bundle"):
        hdistill.pull_bundle(there, tmp_path / "used")


def test_another_bundle_is_replaced_only_when_told(copy: Path, tmp_path: Path) -> None:
    hdistill.push_bundle(ORGANICS, tmp_path / "there")
    (copy / "README.md").write_text("# Mine\n")
    write_index(copy, [name for name in files_of(copy) if name != BUNDLE])
    with pytest.raises(InputError, match="holds another bundle"):
        hdistill.push_bundle(copy, tmp_path / "there")
    hdistill.push_bundle(copy, tmp_path / "there", replace=True)
    assert files_of(tmp_path / "there") == files_of(copy)
    with pytest.raises(InputError, match="is in use"):
        hdistill.pull_bundle(ORGANICS, copy)


def test_an_address_is_a_calculator_and_is_fetched_once(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with web_server(ORGANICS) as web:
        web.fail["domain.safetensors"] = 1
        web.cut["student.safetensors"] = 1
        assert energy(web.address) == energy(ORGANICS)
        assert "was fetched: bundle" in capsys.readouterr().err
        (folder,) = cache.iterdir()
        assert files_of(folder) == files_of(ORGANICS)
        before = len(web.asked)
        assert energy(web.address) == energy(ORGANICS)
        assert web.asked[before:] == [BUNDLE]
        (folder / "student.safetensors").write_bytes(b"mine")  # what is in the cache is not believed either
        assert energy(web.address) == energy(ORGANICS)
    with pytest.raises(RemoteError):
        energy(web.address)


def test_the_hubs_own_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hf://OWNER/NAME through huggingface_hub, to a server that has a model's description and files where the hub has them."""
    shutil.copytree(ORGANICS, tmp_path / "web" / "OWNER" / "NAME" / "resolve" / "main")
    with web_server(tmp_path / "web") as web:
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": web.address, "token": False})
        about = {"_id": "1", "id": "OWNER/NAME", "sha": "0" * 40, "private": False, "gated": False, "disabled": False}
        web.bodies["api/models/OWNER/NAME"] = json.dumps(about).encode()
        assert energy("hf://OWNER/NAME") == energy(ORGANICS)
        done = hdistill.md("hf://OWNER/NAME", molecule("CH3OH"), tmp_path / "md", steps=2, progress=False)
        assert done.as_json()["run"] == "hf://OWNER/NAME"
        assert hdistill.load_student("hf://OWNER/NAME").card.student == "ace-small"
        with pytest.raises(RemoteError, match=r"no such repository.*`hf repo create OWNER/OTHER`|OWNER/NAME`"):
            hdistill.push_bundle(ORGANICS, "hf://OWNER/OTHER")
    for address in ("hf://datasets/OWNER/NAME", "hf://NAME"):
        with pytest.raises(RemoteError, match="not a model on the Hugging Face hub; write it as hf://OWNER/NAME"):
            hdistill.HDistillCalculator(address)


def test_what_is_not_what_was_published_gets_no_name(copy: Path, tmp_path: Path, cache: Path) -> None:
    index = json.loads((copy / BUNDLE).read_text())
    student = (copy / "student.safetensors").read_bytes()
    with web_server(copy) as web:
        for name, body, message in (
            ("student.safetensors", bytes(len(student)), "is not what bundle.json says"),
            ("student.safetensors", student + b"!", "is not what bundle.json says"),
            (BUNDLE, b"[]", "is damaged"),
            (BUNDLE, b"{" * 100_000, "is damaged"),
            (BUNDLE, json.dumps(index | {"files": {"student.pt2": "0" * 64}}).encode(), "does not list student"),
            (BUNDLE, json.dumps(index | {"version": 2}).encode(), "is not of a hdistill bundle of version 1"),
            *(
                (
                    BUNDLE,
                    json.dumps(index | {"files": {**index["files"], name: "0" * 64}}).encode(),
                    "which no file of a bundle is called",
                )
                for name in ("../x", "/etc/passwd", ".hidden", "a/b", "bundle.json", "")
            ),
        ):
            web.bodies = {name: body}
            with pytest.raises(InputError, match=message):
                hdistill.HDistillCalculator(web.address)
            with pytest.raises(InputError, match=message):
                hdistill.pull_bundle(web.address, tmp_path / "back")
        web.bodies = {}
        (copy / "report.html").unlink()
        with pytest.raises(InputError, match=r"a file is not there.*damaged or being replaced"):
            hdistill.pull_bundle(web.address, tmp_path / "back")
        with pytest.raises(InputError, match=r"is not a bundle: it has no bundle\.json"):
            hdistill.HDistillCalculator(f"{web.address}/elsewhere")
    assert not (tmp_path / "back").exists()
    assert not list(cache.iterdir())


def test_a_server_that_sends_without_end_is_left(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_BYTES", 1000)
    with web_server(copy) as web, pytest.raises(InputError, match="more than the 1000 bytes"):
        hdistill.HDistillCalculator(web.address)


def test_machine_code_in_it_is_data(copy: Path, tmp_path: Path) -> None:
    """A file that the publisher lists is fetched and hashed like the others; what runs is made of the weights."""
    (copy / "student.pt2").write_bytes(b"\x7fELF")
    (copy / "sitecustomize.py").write_text("raise SystemExit('run')\n")
    write_index(copy, [name for name in files_of(copy) if name != BUNDLE])
    with web_server(copy) as web:
        calculator = hdistill.HDistillCalculator(web.address)
        assert not calculator.compiled
        assert np.isfinite(energy(web.address))
        with pytest.raises(InputError, match=r"student\.pt2 is not a bundle"):
            hdistill.HDistillCalculator(f"{web.address}/student.pt2")


def test_what_may_not_be_shared_is_not_pushed(tmp_path: Path) -> None:
    run = saved_student(tmp_path / "run", size_of("moment"), "moment")
    there, folder = tmp_path / "there", export_bundle(run, tmp_path / "bundle", licence="CC0-1.0").folder
    with pytest.raises(LicenceError, match=r"not pushed: .*class unknown.*the weights are.*--i-have-permission"):
        hdistill.push_bundle(folder, there)  # that of the teacher is not known, and not the publisher's to state
    assert not there.exists()
    card = json.loads((folder / "student.json").read_text())
    card["licenses"] = {"structures": "CC0-1.0", "weights": "MIT", "weights_class": "open"}
    (folder / "student.json").write_text(json.dumps(card))
    write_index(folder, [name for name in files_of(folder) if name != BUNDLE])
    with pytest.raises(LicenceError, match="class unknown"):  # the weights' own header is asked
        hdistill.push_bundle(folder, there)
    hdistill.push_bundle(folder, there, permission_by="A. One")
    said = json.loads((there / "permission.json").read_text())
    assert (said["by"], said["license_class"]) == ("A. One", "unknown")
    hdistill.pull_bundle(there, tmp_path / "back")
    assert not (tmp_path / "back" / "permission.json").exists()  # it is not handed on
    with pytest.raises(InputError, match=r"is not a bundle .*hdistill export RUN --to bundle"):
        hdistill.push_bundle(run, there)
    (folder / "README.md").write_text("better")
    with pytest.raises(InputError, match=r"README\.md.* is missing or not what was published"):
        hdistill.push_bundle(folder, there)
    with pytest.raises(RemoteError, match="can be read and not written"):
        hdistill.push_bundle(ORGANICS, "https://example.org/bundle")


def test_as_a_user_types_it(tmp_path: Path) -> None:
    back = typed("students", "pull", ORGANICS, tmp_path / "back")
    assert back.returncode == 0
    assert "5 of 5 files moved" in back.stdout
    pushed = CliRunner().invoke(main, ["students", "push", str(ORGANICS), str(tmp_path / "there"), "--json"])
    assert json.loads(pushed.output)["n_files"] == 5
