"""An audit agrees with an honest set, and names what was changed in one whose hashes were made to fit."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from click.testing import CliRunner

from hdistill.data.errors import HDistillError, InputError, LabelSetError, TeacherError
from hdistill.data.format.shard import read_samples
from hdistill.data.format.shard_file import Arrays, image, read_arrays
from hdistill.data.labelsets.label_set import open_label_set, read_manifest
from hdistill.data.sources import select
from hdistill.data.support.typed import as_json
from hdistill.labeler import audit as audit_module
from hdistill.labeler.audit import AuditSettings, audit, draw_samples
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.teachers import environments
from tests.labeler.conftest import clusters, write_extxyz
from tests.labeler.quickly import label_quickly

ALL = AuditSettings(n=100)


def silent(_: str) -> None: ...


def forge(folder: Path, out: Path, change: Callable[[Arrays], Arrays]) -> Path:
    """The set with other arrays in its first shard, and every hash in the manifest made to fit."""
    shutil.copytree(folder, out)
    manifest = as_json(read_manifest(out))
    row = manifest["shards"][0]
    old = out / "shards" / row["name"]
    arrays, attributes = read_arrays(old)
    kept = {key: value for key, value in attributes.items() if key == "plan"}
    data = image(change(dict(arrays)), kept)
    old.unlink()
    sha256 = hashlib.sha256(data).hexdigest()
    row |= {"name": f"00000-{sha256[:8]}.h5", "sha256": sha256, "bytes": len(data)}
    (out / "shards" / row["name"]).write_bytes(data)
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


@pytest.fixture(scope="module", params=["rows:3"])
def honest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    # Closer than argon likes: forces and Hessians of a size that tolerances are made for.
    structures = clusters(12)
    for atoms in structures:
        atoms.positions *= 0.85
    source = write_extxyz(folder / "argon.xyz", structures)
    settings = LabelSettings("lennard-jones", (str(source),), hessian=request.param, dtype="float64", codec="exact")
    return label_quickly(settings, folder / "labels")


def test_an_honest_set_agrees(honest: Path) -> None:
    result = audit(honest, AuditSettings(n=5), say=silent)
    assert result["agrees"]
    assert result["n"] == 5
    assert set(result["quantities"]) == {"energy", "forces", "products"}
    for row in result["quantities"].values():
        assert row["n"] == 5
        assert row["worst"] < row["allowed"] / 10
    labels = open_label_set(honest)
    first, again, other = ([s.structure.id for s in draw_samples(labels, 5, seed)] for seed in (0, 0, 1))
    assert first == again != other


def one(name: str, by: float, at: int = 0) -> Callable[[Arrays], Arrays]:
    """A change of one element of one array."""

    def change(arrays: Arrays) -> Arrays:
        array = arrays[name].copy()
        array.reshape(-1)[at] += by
        return arrays | {name: array}

    return change


def test_what_was_changed_is_named(honest: Path, tmp_path: Path) -> None:
    """The energy of the first structure, a force of the second, a product of the third: each by very little."""

    def change(arrays: Arrays) -> Arrays:
        force = 3 * int(arrays["atom_offsets"][1])
        value = int((3 * np.diff(arrays["atom_offsets"]) * np.diff(arrays["product_offsets"]))[:2].sum())
        for step in (one("energy", 0.001), one("forces", 0.002, force), one("hessian_values", 0.01, value)):
            arrays = step(arrays)
        return arrays

    forged = forge(honest, tmp_path / "forged", change)
    ids = [row.tobytes().hex() for row in read_arrays(next((forged / "shards").iterdir()))[0]["id"]]
    result = audit(forged, ALL, say=silent)
    assert not result["agrees"]
    for quantity, culprit in zip(("energy", "forces", "products"), ids, strict=False):
        row = result["quantities"][quantity]
        assert row["n_outside"] == 1
        assert row["id"] == culprit
        assert row["worst"] > row["allowed"]


def test_products_of_other_directions_are_noticed(honest: Path, tmp_path: Path) -> None:
    def other_rows(arrays: Arrays) -> Arrays:
        return arrays | {"hessian_coordinate": (arrays["hessian_coordinate"] + 1) % 9}

    result = audit(forge(honest, tmp_path / "forged", other_rows), AuditSettings(n=4), say=silent)
    assert result["quantities"]["products"]["n_outside"] == 4
    assert result["quantities"]["forces"]["n_outside"] == 0


def test_a_manifest_cannot_widen_the_tolerance(honest: Path, tmp_path: Path) -> None:
    forged = forge(honest, tmp_path / "forged", one("hessian_values", 1.0))
    manifest = as_json(read_manifest(forged))
    manifest["hessian"]["codec_error_max"] = 1e9
    (forged / "manifest.json").write_text(json.dumps(manifest))
    assert not audit(forged, ALL, say=silent)["agrees"]


def test_the_command_says_so_and_exits_with_it(honest: Path, tmp_path: Path) -> None:
    from hdistill.pipelines.cli.main import main

    good = CliRunner().invoke(main, ["labels", "audit", str(honest), "--n", "3"])
    assert good.exit_code == 0
    assert "All 3 structures agree with lennard-jones" in good.output
    forged = forge(honest, tmp_path / "forged", one("energy", 0.5))
    bad = CliRunner().invoke(main, ["labels", "audit", str(forged), "--n", "100", "--json"])
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)["agrees"] is False


def test_a_shard_that_is_not_the_manifests_is_not_audited(honest: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(honest, tmp_path / "broken")
    shard = next((broken / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[-10] ^= 1
    shard.write_bytes(data)
    with pytest.raises(LabelSetError):
        audit(broken, ALL, say=silent)


def test_another_teacher_is_refused_and_another_version_is_said(honest: Path, tmp_path: Path) -> None:
    def claim(name: str, **changed: object) -> Path:
        copy = shutil.copytree(honest, tmp_path / name)
        manifest = as_json(read_manifest(copy))
        manifest["teacher"] |= changed
        (copy / "manifest.json").write_text(json.dumps(manifest))
        return copy

    with pytest.raises(TeacherError, match="weights_sha256 was abab"):
        audit(claim("weights", weights_sha256="ab" * 32), ALL, say=silent)
    messages: list[str] = []
    old = claim("old", versions={"numpy": "1.0.0"})
    assert audit(old, AuditSettings(n=1), say=messages.append)["agrees"]
    assert any("numpy was 1.0.0, here it is" in line for line in messages)
    with pytest.raises(InputError, match="no teacher that could be asked"):
        audit(claim("reference", family="reference"), ALL, say=silent)
    with pytest.raises(InputError, match="--n was 0"):
        audit(honest, AuditSettings(n=0), say=silent)


def test_a_calculator_and_its_arguments_are_typed_by_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the manifest, and nothing of it is run: with the same ones typed, the set agrees; with others it is refused."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    source = write_extxyz(tmp_path / "few.xyz", clusters(3))
    name, given = "ase:tests.labeler.poison.Drifting", ("epsilon=0.07",)
    labels = label_quickly(
        LabelSettings(name, (str(source),), hessian="probes:1", arguments=given), tmp_path / "labels"
    )
    assert read_manifest(labels).teacher.arguments == {"epsilon": 0.07}
    with pytest.raises(InputError, match="does not come with hdistill"):
        audit(labels, ALL, say=silent)
    with pytest.raises(
        InputError, match=r"labelled with the arguments \{'epsilon': 0.07\} and the audit was given \{\}"
    ):
        audit(labels, replace(ALL, teacher=name), say=silent)
    typed = replace(ALL, teacher=name, arguments=given)
    assert audit(labels, typed, say=silent)["agrees"]
    monkeypatch.setenv("HDISTILL_TEST_EPSILON", "0.05")
    assert not audit(labels, typed, say=silent)["agrees"]


# What a stranger may write into a manifest; each would run his code if it were used.
BAIT = {
    "a function with arguments": ("ase:subprocess.Popen", "ase", {"args": ["touch", "BAIT"]}),
    "a calculator": ("ase:bait.Calculator", "ase", {}),
    "a package's model": ("outside:bait:x", "outside", {}),
    "a student": ("student:bait", "outside", {}),
    "a pickle in the set": ("SET/bait.model", "mace", {}),
    "a pickle by its family": ("mace:SET/bait.model", "mace", {}),
    "a checkpoint": ("SET/bait.pt", "fairchem", {}),
    "a size that is a path": ("mace-mp:SET/bait.model", "mace", {}),
    "a size that is an address": ("mace-mp:https://127.0.0.1/bait.model", "mace", {}),
    "arguments of an honest name": ("lennard-jones", "lennard_jones", {"args": ["touch", "BAIT"]}),
    "no name": (["ase:subprocess.Popen"], "ase", {"args": ["touch", "BAIT"]}),
}


@pytest.mark.parametrize("kind", BAIT)
def test_nothing_that_a_manifest_names_is_run(honest: Path, tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "bait-was-taken"
    name, family, arguments = json.loads(
        json.dumps(BAIT[kind]).replace("BAIT", str(mark)).replace("SET", str(tmp_path / "set"))
    )
    folder = shutil.copytree(honest, tmp_path / "set")
    for suffix in ("model", "pt"):
        (folder / f"bait.{suffix}").write_bytes(pickle.dumps(Bait(str(mark))))
    manifest = as_json(read_manifest(folder))
    manifest["teacher"] |= {"name": name, "family": family, "arguments": arguments}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises((InputError, LabelSetError)):
        audit(folder, AuditSettings(n=1), say=silent)
    assert not mark.exists()


class Bait:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return open, (self.mark, "w")  # type: ignore[return-value]


def test_the_bait_works_where_the_user_types_its_name(honest: Path, tmp_path: Path) -> None:
    """Else the tests above would show nothing."""
    mark = tmp_path / "bait-was-taken"
    typed = AuditSettings(n=1, teacher="ase:subprocess.Popen", arguments=(f'args=["touch", "{mark}"]',))
    copy = shutil.copytree(honest, tmp_path / "set")
    manifest = as_json(read_manifest(copy))
    manifest["teacher"]["arguments"] = {"args": ["touch", str(mark)]}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(HDistillError):  # a process is not a calculator
        audit(copy, typed, say=silent)
    assert mark.exists()


def test_a_file_that_the_user_names_is_called_a_pickle(honest: Path, tmp_path: Path) -> None:
    model = tmp_path / "mine.model"
    model.write_bytes(b"")
    messages: list[str] = []
    request = audit_module.request_of(read_manifest(honest), AuditSettings(teacher=str(model)), messages.append)
    assert request.model == str(model)
    assert "mine.model is a pickle, which can run code" in messages[0]


def test_nobody_knows_which_structures_will_be_looked_at(honest: Path) -> None:
    """The order of an audit has nothing to do with the order of a plan, and its seed is drawn anew."""
    labels = open_label_set(honest)
    stored = [s.structure.id for shard in labels.shards for s in read_samples(shard.path)]
    for seed in range(5):
        drawn = [audit_module.order_key(seed, key) for key in stored]
        planned = [select.order_key(seed, key) for key in stored]
        order, other = np.argsort(np.array(drawn, "S16")), np.argsort(np.array(planned, np.uint64))
        assert order.tolist() != other.tolist()
    messages: list[str] = []
    seeds = {audit(honest, AuditSettings(n=1), say=messages.append)["seed"] for _ in range(2)}
    assert len(seeds) == 2
    assert all(any(f"--seed {seed}" in line for line in messages) for seed in seeds)


def test_how_many_false_labels_are_found_with_what_probability(honest: Path) -> None:
    """1 - (1 - f)^n, which the documentation states: a quarter false, 5 of 12 looked at, over many seeds."""
    labels = open_label_set(honest)
    ids = sorted(s.structure.id for shard in labels.shards for s in read_samples(shard.path))
    false = set(ids[:3])
    actual = sum(
        bool(false & set(sorted(ids, key=lambda key: audit_module.order_key(seed, key))[:5])) for seed in range(2000)
    )
    without_replacement = 1 - math.comb(9, 5) / math.comb(12, 5)
    assert actual / 2000 == pytest.approx(without_replacement, abs=0.03)


@pytest.mark.long
@pytest.mark.skipif(environments.find("torchani") is None, reason="torchani is not installed")
def test_a_real_teacher_in_single_precision(tmp_path: Path) -> None:
    molecules = [molecule(name) for name in ("H2O", "CH4", "NH3")]
    for number, atoms in enumerate(molecules):
        atoms.rattle(0.05, seed=number)
    source = write_extxyz(tmp_path / "few.xyz", molecules)
    settings = LabelSettings("ani-1x", (str(source),), hessian="probes:2")
    labels = label_quickly(settings, tmp_path / "labels")
    result = audit(labels, replace(ALL, seed=3), say=silent)
    assert result["agrees"]
    assert result["quantities"]["products"]["n"] == 3

    def turned(arrays: Arrays) -> Arrays:
        return arrays | {"forces": -arrays["forces"]}

    lies = audit(forge(labels, tmp_path / "forged", turned), ALL, say=silent)
    assert not lies["agrees"]
    assert lies["quantities"]["forces"]["n_outside"] == 3
    assert np.isfinite(lies["quantities"]["forces"]["worst"])
