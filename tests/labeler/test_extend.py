"""More products, more structures: the same as if they had been labelled at once, and nothing is lost on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from hdistill.data.errors import InputError, PlanMismatch
from hdistill.data.format.records import Manifest
from hdistill.data.format.shard import Sample, read_samples
from hdistill.data.labelsets import agreement
from hdistill.data.labelsets.label_set import open_label_set, verify
from hdistill.labeler import extend as extending
from hdistill.labeler.extend import TeacherDrifted, add, extend
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.run import label
from tests.files import files_of
from tests.labeler.conftest import clusters, write_extxyz
from tests.labeler.quickly import QUIET, label_quickly


def silent(_: str) -> None: ...


def settings(*subset: Path, hessian: str = "probes:2") -> LabelSettings:
    return LabelSettings("lennard-jones", tuple(str(path) for path in subset), hessian=hessian, splits="0.6,0.2,0.2")


def samples_of(folder: Path) -> dict[str, Sample]:
    return {s.structure.id: s for shard in verify(folder).shards for s in read_samples(shard.path)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_extxyz(tmp_path_factory.mktemp("source") / "few.xyz", clusters(70))


@pytest.fixture(scope="module")
def two(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_quickly(settings(source), tmp_path_factory.mktemp("two") / "labels")


@pytest.fixture(scope="module")
def five(source: Path, two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two probes and, in a second pass, three more."""
    out = shutil.copytree(two, tmp_path_factory.mktemp("five") / "labels")
    add(settings(source), "probes:3", out, run=QUIET, say=silent)
    return out


def test_added_probes_are_those_of_one_long_pass(source: Path, two: Path, five: Path, tmp_path: Path) -> None:
    at_once = label_quickly(settings(source, hessian="probes:5"), tmp_path / "labels")
    before, after, wanted = samples_of(two), samples_of(five), samples_of(at_once)
    whole_manifest = open_label_set(at_once).manifest
    assert list(after) == list(before)
    allowed = agreement.tolerance(whole_manifest)
    for key, sample in after.items():
        had, has, whole = (x.labels.hessian for x in (before[key], sample, wanted[key]))
        assert had is not None
        assert has is not None
        assert whole is not None
        assert len(has.values) == 5
        assert np.array_equal(has.values[:2], had.values)  # not a bit of what was stored has changed
        assert agreement.same_directions(has.directions, whole.directions, 5)
        assert all(d.agrees for d in agreement.compare(wanted[key].labels, sample.labels, allowed))
        assert sample.labels.energy == before[key].labels.energy
        assert sample.split == before[key].split
    manifest = open_label_set(five).manifest
    assert manifest.hessian.per_structure == 5
    assert manifest.hessian.n_products == 350
    assert manifest.hessian.codec_error_mean == pytest.approx(whole_manifest.hessian.codec_error_mean)
    (record,) = manifest.passes
    assert record.products == (2, 5)
    assert record.parent == open_label_set(two).digest
    assert record.preflight.product_difference_error is not None
    assert record.preflight.product_difference_error < 1e-6
    assert {path.name for path in five.iterdir()} >= {"plan.json", "manifest.json", "shards"}
    assert not (five / "passes").exists()


def test_what_is_there_is_not_done_again(source: Path, five: Path) -> None:
    before = files_of(five)
    messages: list[str] = []
    for more in ("probes:3", "probes:1"):
        assert add(settings(source), more, five, run=QUIET, say=messages.append).n_labelled_now == 0
    assert "nothing to add" in messages[-1]
    label(settings(source), five, run=QUIET, say=messages.append)
    assert "complete already" in messages[-1]
    assert files_of(five) == before


@pytest.mark.long
def test_a_third_pass_labels_only_what_is_missing(source: Path, five: Path, tmp_path: Path) -> None:
    out = shutil.copytree(five, tmp_path / "labels")
    add(settings(source), "probes:4", out, run=QUIET, say=silent)
    first, second = open_label_set(out).manifest.passes
    assert (first.products, second.products) == ((2, 5), (5, 6))
    hessian = next(iter(samples_of(out).values())).labels.hessian
    assert hessian is not None
    assert len(hessian.values) == 6


@pytest.mark.long
def test_rows_are_added_until_there_are_no_more(tmp_path: Path) -> None:
    source = write_extxyz(tmp_path / "few.xyz", clusters(6))
    out = tmp_path / "labels"
    label_quickly(settings(source, hessian="rows:8"), out)
    add(settings(source, hessian="rows:8"), "rows:4", out, run=QUIET, say=silent)
    for sample in samples_of(out).values():
        products, n = sample.labels.hessian, sample.structure.n_atoms
        assert products is not None
        assert products.directions.coordinate is not None
        assert len(set(products.directions.coordinate.tolist())) == len(products.values) == min(12, 3 * n)


def test_what_cannot_be_added_is_said(source: Path, two: Path) -> None:
    for more in ("rows:2", "full", "probes:2@7", "some"):
        with pytest.raises(InputError, match=r"--add|--hessian"):
            add(settings(source), more, two, run=QUIET, say=silent)


COMMAND = ("--teacher", "lennard-jones", "--hessian", "probes:2", "--splits", "0.6,0.2,0.2", "--workers", "1")
MOMENTS = {
    "planning": lambda out: (out / "passes").exists(),
    "a chunk": lambda out: any(out.glob("passes/*/chunks/*.h5")) or any(out.glob("passes/*/manifest.json")),
    "the pass is done": lambda out: any(out.glob("passes/*/manifest.json")),
    "new shards": lambda out: (
        len(list(out.glob("shards/0*.h5"))) > 1 or "history" in (out / "manifest.json").read_text()
    ),
}


@pytest.mark.parametrize("moment", [pytest.param(m, marks=() if m == "a chunk" else pytest.mark.long) for m in MOMENTS])
def test_killed_anywhere_the_same_command_completes_it(
    source: Path, two: Path, five: Path, tmp_path: Path, moment: str
) -> None:
    out = shutil.copytree(two, tmp_path / "labels")
    command = [sys.executable, "-m", "hdistill.pipelines", "label", *COMMAND]
    command += ["--add", "probes:3", "--subset", str(source), "-o", str(out), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + 120
    while not MOMENTS[moment](out) and process.poll() is None:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    verify(out)  # the old set or the new one, whole
    add(settings(source), "probes:3", out, run=QUIET, say=silent)
    assert files_of(out) == files_of(five)


class Killed(Exception):
    pass


def stop(*_: object) -> None:
    raise Killed


def test_killed_at_every_step_of_replacing_the_set(
    source: Path, two: Path, five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before and after the manifest is replaced: what a process killed there leaves."""
    out = shutil.copytree(two, tmp_path / "labels")
    monkeypatch.setattr(extending.writer, "write", stop)  # of this module alone: the pass itself is written by another
    with pytest.raises(Killed):
        add(settings(source), "probes:3", out, run=QUIET, say=silent)
    monkeypatch.undo()
    assert open_label_set(out).manifest.hessian.per_structure == 2
    assert any((out / "passes").iterdir())
    shutil.copytree(out, tmp_path / "kept")
    assert add(settings(source), "probes:3", out, run=QUIET, say=silent).n_labelled_now == 0
    assert files_of(out) == files_of(five)

    shutil.rmtree(out)
    (tmp_path / "kept").rename(out)
    clean = extending.clean
    calls: list[Path] = []

    def second(out: Path, manifest: Manifest) -> None:
        calls.append(out)
        if len(calls) == 2:  # the first call is before the pass
            raise Killed
        clean(out, manifest)

    monkeypatch.setattr(extending, "clean", second)
    with pytest.raises(Killed):
        add(settings(source), "probes:3", out, run=QUIET, say=silent)
    monkeypatch.undo()
    assert open_label_set(out).manifest.hessian.per_structure == 5
    assert any((out / "passes").iterdir())
    assert add(settings(source), "probes:3", out, run=QUIET, say=silent).n_labelled_now == 0
    assert files_of(out) == files_of(five)


@pytest.mark.long
def test_a_teacher_that_drifted_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A calculator that reads its strength from outside, as a checkpoint replaced under its name would."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    source = write_extxyz(tmp_path / "few.xyz", clusters(4))
    wanted = replace(settings(source, hessian="probes:1"), teacher="ase:tests.labeler.poison.Drifting")
    out = tmp_path / "labels"
    label_quickly(wanted, out)
    before = files_of(out)
    monkeypatch.setenv("HDISTILL_TEST_EPSILON", "0.07")
    with pytest.raises(TeacherDrifted, match="not what it was: of structure"):
        add(wanted, "probes:1", out, run=QUIET, say=silent)
    shutil.rmtree(out / "passes")
    assert files_of(out) == before


def test_more_structures_join_the_set(source: Path, five: Path, tmp_path: Path) -> None:
    out = shutil.copytree(five, tmp_path / "labels")
    old = samples_of(out)
    extra = clusters(12, seed=7)
    for number, atoms in enumerate(extra):
        atoms.info["group"] = (
            f"cluster-{number}" if number < 6 else f"new-{number}"
        )  # half of them in groups that are known
    more = write_extxyz(tmp_path / "more.xyz", [*read(source, "60:"), *extra])
    messages: list[str] = []
    result = extend(settings(more), out, run=QUIET, say=messages.append)
    assert result.n_labelled_now == 12  # ten were there
    new = samples_of(out)
    assert len(new) == 82
    splits = {s.structure.group: s.split for s in old.values()}
    for key, sample in new.items():
        hessian = sample.labels.hessian
        assert hessian is not None
        assert len(hessian.values) == 5
        if key in old:
            had = old[key].labels.hessian
            assert had is not None
            assert np.array_equal(hessian.values, had.values)
        assert splits.setdefault(sample.structure.group, sample.split) == sample.split
    manifest = result.manifest
    assert manifest.counts.n_structures == 82
    assert manifest.subset.names == ("few.xyz", "more.xyz")
    assert manifest.passes[-1].n_structures == 12
    before = files_of(out)
    assert extend(settings(more), out, run=QUIET, say=messages.append).n_labelled_now == 0
    assert "already" in messages[-1]
    label(settings(source), out, run=QUIET, say=messages.append)
    assert "complete already" in messages[-1]
    with pytest.raises(InputError, match="all are in"):
        extend(settings(source), out, run=QUIET, say=silent)
    assert files_of(out) == before


def test_what_does_not_belong_to_the_set_is_refused(source: Path, two: Path, tmp_path: Path) -> None:
    more = write_extxyz(tmp_path / "more.xyz", clusters(3, seed=9))
    for other, named in (
        (replace(settings(more), seed=1), "seed"),
        (replace(settings(more), codec="exact"), "codec"),
        (settings(more, hessian="rows:2"), "kind of Hessian"),
        (replace(settings(more), dtype="float64"), "dtype"),
    ):
        with pytest.raises(PlanMismatch, match=named):
            extend(other, two, run=QUIET, say=silent)
    assert json.loads((two / "manifest.json").read_bytes())["counts"]["n_structures"] == 70
