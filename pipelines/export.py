"""A student in the form that an engine loads: `hdistill export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

N_STRUCTURES = 20  # of a label set, with which an export is compared


def export_student(
    run: Path | str,
    to: str,
    out: Path | str,
    labels: Path | str | None = None,
    dtype: str | None = None,
    device: str = "cpu",
    report: Path | str | None = None,
    text: Path | str | None = None,
    licence: str | None = None,
) -> dict[str, Any]:
    """The student of a run folder or file as `out`, in one of FORMS, after its numbers were compared with the eager float64 student's:
    on made structures, and on some of the test split of `labels`. report: the folder of a report, for a bundle; None: that of `distill`
    beside the run, where there is one; text: a file of Markdown for its card, what it is for and what not;
    licence: SPDX id of the structures, where their label set does not know it.

    Returns path, dtype, the largest differences (energy eV/atom, forces eV/A, stress eV/A^3) and seconds. Raises NotExported
    where it is refused, InputError for what cannot be read.
    """
    from hdistill.data.errors import InputError, nearest

    if to != "bundle" and not (report is None and text is None and licence is None):
        raise InputError(f"--report, --text and --licence are for a bundle, and --to was {to}; leave them out.")
    try:
        words = "" if text is None else Path(text).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--text {text} cannot be read: {error}.") from error
    if to in AS_IT_IS:
        raise InputError(f"There is nothing to export: {AS_IT_IS[to]} (docs/engines.md).")
    if to not in FORMS:
        raise InputError(f"There is no export to '{to}'; there are {', '.join(FORMS)}.{nearest(to, FORMS)}")
    structures = [] if labels is None else _structures(Path(run), labels)
    if to == "bundle":
        from hdistill.trainer.force_field.engines.bundle import export_bundle

        bundle = export_bundle(
            run, out, Path(report) if report is not None else _report_beside(Path(run)), words, licence
        )
        return {"path": str(bundle.folder), "to": to, "files": list(bundle.files), "license": bundle.license}
    more: dict[str, Any] = {}
    if to == "lammps":
        from hdistill.trainer.force_field.engines.lammps import export_lammps

        made = export_lammps(run, out, dtype, structures)
        export: Any = made.pt2
        more = {"plugin": str(made.plugin), "input": str(made.input), "command": made.command}
    elif to == "mace":
        from hdistill.trainer.force_field.engines.mace_model import export_mace

        export = export_mace(run, out, dtype, device, structures)
    elif to == "metatomic":
        from hdistill.trainer.force_field.engines.metatomic import export_metatomic

        export = export_metatomic(run, out, dtype, device, structures)
    else:
        from hdistill.trainer.force_field.engines.compiled import export_pt2

        export = export_pt2(run, out, dtype, device, structures)
    difference = export.difference
    return {
        "path": str(export.path),
        "to": to,
        "dtype": export.dtype,
        "n_structures_compared": len(structures),
        "energy_ev_per_atom": difference.energy,
        "forces_ev_per_angstrom": difference.forces,
        "stress_ev_per_angstrom3": difference.stress,
        "seconds": export.seconds,
        **more,
    }


FORMS = ("pt2", "metatomic", "lammps", "mace", "bundle")
AS_IT_IS = {
    "torchsim": "torch-sim takes a run as it is, model = torchsim_model('run/') of hdistill.trainer.force_field.engines.torchsim",
    "openmm": "OpenMM takes a run as it is, force = openmm_force('run/', numbers) of hdistill.trainer.force_field.engines.openmm",
    "ase": "ASE takes a run as it is, atoms.calc = hdistill.HDistillCalculator('run/')",
}


def export_text(export: dict[str, Any]) -> str:
    """What `hdistill export` prints."""
    if export["to"] == "bundle":
        return f"{export['path']}: {', '.join(export['files'])}; licence {export['license']}."
    run = f"\nRun it in {Path(export['input']).parent}: {export['command']}" if "command" in export else ""
    return (
        f"{export['path']}: {export['to']}, {export['dtype']}; largest difference from the eager float64 student: "
        f"{export['energy_ev_per_atom']:.1e} eV/atom, {export['forces_ev_per_angstrom']:.1e} eV/A, "
        f"{export['stress_ev_per_angstrom3']:.1e} eV/A^3 ({export['seconds']:.0f} s).{run}"
    )


def _report_beside(run: Path) -> Path | None:
    """The report that `distill` left beside a run, where it is of this student as it is now."""
    from hdistill.data.errors import InputError
    from hdistill.trainer.force_field.checkpoint import STUDENT
    from hdistill.trainer.force_field.engines.bundle import report_of

    folder = run.parent / "report"
    try:
        report_of(folder, run / STUDENT)
    except InputError:
        return None
    return folder


def _structures(run: Path, labels: Path | str) -> list[Any]:
    """Some structures of the test split of a label set, else of its training split, whose elements the student knows."""
    from itertools import islice

    from hdistill.data.labelsets.stream import n_samples, shuffled
    from hdistill.data.sharing.remote import open_labels
    from hdistill.trainer.force_field.checkpoint import load_student

    references = load_student(run).card.references
    label_set = open_labels(labels)
    split = "test" if n_samples(label_set, "test") else "train"
    samples = islice(shuffled(label_set, split, 0), min(N_STRUCTURES, n_samples(label_set, split)))
    return [s.structure for s in samples if not references.unknown(s.structure.numbers)]
