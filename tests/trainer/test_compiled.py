"""The compiled step says what the eager one says, for batches of all sizes, or leaves the work to it and says so."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hdistill.data.format.shard import Sample
from hdistill.data.structure import Structure
from hdistill.trainer.choices import ProductMethod
from hdistill.trainer.fitting import compiled, fit as fit_module, report
from hdistill.trainer.fitting.compiled import CompiledGradients
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.loss import counts_of
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.fitting.step import eager_gradients
from hdistill.trainer.force_field import compiler
from hdistill.trainer.force_field.checkpoint import LAST, read_tensors
from hdistill.trainer.force_field.predict import is_direct
from hdistill.trainer.inputs.batch import (
    Batch,
    Targets,
    batch_of,
    targets_of,
    with_atom_energies,
    with_pairs,
    with_products,
)
from hdistill.trainer.inputs.references import References
from hdistill.trainer.students.build import build
from hdistill.trainer.students.registry import size_of
from tests.trainer.structures import argon_crystals, argon_samples

pytestmark = pytest.mark.xdist_group("compiled")  # what its fixtures make is made once

CUTOFF = 5.0
SETTINGS = FitSettings(
    dtype="float64", products_per_step=2, stress_weight=0, difference_weight=2.0, atom_energy_weight=1.0
)
REFERENCES = References((18,), (0.0,))


class Pairs(nn.Module):
    """The smallest student with a matrix product, a nonlinearity, a gather and a scatter: quick to compile."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(20, 3)
        self.network = nn.Linear(1, 3)
        self.sign = 1.0

    def forward(self, numbers: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        square = vectors.square().sum(1, keepdim=True) / CUTOFF**2
        messages = torch.tanh(self.network(square)) * (1 - square).clamp(min=0) ** 4
        messages = messages * self.embedding(numbers).index_select(0, edge_index[1])
        zeros = messages.new_zeros(numbers.shape[0])
        return self.sign * zeros.index_add(0, edge_index[0], messages.square().sum(1))


class CountsAtoms(Pairs):
    """Says another thing to every number of atoms."""

    def forward(self, numbers: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return super().forward(numbers, edge_index, vectors) * len(numbers)


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One for the module: its precompiled headers take longer than a small student."""
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HDISTILL_CACHE", str(folder))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "kernels"))
        yield folder


def given(
    samples: list[Sample], settings: FitSettings = SETTINGS, cutoff: float = CUTOFF
) -> tuple[Batch, Targets, dict[str, float]]:
    """With energies of atoms and weights of pairs, (B,B), as far as the settings want them."""
    samples = [
        replace(s, labels=replace(s.labels, atom_energies=np.linspace(-1, 1, s.structure.n_atoms))) for s in samples
    ]
    drawn = [with_products(sample, settings.n_products, np.random.default_rng(0)) for sample in samples]
    counts = counts_of(drawn)
    factors = {name: weight / counts[name] for name, weight in settings.weights.items() if weight > 0 and counts[name]}
    targets = targets_of(drawn, REFERENCES)
    if settings.atom_energy_weight:
        targets = with_atom_energies(targets, drawn, REFERENCES)
    if settings.difference_weight:
        targets = with_pairs(targets, drawn)
    return batch_of([s.structure for s in drawn], cutoff), targets, factors


def compile_for(
    model: nn.Module, batch: tuple[Batch, Targets, dict[str, float]], settings: FitSettings = SETTINGS
) -> tuple[CompiledGradients, list[str]]:
    messages: list[str] = []
    step = CompiledGradients(settings, eager_gradients(settings.product_method), messages.append)
    step(model, *batch)
    return step, messages


def assert_equal(step: CompiledGradients, model: nn.Module, batch: tuple[Batch, Targets, dict[str, float]]) -> None:
    """Sums, and the gradient of each parameter, to the rounding of its precision."""
    parts, grads = step(model, *batch)
    true_parts, true_grads = step.eager(model, *batch)
    rounding = 1e-9 if grads[0].dtype == torch.float64 else 1e-5
    scale = max(float(g.abs().max()) for g in true_grads)
    assert list(parts) == list(true_parts)
    for name, part in parts.items():
        assert float(part) == pytest.approx(float(true_parts[name]), rel=rounding)
    for (name, _), grad, true in zip(model.named_parameters(), grads, true_grads, strict=True):
        assert grad.dtype == true.dtype
        assert float((grad - true).abs().max()) < rounding * scale, name


@pytest.fixture(scope="module")
def pairs(caches: Path) -> tuple[nn.Module, CompiledGradients, list[str]]:
    model = Pairs().double()
    return model, *compile_for(model, given(argon_samples(5)))


def test_it_is_the_eager_step_for_all_sizes(pairs: tuple[nn.Module, CompiledGradients, list[str]]) -> None:
    """One code for all: nothing is compiled or traced again, and no batch is left to the eager step."""
    model, step, messages = pairs
    assert [text.split()[0] for text in messages] == ["Compiling", "Compiled"]
    assert messages[1].startswith("Compiled the training step in ")
    assert {"difference", "atom_energy"} < set(given(argon_samples(5))[2])
    torch._dynamo.utils.counters.clear()
    for samples in (argon_samples(5), argon_samples(2), argon_samples(1), argon_samples(23, seed=4)):
        assert_equal(step, model, given(samples))
    assert (step.eager_batches, len(messages)) == (0, 2)
    assert not any(torch._dynamo.utils.counters.values())


def test_same_call_same_bits(pairs: tuple[nn.Module, CompiledGradients, list[str]]) -> None:
    model, step, _ = pairs
    batch = given(argon_samples(7))
    (parts, grads), (parts_again, grads_again) = step(model, *batch), step(model, *batch)
    assert parts == parts_again
    assert all(torch.equal(a, b) for a, b in zip(grads, grads_again, strict=True))


def test_gradients_are_those_of_differences(pairs: tuple[nn.Module, CompiledGradients, list[str]]) -> None:
    """A traced graph without its parameter gradients would lose all that passes through forces and products."""
    model, step, _ = pairs
    batch = given(argon_samples(4))
    _, grads = step(model, *batch)
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        place = int(grad.abs().argmax())
        losses = []
        for change in (1e-6, -1e-6):
            moved = parameter.detach().clone()
            moved.view(-1)[place] += change
            before, parameter.data = parameter.data, moved
            losses.append(sum(batch[2][name] * float(part) for name, part in step(model, *batch)[0].items()))
            parameter.data = before
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(float(grad.view(-1)[place]), rel=1e-5)


def test_slots_and_parts_that_a_batch_lacks(pairs: tuple[nn.Module, CompiledGradients, list[str]]) -> None:
    """Some structures have fewer products than others, or none: a slot too many, and a part without a factor, add nothing."""
    model, step, _ = pairs
    one = given(argon_samples(5), replace(SETTINGS, products_per_step=1))
    assert one[1].directions.shape[0] == 1
    assert_equal(step, model, one)
    batch, targets, factors = given(argon_samples(5), replace(SETTINGS, hessian_weight=0.0))
    assert (targets.directions.shape[0], "hessian" in factors) == (0, False)
    assert_equal(step, model, (batch, targets, factors))
    assert step.eager_batches == 0


def test_what_is_too_small_goes_to_the_eager_step(pairs: tuple[nn.Module, CompiledGradients, list[str]]) -> None:
    """Code for all sizes begins at two atoms and two edges."""
    model, step, messages = pairs
    sample = argon_samples(1, hessian="none")[0]
    alone = Structure(sample.structure.numbers[:1], sample.structure.positions[:1])
    labels = replace(sample.labels, forces=sample.labels.forces[:1])
    batch = given([replace(sample, structure=alone, labels=labels)])
    parts, _ = step(model, *batch)
    assert parts == step.eager(model, *batch)[0]
    assert (step.eager_batches, len(messages)) == (1, 2)


def test_it_is_found_again(pairs: tuple[nn.Module, CompiledGradients, list[str]]) -> None:
    model, step, _ = pairs
    batch = given(argon_samples(5))
    again, messages = compile_for(model, batch)
    assert messages[0].startswith("Loaded the training step in ")
    assert all(torch.equal(a, b) for a, b in zip(step(model, *batch)[1], again(model, *batch)[1], strict=True))


def test_it_is_made_anew_where_it_is_wrong(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code from the cache is tried like fresh code. Here the key hides from it that the student has changed its sign."""
    monkeypatch.setattr(compiled, "key_of", lambda *args: "the same for all")
    energies = replace(SETTINGS, force_weight=0, hessian_weight=0, difference_weight=0, atom_energy_weight=0)
    batch = given(argon_samples(5), energies)
    model = Pairs().double()
    for change, verb in (("none", "Compiled"), ("none", "Loaded"), ("sign", "Compiled"), ("damage", "Compiled")):
        if change == "sign":
            model.sign = -1.0
        if change == "damage":
            (caches / "compiled" / "the same for all.step").write_bytes(b"what a full disk left")
        step, messages = compile_for(model, batch, energies)
        assert messages[-1].startswith(verb), change
        assert_equal(step, model, batch)


def refused(model: nn.Module) -> str:
    """What is said where a step is not compiled, and the eager one taken."""
    batch = given(argon_samples(5))
    step, messages = compile_for(model, batch)
    assert step(model, *batch)[0] == step.eager(model, *batch)[0]
    assert step.eager_batches == 2
    sentence = messages[-1]
    assert [text.split()[0] for text in messages[:-1]] in ([], ["Compiling"])
    assert sentence.startswith("The training step could not be compiled (")
    assert sentence.endswith("training goes on without.")
    return sentence


def test_no_compiler(caches: Path) -> None:
    import torch._inductor.config

    with torch._inductor.config.patch({"cpp.cxx": (None, "/nonexistent/c++")}):
        model = Pairs().double()
        model.embedding = nn.Embedding(19, 3).double()  # nothing in the cache
        assert "No working C++ compiler" in refused(model)


def test_a_student_whose_code_depends_on_sizes(caches: Path) -> None:
    assert "depend on the sizes of the batch" in refused(CountsAtoms().double())


def test_other_numbers_than_eager(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that is off, however it came about, is not used."""
    right = compiled._call

    def wrong(*args: object) -> object:
        parts, grads = right(*args)  # type: ignore[arg-type]
        return parts, [grads[0] * (1 + 1e-6), *grads[1:]]

    monkeypatch.setattr(compiled, "_call", wrong)
    assert "its sums and gradients are off by " in refused(Pairs().double())


def test_code_that_others_may_write_is_not_run(caches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled steps are pickles: they come from a folder that this user alone can write, or not at all."""
    monkeypatch.setenv("HDISTILL_CACHE", str(tmp_path))
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled").chmod(0o777)
    assert "Other users can write to" in refused(Pairs().double())
    (tmp_path / "compiled").rmdir()
    assert compiler.folder_of_code().stat().st_mode & 0o777 == 0o700


def test_ctrl_c_is_answered_during_a_build(
    caches: Path, argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which takes minutes: what is built is said, also without progress, and a signal ends it before it is done."""
    before = set((caches / "compiled").glob("*.step"))

    def announced(text: str) -> None:
        report.say(text)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

    monkeypatch.setattr(fit_module, "say", announced)
    with pytest.raises(KeyboardInterrupt):
        fit(
            argon,
            tmp_path / "run",
            FitSettings(student="painn-small", steps=2, batch_size=4, compile=True),
            progress=False,
        )
    assert "Compiling the training step of painn-small (energy, forces, hessian)" in capsys.readouterr().err
    assert set((caches / "compiled").glob("*.step")) == before


def test_where_kernels_are_kept_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "TORCHINDUCTOR_CACHE_DIR"
    monkeypatch.delenv(name, raising=False)
    for _ in range(2):  # the second time, torch has named its default in /tmp by itself
        with compiler.kernels_in(tmp_path / "own"):
            assert os.environ[name] == str(tmp_path / "own")
        assert name not in os.environ
        assert torch._inductor.runtime.cache_dir_utils.cache_dir() == os.environ[name]
    monkeypatch.setenv(name, str(tmp_path / "users"))
    with compiler.kernels_in(tmp_path / "own"):
        assert os.environ[name] == str(tmp_path / "users")
    assert os.environ[name] == str(tmp_path / "users")


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hessian_weight", [0.0, 0.3])
def test_painn(caches: Path, dtype: str, hessian_weight: float) -> None:
    settings = replace(SETTINGS, dtype=dtype, hessian_weight=hessian_weight, products_per_step=1)  # type: ignore[arg-type]
    model = build(size_of("painn-small"), (18,), scale=1.0).to(getattr(torch, dtype))
    step, messages = compile_for(model, given(argon_samples(12), settings), settings)
    assert messages[-1].startswith("Compiled")
    for samples in (argon_samples(12), argon_samples(1), argon_samples(40, seed=4)):
        assert_equal(step, model, given(samples, settings))
    assert step.eager_batches == 0
    model.load_state_dict(build(size_of("painn-small"), (18,), scale=1.0, seed=1).state_dict())
    assert_equal(step, model, given(argon_samples(12), settings))


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "repulsion", "method"),
    [
        ("painn-small", True, "exact"),
        ("painn-small", True, "difference"),
        ("painn-small-direct", False, "exact"),
        ("moment", False, "exact"),
        ("ace-local-small", False, "exact"),
        ("ace-small", False, "difference"),
        ("gemnet-dt-small", False, "exact"),
    ],
)
def test_students_and_stress(caches: Path, name: str, repulsion: bool, method: ProductMethod) -> None:
    """Of crystals, whose stress is learned, too, where the student has one."""
    settings = replace(SETTINGS, student=name, stress_weight=0.1, products_per_step=1, product_method=method)
    model = build(size_of(name, repulsion), (18,), scale=1.0).double()
    step, messages = compile_for(model, given(argon_crystals(9), settings), settings)
    assert messages[-1].startswith("Compiled")
    for n in (9, 1, 17):
        batch = given(argon_crystals(n), settings)
        assert ("stress" in batch[2]) != is_direct(model)
        assert_equal(step, model, batch)
    assert step.eager_batches == 0


@pytest.mark.long
def test_a_compiled_fit_has_the_same_bits_in_another_process(caches: Path, argon: Path, tmp_path: Path) -> None:
    """Which loads what the first one compiled; so a fit that was stopped goes on with the same bits. The eager one is close."""
    settings = FitSettings(student="painn-small", steps=12, batch_size=4, validate_every=6, compile=True)
    fit(argon, tmp_path / "one", settings, progress=False)
    call = "import sys; from pathlib import Path; from hdistill.trainer.fitting.fit import fit; "
    call += "from hdistill.trainer.fitting.settings import "
    call += f"FitSettings; fit(Path(sys.argv[1]), Path(sys.argv[2]), {settings!r})"
    again = subprocess.run(
        [sys.executable, "-c", call, str(argon), str(tmp_path / "two")], check=True, capture_output=True, text=True
    )
    assert "Loaded the training step in " in again.stderr
    fit(argon, tmp_path / "eager", replace(settings, compile=False), progress=False)
    one, two, eager = (read_tensors(tmp_path / run / LAST)[0] for run in ("one", "two", "eager"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    for name in one:
        assert torch.allclose(one[name].double(), eager[name].double(), rtol=1e-2, atol=1e-3), name


@pytest.mark.long
def test_two_fits_with_two_threads_are_the_same(argon: Path, tmp_path: Path) -> None:
    """Sums over edges that threads add up as they come would differ."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    rows = []
    for name in ("one", "two"):
        words = [
            "fit",
            str(argon),
            "-o",
            str(tmp_path / name),
            "--student",
            "painn-small",
            "--compile",
            "--steps",
            "40",
        ]
        command = [sys.executable, "-m", "hdistill.pipelines", *words, "--quiet"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
        assert "it agrees with the eager one" in done.stderr, done.stderr
        with (tmp_path / name / "log.csv").open() as file:
            rows.append([[value for key, value in row.items() if "seconds" not in key] for row in csv.DictReader(file)])
    assert rows[0] == rows[1]
