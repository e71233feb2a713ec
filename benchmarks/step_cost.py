"""CPU time of a training step with one Hessian product per structure against a plain step on energies and forces.

    python benchmarks/step_cost.py

One thread, steps in turn, medians. Batches of 12 molecules of 12 atoms (144 atoms) and of 3 crystals of 40 (120 atoms). Labels are
random numbers: what is timed does not depend on them. A step is neighbour lists, loss, gradients of all parameters, AdamW.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from hdistill.data.probes import draw, parse_spec
from hdistill.data.shard import Sample
from hdistill.data.structure import HessianProducts, Labels, Structure
from hdistill.trainer.batch import batch_of, targets_of
from hdistill.trainer.loss import loss_parts, weighted
from hdistill.trainer.predict import predict
from hdistill.trainer.references import References
from hdistill.trainer.settings import FitSettings, ProductMethod
from hdistill.trainer.students.build import build
from hdistill.trainer.students.sizes import SIZES, StudentSize

ROUNDS = 12
SITES = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
ELEMENTS = (1, 6, 8, 22, 38)
KINDS: tuple[tuple[str, int, ProductMethod], ...] = (
    ("plain", 0, "exact"),
    ("exact product", 1, "exact"),
    ("by difference", 1, "difference"),
)


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'ms per step':28}{''.join(f'{name:>16}' for name, _, _ in KINDS)}   ratios to plain")
    for student, size in SIZES.items():
        for what, structures in (("12 x 12 atoms", molecules(12)), ("3 x 40 atoms", crystals(3))):
            samples = [with_random_labels(s) for s in structures]
            steps = [training_step(size, samples, n, method) for _, n, method in KINDS]
            plain, *others = medians(steps)
            ratios = ", ".join(f"{ms / plain:.2f}x" for ms in others)
            print(
                f"{student + ', ' + what:28}{''.join(f'{ms:16.1f}' for ms in (plain, *others))}   {ratios}", flush=True
            )


def training_step(
    size: StudentSize, samples: Sequence[Sample], n_products: int, method: ProductMethod
) -> Callable[[], None]:
    """A function that does one gradient step as fit.py does it."""
    model = build(size, ELEMENTS, scale=1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    references = References(ELEMENTS, (0.0,) * len(ELEMENTS))
    weights = FitSettings().weights

    def step() -> None:
        batch = batch_of([s.structure for s in samples], size.cutoff)
        targets = targets_of(samples, references, "teacher", n_products, np.random.default_rng(0))
        directions = targets.directions if n_products else None
        prediction = predict(model, batch, directions, training=True, method=method)
        loss = weighted(loss_parts(prediction, batch, targets), weights)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
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
