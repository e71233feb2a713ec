"""Hessian products by forward differences: they agree with the teacher's own, are recorded, and a plan keeps its method."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from hdistill.data.errors import InputError, PlanMismatch, TeacherError
from hdistill.data.format.manifest import read_manifest
from hdistill.data.format.shard import read_samples
from hdistill.data.labelsets.label_set import verify
from hdistill.data.probes import draw, parse_spec
from hdistill.data.structure import Directions, Labels, Structure
from hdistill.labeler.audit import AuditSettings, audit
from hdistill.labeler.extend import add
from hdistill.labeler.planning import differences, early
from hdistill.labeler.planning.plan import PLAN, LabelSettings, load
from hdistill.labeler.planning.resume import require_same_labels
from hdistill.labeler.process.host import HostSettings, TeacherHost
from hdistill.labeler.run import label, label_share
from hdistill.labeler.teachers import registry
from tests.labeler.conftest import clusters, write_extxyz
from tests.labeler.quickly import QUIET

Products = Literal["autograd", "difference", "auto"]
DOUBLE = HostSettings(replace(registry.request("lennard-jones"), dtype="float64"))


def settings(source: Path, products: Products, hessian: str = "probes:2") -> LabelSettings:
    return LabelSettings(
        "lennard-jones",
        (str(source),),
        hessian=hessian,
        products=products,
        dtype="float64",
        codec="exact",
        splits="1,0,0",
    )


def silent(_: str) -> None: ...


@pytest.fixture(scope="module")
def teacher() -> Iterator[TeacherHost]:
    with contextlib.closing(TeacherHost(DOUBLE)) as host:
        yield host


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_extxyz(tmp_path_factory.mktemp("source") / "few.xyz", clusters(6))


def structures() -> list[Structure]:
    return [Structure(a.numbers, a.positions, a.cell.array, a.pbc) for a in clusters(3)]


def products(ask: differences.Label, spec: str) -> np.ndarray:
    some = structures()
    directions = [draw(parse_spec(spec), 0, s.id, s.n_atoms) for s in some]
    return np.concatenate([_values(labels).ravel() for labels in ask(some, directions, 1)])


def _values(labels: Labels) -> np.ndarray:
    assert labels.hessian is not None
    return labels.hessian.values


@pytest.mark.parametrize("spec", ["probes:4", "rows:5", "full"])
def test_they_agree_and_the_error_falls_with_the_step(teacher: TeacherHost, spec: str) -> None:
    exact = products(teacher.label, spec)
    errors = [
        float(np.linalg.norm(products(differences.by_differences(teacher.label, 4096, step), spec) - exact))
        for step in (2e-4, 1e-4)
    ]
    assert errors[1] < 2e-3 * np.linalg.norm(exact)
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.1)


def test_batches_are_kept_small_and_change_nothing(teacher: TeacherHost) -> None:
    asked: list[int] = []

    def counted(some: Sequence[Structure], directions: Sequence[Directions | None], size: int) -> list[Labels]:
        assert not any(directions)  # forces are all that is asked for
        asked.append(size)
        return teacher.label(some, directions, size)

    whole = products(differences.by_differences(counted, 10**6), "full")
    assert len(asked) == 1
    parts = products(differences.by_differences(counted, 200), "full")
    assert len(asked) > 3
    assert max(asked[1:]) <= 200
    np.testing.assert_array_equal(whole, parts)


def test_a_set_says_how_and_its_plan_keeps_to_it(source: Path, teacher: TeacherHost, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    said: list[str] = []
    label_share(settings(source, "difference"), out, (0, 1), run=QUIET, say=said.append)
    assert any("by forward differences, as asked" in line for line in said)
    with pytest.raises(PlanMismatch, match='begun with products = "difference" and now products = "autograd"'):
        label(settings(source, "autograd"), out, run=QUIET, say=silent)
    label_share(settings(source, "difference"), out, (1, 1), run=QUIET, say=silent)
    require_same_labels(load(out), out, teacher, silent)  # as one that continues does
    label(settings(source, "difference"), out, run=QUIET, say=silent)
    assert read_manifest(out).teacher.hessian_method == "forward differences"
    assert audit(out, AuditSettings(n=3), silent)["agrees"]
    more = add(settings(source, "difference"), "probes:1", out, run=QUIET, say=silent)
    assert more.manifest.teacher.hessian_method == "forward differences"
    for sample in (s for shard in verify(out).shards for s in read_samples(shard.path)):
        s, stored = sample.structure, sample.labels.hessian
        assert stored is not None
        (exact,) = teacher.label([s], [stored.directions], 1)
        assert np.linalg.norm(stored.values - _values(exact)) < 0.02 * np.linalg.norm(_values(exact))


def test_a_plan_of_before_is_read_and_has_its_digest(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    label_share(settings(source, "autograd"), out, (0, 1), run=QUIET, say=silent)
    plan = load(out)
    content = json.loads((out / PLAN).read_text())
    del content["settings"]["products"]
    (out / PLAN).write_text(json.dumps(content))
    assert load(out).digest == plan.digest
    assert load(out).settings.products is None


@pytest.mark.parametrize(
    ("error", "seconds", "taken", "words"),
    [
        (0.004, 0.5, True, "2.00 times as fast"),
        (0.02, 0.5, False, "more than 1% off"),
        (0.004, 2.0, False, "not faster"),
    ],
)
def test_auto_takes_what_is_accurate_and_faster(error: float, seconds: float, taken: bool, words: str) -> None:
    figures: dict[str, Any] = {
        "forward_difference_error": error,
        "forward_difference_seconds": seconds,
        "own_product_seconds": 1.0,
    }
    choice, line = differences.chosen(figures, "auto", "it")
    assert choice is taken
    assert words in line


def test_auto_says_what_it_chose_and_goes_on_with_it(source: Path, tmp_path: Path) -> None:
    said: list[str] = []
    label_share(settings(source, "auto"), tmp_path / "labels", (0, 1), run=QUIET, say=said.append)
    plan = load(tmp_path / "labels")
    assert sum(line.startswith("Hessian products by") for line in said) == 1
    assert plan.preflight["forward_difference_error"] < 0.05
    done = label(settings(source, "auto"), tmp_path / "labels", run=QUIET, say=silent)
    assert done.manifest.teacher.hessian_method == plan.teacher["hessian_method"]


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="--products was 'finite'"):
        early.check_settings(settings(Path("x.xyz"), "finite"))  # type: ignore[arg-type]
    with pytest.raises(TeacherError, match="not the gradient"):
        differences.require_gradient(False, "direct")
    rough = {"forward_difference_error": 0.2, "forward_difference_seconds": 1.0, "own_product_seconds": None}
    with pytest.raises(TeacherError, match="too rough"):
        differences.chosen(rough, "difference", "it")
