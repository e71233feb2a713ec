"""The radial part that students share: a cutoff envelope and a Bessel basis, smooth to third order where edges end.

A training step on Hessian products differentiates the energy twice by positions and once by parameters; molecular dynamics on
such a student should see a continuous Hessian, and its thermodynamics continuous third derivatives.
"""

from __future__ import annotations

import math

import torch
from torch import nn


def envelope(x: torch.Tensor) -> torch.Tensor:
    """1 at x = 0, 0 from x = 1 on, with continuous derivatives up to the third at x = 1; x = r / cutoff (E,).

    The polynomial (1-x)^4 (1 + 4x + 10x^2 + 20x^3 + 35x^4) = 1 - O(x^5): the smoothstep family of Gasteiger et al.,
    arXiv 2003.03123, eq. 8, one order smoother and written with its zero factored out, so that nothing cancels near x = 1.
    """
    end = (1 - x).clamp(min=0)
    square = end * end
    return square * square * (1 + x * (4 + x * (10 + x * (20 + x * 35))))


class BesselBasis(nn.Module):
    """sqrt(2/c) sin(n pi r / c) / r for n = 1..size, and a constant, each times the envelope: r (E,) A -> (E, size+1).

    Gasteiger et al., arXiv 2003.03123, eq. 7. The constant lets a linear map of the basis carry a bias that dies at the cutoff.
    """

    frequencies: torch.Tensor

    def __init__(self, cutoff: float, size: int):
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("frequencies", math.pi / cutoff * torch.arange(1, size + 1), persistent=False)

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        fade = envelope(r / self.cutoff)
        waves = torch.sin(r[:, None] * self.frequencies) * (fade * math.sqrt(2 / self.cutoff) / r)[:, None]
        return torch.cat((waves, fade[:, None]), dim=1)
