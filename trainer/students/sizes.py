"""Our own students by name and size. Light to import: no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class StudentSize:
    """Everything but elements, energy scale and weights that makes a student; cutoff in A.

    channels, layers, basis and max_l are of our own architectures. A student of an installed package (outside.py) has a `package`, and
    the `options` it is built with.
    """

    architecture: str
    channels: int = 0
    layers: int = 0
    cutoff: float = 0.0
    basis: int = 0
    max_l: int = 0  # of spherical harmonics
    direct: bool = False  # says forces itself: they are not the gradient of its energy
    repulsion: bool = False  # stands on the short-range repulsion of repulsion.py
    package: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


SIZES = {
    "painn": StudentSize("painn", channels=64, layers=3, cutoff=5.0, basis=20),
    "painn-direct": StudentSize("painn", channels=64, layers=3, cutoff=5.0, basis=20, direct=True),
    "painn-small": StudentSize("painn", channels=32, layers=2, cutoff=4.5, basis=20),
    "painn-small-direct": StudentSize("painn", channels=32, layers=2, cutoff=4.5, basis=20, direct=True),
    "moment": StudentSize("moment", channels=16, layers=1, cutoff=4.5, basis=10),
    "moment-large": StudentSize("moment", channels=32, layers=1, cutoff=5.0, basis=12),
    "ace-small": StudentSize("ace", channels=24, layers=2, cutoff=4.5, basis=10, max_l=2),
    "ace": StudentSize("ace", channels=32, layers=2, cutoff=4.5, basis=10, max_l=2),
    "ace-large": StudentSize("ace", channels=64, layers=2, cutoff=5.0, basis=10, max_l=3),
    "ace-local-small": StudentSize("ace", channels=16, layers=1, cutoff=4.5, basis=10, max_l=2),
    "ace-local": StudentSize("ace", channels=32, layers=1, cutoff=5.0, basis=10, max_l=3),
    "ace-local-large": StudentSize("ace", channels=64, layers=1, cutoff=5.0, basis=10, max_l=3),
    "gemnet-t": StudentSize("gemnet", channels=72, layers=4, cutoff=5.0, basis=8),
    "gemnet-dt": StudentSize("gemnet", channels=64, layers=4, cutoff=5.0, basis=8, direct=True),
    "gemnet-dt-small": StudentSize("gemnet", channels=18, layers=4, cutoff=5.0, basis=8, direct=True),
}
