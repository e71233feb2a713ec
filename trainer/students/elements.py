"""What students keep of their elements: which row of a table is an element's, and the scale of what they say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def register_elements(student: nn.Module, elements: Sequence[int], scale: float) -> None:
    """Give a student the buffers species_of (largest element + 1,), the place of an atomic number among its elements, -1 where it
    is none of them, and scale (), eV. Neither is stored with its weights: the card has both."""
    student.register_buffer("species_of", places_of(elements), persistent=False)
    student.register_buffer("scale", torch.tensor(scale), persistent=False)


def places_of(elements: Sequence[int]) -> torch.Tensor:
    """Where each atomic number stands among the elements, (largest + 1,); -1 where it is none of them."""
    places = torch.full((max(elements) + 1,), -1)
    places[list(elements)] = torch.arange(len(elements))
    return places
