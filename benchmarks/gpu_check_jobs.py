"""One job of gpu_check.py, in a process of its own: python gpu_check_jobs.py JOB_AS_JSON LABELS FOLDER writes FOLDER/row.json."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

# What is in a call and in a step, of a job's student, in float32.
ATOMS = (
    (1, 1, 1),
    (3, 2, 2),
    (4, 4, 7),
    (10, 14, 8),
)  # molecules of ethanol along three axes: 9, 108, 1008 and 10,080 atoms
ETHANOL_SIDE = 4.595  # A, of the cube that a molecule has in the liquid
CPU_AT_MOST = 1100  # atoms of a call on a CPU
BATCHES = (8, 64)


@dataclass(frozen=True)
class Job:
    """kind: fit, timing or compiled; seconds: the CPU seconds of a fit, what another job may take; n: training structures."""

    kind: str
    student: str
    device: str
    n: int = 0
    seconds: float = 60.0
    batch_size: int = 8
    plain: bool = False
    compile: bool = False

    @property
    def name(self) -> str:
        if self.kind != "fit":
            return f"{self.kind}-{self.student}-{self.device}"
        way = ("plain" if self.plain else "probes") + ("-compiled" if self.compile else "")
        return f"fit-{self.student}-{self.device}-{self.n}-{self.seconds:g}s-b{self.batch_size}-{way}"


def main() -> None:
    job, labels, folder = Job(**json.loads(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    from student_variants import registered

    registered(job.student)
    row = {"fit": fitted, "timing": timed, "compiled": compiled}[job.kind](job, labels, folder)
    (folder / "row.json").write_text(json.dumps(row))


def settings_of(job: Job) -> Any:
    from hdistill.trainer.fitting.settings import FitSettings

    return FitSettings(
        student=job.student,
        steps=10**6,
        max_seconds=job.seconds,
        batch_size=job.batch_size,
        learning_rate=5e-3 * (job.batch_size / 8) ** 0.5,
        product_method="difference",
        hessian_weight=0.0 if job.plain else 0.3,
        validate_every=2000,
        ema_decay=0.995,
        device=job.device,
        compile=job.compile,
        max_edges=10**6,
    )


def fitted(job: Job, labels: Path, folder: Path) -> dict[str, Any]:
    from student_variants import errors, samples_of

    from hdistill.trainer.fitting.fit import fit

    done = fit(labels / f"pool-{job.n}", folder / "run", settings_of(job), progress=False)
    actual = errors(done.run, samples_of(labels / "new"))
    force, energy, hessian = actual.values()
    row = {"steps": done.steps, "cpu_seconds": done.seconds, "parameters": done.n_parameters}
    return row | {"force_mae": force, "energy_mae": energy, "hessian": hessian}


def timed(job: Job, labels: Path, folder: Path) -> dict[str, Any]:
    """Parity with a float64 CPU, ms of training steps (plain, by difference, exact) and of calls."""
    row: dict[str, Any] = {}
    samples = training_samples(labels, max(BATCHES))
    if job.device != "cpu":
        row |= parity(job.student, [sample.structure for sample in samples[:8]], job.device)
    for batch_size in BATCHES if job.device != "cpu" else BATCHES[:1]:
        for name, changes in (
            ("plain", {"hessian_weight": 0.0}),
            ("difference", {}),
            ("exact", {"product_method": "exact"}),
        ):
            settings = replace(settings_of(job), **changes)
            row[f"ms step {name}, batch {batch_size}"] = step_ms(settings, samples[:batch_size])
    for repeats in ATOMS:
        structure = ethanol(repeats)
        if job.device != "cpu" or structure.n_atoms <= CPU_AT_MOST:
            row[f"ms list, atoms {structure.n_atoms}"], row[f"ms call, atoms {structure.n_atoms}"] = call_ms(
                job, structure
            )
    return row


def compiled(job: Job, labels: Path, folder: Path) -> dict[str, Any]:
    """ms of a compiled step by difference, and how long it took to build; raises where it could not be."""
    from hdistill.trainer.fitting.compiled import CompiledGradients
    from hdistill.trainer.fitting.step import eager_gradients

    settings = settings_of(job)
    row: dict[str, Any] = {}
    messages: list[str] = []
    gradients = CompiledGradients(settings, eager_gradients(settings.product_method), messages.append)
    samples = training_samples(labels, max(BATCHES))
    for batch_size in BATCHES:
        began = time.monotonic()
        ms = step_ms(settings, samples[:batch_size], gradients)
        row.setdefault("build s", time.monotonic() - began)
        row[f"ms compiled, batch {batch_size}"] = ms
    print(*messages)
    if gradients.eager_batches:
        raise SystemExit(" ".join(messages))
    return row


def training_samples(labels: Path, n: int) -> list[Any]:
    from student_variants import samples_of

    from hdistill.trainer.inputs.batch import with_products

    actual = samples_of(labels / "pool-400")[:: max(1, 400 // n)][:n]
    return [with_products(sample, 1, np.random.default_rng(0)) for sample in actual]


def model_of(student: str, dtype: torch.dtype, device: str) -> nn.Module:
    from hdistill.trainer.students.build import build
    from hdistill.trainer.students.registry import size_of

    return build(size_of(student), (1, 6, 7, 8), scale=1.0).to(device, dtype)


def parity(student: str, structures: Sequence[Any], device: str) -> dict[str, float]:
    """Largest error of float32 on the device, and on the CPU, beside float64 on the CPU, relative to the largest number."""
    from hdistill.trainer.force_field.predict import predict
    from hdistill.trainer.inputs.batch import batch_of
    from hdistill.trainer.students.registry import size_of

    cutoff, actual = size_of(student).cutoff, []
    for dtype, where in ((torch.float64, "cpu"), (torch.float32, "cpu"), (torch.float32, device)):
        batch = batch_of(structures, cutoff, where)
        v = torch.sign(torch.randn(2, batch.numbers.shape[0], 3, generator=torch.Generator().manual_seed(0)).double())
        messages = predict(model_of(student, dtype, where), batch, v.to(where))
        actual.append(
            [x.detach().double().cpu() for x in (messages.energy, messages.forces, messages.products) if x is not None]
        )
    exact, *others = actual
    return {
        f"off {name} {what}": float((other[k] - exact[k]).abs().max() / exact[k].abs().max())
        for name, other in zip(("cpu", device), others, strict=True)
        for k, what in enumerate(("energy", "forces", "products"))
    }


def step_ms(settings: Any, samples: Sequence[Any], gradients: Any = None) -> float:
    """Median of a step as fits do it: flat arrays, loss, gradients, AdamW; neighbour lists at hand."""
    from hdistill.trainer.fitting.loss import counts_of
    from hdistill.trainer.fitting.step import eager_gradients
    from hdistill.trainer.inputs.batch import batch_of, targets_of
    from hdistill.trainer.inputs.neighbours import edges_of
    from hdistill.trainer.inputs.references import References
    from hdistill.trainer.students.registry import size_of

    device, cutoff = settings.device, size_of(settings.student).cutoff
    model = model_of(settings.student, torch.float32, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    gradients = gradients or eager_gradients(settings.product_method)
    references = References((1, 6, 7, 8), (0.0,) * 4)
    edges = [edges_of(sample.structure, cutoff) for sample in samples]
    counts = counts_of(samples)
    factors = {name: weight / counts[name] for name, weight in settings.weights.items() if weight and counts[name]}

    def step() -> None:
        batch = batch_of([s.structure for s in samples], cutoff, device, edges)
        parts, actual = gradients(model, batch, targets_of(samples, references, device=device), factors)
        for parameter, gradient in zip(model.parameters(), actual, strict=True):
            parameter.grad = gradient
        optimizer.step()
        next(iter(parts.values())).item()

    return median_ms(step, device)


def call_ms(job: Job, structure: Any) -> tuple[float, float]:
    """Of a neighbour list on the CPU, and of energy and forces on the device with the list at hand."""
    from hdistill.trainer.force_field.predict import predict
    from hdistill.trainer.inputs.batch import batch_of
    from hdistill.trainer.inputs.neighbours import edges_of
    from hdistill.trainer.students.registry import size_of

    cutoff = size_of(job.student).cutoff
    model = model_of(job.student, torch.float32, job.device)
    edges = edges_of(structure, cutoff)
    batch = batch_of([structure], cutoff, job.device, [edges])
    calls = 3 if structure.n_atoms > 500 else 20
    return (
        median_ms(lambda: edges_of(structure, cutoff), "cpu", calls),
        median_ms(lambda: predict(model, batch), job.device, calls),
    )


def median_ms(run: Callable[[], object], device: str, repeats: int = 12) -> float:
    times = []
    for turn in range(repeats + 2):
        began = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        if turn > 1:
            times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def ethanol(repeats: tuple[int, int, int]) -> Any:
    """Molecules on a grid as dense as the liquid, rattled; a single one is not periodic."""
    from ase.build import molecule

    from hdistill.data.structure import Structure

    one = molecule("CH3CH2OH")
    one.set_cell([ETHANOL_SIDE] * 3)
    many = one.repeat(repeats)
    many.rattle(0.03, seed=0)
    periodic = np.full(3, repeats != (1, 1, 1))
    return Structure(many.numbers, many.positions, many.cell.array if periodic.all() else np.zeros((3, 3)), periodic)


if __name__ == "__main__":
    main()
