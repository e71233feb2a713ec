"""What is exported reads back: the same structures, the same labels, to the last digit that the format keeps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
import pytest

from hdistill.data import sources
from hdistill.data.convert.exporting import export
from hdistill.data.errors import InputError
from hdistill.data.format.shard import Sample, read_samples
from hdistill.data.labelsets.label_set import open_label_set
from tests.data.made import make_label_set, samples_of

KINDS = ("probes:3", "rows:2", "none")


def odd_names(samples: list[Sample]) -> list[Sample]:
    """Groups and info that a careless writer or reader changes on the way."""
    names = ["007", "1 2 3", 'say "C=O"\\', "T", "a b"]
    info: list[dict[str, Any]] = [
        {"text": "1e5"},
        {"text": "two\nlines"},
        {"gap": 0.1},
        {"list": [1, 2]},
        {"flag": True},
    ]
    structures = [replace(s.structure, group=g, info=i) for s, g, i in zip(samples, names, info, strict=True)]
    return [replace(s, structure=structure) for s, structure in zip(samples, structures, strict=True)]


@pytest.fixture(params=KINDS)
def labelled(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make_label_set(tmp_path / "labels", odd_names(samples_of(request.param)))


def test_extxyz_reads_back(labelled: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.xyz"
    result = export(labelled, "extxyz", file)
    stored = [sample for shard in open_label_set(labelled).shards for sample in read_samples(shard.path)]
    assert result["n_structures"] == len(stored) == 5
    again = list(sources.read(str(file)))
    assert [s.id for s in again] == [s.structure.id for s in stored]
    for actual, sample, atoms in zip(again, stored, ase.io.read(file, ":"), strict=True):
        s, labels = sample.structure, sample.labels
        assert actual.group == s.group
        assert (actual.charge, actual.spin) == (s.charge, s.spin)
        assert {k: actual.info[k] for k in s.info} == dict(s.info)
        assert actual.info["split"] == sample.split
        assert atoms.get_potential_energy() == labels.energy
        assert np.array_equal(atoms.get_forces().astype(np.float32), labels.forces)
        if labels.stress is not None:
            asymmetric = labels.stress  # ASE keeps six numbers of nine; they are the right ones
            kept = atoms.get_stress(voigt=False)
            assert np.allclose(np.diag(kept), np.diag(asymmetric), rtol=1e-6)
        if s.ref_energy is not None:
            assert actual.ref_energy == s.ref_energy
            assert s.ref_forces is not None
            assert actual.ref_forces is not None
            assert np.array_equal(actual.ref_forces.astype(np.float32), s.ref_forces)
        hessian = labels.hessian
        assert ("hessian_products" in atoms.arrays) == (hessian is not None)
        if hessian is None:
            continue
        k = len(hessian.values)
        products = atoms.arrays["hessian_products"].reshape(s.n_atoms, k, 3).transpose(1, 0, 2)
        assert np.array_equal(products.astype(np.float32), hessian.values)
        if hessian.directions.signs is not None:
            signs = atoms.arrays["hessian_probes"].reshape(s.n_atoms, k, 3).transpose(1, 0, 2)
            assert np.array_equal(signs, hessian.directions.signs)
        else:
            assert np.array_equal(np.atleast_1d(atoms.info["hessian_rows"]), hessian.directions.coordinate)


def test_an_ase_database_reads_back(labelled: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.db"
    export(labelled, "ase-db", file)
    stored = [sample for shard in open_label_set(labelled).shards for sample in read_samples(shard.path)]
    assert [s.id for s in sources.read(str(file))] == [s.structure.id for s in stored]
    with ase.db.connect(file) as database:
        assert "dE/dR" in database.metadata["sign"]
        for row, sample in zip(database.select(), stored, strict=True):
            assert row.energy == sample.labels.energy
            assert np.array_equal(row.forces.astype(np.float32), sample.labels.forces)
            assert row.data["group"] == sample.structure.group
            hessian = sample.labels.hessian
            if hessian is not None:
                assert np.array_equal(row.data["hessian_products"], hessian.values)


def test_parquet_reads_back(labelled: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "out.parquet"
    export(labelled, "parquet", file)
    table = parquet.read_table(file)
    assert json.loads(table.schema.metadata[b"hdistill"])["units"]["hessian"] == "eV/A^2"
    stored = [sample for shard in open_label_set(labelled).shards for sample in read_samples(shard.path)]
    for row, sample in zip(table.to_pylist(), stored, strict=True):
        s, labels = sample.structure, sample.labels
        assert row["id"] == s.id
        assert row["group"] == s.group
        assert row["split"] == sample.split
        assert json.loads(row["info"]) == dict(s.info)
        assert np.array_equal(np.array(row["positions"]), s.positions)
        assert np.array_equal(np.array(row["cell"]), s.cell)
        assert np.array_equal(np.array(row["forces"], np.float32), labels.forces)
        assert (row["stress"] is None) == (labels.stress is None)
        assert row["REF_energy"] == s.ref_energy
        hessian = labels.hessian
        if hessian is not None:
            assert np.array_equal(np.array(row["hessian_products"], np.float32), hessian.values)
            if hessian.directions.signs is not None:
                assert np.array_equal(np.array(row["hessian_probes"]), hessian.directions.signs)
            else:
                assert np.array_equal(np.array(row["hessian_rows"]), hessian.directions.coordinate)


def test_one_split_alone(tmp_path: Path) -> None:
    labels = make_label_set(tmp_path / "labels", samples_of("probes:1"))
    assert export(labels, "extxyz", tmp_path / "val.xyz", split="val")["n_structures"] == 2
    assert {s.info["split"] for s in sources.read(str(tmp_path / "val.xyz"))} == {"val"}


def test_what_cannot_be_exported_is_said_and_nothing_is_touched(tmp_path: Path) -> None:
    labels = make_label_set(tmp_path / "labels", samples_of("probes:1"))
    taken = tmp_path / "taken.xyz"
    taken.write_text("mine")
    for to, file, words in (
        ("parket", tmp_path / "a", "Did you mean 'parquet'"),
        ("extxyz", taken, "exists"),
    ):
        with pytest.raises(InputError, match=words):
            export(labels, to, file)
    assert taken.read_text() == "mine"
    assert not (tmp_path / "a").exists()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough for several blocks."""
    samples = samples_of("probes:2", sizes=[8] * 1100)
    return make_label_set(tmp_path_factory.mktemp("many") / "labels", samples, per_part=1100)


@pytest.mark.parametrize("to", ["extxyz", "ase-db", "parquet"])
def test_a_killed_export_leaves_no_half_file(many: Path, tmp_path: Path, to: str) -> None:
    if to == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    code = "from pathlib import Path; from hdistill.data.convert.exporting import export; "
    code += f"export(Path({str(many)!r}), {to!r}, Path({str(out)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not any(p.stat().st_size > 0 for p in tmp_path.glob(".out*")):
        assert process.poll() is None, "done before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert export(many, to, out)["n_structures"] == 1100
