"""The words that settings of a fit take, each stated once. Light to import: no torch here."""

from typing import Literal

TargetKind = Literal["teacher", "reference", "mix"]
HessianNorm = Literal["atoms", "product"]
ProductMethod = Literal["exact", "difference"]
