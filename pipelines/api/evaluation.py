"""How good a student is: errors on a split of a label set, and harmonic frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import InputError

from .arguments import Labels, Place, cache_of, folder_of, labels_place, run_place, temperatures_of
from .before import check_labels, check_split
from .printed import result_of
from .results import Evaluation

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from hdistill.data.structure import Structure

    from .sampling import Starts


def evaluate(
    run: Place,
    labels: Labels | None = None,
    *,
    split: str = "test",
    out: Place | None = None,
    parts: str | Sequence[str] | None = None,
    teacher: Any = None,
    task: str | None = None,
    structures: Starts = (),
    phonopy: Place | None = None,
    temperature: float | Sequence[float] | None = None,
    require: str | Sequence[str] = (),
    twin: Place | None = None,
    device: str = "cpu",
    cache: Place | None = None,
    cache_size: str | int = "10GB",
    progress: bool = False,
) -> Evaluation:
    """Errors of a run's student on one split, train, val or test, of a label set, in all and by group.

    labels: None: the label set that the run was fitted to, where it still is. out: a folder for the report: report.html, report.md,
    report.json, figures/. parts: accuracy, smoothness, cost, speed, dynamics, curvature, relaxation; with a teacher distortions,
    scans, trajectories; with `phonopy` dft; quick (the first three, where there is an `out` and nothing is said) or all that can be had.
    teacher: its name, or an ASE calculator: the reference of the physical parts, whose answers are kept in `out`. structures: files or
    Atoms that the physical parts look at, in place of held-out ones. phonopy: phonopy_params.yaml, or a folder with
    phonopy_disp.yaml and FORCE_SETS: forces that were measured or computed elsewhere. temperature: K, of dynamics and trajectories; 300
    and 600 where nothing is said.

    require: "force_mae<=30", ...: `verdicts` of the result says what holds, and `passed` whether all do; what was not measured does
    not. twin: another run beside it, a student fitted without Hessians for example. What is in the report folder for the same
    student, labels and settings is not computed again.

    Structures with an element that the student was not trained on are left out and counted. Raises InputError.
    """
    check_split(split)
    _require_run(run)
    from hdistill.trainer.bundles import place_of

    folder = place_of(run_place(run))
    place = labels_place(labels if labels is not None else _labels_of(folder))
    check_labels(place)
    wanted = [require] if isinstance(require, str) else list(require)
    from ..judging.bars import measured, needed, verdicts
    from ..judging.judgement import judgement
    from ..judging.parts import parts_of
    from ..judging.reference import reference_of
    from ..judging.subject import TEMPERATURES, Subject

    # Whatever can be seen to be wrong is said before anything is computed.
    verdicts(wanted, measured({}, {}))
    options = {"teacher": teacher is not None, "phonopy": phonopy is not None}
    given = frozenset(name for name, is_given in options.items() if is_given)
    names = parts_of(parts if parts is not None else ("quick" if out is not None else ()), given)
    names += [name for name in needed(wanted) if name not in names]
    folder_out = None if out is None else folder_of(out)
    looked_at = _structures(structures, progress)
    kelvins = TEMPERATURES if temperature is None else temperatures_of(temperature)
    measured_forces = None if phonopy is None else folder_of(phonopy)
    beside, kept = None if twin is None else folder_of(twin), cache_of(place, cache, cache_size)
    with ExitStack() as stack:
        answers = None if folder_out is None else folder_out / "teacher.sqlite"
        reference = None if teacher is None else stack.enter_context(reference_of(teacher, answers, task, device))
        subject = Subject(folder, place, split, device, looked_at, reference, measured_forces, progress, kelvins)
        report = judgement(subject, names, wanted, folder_out, beside, kept)
    figures = report["errors"]
    if folder_out is not None:
        from ..report.judgement_report import write_report

        figures = {**figures, "report": str(write_report(folder_out, report, f"How good is {folder.name}?"))}
    if names:
        figures = {**figures, "parts": report["parts"]}
    if beside is not None:
        figures = {**figures, "twin": report["twin"]}
    if wanted:
        rows = report["verdicts"]
        figures = {**figures, "verdicts": rows, "passed": all(row["passed"] for row in rows)}
    return result_of(Evaluation, figures)


def frequencies(structure: Atoms | Structure, hessian: NDArray[np.floating[Any]] | None = None) -> NDArray[np.float64]:
    """Harmonic frequencies in cm^-1, ascending, imaginary ones negative; translations, and rotations of molecules, are left out.

    hessian: (3N,N,3) eV/A^2, +d2E/dR2; where it is left out, the Atoms' calculator is asked (HDistillCalculator has it). Raises
    InputError for a matrix that is not a Hessian.
    """
    from hdistill.data.structure import Structure, geometry_of
    from hdistill.trainer.evaluation.vibrations import frequencies as harmonic

    if hessian is None:
        get_hessian = getattr(getattr(structure, "calc", None), "get_hessian", None)
        if get_hessian is None:
            raise InputError(
                "frequencies() takes a Hessian, or Atoms whose calculator has get_hessian (HDistillCalculator)."
            )
        hessian = get_hessian(structure)
    if not isinstance(structure, Structure):
        structure = geometry_of(structure)
    return harmonic(structure, hessian)


def _labels_of(run: Path) -> str:
    """The label set that a run was fitted to. Raises InputError."""
    from hdistill.trainer.fitting.run_folder import begun

    labels = begun(run).labels
    if "://" not in labels and not Path(labels).is_dir():
        raise InputError(
            f"The label set of {run} is not at {labels} any more; give its folder: hdistill evaluate RUN LABELS."
        )
    return labels


def _structures(given: Starts, progress: bool) -> tuple[Atoms, ...]:
    import sys

    from .sampling import read_starts, to_atoms

    def say(line: str) -> None:
        if progress:
            print(line, file=sys.stderr)

    if isinstance(given, Sequence) and not isinstance(given, str) and not len(given):
        return ()
    return tuple(to_atoms(structure) for structure in read_starts(given, say))


def _require_run(run: Place) -> None:
    """Raise InputError where there is neither a run folder nor a student file nor a bundle of that name."""
    from hdistill.data.errors import nearest
    from hdistill.trainer.bundles import names, place_of

    path = run_place(run)
    if isinstance(path, Path) and not place_of(path).exists():
        raise InputError(f"{path} does not exist; give a run folder of `hdistill fit`.{nearest(str(path), names())}")
