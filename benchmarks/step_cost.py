"""CPU time of a training step: plain (energies and forces) and distilled (one Hessian product per structure), eager and compiled.

    python benchmarks/step_cost.py [student ...]

One thread, steps in turn, medians; ratios are to the eager plain step. Batches of 12 molecules of 12 atoms (144 atoms) and of 3
crystals of 40 (120 atoms); one compiled step serves both. Labels are random numbers: what is timed does not depend on them. A step
is the flat arrays of a batch, loss, gradients of all parameters and AdamW; neighbour lists are at hand, as in a fit. Compiled steps
are built in an empty cache (minutes each), then loaded from it by another process.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from hdistill.data.format.shard import Sample
from hdistill.data.probes import draw, parse_spec
from hdistill.data.structure import HessianProducts, Labels, Structure
from hdistill.trainer.fitting.compiled import CompiledGradients
from hdistill.trainer.fitting.loss import counts_of
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.fitting.step import Gradients, eager_gradients
from hdistill.trainer.inputs.batch import batch_of, targets_of, with_products
from hdistill.trainer.inputs.neighbours import edges_of
from hdistill.trainer.inputs.references import References
from hdistill.trainer.students.build import build
from hdistill.trainer.students.sizes import SIZES

ROUNDS = 12
STUDENTS = ("painn-small", "painn", "moment")
SITES = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
ELEMENTS = (1, 6, 8, 22, 38)
PLAIN, DISTILLED = FitSettings(hessian_weight=0), FitSettings()
BY_DIFFERENCE = FitSettings(product_method="difference")


def main() -> None:
    torch.set_num_threads(1)
    for student in sys.argv[1:] or STUDENTS:
        with tempfile.TemporaryDirectory() as cache:
            os.environ |= {"HDISTILL_CACHE": cache, "TORCHINDUCTOR_CACHE_DIR": f"{cache}/kernels"}
            compare(student)


def compare(student: str) -> None:
    """Print the times of all steps of a student, and how long compiled ones took to build and to load."""
    plain, distilled, by_difference = (eager_gradients(s.product_method) for s in (PLAIN, DISTILLED, BY_DIFFERENCE))
    kinds: dict[str, tuple[FitSettings, Gradients]] = {
        "plain": (PLAIN, plain),
        "distilled": (DISTILLED, distilled),
        "by difference": (BY_DIFFERENCE, by_difference),
        "plain, compiled": (PLAIN, CompiledGradients(PLAIN, plain, say(student, "plain"))),
        "distilled, compiled": (DISTILLED, CompiledGradients(DISTILLED, distilled, say(student, "distilled"))),
        "by difference, compiled": (
            BY_DIFFERENCE,
            CompiledGradients(BY_DIFFERENCE, by_difference, say(student, "by difference")),
        ),
    }
    for what, structures in (("12 x 12 atoms", molecules(12)), ("3 x 40 atoms", crystals(3))):
        samples = [with_random_labels(s) for s in structures]
        steps = [training_step(student, samples, *kind) for kind in kinds.values()]
        times = medians(steps)
        shown = [f"{name} {ms:.1f} ms ({ms / times[0]:.2f})" for name, ms in zip(kinds, times, strict=True)]
        gains = f"eager distilled / compiled: {times[1] / times[4]:.1f}, by difference {times[1] / times[5]:.1f}"
        print(f"{student}, {what}: {'; '.join(shown)}; {gains}", flush=True)
    code = f"import sys; sys.path[:] = {sys.path!r}; import step_cost; step_cost.load({student!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


def load(student: str) -> None:
    """What a second process says of the cached step."""
    step = CompiledGradients(DISTILLED, eager_gradients("exact"), say(student, "distilled"))
    training_step(student, [with_random_labels(s) for s in molecules(12)], DISTILLED, step)()


def say(student: str, kind: str) -> Callable[[str], None]:
    return lambda text: print(f"{student}, {kind}: {text}", flush=True)


def training_step(
    student: str, samples: Sequence[Sample], settings: FitSettings, gradients: Gradients
) -> Callable[[], None]:
    """A function that does one gradient step as step.py does it."""
    size = SIZES[student]
    model = build(size, ELEMENTS, scale=1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    references = References(ELEMENTS, (0.0,) * len(ELEMENTS))
    edges = [edges_of(sample.structure, size.cutoff) for sample in samples]

    def step() -> None:
        drawn = [with_products(sample, settings.n_products, np.random.default_rng(0)) for sample in samples]
        counts = counts_of(drawn)
        factors = {name: weight / counts[name] for name, weight in settings.weights.items() if weight and counts[name]}
        batch = batch_of([s.structure for s in drawn], size.cutoff, edges=edges)
        _, actual = gradients(model, batch, targets_of(drawn, references), factors)
        for parameter, gradient in zip(model.parameters(), actual, strict=True):
            parameter.grad = gradient
        optimizer.step()

    return step


def medians(steps: Sequence[Callable[[], None]]) -> list[float]:
    """Median CPU milliseconds of each step, taken in turn after two warm-up rounds."""
    times: list[list[float]] = [[] for _ in steps]
    for turn in range(ROUNDS + 2):
        for step, taken in zip(steps, times, strict=True):
            began = time.process_time()
            step()
            if turn > 1:
                taken.append(1e3 * (time.process_time() - began))
    return [statistics.median(taken) for taken in times]


def with_random_labels(structure: Structure) -> Sample:
    rng = np.random.default_rng(structure.n_atoms)
    directions = draw(parse_spec("probes:4"), 0, structure.id, structure.n_atoms)
    assert directions is not None
    products = HessianProducts(directions, rng.normal(size=(4, structure.n_atoms, 3)))
    return Sample(structure, Labels(0.0, rng.normal(size=(structure.n_atoms, 3)), hessian=products), "train")


def molecules(count: int) -> list[Structure]:
    return [_structure(molecule("CH3CH2OCH3"), seed) for seed in range(count)]


def crystals(count: int) -> list[Structure]:
    cubic = Atoms("SrTiO3", scaled_positions=SITES, cell=[3.9] * 3, pbc=True)
    return [_structure(cubic * (2, 2, 2), seed) for seed in range(count)]


def _structure(atoms: Atoms, seed: int) -> Structure:
    atoms.rattle(0.05, seed=seed)
    return Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)


if __name__ == "__main__":
    main()
