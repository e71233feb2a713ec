"""How good a student is: errors on a split of a label set, and harmonic frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import InputError

from .arguments import Labels, Place, cache_of, folder_of, labels_place
from .before import check_labels, check_split
from .printed import result_of
from .results import Evaluation

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
    out: Place | None = None,
    parts: str | Sequence[str] | None = None,
    require: str | Sequence[str] = (),
    twin: Place | None = None,
    device: str = "cpu",
    cache: Place | None = None,
    cache_size: str | int = "10GB",
    progress: bool = False,
) -> Evaluation:
    """Errors of a run's student on one split, train, val or test, of a label set, in all and by group.

    out: a folder for the report: report.html, report.md, report.json, figures/. parts: accuracy, smoothness, dynamics, speed, or
    quick (the first two, where there is an `out` and nothing is said) or all. require: "force_mae<=30", ...: `verdicts` of the result
    says what holds, and `passed` whether all do; what was not measured does not. twin: another run beside it, a student fitted
    without Hessians for example. What is in the report folder for the same student, labels and split is not computed again.

    Structures with an element that the student was not trained on are left out and counted. Raises InputError.
    """
    place, folder = labels_place(labels), folder_of(run)
    check_split(split)
    check_labels(place)
    _require_run(run)
    from hdistill.trainer.evaluation.errors import evaluate_student

    from ..judgement import Subject, judge, measured, parts_of, verdicts
    from ..report.judgement_report import write_report

    wanted = [require] if isinstance(require, str) else list(require)
    verdicts(wanted, measured({}, {}))  # said before anything is computed
    names = parts_of(parts if parts is not None else ("quick" if out is not None else ()))
    names += [name for name in _needed(wanted) if name not in names]
    kept = cache_of(place, cache, cache_size)
    figures = evaluate_student(folder, place, split, device, progress, kept)
    beside = None if twin is None else evaluate_student(folder_of(twin), place, split, device, progress, kept)
    if not names and not wanted and beside is None:
        return result_of(Evaluation, figures)
    done = judge(Subject(folder, place, split, device), names, None if out is None else folder_of(out), lambda _: None)
    rows = verdicts(wanted, measured(figures, done, beside))
    report = {"errors": figures, "twin": beside, "parts": done, "verdicts": rows}
    if out is not None:
        figures = {**figures, "report": str(write_report(folder_of(out), report, folder.name))}
    shown = {"parts": done} if names else {}
    passed = {"verdicts": rows, "passed": all(row["passed"] for row in rows)} if wanted else {}
    return result_of(Evaluation, {**figures, **shown, **({"twin": beside} if beside else {}), **passed})


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


def _needed(requirements: Sequence[str]) -> list[str]:
    """The parts that give what is required."""
    of = {
        "accuracy": ("force_rmse", "energy_rmse", "force_cosine", "domain_correlation"),
        "smoothness": ("holes", "cutoff_step"),
        "dynamics": ("nve_drift", "stable_ps"),
        "speed": ("ms_per_call",),
    }
    named = {text.strip().split("<")[0].split(">")[0].strip() for text in requirements}
    return [part for part, figures in of.items() if named & set(figures)]


def _require_run(run: Place) -> None:
    """Raise InputError where there is neither a run folder nor a student file."""
    path = folder_of(run)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a run folder of `hdistill fit`.")
