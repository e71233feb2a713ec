"""How good a student is: errors on a split of a label set, and harmonic frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hdistill.data.errors import InputError

from .arguments import Labels, Place, cache_of, folder_of, labels_place
from .before import check_labels, check_split
from .results import Evaluation, result_of

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from hdistill.data.structure import Structure


def evaluate(
    run: Place,
    labels: Labels,
    *,
    split: str = "test",
    device: str = "cpu",
    cache: Place | None = None,
    cache_size: str | int = "10GB",
    progress: bool = False,
) -> Evaluation:
    """Errors of a run's student on one split, train, val or test, of a label set, in all and by group.

    Structures with an element that the student was not trained on are left out and counted. Raises InputError.
    """
    place, folder = labels_place(labels), folder_of(run)
    check_split(split)
    check_labels(place)
    _require_run(run)
    from hdistill.trainer.evaluation.errors import evaluate_student

    figures = evaluate_student(folder, place, split, device, progress, cache_of(place, cache, cache_size))
    return result_of(Evaluation, figures)


def frequencies(structure: Atoms | Structure, hessian: NDArray[np.floating[Any]] | None = None) -> NDArray[np.float64]:
    """Harmonic frequencies in cm^-1, ascending, imaginary ones negative; translations, and rotations of molecules, are left out.

    hessian: (3N,N,3) eV/A^2, +d2E/dR2; where it is left out, the Atoms' calculator is asked (HDistillCalculator has it). Raises
    InputError for a matrix that is no Hessian.
    """
    from hdistill.data.structure import Structure
    from hdistill.trainer.evaluation.vibrations import frequencies as harmonic

    if hessian is None:
        get_hessian = getattr(getattr(structure, "calc", None), "get_hessian", None)
        if get_hessian is None:
            raise InputError(
                "frequencies() takes a Hessian, or Atoms whose calculator has get_hessian (HDistillCalculator)."
            )
        hessian = get_hessian(structure)
    if not isinstance(structure, Structure):
        atoms = structure
        structure = Structure(atoms.numbers, atoms.positions.copy(), atoms.cell.array.copy(), atoms.pbc.copy())
    return harmonic(structure, hessian)


def _require_run(run: Place) -> None:
    """Raise InputError where there is neither a run folder nor a student file."""
    path = folder_of(run)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a run folder of `hdistill fit`.")
