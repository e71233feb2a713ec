"""The terms of the loss, by name (Amin et al., arXiv 2501.09009, eq. 2, with probes as in Rodriguez et al., arXiv 2603.04523).
Norms of vectors, not squares: they were measured to train 12-18 % better. The terms of the baselines are in feature_loss.py.

Each term is a sum over what a batch holds; `counts_of` says over how many it is averaged in a whole step. So the terms of a step
that was cut into several batches, on one machine or on many, add up to those of the same step in one piece.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hdistill.data.format.shard import Sample

from ..choices import HessianNorm, TargetKind
from ..force_field.predict import Prediction
from ..inputs.batch import Batch, Targets, composition_of, stress_of

Terms = dict[str, torch.Tensor]


def loss_sums(prediction: Prediction, batch: Batch, targets: Targets, norm: HessianNorm = "atoms") -> Terms:
    """Of each term that was predicted the sum over the batch.

    energy: |dE| / n over structures, eV; difference: |d(E_i - E_j)| / n over pairs of one composition, eV; atom_energy: |de_i| over
    atoms, eV; forces: |dF_i|_2 over atoms, eV/A; stress: volume / n |dstress|_F over structures that
    have one, eV; hessian: |d(v . H)_j|_2 times the product's scale over products and atoms, eV/A^2, or with norm "product"
    |d(v . H)|_2 of all 3n components over products, as in the paper. Of two kinds of labels each has its share of energy,
    forces and stress.
    """
    residuals = prediction.energy - targets.energy
    energy = residuals.abs()
    if targets.share.numel():
        energy = torch.stack((energy, (prediction.energy - targets.other_energy).abs())).mul(targets.share).sum(0)
    sums = {"energy": (energy / batch.n_atoms).sum()}
    if targets.pair_weight.numel():
        between = (residuals.unsqueeze(1) - residuals).abs() * targets.pair_weight
        sums["difference"] = between.sum() + (residuals * targets.slope).sum()
    if targets.atom_energy.numel() and prediction.atom_energies is not None:
        sums["atom_energy"] = ((prediction.atom_energies - targets.atom_energy).abs() * targets.atom_energy_scale).sum()
    if prediction.forces is not None:
        forces = _norms(prediction.forces - targets.forces)
        if targets.share.numel():
            other = _norms(prediction.forces - targets.other_forces)
            forces = torch.stack((forces, other)).mul(targets.share[:, batch.structure_index]).sum(0)
        sums["forces"] = forces.sum()
    if prediction.stress is not None:
        stress = _norms((prediction.stress - targets.stress).flatten(1))
        if targets.share.numel():
            other = _norms((prediction.stress - targets.other_stress).flatten(1))
            stress = torch.stack((stress, other)).mul(targets.stress_share).sum(0)
        sums["stress"] = (stress * targets.stress_scale * batch.volume / batch.n_atoms).sum()
    if prediction.products is not None:
        off = prediction.products - targets.products
        sums["hessian"] = (
            (_norms(off) * targets.product_scale).sum()
            if norm == "atoms"
            else _product_norms(off * targets.product_scale.unsqueeze(2), batch).sum()
        )
    return sums


def counts_of(samples: Sequence[Sample], norm: HessianNorm = "atoms", kind: TargetKind = "teacher") -> dict[str, int]:
    """Over how many structures, pairs, atoms, stresses, products (or their atoms) and features the terms of a step are averaged."""
    products = [0 if s.labels.hessian is None else len(s.labels.hessian.directions) for s in samples]
    n_featured = sum(s.structure.n_atoms for s in samples if s.labels.node_features is not None)
    return {
        "energy": len(samples),
        "difference": sum(n * (n - 1) // 2 for n in Counter(composition_of(s.structure) for s in samples).values()),
        "atom_energy": sum(_n_atom_energies(s) for s in samples),
        "forces": sum(s.structure.n_atoms for s in samples),
        "stress": sum(stress_of(s, kind) is not None for s in samples),
        "hessian": sum(
            k * (s.structure.n_atoms if norm == "atoms" else 1) for s, k in zip(samples, products, strict=True)
        ),
        "node": n_featured,
        "embedding": n_featured,
    }


def difference_slopes(residuals: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """d(sum over pairs of weight |r_i - r_j|) / dr_i (S,), of the energies' residuals (S,) of a whole step.

    The sum is linear in them but for its signs: with these slopes a step that is cut into batches, whose pairs do not meet, has
    the same loss and the same gradient as in one piece.
    """
    symmetric = weights + weights.T
    return np.asarray((symmetric * np.sign(residuals[:, None] - residuals)).sum(1))


def weighted(terms: Terms, factors: Mapping[str, float | torch.Tensor]) -> torch.Tensor:
    """The sum of the terms times their factors, of those that have one."""
    return torch.stack([term * factors[name] for name, term in terms.items() if name in factors]).sum()


def _n_atom_energies(sample: Sample) -> int:
    stored = sample.labels.atom_energies
    return 0 if stored is None else int(np.isfinite(stored).sum())


def _product_norms(residuals: torch.Tensor, batch: Batch) -> torch.Tensor:
    """|residual of a product|_2 over all atoms of a structure, (K,B) of (K,A,3); the gradient of a zero one is zero."""
    zeros = residuals.new_zeros(residuals.shape[0], batch.n_atoms.shape[0])
    squares = zeros.index_add(1, batch.structure_index, residuals.square().sum(2))
    return torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).sqrt(), 0.0)


def _norms(vectors: torch.Tensor) -> torch.Tensor:
    """Lengths of (..., d) vectors; torch takes the gradient of a zero vector's length as zero, not NaN."""
    lengths: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return lengths
