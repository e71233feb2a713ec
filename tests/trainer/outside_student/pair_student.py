"""A sum of pair energies as a student of hdistill: a whole package in one file, which needs nothing of hdistill."""

from __future__ import annotations

import torch
from torch import nn


class PairStudent(nn.Module):
    """E_i = 1/2 sum_j f(r_ij; elements of i and j): Gaussians in r, weighted by a small network of the two elements."""

    cutoff = 6.0  # A
    options = {"gaussians": 12, "width": 16}  # noqa: RUF012

    def __init__(self, elements: list[int], scale: float, cutoff: float, gaussians: int, width: int):
        super().__init__()
        self.cutoff = cutoff
        self.scale = scale
        self.register_buffer("species_of", torch.full((max(elements) + 1,), -1), persistent=False)
        self.species_of[list(elements)] = torch.arange(len(elements))
        self.register_buffer("centres", torch.linspace(0.5, cutoff, gaussians), persistent=False)
        self.embedding = nn.Embedding(len(elements), width)
        self.readout = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, gaussians))

    def forward(self, numbers: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        centre, neighbor = edge_index
        r = vectors.square().sum(1).sqrt()
        elements = self.embedding(self.species_of[numbers])
        weights = self.readout(elements.index_select(0, centre) + elements.index_select(0, neighbor))
        gaussians = torch.exp(-((r[:, None] - self.centres) ** 2))
        fade = (1 - (r / self.cutoff) ** 2).clamp(min=0) ** 4  # smooth to third order
        pairs = 0.5 * self.scale * fade * (weights * gaussians).sum(1)
        return pairs.new_zeros(len(numbers)).index_add(0, centre, pairs)
