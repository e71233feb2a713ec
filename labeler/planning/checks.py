"""What is checked of every structure before a teacher sees it, and of every label after.

Teachers do not check: a NaN position silently loses an atom's edges, an infinite one hangs, a missing cell gives wrong numbers.
Each check returns a reason in words, or None; a structure with a reason goes to quarantine and the run goes on.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from hdistill.data.structure import Labels, Structure

MIN_DISTANCE = 0.4  # A; H-H in H2 is 0.74
MAX_CELL_EDGE = 1e4  # A
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
    if structure.n_atoms == 0:
        return "it has no atoms"
    if not np.isfinite(structure.positions).all():
        return "a position is not finite"
    if not np.isfinite(structure.cell).all():
        return "the cell is not finite"
    unknown = sorted(set(structure.numbers.tolist()) - set(elements))
    if unknown:
        from ase.data import chemical_symbols

        names = ", ".join(chemical_symbols[z] if 0 < z < len(chemical_symbols) else str(z) for z in unknown)
        return f"the teacher does not know {names}"
    extent = float(np.ptp(structure.positions, axis=0).max())
    if extent > MAX_CELL_EDGE:
        return f"its atoms are spread over {extent:.3g} A, more than {MAX_CELL_EDGE:.0f}"
    if structure.pbc.any():
        lengths = np.linalg.norm(structure.cell, axis=1)
        if lengths.max() > MAX_CELL_EDGE:
            return f"a cell edge is {lengths.max():.0f} A, more than {MAX_CELL_EDGE:.0f}"
        periodic = structure.cell[structure.pbc]
        if np.linalg.matrix_rank(periodic, tol=1e-3) < len(periodic):
            return "it is periodic but its cell has no volume"
    distance = shortest_distance(structure)
    if distance < MIN_DISTANCE:
        return f"two atoms are {distance:.3f} A apart, less than {MIN_DISTANCE}"
    return None


def shortest_distance(structure: Structure) -> float:
    """Shortest distance in A between two atoms or an atom and an image; infinite where all are over MIN_DISTANCE."""
    import vesin
    from ase.geometry import complete_cell

    cell = complete_cell(structure.cell) if structure.pbc.any() else np.zeros((3, 3))
    neighbors = vesin.NeighborList(cutoff=MIN_DISTANCE, full_list=False)
    (distances,) = neighbors.compute(structure.positions, cell, structure.pbc, quantities="d")
    return float(np.min(distances, initial=np.inf))


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
            return f"the teacher's {name} are no real numbers but {array.dtype}"
        if array.shape != shape:
            return f"the teacher's {name} have shape {array.shape}; {shape} was wanted"
    return None


def _tolerance(values: np.ndarray) -> float:
    return ASYMMETRY_FLOOR + MAX_ASYMMETRY * float(np.linalg.norm(values, axis=(1, 2)).max())
