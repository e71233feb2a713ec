"""FitSettings: everything that decides what `fit` does, apart from the label set. Light to import: no torch here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from hdistill.data.errors import InputError

from ..choices import HessianNorm, ProductMethod, TargetKind
from ..students.registry import size_of

# A finished or stopped fit can be made longer (steps only up) and go on elsewhere.
MAY_CHANGE = ("steps", "max_seconds", "max_edges", "device")
WEIGHTS = ("energy_weight", "force_weight", "stress_weight", "hessian_weight", "node_weight", "embedding_weight")


@dataclass(frozen=True)
class FitSettings:
    """The loss is energy_weight * |dE|/n + force_weight * |dF| + stress_weight * V/n |dstress| + hessian_weight * |d(Hv)| and, of
    the baselines, node_weight and embedding_weight times what features.py says; see loss.py for the units. What has weight 0 is
    not computed."""

    student: str = "painn"
    repulsion: bool = False  # a fixed short-range repulsion under the student (ZBL), so that atoms cannot collapse
    steps: int = 4000
    batch_size: int = 8  # structures
    learning_rate: float = 5e-3
    warmup: int = 50  # steps of linear rise; then the rate falls as a cosine until the last step
    energy_weight: float = 1.0
    force_weight: float = 1.0
    stress_weight: float = 0.1  # of the structures that have a stress
    hessian_weight: float = 0.3  # 0: plain training on energies and forces
    hessian_norm: HessianNorm = "atoms"  # of |d(Hv)|: of each atom's three components, or of all 3N of a product
    max_hessian: float | None = None  # eV/A^2: structures with a larger element are left out of the Hessian term
    halve_hessian_within: float | None = (
        None  # 0.05: hessian_weight is halved once within 5 % of the teacher's force error
    )
    node_weight: float = 0.0  # of the teacher's node features (n2n)
    embedding_weight: float = 0.0  # of their means per element (a2a)
    products_per_step: int = 1  # of each structure, drawn anew from its stored ones at every step
    product_method: ProductMethod = "exact"
    targets: TargetKind = "teacher"  # whose energies, forces and stress; Hessian products are the teacher's
    reference_share: float = (
        0.5  # targets "mix": weight of the source's own labels against the teacher's, where there are any
    )
    ema_decay: float = 0.999  # at most; the averaged weights are what is validated and kept
    clip: float = 10.0  # largest norm of the gradient of all parameters
    weight_decay: float = 0.01
    amsgrad: bool = False  # of AdamW
    max_edges: int = 40_000  # at once: a step with more is cut into batches, whose gradients add up to the same
    compile: bool = False  # the whole step as machine code (compiled.py)
    validate_every: int = 100  # steps
    validate_at_most: int = 64  # structures
    max_seconds: float | None = None  # CPU seconds of training steps; the learning rate falls with them
    seed: int = 0
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    tf32: bool = False  # of GPUs: 10 bits of mantissa in products of matrices, of which second derivatives keep few

    def __post_init__(self) -> None:
        size_of(self.student, self.repulsion)
        for name in ("steps", "batch_size", "products_per_step", "max_edges", "validate_every", "validate_at_most"):
            _check(name, getattr(self, name) >= 1, getattr(self, name), "1 or more")
        for name in ("learning_rate", "clip"):
            _check(name, getattr(self, name) > 0, getattr(self, name), "more than 0")
        for name in ("warmup", "weight_decay", *WEIGHTS):
            _check(name, getattr(self, name) >= 0, getattr(self, name), "0 or more")
        _check("ema_decay", 0 <= self.ema_decay < 1, self.ema_decay, "at least 0 and less than 1")
        _check("reference_share", 0 <= self.reference_share <= 1, self.reference_share, "between 0 and 1")
        _check("max_hessian", self.max_hessian is None or self.max_hessian > 0, self.max_hessian, "more than 0")
        within = self.halve_hessian_within
        _check("halve_hessian_within", within is None or within >= 0, within, "0 or more")
        _check("max_seconds", self.max_seconds is None or self.max_seconds > 0, self.max_seconds, "more than 0")
        for name, allowed in _CHOICES.items():
            _check(name, getattr(self, name) in allowed, getattr(self, name), " or ".join(allowed))
        weights = sum(self.weights.values())
        _check(" + ".join(WEIGHTS), weights > 0, weights, "more than 0")

    @cached_property  # asked for at every step, and a package's student is looked up among all that is installed
    def weights(self) -> dict[str, float]:
        """Weights of the parts of the loss, by the names of loss.py. Direct forces have no stress to learn."""
        return {
            "energy": self.energy_weight,
            "forces": self.force_weight,
            "stress": 0.0 if size_of(self.student).direct else self.stress_weight,
            "hessian": self.hessian_weight,
            "node": self.node_weight,
            "embedding": self.embedding_weight,
        }

    @property
    def uses_features(self) -> bool:
        """Whether the teacher's node features are learned, too."""
        return self.node_weight > 0 or self.embedding_weight > 0

    @property
    def n_products(self) -> int:
        """Of each structure in a step."""
        return self.products_per_step if self.hessian_weight > 0 else 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


_CHOICES = {
    "product_method": get_args(ProductMethod),
    "targets": get_args(TargetKind),
    "hessian_norm": get_args(HessianNorm),
    "dtype": ("float32", "float64"),
}


def settings_from(values: dict[str, Any]) -> FitSettings:
    """Settings from a JSON or TOML table. Raises InputError for names that are no setting."""
    from hdistill.data.errors import nearest

    known = FitSettings.__dataclass_fields__
    for name in values:
        if name not in known:
            raise InputError(f"'{name}' is no setting of fit.{nearest(name, known)}")
    return FitSettings(**values)


def _check(name: str, holds: bool, found: Any, wanted: str) -> None:
    if not holds:
        raise InputError(f"{name} was {found}; it must be {wanted}.")
