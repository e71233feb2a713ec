"""The baselines: node features (n2n) and their means per element (a2a). The features are those of a real network, of another seed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hdistill.data.errors import InputError
from hdistill.data.format.shard import Sample
from hdistill.data.labelsets.label_set import open_label_set
from hdistill.data.labelsets.stream import in_order
from hdistill.trainer.evaluation.errors import evaluate_student
from hdistill.trainer.fitting import fit as fit_module
from hdistill.trainer.fitting.data import TrainingData
from hdistill.trainer.fitting.feature_loss import feature_gradients, feature_maps
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.ranks import Ranks
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.fitting.state import TrainState, new_state
from hdistill.trainer.fitting.step import eager_gradients
from hdistill.trainer.force_field.checkpoint import LAST, STUDENT, read_tensors
from hdistill.trainer.force_field.predict import predict
from hdistill.trainer.inputs.batch import batch_of
from hdistill.trainer.inputs.features import teacher_features
from tests.data.samples import write_label_set
from tests.trainer.structures import Prepared, one_step, prepared, student
from tests.trainer.test_robust import grid, labelled

SETTINGS = FitSettings(
    student="painn-small",
    steps=16,
    warmup=3,
    validate_every=8,
    batch_size=5,
    node_weight=0.5,
    embedding_weight=0.2,
    dtype="float64",
)
ELEMENTS = (10, 18)
WIDTH = 32


def features_of(network: nn.Module, sample: Sample) -> np.ndarray:
    """What a network's readout reads of a structure."""
    actual: list[torch.Tensor] = []
    readout = network.get_submodule("readout")
    hook = readout.register_forward_pre_hook(lambda module, given: actual.append(given[0]))
    predict(network, batch_of([sample.structure], 4.5))
    hook.remove()
    features: np.ndarray = actual[0].detach().numpy()
    return features.astype(np.float32)


def featured(n: int = 20) -> list[Sample]:
    """Clusters of neon and argon with the features of a network."""
    network = student("painn-small", ELEMENTS, seed=9)
    splits = ["val" if i % 10 == 8 else "test" if i % 10 == 9 else "train" for i in range(n)]
    samples = labelled([grid(2 + i % 4, ELEMENTS, seed=i, spacing=3.4) for i in range(n)], splits, "probes:2")
    return [replace(s, labels=replace(s.labels, node_features=features_of(network, s))) for s in samples]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_label_set(tmp_path_factory.mktemp("featured") / "labels", featured(), per_shard=7)


@pytest.fixture(scope="module")
def task(labels: Path) -> Prepared:
    return prepared(labels, SETTINGS)


def fresh(task: Prepared, name: str = "painn-small", settings: FitSettings = SETTINGS) -> TrainState:
    model = student(name, ELEMENTS)
    return new_state(model, settings, feature_maps(model, settings, ELEMENTS, WIDTH))


def gradients_of(state: TrainState, settings: FitSettings = SETTINGS):  # type: ignore[no-untyped-def]
    assert isinstance(state.maps, nn.ModuleDict)
    return feature_gradients(state.maps, settings)


def train_samples(labels: Path, n: int = 5) -> list[Sample]:
    return list(in_order(open_label_set(labels), "train"))[:n]


def test_features_are_normalised_by_the_training_split(labels: Path) -> None:
    actual = teacher_features(open_label_set(labels))
    train = [s for s in featured() if s.split == "train"]
    features = np.concatenate([s.labels.node_features for s in train]).astype(np.float64)  # type: ignore[misc]
    numbers = np.concatenate([s.structure.numbers for s in train])
    assert actual.mean == pytest.approx(features.mean(0))
    assert actual.scale == pytest.approx(features.std(0), rel=1e-6)
    normalised = actual.normalised(features)
    assert actual.means[18] == pytest.approx(normalised[numbers == 18].mean(0))
    assert not actual.means[36].any()


def test_the_terms_are_what_they_are_said_to_be(task: Prepared, labels: Path) -> None:
    samples, state = train_samples(labels), fresh(task)
    maps = {name: (m.weight.detach().numpy().copy(), m.bias.detach().numpy().copy()) for name, m in state.maps.items()}  # type: ignore[union-attr, operator]
    own = [features_of(state.model, s).astype(np.float64) for s in samples]
    table = state.model.get_submodule("embedding").weight.detach().numpy()[[ELEMENTS.index(18)]]  # type: ignore[union-attr, operator]
    row = one_step(state, samples, task, SETTINGS, gradients_of(state), Ranks())
    assert task.statistics.features is not None
    node = embedding = n = 0.0
    for sample, x in zip(samples, own, strict=True):
        wanted = task.statistics.features.normalised(sample.labels.node_features)  # type: ignore[arg-type]
        w, b = maps["node"]
        node += ((x @ w.T + b - wanted) ** 2).mean(1).sum()
        n += len(x)
    assert row["node"] == pytest.approx(node / n, rel=1e-5)
    w, b = maps["embedding"]
    embedding = ((table @ w.T + b - task.statistics.features.means[18]) ** 2).mean()
    weight, bias = (x.copy() for x in maps["embedding"])
    neon = fresh(task).model.get_submodule("embedding").weight.detach().numpy()[[ELEMENTS.index(10)]]  # type: ignore[union-attr, operator]
    other = ((neon @ weight.T + bias - task.statistics.features.means[10]) ** 2).mean()
    numbers = np.concatenate([s.structure.numbers for s in samples])
    share = (numbers == 18).mean()
    assert row["embedding"] == pytest.approx(share * embedding + (1 - share) * other, rel=1e-9)
    parts = {"energy": 1.0, "forces": 1.0, "hessian": 0.3, "node": 0.5, "embedding": 0.2}
    assert row["loss"] == pytest.approx(sum(weight * row[name] for name, weight in parts.items()))


def test_pieces_and_shares_add_up(task: Prepared, labels: Path) -> None:
    """Cut into batches of one structure; and the sums of three ranks, one of whose structures has no features."""
    samples = train_samples(labels)
    samples[1] = replace(samples[1], labels=replace(samples[1].labels, node_features=None))
    settings = replace(SETTINGS, clip=1e9)
    whole, cut = fresh(task), fresh(task)
    row = one_step(whole, samples, task, settings, gradients_of(whole), Ranks())
    pieces = one_step(cut, samples, task, replace(settings, max_edges=1), gradients_of(cut), Ranks())
    assert pieces == {name: pytest.approx(value, rel=1e-9) for name, value in row.items()}
    total = [torch.zeros_like(p) for p in whole.parameters]
    for index in range(3):
        share = fresh(task)
        one_step(share, samples, task, settings, gradients_of(share), _Alone(index, 3))
        for sum_of_all, p in zip(total, share.parameters, strict=True):
            assert p.grad is not None
            sum_of_all += p.grad
    for sum_of_all, p in zip(total, whole.parameters, strict=True):
        assert p.grad is not None
        assert torch.allclose(sum_of_all, p.grad, rtol=1e-9, atol=1e-12)


class _Alone(Ranks):
    """A rank that nobody answers: its own sums are all it gets."""

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        pass


@pytest.mark.parametrize("name", ["painn-small-direct", "gemnet-dt-small"])
@pytest.mark.parametrize("method", ["exact", "difference"])
def test_other_students(task: Prepared, labels: Path, name: str, method: str) -> None:
    settings = replace(SETTINGS, product_method=method)  # type: ignore[arg-type]
    state = fresh(task, name, settings)
    row = one_step(state, train_samples(labels, 2), task, settings, gradients_of(state, settings), Ranks())
    assert np.isfinite(row["loss"])
    assert {"node", "embedding"} < set(row)
    assert all(m.weight.grad.abs().sum() > 0 for m in state.maps.children())  # type: ignore[union-attr, operator]


def test_a_fit_learns_the_features_and_saves_no_map(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The term falls; the student has no weight more than others; stopped and gone on with, the bits are the same."""
    settings = replace(SETTINGS, steps=40)
    whole = fit(labels, tmp_path / "whole", settings, progress=False)
    with (whole.run / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["node"]) < 0.7 * float(rows[0]["node"])
    plain = fit(labels, tmp_path / "plain", replace(SETTINGS, node_weight=0, embedding_weight=0), progress=False)
    (own, _), (theirs, _) = read_tensors(whole.run / STUDENT), read_tensors(plain.run / STUDENT)
    assert set(own) == set(theirs)
    assert whole.n_parameters == plain.n_parameters
    assert evaluate_student(whole.run, labels, "test")["n_structures"] == 2
    tensors, _ = read_tensors(whole.run / LAST)
    assert {name for name in tensors if name.startswith("maps.")} == {
        f"maps.{term}.{name}" for term in ("node", "embedding") for name in ("weight", "bias")
    }
    step = fit_module.train_step

    def stopped(state, *rest):  # type: ignore[no-untyped-def]
        if state.step == 13:
            fit_module.save_state(tmp_path / "run" / LAST, state)
            raise MemoryError
        return step(state, *rest)

    monkeypatch.setattr(fit_module, "train_step", stopped)
    with pytest.raises(MemoryError):
        fit(labels, tmp_path / "run", settings, progress=False)
    monkeypatch.undo()
    resumed, _ = read_tensors(fit(labels, tmp_path / "run", settings, progress=False).run / LAST)
    assert all(torch.equal(tensors[name], resumed[name]) for name in tensors)


def test_weights_of_zero_read_no_feature(labels: Path) -> None:
    settings = replace(SETTINGS, node_weight=0, embedding_weight=0)
    task = prepared(labels, settings)
    assert task.statistics.features is None
    assert (
        TrainingData(task.labels, task.statistics, settings, Ranks())
        .targets(train_samples(labels))
        .node_features.numel()
        == 0
    )
    state = new_state(student("painn-small", ELEMENTS), settings)
    row = one_step(state, train_samples(labels), task, settings, eager_gradients("exact"), Ranks())
    assert "node" not in row


def test_what_cannot_be_done_is_said(
    argon: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"has no node features in its train split.*--node-features"):
        fit(argon, tmp_path / "none", SETTINGS, progress=False)
    with pytest.raises(
        InputError, match="The student 'painn-small' has no `readout` with one row of features for every"
    ):
        feature_maps(_Deaf(), SETTINGS, ELEMENTS, WIDTH)
    fit(labels, tmp_path / "run", replace(SETTINGS, steps=1, compile=True))
    assert "read in eager steps only: compile is left out" in capsys.readouterr().err


class _Deaf(nn.Module):
    """A student from outside, which has neither an embedding nor a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Parameter(torch.ones(()))

    def forward(self, numbers: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return self.depth * vectors.new_zeros(len(numbers)).index_add(0, edge_index[0], vectors.square().sum(1))
