"""Structures and their labels as flat torch tensors: Batch (what a student is given) and Targets (what it should say).

Geometry and labels are float64 here; the student's own precision begins at the edge vectors (predict.py), so that no
difference of large float32 numbers is ever taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.shard import Sample
from hdistill.data.structure import Directions, HessianProducts, Structure

from .neighbors import Edges, edges_of
from .references import References
from .settings import TargetKind

T = TypeVar("T", "Batch", "Targets")


@dataclass(frozen=True, eq=False)
class Batch:
    """B structures with A atoms and E edges in all.

    numbers (A,); positions (A,3) A; structure_index (A,) which structure an atom belongs to; n_atoms (B,); volume (B,) A^3, 0
    where there is none; edge_index (2,E): [0] centre i, [1] neighbour j; edge_shift (E,3) A: r_ij = r_j - r_i + shift.
    """

    numbers: torch.Tensor
    positions: torch.Tensor
    structure_index: torch.Tensor
    n_atoms: torch.Tensor
    volume: torch.Tensor
    edge_index: torch.Tensor
    edge_shift: torch.Tensor


@dataclass(frozen=True, eq=False)
class Targets:
    """energy (B,) eV, references subtracted; forces (A,3) eV/A; stress (B,3,3) eV/A^3 and stress_scale (B,), 1 where a structure
    has one and 0 elsewhere; K slots of Hessian products for every structure:
    directions v (K,A,3), products v . H (K,A,3) eV/A^2, and product_scale (K,A), by which loss residuals are multiplied: 1 for
    rows, 1/sqrt(3n) for +-1 probes, so that both estimate |dH|_F^2 / 3n, and 0 where a structure leaves the slot empty.
    """

    energy: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor
    stress_scale: torch.Tensor
    directions: torch.Tensor
    products: torch.Tensor
    product_scale: torch.Tensor


def batch_of(
    structures: Sequence[Structure], cutoff: float, device: str = "cpu", edges: Sequence[Edges] | None = None
) -> Batch:
    """The flat arrays of some structures, with their neighbour lists where these are not at hand."""
    sizes = np.array([s.n_atoms for s in structures])
    edges = [edges_of(s, cutoff) for s in structures] if edges is None else edges
    firsts = np.cumsum(sizes) - sizes
    batch = Batch(
        numbers=_tensor(np.concatenate([s.numbers for s in structures]).astype(np.int64)),
        positions=_tensor(np.concatenate([s.positions for s in structures]).astype(np.float64)),
        structure_index=_tensor(np.repeat(np.arange(len(structures)), sizes)),
        n_atoms=_tensor(sizes.astype(np.int64)),
        volume=_tensor(np.array([abs(np.linalg.det(s.cell)) if s.pbc.all() else 0.0 for s in structures])),
        edge_index=_tensor(np.concatenate([e.index + first for e, first in zip(edges, firsts, strict=True)], axis=1)),
        edge_shift=_tensor(np.concatenate([e.shift for e in edges])),
    )
    return _to(batch, device)


def targets_of(
    samples: Sequence[Sample],
    references: References,
    kind: TargetKind = "teacher",
    device: str = "cpu",
) -> Targets:
    """What a student should say of these samples.

    kind: energies and forces of the teacher, or the source's own ("reference"); stress and Hessian products are always the
    teacher's.
    """
    wanted = [energy_and_forces(sample, kind) for sample in samples]
    offsets = [references.of(s.structure.numbers) for s in samples]
    chosen = [s.labels.hessian for s in samples]
    n_atoms = np.array([s.structure.n_atoms for s in samples])
    stops = np.cumsum(n_atoms)
    shape = (max((0 if c is None else len(c.directions)) for c in chosen), int(stops[-1]), 3)
    directions, products, scale = np.zeros(shape), np.zeros(shape), np.zeros(shape[:2])
    for n, stop, products_of_one in zip(n_atoms, stops, chosen, strict=True):
        if products_of_one is not None:
            mine = np.s_[: len(products_of_one.directions), stop - n : stop]
            directions[mine] = products_of_one.directions.vectors(n)
            products[mine] = products_of_one.values
            scale[mine] = 1.0 if products_of_one.directions.kind == "rows" else (3 * n) ** -0.5
    targets = Targets(
        energy=_tensor(np.array([energy for energy, _ in wanted]) - np.array(offsets)),
        forces=_tensor(np.concatenate([forces for _, forces in wanted]).astype(np.float64)),
        stress=_tensor(np.stack([_stress(sample) for sample in samples])),
        stress_scale=_tensor(np.array([has_stress(sample) for sample in samples], np.float64)),
        directions=_tensor(directions),
        products=_tensor(products),
        product_scale=_tensor(scale),
    )
    return _to(targets, device)


def energy_and_forces(sample: Sample, kind: TargetKind) -> tuple[float, NDArray[Any]]:
    """Energy and forces (N,3) of one sample, of the teacher or the source's own. Raises InputError where the source gave none."""
    if kind == "teacher":
        return sample.labels.energy, sample.labels.forces
    structure = sample.structure
    if structure.ref_energy is None or structure.ref_forces is None:
        lacking = "energy" if structure.ref_energy is None else "forces"
        raise InputError(
            f"Structure {structure.id} came without {lacking} of its own, which targets 'reference' needs; "
            "use targets 'teacher' or label a source that has reference labels."
        )
    return structure.ref_energy, structure.ref_forces


def with_products(sample: Sample, count: int, generator: np.random.Generator) -> Sample:
    """The sample with `count` of its stored products, drawn without replacement; with none where count is 0."""
    products = sample.labels.hessian
    if products is None:
        return sample
    which = generator.permutation(len(products.directions))[:count]
    return replace(sample, labels=replace(sample.labels, hessian=_taken(products, which) if count else None))


def has_stress(sample: Sample) -> bool:
    """Whether there is a stress to learn from: a label of it, and a volume."""
    return sample.labels.stress is not None and bool(sample.structure.pbc.all())


def _stress(sample: Sample) -> NDArray[np.float64]:
    return np.asarray(sample.labels.stress, np.float64) if has_stress(sample) else np.zeros((3, 3))


def _taken(products: HessianProducts, which: NDArray[np.int64]) -> HessianProducts:
    stored = products.directions
    if stored.coordinate is not None:
        directions = Directions("rows", coordinate=stored.coordinate[which])
    else:
        assert stored.signs is not None
        directions = Directions("probes", signs=stored.signs[which])
    return HessianProducts(directions, products.values[which])


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _to(plain: T, device: str) -> T:
    if device == "cpu":
        return plain
    return type(plain)(**{f.name: getattr(plain, f.name).to(device, non_blocking=True) for f in fields(plain)})
