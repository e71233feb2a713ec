"""Sets that are odd, and rates that are too high: training survives them, or stops with one sentence; what it keeps can be used."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from hdistill.data.errors import HDistillError, InputError
from hdistill.data.format.shard import Sample
from hdistill.data.probes import draw, parse_spec
from hdistill.data.structure import Structure
from hdistill.labeler.teachers.contract import TeacherRequest
from hdistill.labeler.teachers.lennard_jones import LennardJones
from hdistill.trainer.evaluation.errors import evaluate_student
from hdistill.trainer.fitting.fit import FitResult, fit, resume
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import LAST, STUDENT, load_student, read_tensors
from tests.data.samples import write_label_set
from tests.trainer.structures import argon_samples

QUICK = FitSettings(student="painn-small", steps=12, warmup=2, validate_every=6, batch_size=4)


def labelled(structures: Sequence[Structure], splits: Sequence[str], hessian: str = "probes:2") -> list[Sample]:
    """The structures with labels of the Lennard-Jones teacher."""
    directions = [draw(parse_spec(hessian), 0, s.id, s.n_atoms) for s in structures]
    teacher = LennardJones(TeacherRequest("lennard-jones", "lennard_jones", "", dtype="float64"))
    return [Sample(*each) for each in zip(structures, teacher.label(structures, directions), splits, strict=True)]


def grid(n: int, numbers: Sequence[int] = (18,), seed: int = 0, spacing: float = 3.8) -> Structure:
    """n rattled atoms on a cubic grid, their elements taken in turn."""
    side = int(np.ceil(n ** (1 / 3)))
    places = np.stack(np.meshgrid(*3 * [np.arange(side)], indexing="ij"), -1).reshape(-1, 3)[:n] * spacing
    positions = places + np.random.default_rng(seed).normal(scale=0.1, size=(n, 3))
    return Structure(np.resize(np.array(numbers, np.uint8), n), positions, group=f"grid-{n}")


def run_of(folder: Path, samples: Sequence[Sample], settings: FitSettings = QUICK) -> FitResult:
    return fit(write_label_set(folder / "labels", samples), folder / "run", settings, progress=False)


def losses(run: Path) -> list[float]:
    with (run / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def is_finite(run: Path) -> bool:
    tensors, _ = read_tensors(run / STUDENT)
    return all(bool(torch.isfinite(t).all()) for t in tensors.values())


def test_a_learning_rate_of_ten_leaves_the_best_finite_student(argon: Path, tmp_path: Path) -> None:
    """The rate rises to where weights explode: the student on disk is the best of those before, and can be used."""
    wild = replace(QUICK, learning_rate=10.0, steps=150, warmup=300, validate_every=3, weight_decay=0.0)
    with suppress(HDistillError):  # it may stop, or survive
        fit(argon, tmp_path / "run", wild, progress=False)
    with (tmp_path / "run" / "log.csv").open() as file:
        log = [row for row in csv.DictReader(file) if row["val_force_mae_mev_per_angstrom"]]
    names = ("val_force_mae_mev_per_angstrom", "val_energy_mae_mev_per_atom")
    scores = [sum(float(row[name]) for name in names) for row in log]
    assert not min(scores) > 0.5 * max(x for x in scores if np.isfinite(x))  # it did go wrong
    card = load_student(tmp_path / "run").card
    best = int(np.nanargmin(scores))
    assert card.step == int(log[best]["step"])
    actual = evaluate_student(tmp_path / "run", argon, "val")
    assert actual["force_mae_mev_per_angstrom"] == pytest.approx(float(log[best][names[0]]), rel=1e-5)
    assert is_finite(tmp_path / "run")


def test_a_rate_that_explodes_at_once_is_said(argon: Path, tmp_path: Path) -> None:
    for steps, wanted in ((60, "not finite in 20 steps in a row"), (8, "has no student: at no validation")):
        wild = replace(QUICK, learning_rate=10.0, steps=steps, warmup=0)
        with pytest.raises(HDistillError, match=wanted):
            fit(argon, tmp_path / str(steps), wild, progress=False)


def test_labels_that_are_no_numbers_are_said(tmp_path: Path) -> None:
    broken = [
        replace(s, labels=replace(s.labels, forces=np.full_like(s.labels.forces, np.inf))) if s.split == "train" else s
        for s in argon_samples(10)
    ]
    with pytest.raises(HDistillError, match="not finite"):
        run_of(tmp_path, broken, replace(QUICK, steps=30))
    assert is_finite(tmp_path / "run")  # the fresh student: no step moved it
    nan = [replace(s, labels=replace(s.labels, energy=float("nan"))) if s.split == "train" else s for s in broken]
    with pytest.raises(InputError, match=r"7 of the 7 training structures of .* are not finite"):
        run_of(tmp_path / "nan", nan)


def test_an_element_of_validation_and_test_alone_is_left_out_and_counted(tmp_path: Path) -> None:
    structures = [grid(3 + i % 3, (18,) if i < 12 else (18, 36), seed=i) for i in range(18)]
    splits = ["train"] * 10 + ["val"] * 1 + ["test"] * 1 + ["val"] * 3 + ["test"] * 3
    result = run_of(tmp_path, labelled(structures, splits))
    assert (result.n_train, result.n_val) == (10, 1)
    actual = evaluate_student(result.run, tmp_path / "labels", "test")
    assert (actual["n_structures"], actual["n_unknown_elements"]) == (1, 3)
    pair = Atoms("ArKr", [[0, 0, 0], [3.8, 0, 0]], calculator=HDistillCalculator(result.run))
    with pytest.raises(InputError, match="not trained on Kr; it knows Ar"):
        pair.get_potential_energy()


def test_an_element_of_one_structure_is_learned(tmp_path: Path) -> None:
    structures = [grid(4, (18, 10) if i == 3 else (18,), seed=i) for i in range(10)]
    result = run_of(tmp_path, labelled(structures, ["train"] * 8 + ["val"] * 2))
    assert load_student(result.run).card.references.elements == (10, 18)
    assert np.isfinite(losses(result.run)).all()


def test_products_of_some_structures_only(tmp_path: Path) -> None:
    """A step whose structures have none has no Hessian term; one that has some averages over those."""
    samples = [
        s if i % 4 == 0 else replace(s, labels=replace(s.labels, hessian=None))
        for i, s in enumerate(argon_samples(20, "rows:2"))
    ]
    result = run_of(tmp_path, samples, replace(QUICK, steps=30, batch_size=1, products_per_step=2))
    assert np.isfinite(losses(result.run)).all()
    with (result.run / "log.csv").open() as file:
        actual = [row["hessian"] for row in csv.DictReader(file)]
    assert "" in actual
    assert any(actual)


@pytest.mark.parametrize("norm", ["atoms", "product"])
def test_hessian_alone_of_some_structures(tmp_path: Path, norm: str) -> None:
    """With no other weight a step may have nothing to learn from: it changes nothing much, and training goes on."""
    samples = [
        s if i % 4 == 0 else replace(s, labels=replace(s.labels, hessian=None)) for i, s in enumerate(argon_samples(20))
    ]
    alone = replace(QUICK, energy_weight=0, force_weight=0, stress_weight=0, batch_size=1, hessian_norm=norm)
    result = run_of(tmp_path, samples, alone)
    assert np.isfinite(losses(result.run)).all()
    assert is_finite(result.run)
    bare = [replace(s, labels=replace(s.labels, hessian=None)) for s in samples]
    with pytest.raises(InputError, match=r"no Hessian products in its train split.*nothing to learn"):
        run_of(tmp_path / "bare", bare, alone)


def test_one_structure_of_one_atom(tmp_path: Path) -> None:
    """Nothing but its energy can be learned, and that is the reference energy of its element."""
    result = run_of(tmp_path, labelled([grid(1)], ["train"]))
    assert (result.n_train, result.n_val, result.steps) == (1, 0, QUICK.steps)
    assert is_finite(result.run)
    actual = evaluate_student(result.run, tmp_path / "labels", "train")
    assert actual["force_mae_mev_per_angstrom"] == 0
    assert actual["energy_mae_mev_per_atom"] < 100
    assert resume(result.run, progress=False, steps=QUICK.steps + 2).steps == QUICK.steps + 2


def test_huge_and_tiny_structures_in_one_set(tmp_path: Path) -> None:
    """Batches are cut by edges, one structure at least: 300 atoms pass through a limit of 100 edges beside single atoms."""
    structures = [grid(n, seed=n) for n in (1, 2, 300, 1, 3, 4, 1, 5)]
    samples = labelled(structures, ["train"] * 7 + ["val"], "probes:1")
    settings = replace(QUICK, steps=2, batch_size=7, validate_every=2, max_edges=100, dtype="float64")
    cut = run_of(tmp_path, samples, settings)
    whole = fit(tmp_path / "labels", tmp_path / "whole", replace(settings, max_edges=10**6), progress=False)
    assert losses(cut.run) == pytest.approx(losses(whole.run), rel=1e-9)
    (one, _), (other, _) = read_tensors(cut.run / LAST), read_tensors(whole.run / LAST)
    assert all(torch.allclose(one[name].double(), other[name].double(), rtol=1e-6, atol=1e-9) for name in one)


def test_duplicates_and_zero_forces(tmp_path: Path) -> None:
    """The same structure many times, all of its forces zero: norms of zero vectors have finite gradients."""
    (sample,) = labelled([grid(2, spacing=9.0)], ["train"])
    assert not sample.labels.forces.any()  # beyond the teacher's reach
    result = run_of(tmp_path, [*[sample] * 6, replace(sample, split="val")])
    assert np.isfinite(losses(result.run)).all()
    assert is_finite(result.run)
    assert result.validation["force_mae_mev_per_angstrom"] == pytest.approx(0, abs=50)


@pytest.mark.parametrize("norm", ["atoms", "product"])
def test_zero_forces_and_zero_products_within_reach(tmp_path: Path, norm: str) -> None:
    """Labels that are zero where the student's are not, and a student that is exactly right: no step is skipped."""
    zero = [
        replace(
            s,
            labels=replace(
                s.labels,
                energy=0.0,
                forces=0 * s.labels.forces,
                hessian=replace(s.labels.hessian, values=0 * s.labels.hessian.values),  # type: ignore[type-var]
            ),
        )
        for s in argon_samples(10)
    ]
    result = run_of(tmp_path, zero, replace(QUICK, hessian_norm=norm, batch_size=2))
    assert np.isfinite(losses(result.run)).all()
    _, header = read_tensors(result.run / LAST)
    assert header["skipped"] == 0
