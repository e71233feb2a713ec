"""Whose labels are learned: the teacher's, the sources' own, or both; and what the paper's recipe adds to the Hessian term."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hdistill.data.errors import InputError
from hdistill.data.format.shard import Sample
from hdistill.data.labelsets.label_set import open_label_set
from hdistill.data.labelsets.stream import in_order
from hdistill.trainer.evaluation.errors import evaluate_student
from hdistill.trainer.fitting import fit as fit_module
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.loss import counts_of, loss_sums
from hdistill.trainer.fitting.ranks import Ranks
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.fitting.state import new_state
from hdistill.trainer.fitting.step import eager_gradients
from hdistill.trainer.fitting.validation import validation_of
from hdistill.trainer.force_field.checkpoint import LAST, load_student, read_tensors
from hdistill.trainer.force_field.predict import Prediction, predict
from hdistill.trainer.inputs.batch import batch_of, stress_of, targets_of
from hdistill.trainer.inputs.references import EnergyStatistics, References, shifted_references
from hdistill.trainer.students.build import build
from hdistill.trainer.students.registry import size_of
from tests.data.samples import write_label_set
from tests.trainer.structures import argon_crystals, argon_samples, crystal, one_step, prepared, student

QUICK = FitSettings(student="painn-small", steps=24, warmup=5, validate_every=8, batch_size=4)
MIX = replace(QUICK, targets="mix", reference_share=0.3, dtype="float64", batch_size=6)
OFFSET = 5.0  # eV per atom, between the two levels


def with_own(sample: Sample, error: float = 0.05, seed: int = 0) -> Sample:
    """The sample with labels of its source: another zero of energy, and forces that differ from the teacher's by `error` eV/A."""
    rng = np.random.default_rng(seed)
    n = sample.structure.n_atoms
    own = replace(
        sample.structure,
        ref_energy=sample.labels.energy + OFFSET * n + 0.1 * rng.normal(),
        ref_forces=(sample.labels.forces + rng.normal(scale=error, size=(n, 3))).astype(np.float32),
    )
    return replace(sample, structure=own)


def some_own(count: int = 30) -> list[Sample]:
    """Two of three have labels of their own."""
    return [with_own(s, seed=i) if i % 3 else s for i, s in enumerate(argon_samples(count))]


def log(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_mix_is_the_weighted_sum_of_both_losses(tmp_path: Path) -> None:
    """Structure by structure, each with its own level's zero of energy; without own labels it is the teacher's loss alone."""
    labels = open_label_set(write_label_set(tmp_path / "labels", some_own()))
    samples = list(in_order(labels, "train"))[:6]
    task = prepared(labels, MIX)
    model = build(size_of("painn-small"), task.references.elements, task.scale).double()
    energy = forces = 0.0
    for sample in samples:
        has = sample.structure.ref_energy is not None
        batch = batch_of([sample.structure], size_of("painn-small").cutoff)
        messages = predict(model, batch)
        assert messages.forces is not None
        n = sample.structure.n_atoms
        levels = [(1 - 0.3 * has, sample.labels.energy, sample.labels.forces, task.statistics.teacher_references)]
        if has:
            levels.append((0.3, sample.structure.ref_energy, sample.structure.ref_forces, task.references))
        for share, e, f, references in levels:
            energy += share * abs(messages.energy.item() - (e - references.of(sample.structure.numbers))) / n  # type: ignore[union-attr]
            forces += share * np.linalg.norm(messages.forces.detach().numpy() - f, axis=1).sum()
    row = one_step(new_state(model, MIX), samples, task, MIX, eager_gradients("exact"), Ranks())
    assert row["energy"] == pytest.approx(energy / 6, rel=1e-9)
    assert row["forces"] == pytest.approx(forces / sum(s.structure.n_atoms for s in samples), rel=1e-6)
    cut = build(size_of("painn-small"), task.references.elements, task.scale).double()
    pieces = one_step(new_state(cut, MIX), samples, task, replace(MIX, max_edges=1), eager_gradients("exact"), Ranks())
    assert pieces == {name: pytest.approx(value, rel=1e-9) for name, value in row.items()}


@pytest.mark.parametrize(("share", "same_as"), [(0.0, "teacher"), (1.0, "reference")])
def test_shares_of_nothing_and_all_are_the_pure_kinds(tmp_path: Path, share: float, same_as: str) -> None:
    labels = open_label_set(
        write_label_set(tmp_path / "labels", [with_own(s, seed=i) for i, s in enumerate(argon_samples(20))])
    )
    samples = list(in_order(labels, "train"))[:6]
    rows = []
    for settings in (replace(MIX, reference_share=share), replace(MIX, targets=same_as)):  # type: ignore[arg-type]
        task = prepared(labels, settings)
        model = build(size_of("painn-small"), task.references.elements, 0.05).double()
        rows.append(one_step(new_state(model, settings), samples, task, settings, eager_gradients("exact"), Ranks()))
    assert rows[0] == {name: pytest.approx(value, rel=1e-6) for name, value in rows[1].items()}


def test_a_mixed_student_stands_on_the_energies_of_the_sources(tmp_path: Path) -> None:
    labels = write_label_set(tmp_path / "labels", some_own(60))
    result = fit(labels, tmp_path / "run", replace(MIX, steps=40), progress=False)
    card = load_student(result.run).card
    assert card.references.energies == pytest.approx((OFFSET,), abs=0.1)
    assert card.settings["targets"] == "mix"
    actual = evaluate_student(result.run, labels, "test")
    assert actual["targets"] == "reference"
    assert actual["n_without_reference"] > 0
    assert actual["n_structures"] + actual["n_without_reference"] == 12
    assert actual["energy_mae_mev_per_atom"] < 200  # of an offset of 5000
    assert 0 < result.n_val < 6  # those with labels of their own


def test_a_mix_needs_labels_of_the_sources(argon: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"targets was 'mix', but no training structure .* of its own; use targets 'tea"
    ):
        fit(argon, tmp_path / "run", MIX, progress=False)


def test_an_element_without_own_labels_keeps_the_teachers_energy() -> None:
    fractions = np.array([[2 / 3, 1 / 3], [0.0, 1.0], [0.8, 0.2]])
    own = EnergyStatistics((1, 8), fractions, np.zeros(3), 3, 1.0)
    truth = np.array([3.0, 7.0])
    own = replace(own, energies=own.fractions @ truth)
    actual = shifted_references(References((1, 6, 8), (1.0, 2.0, 4.0)), own)
    assert actual.energies == pytest.approx((3.0, 2.0, 7.0))


def test_reference_stress_where_there_is_one() -> None:
    from tests.trainer.test_robust import labelled

    (sample,) = labelled([crystal()], ["train"])
    assert sample.labels.stress is not None
    own = np.diag([1.0, 2.0, 3.0])
    given = replace(sample, structure=replace(sample.structure, ref_energy=0.0, ref_forces=0 * sample.labels.forces))
    assert stress_of(given, "reference") == pytest.approx(sample.labels.stress)  # the teacher's: better than none
    given = replace(given, structure=replace(given.structure, ref_stress=own))
    zero = References((1, 6, 8), (0.0, 0.0, 0.0))
    assert targets_of([given], zero, "reference").stress[0].numpy() == pytest.approx(own)
    assert targets_of([given], zero, "teacher").stress[0].numpy() == pytest.approx(sample.labels.stress)
    cluster = replace(given, structure=replace(given.structure, pbc=np.zeros(3, bool)))
    assert stress_of(cluster, "reference") is None


def test_the_paper_s_row_norm() -> None:
    """Two structures, two slots, one of them empty: lengths of all components of a row, summed over the three rows."""
    samples = [argon_samples(1, "rows:2")[0], argon_samples(2, "rows:1")[1]]
    batch = batch_of([s.structure for s in samples], 4.5)
    targets = targets_of(samples, References((18,), (0.0,)))
    messages = targets.products + torch.from_numpy(np.random.default_rng(0).normal(size=targets.products.shape))
    messages[1, samples[0].structure.n_atoms :] = 0  # the student's answer to no direction
    messages.requires_grad_()
    parts = loss_sums(Prediction(targets.energy, None, None, messages), batch, targets, "product")
    off, n = (messages - targets.products).detach().numpy(), samples[0].structure.n_atoms
    wanted = np.linalg.norm(off[0, :n]) + np.linalg.norm(off[1, :n]) + np.linalg.norm(off[0, n:])
    assert parts["hessian"].item() == pytest.approx(wanted)
    assert counts_of(samples, "product")["hessian"] == 3
    (gradient,) = torch.autograd.grad(parts["hessian"], messages)
    assert bool(torch.isfinite(gradient).all())
    assert torch.linalg.vector_norm(gradient[0, :n]).item() == pytest.approx(1)


def test_outlying_hessians_are_left_out_counted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = argon_samples(20, "rows:3")
    for i in (0, 3, 8):  # the last one is for validation
        hessian = samples[i].labels.hessian
        assert hessian is not None
        wild = np.array(hessian.values)
        wild[2, 1, 0] = -2e4
        samples[i] = replace(samples[i], labels=replace(samples[i].labels, hessian=replace(hessian, values=wild)))
    settings = replace(QUICK, max_hessian=1e4, steps=3, batch_size=14, products_per_step=3)
    for codec in ("compact", "exact"):
        labels = open_label_set(write_label_set(tmp_path / codec, samples, codec=codec))  # type: ignore[arg-type]
        task = prepared(labels, settings)
        assert task.statistics.outlier_ids == {bytes.fromhex(samples[i].structure.id) for i in (0, 3)}
    rows = {}
    for limit in (None, 1e4):
        fit(labels.path, tmp_path / str(limit), replace(settings, max_hessian=limit))
        rows[limit] = log(tmp_path / str(limit))[-1]
    assert float(rows[None]["hessian"]) > 100 * float(rows[1e4]["hessian"])
    assert "2 of 14 training structures have a Hessian element above 10000.0 eV/A^2" in capsys.readouterr().err


def test_the_hessian_s_weight_is_halved_near_the_teacher_s_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher that is far off: the student soon is as near to the own labels. Stopped after that, it goes on with the half."""
    samples = [with_own(s, error=2.0, seed=i) for i, s in enumerate(argon_samples(40))]
    labels = write_label_set(tmp_path / "labels", samples)
    settings = replace(QUICK, targets="reference", halve_hessian_within=0.05, learning_rate=1e-4)
    task = prepared(labels, settings)
    held = [s for s in samples if s.split == "val"]
    off = np.concatenate([(s.labels.forces - s.structure.ref_forces).ravel() for s in held])  # type: ignore[operator]
    assert validation_of(task.labels, settings, task.statistics).teacher_force_mae == pytest.approx(
        np.abs(off).mean(), rel=1e-5
    )
    whole = fit(labels, tmp_path / "whole", settings, progress=False)
    weights = {row["step"]: row["hessian_weight"] for row in log(whole.run) if row["hessian_weight"]}
    assert weights == {"8": "0.3", "16": "0.15", "24": "0.15"}
    step = fit_module.train_step

    def stopped(state, *rest):  # type: ignore[no-untyped-def]
        if state.step == 11:
            raise MemoryError
        actual = step(state, *rest)
        if state.step == 10:
            fit_module.save_state(tmp_path / "run" / LAST, state)
        return actual

    monkeypatch.setattr(fit_module, "train_step", stopped)
    with pytest.raises(MemoryError):
        fit(labels, tmp_path / "run", settings, progress=False)
    monkeypatch.undo()
    _, header = read_tensors(tmp_path / "run" / LAST)
    assert (header["step"], header["hessian_factor"]) == (10, 0.5)
    resumed = fit(labels, tmp_path / "run", settings, progress=False)
    (one, _), (other, _) = read_tensors(whole.run / LAST), read_tensors(resumed.run / LAST)
    assert all(torch.equal(one[name], other[name]) for name in one)
    strict = replace(settings, halve_hessian_within=0.0, targets="mix", reference_share=0.0)
    exact = write_label_set(tmp_path / "exact", [with_own(s, error=0.0) for s in argon_samples(20)])
    never = fit(exact, tmp_path / "never", strict, progress=False)
    assert {row["hessian_weight"] for row in log(never.run) if row["hessian_weight"]} == {"0.3"}


def test_halving_without_reference_labels_is_said(
    argon: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(argon, tmp_path / "run", replace(QUICK, steps=2, halve_hessian_within=0.05))
    assert "The Hessian's weight will not be halved" in capsys.readouterr().err


def test_amsgrad_goes_on_with_the_same_bits(argon: Path, tmp_path: Path) -> None:
    """The optimizer's further slot is saved: another start from the middle ends at the same weights."""
    settings = replace(QUICK, amsgrad=True, steps=6)
    task = prepared(argon, settings)
    samples = list(in_order(open_label_set(argon), "train"))[:4]
    states = [new_state(student("painn-small", (18,)), settings) for _ in range(2)]
    gradients = eager_gradients("exact")
    for _ in range(2):
        one_step(states[0], samples, task, settings, gradients, Ranks())
    fit_module.save_state(tmp_path / LAST, states[0])
    fit_module.restore_state(tmp_path / LAST, (tmp_path / LAST).read_bytes(), states[1], settings)
    for state in states:
        one_step(state, samples, task, settings, gradients, Ranks())
    pairs = zip(states[0].parameters, states[1].parameters, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert "max_exp_avg_sq" in next(iter(states[1].optimizer.state.values()))


@pytest.mark.parametrize("student", ["painn-small", "painn-small-direct"])
def test_stress_is_learned_by_students_that_have_one(student: str, tmp_path: Path) -> None:
    labels = write_label_set(tmp_path / "labels", argon_crystals(24))
    settings = FitSettings(student=student, steps=10, warmup=0, batch_size=4, validate_every=10)
    done = fit(labels, tmp_path / "run", settings, progress=False)
    with (done.run / "log.csv").open() as log:
        (row,) = csv.DictReader(log)
    assert bool(row["stress"]) == (student == "painn-small")
    assert (done.validation["stress_mae_mev_per_angstrom3"] is None) == (student != "painn-small")
