"""Structures and their labels as flat torch tensors: Batch (what a student is given) and Targets (what it should predict).

Geometry and labels are float64 here; the student's own precision begins at the edge vectors (predict.py), so that no
difference of large float32 numbers is ever taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.format.shard import Sample
from hdistill.data.structure import Directions, HessianProducts, Structure

from ..choices import TargetKind
from .neighbours import Edges, edges_of
from .references import References

ATOMS_AT_ONCE = 512  # of predictions without training
T = TypeVar("T", "Batch", "Targets")
Item = TypeVar("Item")


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
    """What is learned of B structures with A atoms; of targets "mix" these are the teacher's labels.

    energy (B,) eV, references subtracted; forces (A,3) eV/A; stress (B,3,3) eV/A^3 and stress_scale (B,), 1 where a structure
    has one and 0 elsewhere; K slots of Hessian products for every structure:
    directions v (K,A,3), products v . H (K,A,3) eV/A^2, and product_scale (K,A), by which loss residuals are multiplied: 1 for
    rows, 1/sqrt(3n) for +-1 probes, so that both estimate |dH|_F^2 / 3n, and 0 where a structure leaves the slot empty.

    Of targets "mix" alone, without elements else: share (2,B) and stress_share (2,B), the weights of the two kinds of labels,
    and the source's own energy other_energy (B,), forces other_forces (A,3) and stress other_stress (B,3,3), 0 where there
    are none. Where node features are learned: node_features (A,D), normalised, with their means per element node_means (A,D)
    and node_scale (A,), 1 where an atom has features and 0 elsewhere. Where atomic energies are learned: atom_energy (A,) eV,
    references subtracted, and atom_energy_scale (A,), 1 where an atom has one. Where energy differences are learned:
    pair_weight (B,B), 1/n for i < j of one composition of n atoms, and slope (B,), see `difference_slopes`.
    """

    energy: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor
    stress_scale: torch.Tensor
    directions: torch.Tensor
    products: torch.Tensor
    product_scale: torch.Tensor
    share: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    stress_share: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    other_energy: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    other_forces: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    other_stress: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    node_features: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    node_means: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    node_scale: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    atom_energy: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    atom_energy_scale: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    pair_weight: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    slope: torch.Tensor = field(default_factory=lambda: torch.zeros(0))


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
    """What a student should predict for these samples.

    kind: energies, forces and stress of the teacher, or the source's own ("reference"; a stress it lacks is the teacher's).
    Hessian products are always the teacher's.
    """
    wanted = [energy_and_forces(sample, kind) for sample in samples]
    stresses = [stress_of(sample, kind) for sample in samples]
    offsets = [references.of(s.structure.numbers) for s in samples]
    chosen = [s.labels.hessian for s in samples]
    n_atoms = np.array([s.structure.n_atoms for s in samples])
    stops = np.cumsum(n_atoms)
    shape = (max((0 if c is None else len(c.directions)) for c in chosen), int(stops[-1]), 3)
    directions, products, scale = np.zeros(shape), np.zeros(shape), np.zeros(shape[:2])
    for n, stop, products_of_one in zip(n_atoms, stops, chosen, strict=True):
        if products_of_one is not None:
            slots = np.s_[: len(products_of_one.directions), stop - n : stop]
            directions[slots] = products_of_one.directions.vectors(n)
            products[slots] = products_of_one.values
            scale[slots] = 1.0 if products_of_one.directions.kind == "rows" else (3 * n) ** -0.5
    targets = Targets(
        energy=_tensor(np.array([energy for energy, _ in wanted]) - np.array(offsets)),
        forces=_tensor(np.concatenate([forces for _, forces in wanted]).astype(np.float64)),
        stress=_tensor(np.stack([np.zeros((3, 3)) if stress is None else stress for stress in stresses])),
        stress_scale=_tensor(np.array([stress is not None for stress in stresses], np.float64)),
        directions=_tensor(directions),
        products=_tensor(products),
        product_scale=_tensor(scale),
    )
    return _to(targets, device)


def mixed(
    targets: Targets, samples: Sequence[Sample], references: References, share: float, device: str = "cpu"
) -> Targets:
    """The teacher's targets together with the labels of the sources, where there are any, which weigh `share` against them.

    references are those of the sources' own energies: both kinds are energies above their own atoms, which can be put together.
    """
    own = [has_reference(sample) for sample in samples]
    labels = [energy_and_forces(s, "reference" if has else "teacher") for s, has in zip(samples, own, strict=True)]
    energies = [
        energy - references.of(s.structure.numbers) if has else 0.0
        for s, (energy, _), has in zip(samples, labels, own, strict=True)
    ]
    forces = [has * np.asarray(force, np.float64) for (_, force), has in zip(labels, own, strict=True)]
    stresses = [_ref_stress(sample) for sample in samples]
    weight, stress_weight = (share * np.array(has, float) for has in (own, [s is not None for s in stresses]))
    more = {
        "share": _tensor(np.stack((1 - weight, weight))),
        "stress_share": _tensor(np.stack((1 - stress_weight, stress_weight))),
        "other_energy": _tensor(np.array(energies)),
        "other_forces": _tensor(np.concatenate(forces)),
        "other_stress": _tensor(np.stack([np.zeros((3, 3)) if stress is None else stress for stress in stresses])),
    }
    return replace(targets, **{name: tensor.to(device) for name, tensor in more.items()})


def with_atom_energies(
    targets: Targets, samples: Sequence[Sample], references: References, device: str = "cpu"
) -> Targets:
    """The targets with the teacher's energy of each atom above its element's reference; 0 with a scale of 0 where there is none."""
    of_element = np.zeros(119)
    of_element[list(references.elements)] = references.energies
    energies, scales = [], []
    for sample in samples:
        numbers, stored = sample.structure.numbers, sample.labels.atom_energies
        above = np.zeros(len(numbers)) if stored is None else stored - of_element[numbers]
        scales.append(np.isfinite(above) & (stored is not None))
        energies.append(np.where(scales[-1], above, 0.0))
    more = {"atom_energy": np.concatenate(energies), "atom_energy_scale": np.concatenate(scales).astype(np.float64)}
    return replace(targets, **{name: _tensor(array).to(device) for name, array in more.items()})


def with_pairs(targets: Targets, samples: Sequence[Sample], device: str = "cpu") -> Targets:
    """The targets with the pairs among these samples whose energy difference is learned."""
    weights = pair_weights([sample.structure for sample in samples])
    return replace(targets, pair_weight=_tensor(weights).to(device), slope=targets.energy.new_zeros(len(samples)))


def pair_weights(structures: Sequence[Structure]) -> NDArray[np.float64]:
    """(B,B): 1 / n_atoms for i < j of the same composition and charge, 0 for all others."""
    kinds = [composition_of(structure) for structure in structures]
    same = np.array([[one == other for other in kinds] for one in kinds])
    return np.asarray(np.triu(same, 1) / np.array([s.n_atoms for s in structures]))


def composition_of(structure: Structure) -> bytes:
    """Equal for structures whose energies can be compared: the same atoms, and the same charge."""
    return np.sort(structure.numbers).astype(np.uint8).tobytes() + str(structure.charge).encode()


def packed_by_atoms(
    items: Iterable[Item], n_atoms: Callable[[Item], int], most: int = ATOMS_AT_ONCE
) -> Iterator[list[Item]]:
    """Items in order, in batches of at most so many atoms and at least one item."""
    pack: list[Item] = []
    held = 0
    for item in items:
        n = n_atoms(item)
        if pack and held + n > most:
            yield pack
            pack, held = [], 0
        pack.append(item)
        held += n
    if pack:
        yield pack


def has_reference(sample: Sample) -> bool:
    """Whether the source gave an energy and forces of its own."""
    return sample.structure.ref_energy is not None and sample.structure.ref_forces is not None


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


def stress_of(sample: Sample, kind: TargetKind = "teacher") -> NDArray[np.float64] | None:
    """The stress (3,3) eV/A^3 to learn: the source's own where that is wanted and present, else the teacher's; None where there is
    no label or no volume."""
    own = _ref_stress(sample) if kind == "reference" else None
    if own is not None or sample.labels.stress is None or not sample.structure.pbc.all():
        return own
    return np.asarray(sample.labels.stress, np.float64)


def _ref_stress(sample: Sample) -> NDArray[np.float64] | None:
    stress, periodic = sample.structure.ref_stress, bool(sample.structure.pbc.all())
    return np.asarray(stress, np.float64) if periodic and stress is not None else None


def _taken(products: HessianProducts, which: NDArray[np.int64]) -> HessianProducts:
    stored = products.directions
    if stored.coordinate is not None:
        directions = Directions("rows", coordinate=stored.coordinate[which])
    else:
        assert stored.signs is not None
        directions = Directions("probes", signs=stored.signs[which])
    return HessianProducts(directions, products.values[which])


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    """A copy where torch puts its own tensors: sums may depend on how memory is aligned, and NumPy's is so by chance."""
    return torch.from_numpy(np.ascontiguousarray(array)).clone()


def _to(plain: T, device: str) -> T:
    if device == "cpu":
        return plain
    return type(plain)(**{f.name: getattr(plain, f.name).to(device, non_blocking=True) for f in fields(plain)})
