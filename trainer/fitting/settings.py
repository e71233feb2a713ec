"""FitSettings: everything that decides what `fit` does, apart from the label set. Light to import: no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from hdistill.data.errors import InputError, nearest
from hdistill.data.support.checked import Above, AtLeast, Between, check_fields

from ..choices import HessianNorm, ProductMethod, TargetKind
from ..students.registry import size_of

# A finished or stopped fit can be made longer (steps only up) and go on elsewhere.
MAY_CHANGE = ("steps", "max_seconds", "max_edges", "device")
# Settings that came later, with the values that fits before them had.
ADDED = {"difference_weight": 0.0, "atom_energy_weight": 0.0, "energy_weight_end": None}

Count = Annotated[int, AtLeast(1)]
Weight = Annotated[float, AtLeast(0)]
Positive = Annotated[float, Above(0)]


@dataclass(frozen=True)
class FitSettings:
    """The loss is a sum of terms with weights, in units and with averages as loss.py states them; a term of weight 0 is not
    computed. Raises InputError for a value that cannot be meant."""

    student: str = "ace"
    repulsion: bool = False  # a fixed short-range repulsion under the student (ZBL), so that atoms cannot collapse
    steps: Count = 4000
    batch_size: Count = 8  # structures
    learning_rate: Positive = 5e-3
    warmup: Annotated[int, AtLeast(0)] = 50  # steps of linear rise; then the rate falls as a cosine until the last step
    energy_weight: Weight = 1.0
    energy_weight_end: Weight | None = None  # of the last step; the weight moves there with the square of progress
    difference_weight: Weight = 0.0  # of energy differences of structures of one composition
    atom_energy_weight: Weight = 0.0  # of the teacher's energy of each atom
    force_weight: Weight = 1.0
    stress_weight: Weight = 0.1  # of the structures that have a stress
    hessian_weight: Weight = 0.3  # 0: plain training on energies and forces
    hessian_norm: HessianNorm = "atoms"  # of |d(Hv)|: of each atom's three components, or of all 3N of a product
    max_hessian: Positive | None = None  # eV/A^2: structures with a larger element are left out of the Hessian term
    # 0.05: hessian_weight is halved once within 5 % of the teacher's force error
    halve_hessian_within: Weight | None = None
    node_weight: Weight = 0.0  # of the teacher's node features (n2n)
    embedding_weight: Weight = 0.0  # of their means per element (a2a)
    products_per_step: Count = 1  # of each structure, drawn anew from its stored ones at every step
    product_method: ProductMethod = "exact"
    targets: TargetKind = "teacher"  # whose energies, forces and stress; Hessian products are the teacher's
    # targets "mix": weight of the source's own labels against the teacher's, where there are any
    reference_share: Annotated[float, Between(0, 1)] = 0.5
    # at most; the averaged weights are what is validated and kept
    ema_decay: Annotated[float, Between(0, 1, including_high=False)] = 0.999
    clip: Positive = 10.0  # largest norm of the gradient of all parameters
    weight_decay: Weight = 0.01
    amsgrad: bool = False  # of AdamW
    max_edges: Count = 40_000  # at once: a step with more is cut into batches, whose gradients add up to the same
    compile: bool = False  # the whole step as machine code (compiled.py)
    validate_every: Count = 100  # steps
    validate_at_most: Count = 64  # structures
    max_seconds: Positive | None = None  # CPU seconds of training steps; the learning rate falls with them
    seed: Annotated[int, AtLeast(0)] = 0
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    tf32: bool = False  # of GPUs: 10 bits of mantissa in products of matrices, of which second derivatives keep few

    def __post_init__(self) -> None:
        check_fields(self)
        size_of(self.student, self.repulsion)
        if not any(self.weights_at(1.0).values()) and not any(self.weights.values()):
            raise InputError("All weights of the loss were 0; at least one must be more than 0.")

    @cached_property  # asked for at every step, and a package's student is looked up among all that is installed
    def weights(self) -> Mapping[str, float]:
        """Weights of the terms of the loss at the start, by the names of loss.py. Direct forces have no stress to learn."""
        return {
            "energy": self.energy_weight,
            "difference": self.difference_weight,
            "atom_energy": self.atom_energy_weight,
            "forces": self.force_weight,
            "stress": 0.0 if size_of(self.student).direct else self.stress_weight,
            "hessian": self.hessian_weight,
            "node": self.node_weight,
            "embedding": self.embedding_weight,
        }

    def weights_at(self, progress: float, hessian_factor: float = 1.0) -> dict[str, float]:
        """Weights of the terms when `progress` (0 to 1) of the fit is done."""
        end = self.energy_weight if self.energy_weight_end is None else self.energy_weight_end
        energy = self.energy_weight + (end - self.energy_weight) * progress**2
        return {**self.weights, "energy": energy, "hessian": self.hessian_weight * hessian_factor}

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


def settings_from(values: Mapping[str, Any]) -> FitSettings:
    """Settings from a JSON or TOML table. Raises InputError for names that are not settings."""
    known = FitSettings.__dataclass_fields__
    for name in values:
        if name not in known:
            raise InputError(f"'{name}' is not a setting of fit.{nearest(name, known)}")
    return FitSettings(**values)
