"""Energy differences within a composition, and energies of atoms: as terms of the loss, and as errors."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
import torch

from hdistill.data.errors import InputError
from hdistill.data.format.shard import Sample
from hdistill.trainer.evaluation.differences import difference_errors, mean_pair_difference, rank_correlation
from hdistill.trainer.evaluation.errors import evaluate_student
from hdistill.trainer.fitting.data import TrainingData, paired
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.ranks import Ranks
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.fitting.state import TrainState, new_state
from hdistill.trainer.fitting.step import eager_gradients
from hdistill.trainer.force_field.checkpoint import load_student
from hdistill.trainer.force_field.predict import predict
from hdistill.trainer.inputs.batch import batch_of, composition_of
from hdistill.trainer.students.build import build
from hdistill.trainer.students.registry import size_of
from tests.data.samples import write_label_set
from tests.trainer.structures import Prepared, argon_samples, one_step, prepared
from tests.trainer.test_robust import grid, labelled

SETTINGS = FitSettings(
    student="painn-small",
    dtype="float64",
    batch_size=7,
    energy_weight=0.0,
    force_weight=0.0,
    stress_weight=0.0,
    hessian_weight=0.0,
    difference_weight=1.0,
    clip=1e9,
)


def with_atom_energies(sample: Sample) -> Sample:
    """Energies of atoms that add up to the structure's: about -2 eV for argon and -1 eV for neon, by how near others are."""
    structure = sample.structure
    r = np.linalg.norm(structure.positions[:, None] - structure.positions, axis=2)
    atoms = np.where(structure.numbers == 18, -2.0, -1.0) + 3 * np.exp(-((r / 1.8) ** 2)).sum(1)
    return replace(sample, labels=replace(sample.labels, energy=float(atoms.sum()), atom_energies=atoms))


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Three compositions, of 3, 3 and 1 structures."""
    structures = [grid(n, (18, 10), seed=i, spacing=3.3) for i, n in enumerate((3, 4, 3, 4, 4, 5, 3))]
    all_of_them = labelled([*structures, grid(3, seed=20)], ["train"] * 7 + ["val"], "probes:1")
    return [with_atom_energies(s) for s in all_of_them]


@pytest.fixture(scope="module")
def labels(samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_label_set(tmp_path_factory.mktemp("differences") / "labels", samples)


def fresh(task: Prepared, settings: FitSettings) -> TrainState:
    return new_state(build(size_of("painn-small"), task.statistics.elements, task.scale).double(), settings)


def gradient(state: TrainState) -> torch.Tensor:
    return torch.cat([p.grad.reshape(-1) for p in state.model.parameters() if p.grad is not None])


def predicted(state: TrainState, sample: Sample) -> tuple[float, np.ndarray]:
    """Energy and energies of atoms, above the references."""
    prediction = predict(state.model, batch_of([sample.structure], 4.5), forces=False)
    assert prediction.atom_energies is not None
    return prediction.energy.item(), prediction.atom_energies.detach().numpy()


def test_the_difference_term_by_hand(samples: list[Sample], labels: Path) -> None:
    task, chosen = prepared(labels, SETTINGS), samples[:7]
    state = fresh(task, SETTINGS)
    off = [predicted(state, s)[0] + task.references.of(s.structure.numbers) - s.labels.energy for s in chosen]
    pairs = [
        (i, j)
        for i, j in combinations(range(7), 2)
        if composition_of(chosen[i].structure) == composition_of(chosen[j].structure)
    ]
    assert len(pairs) == 6
    wanted = np.mean([abs(off[i] - off[j]) / chosen[i].structure.n_atoms for i, j in pairs])
    row = one_step(state, chosen, task, SETTINGS, eager_gradients("exact"), Ranks())
    assert row["difference"] == pytest.approx(wanted, rel=1e-9)
    assert set(row) == {"learning_rate", "loss", "gradient_norm", "difference"}


def test_its_gradient_is_that_of_differences(samples: list[Sample], labels: Path) -> None:
    task, gradients = prepared(labels, SETTINGS), eager_gradients("exact")
    state = fresh(task, SETTINGS)
    (piece,) = TrainingData(task.labels, task.statistics, SETTINGS, Ranks()).inputs(samples[:7], 0).pieces
    factors = {"difference": 1.0}
    _, grads = gradients(state.model, piece.batch, piece.targets, factors)
    for parameter, grad in zip(state.model.parameters(), grads, strict=True):
        place, values = int(grad.abs().argmax()), parameter.data.view(-1)
        losses = []
        for change in (1e-6, -2e-6):
            values[place] += change
            losses.append(float(gradients(state.model, piece.batch, piece.targets, factors)[0]["difference"]))
        values[place] += 1e-6
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(float(grad.view(-1)[place]), rel=1e-4, abs=1e-9)


class _Alone(Ranks):
    """A rank among several, to whom the others' residuals are told; its own gradient is all it gets."""

    residuals: torch.Tensor

    def add_up(self, tensors) -> None:  # type: ignore[no-untyped-def]
        if len(tensors) == 1:
            tensors[0].copy_(self.residuals)


def test_pairs_that_do_not_meet_in_a_piece_are_learned_all_the_same(samples: list[Sample], labels: Path) -> None:
    """Cut into batches of one structure; and the sums of three ranks."""
    task, chosen = prepared(labels, SETTINGS), samples[:7]
    whole, cut = fresh(task, SETTINGS), fresh(task, SETTINGS)
    residuals = torch.tensor(
        [predicted(whole, s)[0] + task.references.of(s.structure.numbers) - s.labels.energy for s in chosen]
    )
    row = one_step(whole, chosen, task, SETTINGS, eager_gradients("exact"), Ranks())
    pieces = one_step(cut, chosen, task, replace(SETTINGS, max_edges=1), eager_gradients("exact"), Ranks())
    assert pieces == {name: pytest.approx(value, rel=1e-9) for name, value in row.items()}
    assert torch.allclose(gradient(whole), gradient(cut), rtol=1e-9, atol=1e-12)
    total = torch.zeros_like(gradient(whole))
    for index in range(3):
        share, rank = fresh(task, SETTINGS), _Alone(index, 3)
        object.__setattr__(rank, "residuals", residuals)
        one_step(share, chosen, task, SETTINGS, eager_gradients("exact"), rank)
        total += gradient(share)
    assert torch.allclose(total, gradient(whole), rtol=1e-9, atol=1e-12)


def test_atom_energies_by_hand(samples: list[Sample], labels: Path) -> None:
    """Above the mean of each element, which is then the student's reference energy: atoms add up to structures."""
    settings = replace(SETTINGS, difference_weight=0.0, atom_energy_weight=1.0)
    task, chosen = prepared(labels, settings), samples[:7]
    train = [s for s in samples if s.split == "train"]
    numbers = np.concatenate([s.structure.numbers for s in train])
    energies = np.concatenate([s.labels.atom_energies for s in train])  # type: ignore[misc]
    means = {z: energies[numbers == z].mean() for z in (10, 18)}
    assert task.references.energies == pytest.approx((means[10], means[18]))
    state = fresh(task, settings)
    off = [
        np.abs(predicted(state, s)[1] + np.array([means[z] for z in s.structure.numbers]) - s.labels.atom_energies)
        for s in chosen
    ]
    row = one_step(state, chosen, task, settings, eager_gradients("exact"), Ranks())
    assert row["atom_energy"] == pytest.approx(np.concatenate(off).mean(), rel=1e-9)
    bare = [replace(chosen[0], labels=replace(chosen[0].labels, atom_energies=None)), *chosen[1:]]
    row = one_step(fresh(task, settings), bare, task, settings, eager_gradients("exact"), Ranks())
    assert row["atom_energy"] == pytest.approx(np.concatenate(off[1:]).mean(), rel=1e-9)


def test_atom_energies_are_learned_or_asked_for(argon: Path, labels: Path, tmp_path: Path) -> None:
    settings = replace(
        SETTINGS, atom_energy_weight=1.0, energy_weight=1.0, energy_weight_end=5.0, steps=200, batch_size=4, warmup=2
    )
    result = fit(labels, tmp_path / "run", settings, progress=False)
    lines = [line.split(",") for line in (result.run / "log.csv").read_text().splitlines()]
    column, weight = lines[0].index("atom_energy"), lines[0].index("energy_weight")
    assert float(lines[-1][column]) < 0.7 * float(lines[1][column])
    assert float(lines[-1][weight]) == pytest.approx(1 + 4 * (199 / 200) ** 2)
    assert load_student(result.run).card.references.energies == pytest.approx((2.2, 1.2), abs=0.3)
    with pytest.raises(InputError, match=r"has no atomic energies in its train split.*--atom-energies"):
        fit(argon, tmp_path / "no", settings, progress=False)


@pytest.mark.parametrize("first", [0, 5, 16, 23])
def test_partners_come_together_and_each_sample_once(first: int) -> None:
    stream = argon_samples(40)  # four compositions, taken in turn
    chosen = list(islice(paired(lambda start: iter(stream[start:]), first, 16), 40))
    whole = list(paired(lambda start: iter(stream[start:]), 0, 16))
    assert sorted(s.structure.id for s in whole) == sorted(s.structure.id for s in stream)
    assert [s.structure.id for s in chosen] == [s.structure.id for s in whole[first:]]
    for one, other in zip(whole[:16:2], whole[1:16:2], strict=True):
        assert one.structure.n_atoms == other.structure.n_atoms


def test_a_fit_of_pairs_goes_on_with_the_same_losses(tmp_path: Path, argon: Path) -> None:
    settings = FitSettings(
        student="painn-small", steps=12, warmup=2, validate_every=6, batch_size=4, difference_weight=2.0
    )
    whole = fit(argon, tmp_path / "whole", settings, progress=False)
    fit(argon, tmp_path / "run", replace(settings, steps=7), progress=False)
    # A longer fit has another learning rate: what is compared is which structures a step is given, by its counts.
    data = TrainingData(prepared(argon, settings).labels, prepared(argon, settings).statistics, settings, Ranks())
    ids = [list(inputs.ids) for inputs in islice(data.steps(0), 12)]
    assert ids[7:] == [list(inputs.ids) for inputs in islice(data.steps(7), 5)]
    assert whole.steps == 12


def test_errors_of_differences_by_hand() -> None:
    rng = np.random.default_rng(0)
    errors, labels = rng.normal(size=9), rng.normal(size=9)
    kinds = [b"A", b"B", b"A", b"A", b"B", b"C", b"A", b"D", b"D"]
    actual = difference_errors(kinds, errors, labels)
    assert actual.n_comparable == 8
    sets = {k: [i for i, kind in enumerate(kinds) if kind == k] for k in (b"A", b"B", b"D")}
    maes = {k: np.mean([abs(errors[i] - errors[j]) for i, j in combinations(m, 2)]) for k, m in sets.items()}
    assert actual.mae_ev == pytest.approx((4 * maes[b"A"] + 2 * maes[b"B"] + 2 * maes[b"D"]) / 8)
    one, other = labels[sets[b"A"]], (labels + errors)[sets[b"A"]]
    ranks = [np.argsort(np.argsort(x)) for x in (one, other)]
    assert actual.rank_correlation == pytest.approx(np.corrcoef(ranks[0], ranks[1])[0, 1])
    assert difference_errors([b"A", b"B"], errors[:2], labels[:2]).mae_ev is None
    assert mean_pair_difference(np.array([1.0, 4.0])) == 3.0
    assert rank_correlation(np.arange(4.0), -np.arange(4.0)) == pytest.approx(-1.0)
    assert rank_correlation(np.array([1.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0])) == pytest.approx(1.0)
    assert rank_correlation(np.ones(3), np.arange(3.0)) is None


def test_evaluate_says_what_energies_per_atom_hide(argon: Path, tmp_path: Path) -> None:
    """A student that is right but for an offset of each composition has no error of differences, and the right order."""
    settings = FitSettings(student="painn-small", steps=30, warmup=2, validate_every=30, batch_size=8)
    run = fit(argon, tmp_path / "run", settings, progress=False).run
    student = load_student(run)
    shifted = []
    for sample in argon_samples(20):
        prediction = predict(student.model, batch_of([sample.structure], student.cutoff), forces=False)
        offset = 0.1 * sample.structure.n_atoms
        energy = prediction.energy.item() + student.card.references.of(sample.structure.numbers) + offset
        shifted.append(replace(sample, labels=replace(sample.labels, energy=energy), split="test"))
    actual = evaluate_student(str(run), write_label_set(tmp_path / "labels", shifted))
    assert actual["energy_mae_mev_per_atom"] == pytest.approx(100, rel=1e-3)
    assert actual["n_comparable"] == 20
    assert actual["difference_mae_mev"] < 1e-2
    assert actual["rank_correlation"] == pytest.approx(1.0)
    assert all(group["rank_correlation"] == pytest.approx(1.0) for group in actual["by_group"].values())
