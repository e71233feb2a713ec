"""What is checked of every structure before a teacher sees it, and of every label after.

Teachers do not check: a NaN position silently loses an atom's edges, an infinite one hangs, a missing cell gives wrong numbers.
Each check returns a reason in words, or None; a structure with a reason goes to quarantine and the run goes on.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from hdistill.data.format import plausible
from hdistill.data.structure import Labels, Structure

MAX_FORCE = 1e3  # eV/A
MAX_HESSIAN = 1e4  # eV/A^2, the filter of Amin et al., arXiv 2501.09009
MAX_ASYMMETRY = 0.02  # of the products' own size, above a floor
ASYMMETRY_FLOOR = 0.1  # eV/A^2


def structure_problem(structure: Structure, elements: Collection[int]) -> str | None:
    """Why a teacher that knows these elements must not see this structure, or None."""
    try:
        return _structure_problem(structure, elements)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        return f"it cannot be checked ({type(error).__name__}: {error})"  # whatever numbers it is made of, others go on


def _structure_problem(structure: Structure, elements: Collection[int]) -> str | None:
    unknown = sorted(set(structure.numbers.tolist()) - set(elements))
    if unknown:
        from ase.data import chemical_symbols

        names = ", ".join(chemical_symbols[z] if 0 < z < len(chemical_symbols) else str(z) for z in unknown)
        return f"the teacher does not know {names}"
    return plausible.structure_problem(structure)


def labels_problem(labels: Labels, conservative: bool, n_atoms: int) -> str | None:
    """Why these labels of a structure of n_atoms must not be stored, or None."""
    if problem := _shape_problem(labels, n_atoms):
        return problem
    if not (np.isfinite(labels.energy) and np.isfinite(labels.forces).all()):
        return "the teacher's energy or forces are not finite"
    if labels.stress is not None and not np.isfinite(labels.stress).all():
        return "the teacher's stress is not finite"
    for signal, name in ((labels.atom_energies, "atom energies"), (labels.node_features, "node features")):
        if signal is not None and not np.isfinite(signal).all():
            return f"the teacher's {name} are not finite"
    largest = float(np.abs(labels.forces).max())
    if largest > MAX_FORCE:
        return f"a force is {largest:.3g} eV/A, more than {MAX_FORCE:.0f}"
    if labels.hessian is None:
        return None
    values = np.asarray(labels.hessian.values, np.float64)
    if not np.isfinite(values).all():
        return "a Hessian product is not finite"
    largest = float(np.abs(values).max())
    if largest > MAX_HESSIAN:
        return f"a Hessian product is {largest:.3g} eV/A^2, more than {MAX_HESSIAN:.0f}"
    # A uniform translation changes no force: the elements of v . H summed over atoms vanish.
    drift = float(np.abs(values.sum(axis=1)).max())
    if drift > _tolerance(values):
        return f"a Hessian product changes under translation by {drift:.3g} eV/A^2"
    if conservative:
        vectors = labels.hessian.directions.vectors(len(labels.forces))
        overlaps = np.tensordot(vectors, values, axes=((1, 2), (1, 2)))  # v_i . H . v_j, symmetric when H is
        asymmetry = float(np.abs(overlaps - overlaps.T).max())
        if asymmetry > _tolerance(values) * np.sqrt(vectors[0].size):
            return f"the Hessian is not symmetric: two products disagree by {asymmetry:.3g} eV/A^2"
    return None


def _shape_problem(labels: Labels, n_atoms: int) -> str | None:
    """A teacher may return anything: real numbers of the right shapes go on, others would end the run where they are used."""
    wanted: list[tuple[str, object, tuple[int, ...]]] = [
        ("energy", labels.energy, ()),
        ("forces", labels.forces, (n_atoms, 3)),
        ("stress", labels.stress, (3, 3)),
        ("atom energies", labels.atom_energies, (n_atoms,)),
    ]
    if labels.hessian is not None:
        wanted.append(("Hessian products", labels.hessian.values, (len(labels.hessian.directions), n_atoms, 3)))
    for name, values, shape in wanted:
        if values is None and name in ("stress", "atom energies"):
            continue
        array = np.asarray(values)
        if array.dtype.kind not in "fiu":
            return f"the teacher's {name} are not real numbers but {array.dtype}"
        if array.shape != shape:
            return f"the teacher's {name} have shape {array.shape}; {shape} was wanted"
    return None


def _tolerance(values: np.ndarray) -> float:
    return ASYMMETRY_FLOOR + MAX_ASYMMETRY * float(np.linalg.norm(values, axis=(1, 2)).max())
