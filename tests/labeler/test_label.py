"""The labeler from a file to a label set, with the Lennard-Jones teacher: what it stores, resumes, refuses and survives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from hdistill.data.errors import HDistillError, InputError, PlanMismatch, TeacherError, TeacherMissing
from hdistill.data.format.shard import Sample, read_samples
from hdistill.data.hessian import products_by_differences
from hdistill.data.labelsets.label_set import open_label_set, verify
from hdistill.data.labelsets.stream import in_order
from hdistill.labeler.estimate import estimate
from hdistill.labeler.planning.early import check_settings
from hdistill.labeler.planning.plan import CHUNK_EDGES, LabelSettings, cut, load_cached
from hdistill.labeler.process import batching
from hdistill.labeler.process.parent import TeacherProcess
from hdistill.labeler.run import LabelResult, RunSettings, label
from hdistill.labeler.teachers import environments, registry
from tests.files import files_of
from tests.labeler import poison
from tests.labeler.conftest import clusters, with_element, write_extxyz

QUIET = RunSettings(progress=False)


def silent(_: str) -> None: ...


def settings(*subset: Path, teacher: str = "lennard-jones", hessian: str = "probes:2") -> LabelSettings:
    return LabelSettings(teacher, tuple(str(path) for path in subset), hessian=hessian, splits="0.6,0.2,0.2")


def samples_of(folder: Path) -> list[Sample]:
    return [sample for shard in verify(folder).shards for sample in read_samples(shard.path)]


@pytest.fixture(scope="module")
def done(argon: Path, tmp_path_factory: pytest.TempPathFactory) -> LabelResult:
    """One finished label set, made by two workers."""
    return label(settings(argon), tmp_path_factory.mktemp("done") / "labels", run=QUIET, say=silent)


def test_atom_energies_are_stored_where_the_teacher_has_them(done: LabelResult) -> None:
    assert done.manifest.preflight.atom_energies is True
    for sample in samples_of(done.path):
        assert sample.labels.atom_energies is not None
        assert sample.labels.atom_energies.sum() == pytest.approx(sample.labels.energy, abs=1e-9)


def test_a_plan_without_atom_energies_goes_on_without(argon: Path, tmp_path: Path) -> None:
    """One of before they were the default: the same command continues it. To ask for them is another wish."""
    plain = replace(settings(argon, hessian="none"), atom_energies=False, limit=20)
    first = label(plain, tmp_path / "labels", run=QUIET, say=silent)
    again = label(replace(plain, atom_energies=None), tmp_path / "labels", run=QUIET, say=silent)
    assert (again.n_labelled_now, again.manifest) == (0, first.manifest)
    assert first.manifest.preflight.atom_energies is False
    assert all(sample.labels.atom_energies is None for sample in samples_of(first.path))
    with pytest.raises(PlanMismatch, match="atom_energies = false and now atom_energies = true"):
        label(replace(plain, atom_energies=True), tmp_path / "labels", run=QUIET, say=silent)


def test_every_structure_is_labelled_once_and_right(done: LabelResult, argon: Path) -> None:
    samples = samples_of(done.path)
    assert len({s.structure.id for s in samples}) == len(samples) == 150
    assert {s.split for s in samples} == {"train", "val", "test"}
    request = registry.request("lennard-jones", dtype="float64")
    with TeacherProcess(Path(sys.executable), request) as teacher:
        for sample in samples[:3]:
            structure, products = sample.structure, sample.labels.hessian
            assert products is not None

            def forces_at(positions: np.ndarray, structure=structure) -> np.ndarray:  # type: ignore[no-untyped-def]
                return teacher.label([replace(structure, positions=positions)], [None])[0].forces

            vectors = products.directions.vectors(structure.n_atoms)
            truth = products_by_differences(forces_at, structure.positions, vectors, step=1e-4)
            assert np.abs(products.values - truth).max() < 8e-3 * np.abs(truth).max()  # the codec alone: 1/128
            assert sample.labels.energy == pytest.approx(teacher.label([structure], [None])[0].energy, abs=1e-6)


def test_the_manifest_says_what_was_done(done: LabelResult) -> None:
    manifest = done.manifest
    assert manifest.counts.n_structures == 150
    assert manifest.hessian.n_products == 300
    assert 0 < manifest.hessian.codec_error_mean < manifest.hessian.codec_error_max < 1 / 128
    assert manifest.preflight.product_difference_error is not None
    assert manifest.preflight.product_difference_error < 1e-6
    assert manifest.teacher.name == "lennard-jones"
    assert manifest.subset.inputs[0].name == "argon.xyz"
    assert len(manifest.subset.inputs[0].sha256) == 64
    assert sum(manifest.splits.n_structures.values()) == 150
    files = {"plan.json", "manifest.json", "shards", "README.md", "croissant.json"}
    assert {path.name for path in done.path.iterdir()} == files


def test_charged_structures_are_told_of_where_the_teacher_ignores_charge(tmp_path: Path) -> None:
    some = clusters(6)
    for atoms in some[:2]:
        atoms.info["charge"] = -1
    source = write_extxyz(tmp_path / "ions.xyz", some)
    said: list[str] = []
    label(settings(source), tmp_path / "all", RunSettings(workers=1, progress=False), say=said.append)
    wanted = "2 structures are charged, and lennard-jones ignores charge: it labels the same atoms without one."
    assert any(wanted in line and "--where 'charge == 0'" in line for line in said)
    said.clear()
    neutral = replace(settings(source), where="charge == 0")
    label(neutral, tmp_path / "neutral", RunSettings(workers=1, progress=False), say=said.append)
    assert not any("ignores charge" in line for line in said)


@pytest.mark.parametrize(
    ("name", "task", "ignores"),
    [
        ("ani-1x", None, True),
        ("7net-0", None, True),
        ("mace-mp:small", None, True),
        ("mace-mp:mh-1", None, False),  # its heads include those of molecules with charges
        ("uma-s-1p1", "omat", True),
        ("uma-s-1p1", "omol", False),
        ("my.model", None, False),
        ("student:run", None, True),
        ("ase:ase.calculators.emt.EMT", None, False),
    ],
)
def test_which_teachers_ignore_charge(name: str, task: str | None, ignores: bool) -> None:
    assert registry.ignores_charge(name, task) == ignores


def test_one_worker_gives_the_same_bytes_as_two(done: LabelResult, argon: Path, tmp_path: Path) -> None:
    label(settings(argon), tmp_path / "labels", run=replace(QUIET, workers=1), say=silent)
    assert files_of(tmp_path / "labels") == files_of(done.path)


def test_the_order_of_the_input_does_not_matter(done: LabelResult, tmp_path: Path) -> None:
    reversed_file = write_extxyz(tmp_path / "argon.xyz", clusters(150)[::-1])
    result = label(settings(reversed_file), tmp_path / "labels", run=QUIET, say=silent)
    assert [s.sha256 for s in result.manifest.shards] != []
    assert [s.structure.id for s in samples_of(result.path)] == [s.structure.id for s in samples_of(done.path)]


def test_the_same_command_again_finds_it_done(done: LabelResult, argon: Path) -> None:
    before = files_of(done.path)
    messages: list[str] = []
    again = label(settings(argon), done.path, run=QUIET, say=messages.append)
    assert again.n_labelled_now == 0
    assert "complete already" in messages[-1]
    assert files_of(done.path) == before


def test_another_plan_is_an_error_not_a_skip(done: LabelResult, argon: Path, tmp_path: Path) -> None:
    for other, named in (
        (replace(settings(argon), seed=1), "seed = 0 and now seed = 1"),
        (replace(settings(argon), hessian="rows:2"), "hessian"),
        (replace(settings(argon), limit=10), "limit"),
    ):
        with pytest.raises(PlanMismatch, match=named):
            label(other, done.path, run=QUIET, say=silent)
    elsewhere = tmp_path / argon.name
    write_extxyz(elsewhere, clusters(3))
    moved = tmp_path / "labels"
    shutil.copytree(done.path, moved)
    with pytest.raises(PlanMismatch):
        label(settings(elsewhere), moved, run=QUIET, say=silent)


COMMAND = ("--teacher", "lennard-jones", "--hessian", "probes:2", "--splits", "0.6,0.2,0.2", "--workers", "2")


def start(argon: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hdistill.pipelines", "label", *COMMAND, "--subset", str(argon), "-o", str(out)]
    # A test run in the background ignores SIGINT, and its children would inherit that.
    listen: Callable[[], Any] = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stderr=pipe, stdout=nothing, start_new_session=True, text=True, preexec_fn=listen)


def wait_until(condition, seconds: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("moment", ["planning", "planned", "first chunk"])
def test_killed_at_any_moment_the_same_command_completes_it(
    done: LabelResult, argon: Path, tmp_path: Path, moment: str
) -> None:
    out = tmp_path / "labels"
    process = start(argon, out)
    wait_until(
        {
            "planning": lambda: (out / "spool").exists(),
            "planned": lambda: (out / "plan.json").exists(),
            "first chunk": lambda: any((out / "chunks").glob("*.h5")) or (out / "manifest.json").exists(),
        }[moment]
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    label(settings(argon), out, run=QUIET, say=silent)
    assert files_of(out) == files_of(done.path)


def test_ctrl_c_stops_in_order_and_resumes(done: LabelResult, argon: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    process = start(argon, out)
    wait_until(lambda: (out / "plan.json").exists())
    os.killpg(process.pid, signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "run the same command again" in messages
    assert "Traceback" not in messages
    label(settings(argon), out, run=QUIET, say=silent)
    assert files_of(out) == files_of(done.path)


def test_a_running_dask_cluster_gives_the_same_bytes(done: LabelResult, argon: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        elsewhere = replace(QUIET, scheduler=cluster.scheduler_address)
        label(settings(argon), tmp_path / "labels", run=elsewhere, say=silent)
    assert files_of(tmp_path / "labels") == files_of(done.path)


@pytest.mark.long  # test_poison_grid.py and test_poison.py have the short ones
def test_poison_is_named_and_its_neighbours_are_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segfault, a hang, out of memory, NaN, sys.exit and an exception among 40 structures, through the real process."""
    structures = clusters(40)
    reasons = {
        poison.SEGFAULT: ("teacher crashed", "SIGSEGV"),
        poison.HANG: ("teacher hung", "no answer within"),
        poison.MEMORY: ("out of memory", "does not fit into memory"),
        poison.NAN: ("bad labels", "not finite"),
        poison.EXIT: ("teacher raised", "SystemExit"),
        poison.RAISE: ("teacher raised", "no carbon"),
    }
    for place, number in enumerate(reasons):
        structures[3 + 5 * place] = with_element(structures[3 + 5 * place], number)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    source = write_extxyz(tmp_path / "poison.xyz", structures)
    wanted = settings(source, teacher="ase:tests.labeler.poison.Poison", hessian="probes:1")
    run = replace(QUIET, workers=1, deadline_s=4.0, memory_bytes=400 << 20)
    result = label(replace(wanted, batch_edges=200), tmp_path / "labels", run=run, say=silent)
    assert result.manifest.counts.n_structures == 34
    rows = [row for p in sorted((result.path / "quarantine").glob("*.json")) for row in json.loads(p.read_bytes())]
    assert len(rows) == result.n_quarantined == 6
    by_group = {row["group"]: row for row in rows}
    for place, (reason, words) in enumerate(reasons.values()):
        row = by_group[f"cluster-{3 + 5 * place}"]
        assert row["reason"] == reason
        assert words in row["text"]


def test_bad_structures_go_to_quarantine_with_a_reason(tmp_path: Path) -> None:
    good = clusters(5)
    close = good[0].copy()
    close.positions[1] = close.positions[0] + [0, 0, 0.01]
    lost = good[1].copy()
    lost.positions[0, 0] = np.nan
    flat = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.7]], cell=[5, 5, 0], pbc=True)
    source = write_extxyz(tmp_path / "bad.xyz", [*good, close, lost, flat])
    result = label(settings(source), tmp_path / "labels", run=replace(QUIET, workers=1), say=silent)
    assert result.manifest.counts.n_structures == 5
    texts = sorted(row.text for row in result.manifest.quarantine)
    assert len(texts) == 3
    assert any("apart" in text for text in texts)
    assert any("not finite" in text for text in texts)
    assert any("no volume" in text for text in texts)


@pytest.mark.parametrize("hessian", ["rows:4", "full", "none"])
def test_other_hessian_labels(tmp_path: Path, hessian: str) -> None:
    source = write_extxyz(tmp_path / "few.xyz", clusters(6))
    wanted = replace(settings(source, hessian=hessian), codec="exact")
    result = label(wanted, tmp_path / "labels", run=replace(QUIET, workers=1), say=silent)
    for sample in samples_of(result.path):
        products, n = sample.labels.hessian, sample.structure.n_atoms
        if hessian == "none":
            assert products is None
            continue
        assert products is not None
        assert len(products.values) == (4 if hessian == "rows:4" else 3 * n)
        if hessian == "full":
            matrix = products.values.reshape(3 * n, 3 * n)
            assert np.abs(matrix - matrix.T).max() < 1e-4 * np.abs(matrix).max()


def test_what_cannot_begin_says_why_in_one_sentence(
    argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "labels"
    with pytest.raises(InputError, match="Did you mean '7net-0'"):
        label(settings(argon, teacher="7net-O"), out, run=QUIET, say=silent)
    with pytest.raises(InputError, match="no file and no subset"):
        label(settings(tmp_path / "absent.xyz"), out, run=QUIET, say=silent)
    with pytest.raises(InputError, match="probes:K"):
        label(settings(argon, hessian="some"), out, run=QUIET, say=silent)
    with pytest.raises(InputError, match="is a file"):
        label(settings(argon), argon, run=QUIET, say=silent)
    with pytest.raises(InputError, match="No Dask scheduler answers"):
        label(settings(argon), out, run=replace(QUIET, scheduler="tcp://127.0.0.1:1"), say=silent)
    monkeypatch.setenv("HDISTILL_TEACHERS", str(tmp_path / "none"))
    with pytest.raises(TeacherMissing, match="hdistill teachers install sevennet"):
        label(settings(argon, teacher="7net-0"), tmp_path / "other", run=QUIET, say=silent)
    with pytest.raises(TeacherError, match="does not load"):
        label(settings(argon, teacher="ase:no.such.Module"), tmp_path / "third", run=QUIET, say=silent)


def test_an_output_that_cannot_be_written(argon: Path) -> None:
    with pytest.raises((HDistillError, OSError)):
        label(settings(argon), Path("/proc/labels"), run=QUIET, say=silent)


def test_packing_keeps_everything_and_respects_the_limit() -> None:
    sizes = [5, 40, 3, 300, 7, 40, 8]
    batches = batching.pack(sizes, 64)
    assert sorted(i for batch in batches for i in batch) == list(range(len(sizes)))
    assert all(sum(sizes[i] for i in batch) <= 64 or len(batch) == 1 for batch in batches)
    starts = cut(np.array([CHUNK_EDGES // 2, CHUNK_EDGES // 2, 1, 2 * CHUNK_EDGES, *[1] * 100]))
    assert starts == [0, 2, 3, 4, 68, 104]


def test_the_teacher_environments_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDISTILL_TEACHERS", str(tmp_path))
    assert environments.find("lennard_jones") == Path(sys.executable)
    assert environments.find("mace") is None
    with pytest.raises(InputError, match="Did you mean 'mace'"):
        environments.install("maze")
    with pytest.raises(InputError, match="does not exist"):
        environments.interpreter("mace", tmp_path / "python")


def test_a_dry_run_estimates_and_writes_nothing(argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    actual = estimate(settings(argon), None, QUIET)
    assert actual["n_structures"] == 150
    assert actual["seconds"] > 0
    assert 1e4 < actual["bytes"] < 1e6
    assert list(tmp_path.iterdir()) == []


def test_a_calculator_whose_forces_are_no_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes and rows of it are refused in a sentence; all rows can be had, are not symmetric, and the manifest says so."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    source = write_extxyz(tmp_path / "few.xyz", clusters(4))
    wanted = settings(source, teacher="ase:tests.labeler.poison.Swirl", hessian="probes:1")
    with pytest.raises(TeacherError, match="not the gradient of its energy"):
        label(wanted, tmp_path / "refused", run=QUIET, say=silent)
    full = replace(wanted, hessian="full", codec="exact", arguments=("strength=0.05",))
    result = label(full, tmp_path / "labels", run=replace(QUIET, workers=1), say=silent)
    assert result.manifest.teacher.conservative is False
    assert result.manifest.counts.n_structures == 4
    for sample in samples_of(result.path):
        products, n = sample.labels.hessian, sample.structure.n_atoms
        assert products is not None
        jacobian = products.values.reshape(3 * n, 3 * n)
        # F = F_lj + strength * (-y, x, 0): dF_x/dy = -strength, so the row of x has +strength in column y
        assert jacobian[0, 1] - jacobian[1, 0] == pytest.approx(0.1, abs=1e-3)


def test_a_worker_sees_that_a_folder_has_a_new_plan(argon: Path, tmp_path: Path) -> None:
    """On a long-lived cluster: the folder was emptied and labelled again with other settings."""
    out = tmp_path / "labels"
    run = replace(QUIET, workers=1)
    label(replace(settings(argon), limit=5), out, run=run, say=silent)
    before = load_cached(out)
    shutil.rmtree(out)
    label(replace(settings(argon), limit=6), out, run=run, say=silent)
    assert load_cached(out).digest != before.digest


def test_the_structures_that_differ_most_are_labelled(tmp_path: Path) -> None:
    """Thirty that are nearly the same, and five that are not: of six all five are taken. It is in the manifest, and part of the plan."""
    rng = np.random.default_rng(0)
    base = 3.8 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    many = [Atoms("Ar4", base + rng.normal(scale=0.001, size=(4, 3))) for _ in range(30)]
    others = [Atoms("Ar4", base * scale) for scale in (0.85, 0.92, 1.1, 1.2, 1.3)]
    source = write_extxyz(tmp_path / "argon.xyz", [*many[:15], *others, *many[15:]])
    settings = LabelSettings("lennard-jones", (str(source),), diverse=6, hessian="none", splits="1,0,0")
    quiet = RunSettings(workers=1, progress=False)
    done = label(settings, tmp_path / "labels", run=quiet, say=lambda _: None)
    assert (done.manifest.counts.n_structures, done.manifest.subset.diverse, done.manifest.subset.limit) == (6, 6, None)
    sizes = sorted(
        round(float(np.linalg.norm(s.structure.positions[1] - s.structure.positions[0])) / 3.8, 2)
        for s in in_order(open_label_set(tmp_path / "labels"), "train")
    )
    assert sizes == [0.85, 0.92, 1.0, 1.1, 1.2, 1.3]
    with pytest.raises(PlanMismatch, match=r"diverse|holds a set"):
        label(replace(settings, diverse=5), tmp_path / "labels", run=quiet, say=lambda _: None)
    with pytest.raises(InputError, match="give one of them"):
        check_settings(replace(settings, limit=3))
