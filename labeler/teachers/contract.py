"""What every teacher adapter is: `load(request)` returns a Teacher; a Teacher turns structures into labels.

An adapter of a torch model writes one thing, `evaluate(structures, products)`: energies and forces of a batch, with the graph of
the forces kept where products are wanted, as it costs time and memory. `label_by_autograd` makes labels of it, by the same
vector-Jacobian products for every model.
This file and the adapters may use only what a teacher's own environment has: numpy, torch and ase (no h5py, dask, click).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hdistill.data.errors import TeacherError
from hdistill.data.hessian import products_by_autograd
from hdistill.data.structure import Directions, HessianProducts, Labels, Structure

if TYPE_CHECKING:
    import torch

Shape = tuple[int | None, ...]  # None stands for any length
SUM_TOLERANCE = 1e-5  # of the sum of |atom energy|: float32


class NoLabels(ValueError):
    """What a teacher gave in place of labels: another type or shape, complex, missing."""


@dataclass(frozen=True)
class TeacherRequest:
    """Which teacher to load and how. `model` is what follows the family: a size, a checkpoint name, a file, a class path."""

    name: str  # as the user typed it: mace-mp:medium, 7net-0, ase:module.Class, /path/to/file.model
    family: str  # lennard_jones, sevennet, chgnet, mace, fairchem, torchani, outside, ase: the module in this package
    model: str
    task: str | None = None  # task, modal or head, for teachers with several levels of theory
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"
    arguments: dict[str, Any] = field(default_factory=dict)  # keyword arguments for ase:module.Class
    atom_energies: bool | None = False  # wanted besides energy, forces and products; None: where the teacher has them
    node_features: bool = False


@dataclass(frozen=True)
class TeacherInfo:
    """What a loaded teacher says of itself; goes into the manifest."""

    name: str
    family: str
    task: str | None
    dtype: str
    device: str
    elements: tuple[int, ...]  # atomic numbers it knows, ascending
    conservative: bool  # False: forces are predicted directly, rows are of -dF/dR, not symmetric
    has_stress: bool
    hessian_method: Literal["autograd", "analytic", "central differences"]
    weights_sha256: str | None  # None where there are no weights (a formula)
    weights_license: str
    license_class: Literal["open", "copyleft", "nc", "gated", "unknown"]
    level_of_theory: str
    citation: str
    versions: dict[str, str]  # packages that decide the numbers: torch, mace-torch, e3nn, ...

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Teacher(Protocol):
    """One loaded teacher. Raises TeacherError for what it refuses (unknown element, missing task)."""

    @property
    def info(self) -> TeacherInfo: ...

    def label(self, structures: Sequence[Structure], directions: Sequence[Directions | None]) -> list[Labels]:
        """Labels of each structure, in order; products for its directions, none where directions are None."""
        ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A batch of structures after one force evaluation; A atoms, flat, in the order of the structures.

    energy (B,) eV; forces (A,3) eV/A, where products are wanted connected by a graph to positions (A,3), a leaf that requires grad;
    stress (B,3,3) eV/A^3 in ASE's sign, or None; only the rows of structures periodic in all directions are read;
    atom_energies (A,) eV and node_features (A,D) where they were asked for.
    """

    energy: torch.Tensor
    forces: torch.Tensor
    positions: torch.Tensor
    stress: torch.Tensor | None = None
    atom_energies: torch.Tensor | None = None
    node_features: torch.Tensor | None = None


def products_are_wanted(directions: Sequence[Directions | None]) -> bool:
    """Whether any structure of a batch has directions."""
    return any(directions)


def stress_is_wanted(structures: Sequence[Structure]) -> bool:
    """Whether any structure of a batch has a volume, without which there is no stress."""
    return any(s.pbc.all() for s in structures)


def zero_strain(structures: Sequence[Structure], device: torch.device) -> torch.Tensor | None:
    """A strain (B,3,3) of nothing, a leaf to differentiate by, where a stress is wanted: r becomes r + r @ strain."""
    import torch

    if not stress_is_wanted(structures):
        return None
    return torch.zeros(len(structures), 3, 3, dtype=torch.float64, device=device, requires_grad=True)


def strained(vectors: torch.Tensor, strain: torch.Tensor | None, owner: torch.Tensor) -> torch.Tensor:
    """Vectors (E,3) A under the strain of the structures (E,) that they belong to."""
    import torch

    return vectors if strain is None else vectors + torch.einsum("ea,eab->eb", vectors, strain[owner])


def forces_and_stress(
    energy: torch.Tensor,
    positions: torch.Tensor,
    strain: torch.Tensor | None,
    structures: Sequence[Structure],
    dtype: torch.dtype,
    products: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Forces (A,3) eV/A, with their graph where products are wanted, and stress (B,3,3) eV/A^3, none without a strain."""
    import torch

    leaves = (positions,) if strain is None else (positions, strain)
    gradient, *virials = torch.autograd.grad(energy.sum(), leaves, create_graph=products)
    if not virials:
        return -gradient.to(dtype), None
    (virial,) = virials
    volume = virial.new_tensor([abs(np.linalg.det(s.cell)) or 1.0 for s in structures])
    stress = 0.5 * (virial + virial.transpose(1, 2)) / volume[:, None, None]
    return -gradient.to(dtype), stress.detach().to(dtype)


def label_by_autograd(
    evaluation: Evaluation,
    structures: Sequence[Structure],
    directions: Sequence[Directions | None],
    batched_elements: int = 0,
) -> list[Labels]:
    """Labels from one evaluated batch. Slot k of the products serves the k-th direction of every structure at once.

    batched_elements: see products_by_autograd. Raises TeacherError where atom energies do not add up to the energy.
    """
    sizes = [s.n_atoms for s in structures]
    stops = np.cumsum(sizes)
    starts = stops - sizes
    n_products = max((len(d) for d in directions if d is not None), default=0)
    vectors = np.zeros((n_products, int(stops[-1]), 3))
    for start, stop, wanted in zip(starts, stops, directions, strict=True):
        if wanted is not None:
            vectors[: len(wanted), start:stop] = wanted.vectors(int(stop - start))
    forces = evaluation.forces
    cotangents = forces.new_tensor(vectors) if n_products else forces.new_zeros((0, *forces.shape))
    products = products_by_autograd(
        forces,
        evaluation.positions,
        cotangents,
        batched_elements=batched_elements if forces.device.type == "cpu" else 0,
    )

    def numpy(tensor: torch.Tensor | None) -> Any:
        return None if tensor is None else tensor.detach().cpu().numpy()

    energy, force, stress, values = (
        numpy(x) for x in (evaluation.energy.double(), forces, evaluation.stress, products)
    )
    atom_energies, features = numpy(evaluation.atom_energies), numpy(evaluation.node_features)
    labels = [
        Labels(
            energy=float(energy[i]),
            forces=force[start:stop],
            stress=stress[i] if stress is not None and structures[i].pbc.all() else None,  # else no volume
            hessian=None if wanted is None else HessianProducts(wanted, values[: len(wanted), start:stop]),
            atom_energies=None if atom_energies is None else atom_energies[start:stop].astype(np.float64),
            node_features=None if features is None else features[start:stop],
        )
        for i, (start, stop, wanted) in enumerate(zip(starts, stops, directions, strict=True))
    ]
    check_sums(structures, labels)
    return labels


def check_sums(structures: Sequence[Structure], labels: Sequence[Labels]) -> None:
    """Raise TeacherError for the first structure whose atom energies do not add up to its energy, beyond rounding."""
    for structure, label in zip(structures, labels, strict=True):
        if label.atom_energies is not None:
            total, size = float(label.atom_energies.sum()), float(np.abs(label.atom_energies).sum())
            if not abs(total - label.energy) <= SUM_TOLERANCE * (1.0 + size):
                raise TeacherError(
                    f"Atom energies of structure {structure.id} add up to {total:.6g} eV, its energy is {label.energy:.6g} eV; "
                    "label without --atom-energies."
                )


def check_elements(structures: Sequence[Structure], known: Sequence[int], teacher: str) -> None:
    """Raise TeacherError that names the first structure with an element the teacher does not know."""
    from ase.data import chemical_symbols

    for structure in structures:
        unknown = sorted(set(structure.numbers.tolist()) - set(known))
        if unknown:
            names = ", ".join(chemical_symbols[z] for z in unknown)
            raise TeacherError(f"Structure {structure.id} has {names}, which {teacher} does not know.")


def check_no_task(request: TeacherRequest) -> None:
    """Raise TeacherError if a task was asked of a teacher that has none to choose from."""
    if request.task is not None:
        raise TeacherError(
            f"{request.name} has no tasks to choose from, but '{request.task}' was asked for; leave --task out."
        )


def check_signals(request: TeacherRequest, atom_energies: bool, node_features: bool) -> TeacherRequest:
    """The request, with atom energies asked for or not. Raises TeacherError for signals that the teacher does not have."""
    for wanted, has, words, option in (
        (request.atom_energies, atom_energies, "energies of single atoms", "--atom-energies"),
        (request.node_features, node_features, "node features", "--node-features"),
    ):
        if wanted and not has:
            raise TeacherError(f"{request.name} has no {words} to give; leave {option} out.")
    return request if request.atom_energies is not None else replace(request, atom_energies=atom_energies)


def real_array(value: Any, shape: Shape, name: str, structure: Structure) -> NDArray[Any]:
    """What a teacher gave as an array of real numbers, float32 or float64. Raises NoLabels."""
    try:
        array = np.asarray(value)
    except Exception as error:
        raise NoLabels(f"Structure {structure.id}: its {name} are not an array ({type(error).__name__}).") from error
    fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if array.dtype.kind not in "fiu" or not fits:
        wanted = "x".join("any" if n is None else str(n) for n in shape) or "one"
        raise NoLabels(
            f"Structure {structure.id}: its {name}: {kind_of(value)}, where {wanted} real numbers are wanted."
        )
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def kind_of(value: Any) -> str:
    """What kind of thing it is, in words."""
    if isinstance(value, np.ndarray | np.generic):
        return f"an array of {value.dtype} and shape {value.shape}"
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, list | tuple | str) else "")
