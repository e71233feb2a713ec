"""Planned ids are labelled ids and quarantined ids, each once: whatever was damaged, swapped, shortened or changed is made again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hdistill.data.errors import HDistillError, LabelSetError, PlanMismatch
from hdistill.data.format.shard import select
from hdistill.data.format.shard_file import image, read_arrays
from hdistill.data.labelsets.balance import id_sum
from hdistill.data.labelsets.label_set import open_label_set, verify
from hdistill.labeler import run as running
from hdistill.labeler.planning.plan import LabelSettings, Plan, chunk_path, load, missing, structures_of
from hdistill.labeler.run import RunSettings, label, label_share
from hdistill.labeler.work.compact import ChunkDamaged, finish
from tests.files import files_of
from tests.labeler.conftest import clusters, with_element, write_extxyz

QUIET = RunSettings(workers=1, progress=False)


def silent(_: str) -> None: ...


def settings(source: Path) -> LabelSettings:
    return LabelSettings("ase:tests.labeler.poison.Poison", (str(source),), hessian="probes:1")


@pytest.fixture(scope="module", autouse=True)
def importable() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        patch.setattr("hdistill.labeler.planning.plan.CHUNK_STRUCTURES", 10)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 clusters, four of which the teacher raises on."""
    structures = clusters(40)
    for place in (3, 11, 12, 30):
        structures[place] = with_element(structures[place], 6)
    return write_extxyz(tmp_path_factory.mktemp("source") / "some.xyz", structures)


@pytest.fixture(scope="module")
def chunks(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything labelled, and not finished."""
    out = tmp_path_factory.mktemp("chunks") / "labels"
    label_share(settings(source), out, (1, 1), run=QUIET, say=silent)
    return out


@pytest.fixture(scope="module")
def whole(source: Path, chunks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = shutil.copytree(chunks, tmp_path_factory.mktemp("whole") / "labels")
    return label(settings(source), out, run=QUIET, say=silent).path


def test_the_books_of_a_finished_set(chunks: Path, whole: Path) -> None:
    plan = load(chunks)
    planned = [s.id for chunk in range(plan.n_chunks) for s, _ in structures_of(plan, chunks, chunk)]
    labels = verify(whole)
    labelled = [row.tobytes().hex() for shard in labels.shards for row in read_arrays(shard.path)[0]["id"]]
    quarantined = [row.id for row in labels.manifest.quarantine]
    assert len(quarantined) == 4
    assert sorted(planned) == sorted(labelled + quarantined)
    assert labels.manifest.balance is not None
    assert labels.manifest.balance.planned == id_sum(planned)


def shorten(plan: Plan, folder: Path) -> None:
    path = chunk_path(folder, 1)
    arrays, attributes = read_arrays(path)
    kept = {k: attributes[k] for k in attributes if k not in ("format", "version", "sign")}
    path.write_bytes(image(select(arrays, np.arange(len(arrays["id"]) - 1)), kept))


def swap(plan: Plan, folder: Path) -> None:
    shutil.copyfile(chunk_path(folder, 0), chunk_path(folder, 2))


def tear(plan: Plan, folder: Path) -> None:
    path = chunk_path(folder, 0)
    path.write_bytes(path.read_bytes()[:-50])


def flip(plan: Plan, folder: Path) -> None:
    path = chunk_path(folder, 3)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def quarantines(folder: Path) -> list[Path]:
    return sorted((folder / "quarantine").glob("*.json"))


def lose_quarantine(plan: Plan, folder: Path) -> None:
    quarantines(folder)[0].unlink()


def change_quarantine(plan: Plan, folder: Path) -> None:
    path = quarantines(folder)[0]
    path.write_text(path.read_text().replace("no carbon", "no reason"))


def empty_all(plan: Plan, folder: Path) -> None:
    for path in (folder / "chunks").iterdir():
        path.write_bytes(b"")


DAMAGES = (shorten, swap, tear, flip, lose_quarantine, change_quarantine, empty_all)


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_again(
    source: Path, chunks: Path, whole: Path, tmp_path: Path, damage: Callable[[Plan, Path], None]
) -> None:
    out = shutil.copytree(chunks, tmp_path / "labels")
    damage(load(out), out)
    messages: list[str] = []
    label(settings(source), out, run=QUIET, say=messages.append)
    assert files_of(out) == files_of(whole)
    assert (
        any("It is made again" in line for line in messages) or damage is flip
    )  # the flipped bit may be one that means nothing


def test_finish_alone_refuses_and_removes_nothing(chunks: Path, tmp_path: Path) -> None:
    out = shutil.copytree(chunks, tmp_path / "labels")
    swap(load(out), out)
    before = {path.name for path in (out / "chunks").iterdir()}
    with pytest.raises(ChunkDamaged, match="another place"):
        finish(out, load(out))
    assert {path.name for path in (out / "chunks").iterdir()} == before
    assert not (out / "manifest.json").exists()


def test_two_attempts_that_fail_on_different_structures_lose_none(chunks: Path, source: Path, tmp_path: Path) -> None:
    """The quarantine of an attempt whose chunk came too late stands beside; it is not the chunk's, and goes at the end."""
    out = shutil.copytree(chunks, tmp_path / "labels")
    late = out / "quarantine" / "000001-00000000.json"
    late.write_text(json.dumps([{"id": "ab" * 16, "reason": "teacher crashed", "text": "", "attempts": 2}]))
    result = label(settings(source), out, run=QUIET, say=silent)
    assert result.n_quarantined == 4
    assert not late.exists()


def test_the_slower_of_two_labelers_finds_it_done(
    source: Path, chunks: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one finishes, and takes chunks and spool away, at the worst moment: while this one labels."""
    out = shutil.copytree(chunks, tmp_path / "labels")
    chunk_path(out, 2).unlink()

    def quicker(*_: object) -> int:
        shutil.rmtree(out)
        shutil.copytree(whole, out)
        raise FileNotFoundError(2, "No such file or directory", "spool")

    monkeypatch.setattr(running, "run_plan", quicker)
    assert label(settings(source), out, run=QUIET, say=silent).manifest == open_label_set(whole).manifest


@pytest.mark.parametrize("what", ["plan.json", "spool", "version"])
def test_a_plan_or_spool_that_was_tampered_with_is_one_sentence(
    source: Path, chunks: Path, whole: Path, tmp_path: Path, what: str
) -> None:
    out = shutil.copytree(chunks, tmp_path / "labels")
    chunk_path(out, 1).unlink()
    if what == "spool":
        (spool,) = (out / "spool").iterdir()
        data = bytearray(spool.read_bytes())
        for at in range(100, len(data), 997):
            data[at] ^= 0xFF
        spool.write_bytes(data)
        with pytest.raises(LabelSetError, match="damaged"):
            structures_of(load(out), out, 0)
        label(settings(source), out, run=QUIET, say=silent)  # and it is made anew
        assert files_of(out) == files_of(whole)
        return
    content = json.loads((out / "plan.json").read_text())
    if what == "version":
        (out / "plan.json").write_text(json.dumps(content | {"version": 1}))
        with pytest.raises(LabelSetError, match="of another version"):
            label(settings(source), out, run=QUIET, say=silent)
        return
    words: list[object] = [None, [], "x", {}, -1, 1e400, True]
    for key in (*content, "settings.hessian", "settings.splits", "spool.n_structures", "chunk_starts", "teacher.name"):
        for value in words:
            changed = json.loads(json.dumps(content))
            target = changed
            *path, last = key.split(".")
            for name in path:
                target = target[name]
            if (last, value) == ("preflight", {}):  # which decides no label
                continue
            target[last] = value
            (out / "plan.json").write_text(json.dumps(changed))
            with pytest.raises(HDistillError):
                load(out)
    for text in ("", "[]", "null", '"', "[" * 10**5, "\xff"):
        (out / "plan.json").write_text(text)
        with pytest.raises(LabelSetError):
            load(out)


def test_how_a_path_is_spelled_changes_nothing(
    source: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    for spelled in (source.name, f"./{source.name}", f"../{source.parent.name}/{source.name}"):
        assert label(settings(Path(spelled)), whole, run=QUIET, say=silent).n_labelled_now == 0
        wanted = replace(settings(source), subset=(spelled,))
        assert label(wanted, whole, run=QUIET, say=silent).n_labelled_now == 0
    elsewhere = shutil.copytree(source.parent, tmp_path / "copy") / source.name
    assert label(settings(elsewhere), whole, run=QUIET, say=silent).n_labelled_now == 0
    label_share(settings(elsewhere), tmp_path / "labels", (0, 1), run=QUIET, say=silent)
    assert load(tmp_path / "labels").digest == load(whole).digest


def test_a_finished_set_on_a_disk_that_can_only_be_read(source: Path, whole: Path, tmp_path: Path) -> None:
    script = tmp_path / "read_only.sh"
    script.write_text(f'mount --bind {whole} {whole} && mount -o remount,bind,ro {whole} && exec "$@"\n')
    prefix = ["unshare", "--map-root-user", "--mount", "sh", str(script)]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    command = [sys.executable, "-m", "hdistill.pipelines", "label", "--teacher", "ase:tests.labeler.poison.Poison"]
    command += ["--hessian", "probes:1", "--subset", str(source), "-o", str(whole)]
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 3, done.stderr  # done, with structures in quarantine
    assert "is complete already" in done.stderr


def test_few_open_files_are_a_sentence(source: Path, tmp_path: Path) -> None:
    command = f"ulimit -n 32; exec {sys.executable} -m hdistill.pipelines label --teacher lennard-jones --quiet"
    command += f" --subset {source} -o {tmp_path / 'labels'}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=os.environ)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or "Too many open files" in done.stderr
    assert done.returncode in (0, 1)


CALCULATOR = """
from ase.calculators.lj import LennardJones
class Mine(LennardJones):
    def __init__(self):
        super().__init__(sigma=2.5, epsilon={epsilon}, rc=8.0, smooth=True)
"""


def test_a_calculator_that_was_edited_is_noticed(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own file by its hash; what else it reads, by labels that differ."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    module = tmp_path / "my_own_calculator.py"
    module.write_text(CALCULATOR.format(epsilon=0.05))
    wanted = LabelSettings("ase:my_own_calculator.Mine", (str(source),), hessian="probes:1")
    out = tmp_path / "labels"
    label_share(wanted, out, (1, 1), run=QUIET, say=silent)
    chunk_path(out, 2).unlink()
    module.write_text(CALCULATOR.format(epsilon=0.07))
    with pytest.raises(PlanMismatch, match="was begun with another teacher: versions was"):
        label(wanted, out, run=QUIET, say=silent)

    drifting = replace(wanted, teacher="ase:tests.labeler.poison.Drifting")
    other = tmp_path / "other"
    label_share(drifting, other, (1, 1), run=QUIET, say=silent)
    chunk_path(other, 2).unlink()
    monkeypatch.setenv("HDISTILL_TEST_EPSILON", "0.07")
    with pytest.raises(PlanMismatch, match="gave other labels: of structure"):
        label(drifting, other, run=QUIET, say=silent)
    monkeypatch.undo()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))
    assert missing(load(other), other) == [2]
    label(drifting, other, run=QUIET, say=silent)
