"""What the report says of errors, smoothness, cost and speed, made from the plain numbers of report.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .page import Section
from .physical_sections import PHYSICAL, TITLES
from .rounds import rounds_section
from .student_tables import left_out_of, verdict_cells
from .text import duration, size

WORST_SHOWN = 10


def sections_of(report: Mapping[str, Any]) -> list[Section]:
    """What the page says, in order; report: as in report.json."""
    errors, parts = report["errors"], report["parts"]
    made = rounds_section(report["distill"]) if "distill" in report else None
    sections = [_verdicts(report), made, _errors(errors, report.get("twin"))]
    makers = {"accuracy": _accuracy, "smoothness": _smoothness, "cost": _cost, "speed": _speed, **PHYSICAL}
    for name, part in parts.items():
        if "does_not_apply" in part:
            sections.append(Section(TITLES.get(name, name.capitalize()), (f"Not measured: {part['does_not_apply']}",)))
        else:
            sections.append(makers[name](part))
    return [section for section in sections if section is not None]


def _verdicts(report: Mapping[str, Any]) -> Any:
    rows = report["verdicts"]
    if not rows:
        return None
    passed = sum(row["passed"] for row in rows)
    return Section(
        "Verdict",
        (f"{passed} of {len(rows)} requirements are met.",),
        tables=(("", ("figure", "measured", "required", ""), tuple(verdict_cells(rows))),),
    )


def _errors(errors: Mapping[str, Any], twin: Mapping[str, Any] | None) -> Section:
    wanted = (
        ("force MAE", "force_mae_mev_per_angstrom", "meV/Å", ".1f"),
        ("energy MAE", "energy_mae_mev_per_atom", "meV/atom", ".2f"),
        ("stress MAE", "stress_mae_mev_per_angstrom3", "meV/Å³", ".2f"),
        ("Hessian, relative error of products", "hessian_relative_error", "", ".3f"),
        ("energy differences within a composition, MAE", "difference_mae_mev", "meV", ".1f"),
        ("rank correlation of energies within a composition", "rank_correlation", "", ".2f"),
    )
    count = f"{errors['n_structures']} structures, split {errors['split']}"

    def shown(of: Mapping[str, Any], key: str, unit: str, form: str) -> str:
        return "-" if of.get(key) is None else f"{of[key]:{form}} {unit}".strip()

    left_out = tuple(f"Left out: {sentence}" for sentence in left_out_of(errors))
    groups = sorted(errors["by_group"].items(), key=lambda item: -item[1]["force_mae_mev_per_angstrom"])
    by_group = tuple(
        (
            name or "(without a name)",
            *(shown(of, key, "", form) for _, key, _, form in wanted[:2]),
            str(of["n_structures"]),
        )
        for name, of in groups[:WORST_SHOWN]
    )
    more = f"; {len(groups) - WORST_SHOWN} more have smaller errors" if len(groups) > WORST_SHOWN else ""
    header = ("group", "force MAE meV/Å", "energy MAE meV/atom", "structures")
    tables = [(f"By group{more}", header, by_group)] if len(groups) > 1 else []
    if twin is None:
        rows = tuple((name, shown(errors, key, unit, form), count) for name, key, unit, form in wanted)
        return Section("Errors on held-out structures", left_out, rows, tables=tuple(tables))
    rows = tuple((name, shown(errors, key, u, f), shown(twin, key, u, f)) for name, key, u, f in wanted)
    both = ("", ("", "this student", "its twin"), rows)
    return Section(
        "Errors on held-out structures, beside the twin", (f"Of {count}.", *left_out), tables=(both, *tables)
    )


def _accuracy(part: Mapping[str, Any]) -> Section:
    count = f"{part['n_structures']} structures, {part['n_atoms']} atoms"
    rows = [
        (
            "force RMSE",
            f"{part['force_rmse']:.1f} meV/Å",
            f"{count}; the labels' own rms is {part['force_rms']:.0f} meV/Å",
        ),
        ("energy RMSE", f"{part['energy_rmse']:.2f} meV/atom", count),
    ]
    if part["force_cosine"] is not None:
        rows.append(("cosine of forces, mean", f"{part['force_cosine']:.4f}", "atoms with more than 50 meV/Å"))
    domain = part["domain"]
    if domain is not None:
        if domain["rank_correlation"] is not None:
            rows.append(
                ("rank correlation of domain distance and force error", f"{domain['rank_correlation']:.2f}", "atoms")
            )
        if domain["flagged_share_of_bad"] is not None:
            text = f"{100 * domain['flagged_share_of_bad']:.0f} %"
            rows.append(
                (
                    "of errors above 3 times the mean, among the tenth that is strangest",
                    text,
                    f"{domain['n_bad']} atoms",
                )
            )
    elements = tuple((name, f"{e['force_mae']:.1f}", str(e["n_atoms"])) for name, e in part["by_element"].items())
    worst = tuple(
        (
            row["group"] or row["structure"][:12],
            f"{row['force_mae_mev_per_angstrom']:.1f}",
            f"{row['energy_error_mev_per_atom']:+.2f}",
            row["worst_atom"],
        )
        for row in part["worst"][:WORST_SHOWN]
    )
    splits = tuple(
        (name, f"{e['force_mae']:.1f}", f"{e['energy_mae']:.2f}", str(e["n_structures"]))
        for name, e in part["by_split"].items()
    )
    pictures = [("parity", "Forces of the student against the labels, components.")]
    if part["pictured"]:
        pictures.append(("worst", "The worst structures: the redder an atom, the larger the error of its force."))
    if part["strangeness"] is not None:
        pictures.append(
            ("strangeness", "Force error of atoms against their domain distance: does the distance see what is wrong?")
        )
    return Section(
        "Accuracy",
        rows=tuple(rows),
        tables=(
            ("By split", ("split", "force MAE meV/Å", "energy MAE meV/atom", "structures, at random"), splits),
            ("By element", ("element", "force MAE meV/Å", "atoms"), elements),
            ("The worst structures", ("structure", "force MAE meV/Å", "energy error meV/atom", "worst atom"), worst),
        ),
        pictures=tuple(pictures),
    )


def _smoothness(part: Mapping[str, Any]) -> Section:
    holes = [(name, f"{d['hole']:.2f} Å") for name, d in part["dimers"].items() if d["hole"] is not None]
    rows = (
        (
            "pairs of elements that attract each other where they must not",
            str(part["n_holes"]),
            f"of {part['n_pairs']} dimers, nearer than 0.75 of their covalent radii",
        ),
        (
            "largest step of a dimer's energy at the cutoff",
            f"{1e3 * part['cutoff_step']:.4f} meV",
            f"{part['n_pairs']} dimers",
        ),
        ("energy of two far copies less twice one", f"{1e3 * part['extensivity']:.2g} meV", "one dimer"),
    )
    words = (
        "Free dimers are nobody's training structures: what counts here is that atoms repel each other when they come close.",
    )
    tables = (("Holes", ("pair", "attracted up to"), tuple(holes)),) if holes else ()
    return Section("Smoothness", words, rows, tables, (("dimers", "Energies of dimers above those at the cutoff."),))


def _cost(part: Mapping[str, Any]) -> Section:
    fit = part["fit_cpu_seconds"]
    rows = (
        (
            "labels",
            size(part["label_bytes"]),
            f"{part['n_structures']} structures, {part['n_products']} Hessian products",
        ),
        ("training", "-" if fit is None else duration(fit), "CPU time of its steps" if fit else "its log is not there"),
        ("student", size(part["student_bytes"]), f"{part['n_parameters']} parameters; teacher {part['teacher']}"),
    )
    return Section("Cost", rows=rows)


def _speed(part: Mapping[str, Any]) -> Section:
    rows = [
        (f"a call, {name}", f"{ms:.3g} ms", f"{part['n_atoms']} atoms, moved positions, neighbour list included")
        for name, ms in part["ms"].items()
    ]
    rows.append(("dynamics at 1 fs a step", f"{part['ns_per_day_at_1_fs']:.3g} ns/day", "at the student's best time"))
    if part["times_faster"] is not None:
        rows.append(("than the teacher", f"{part['times_faster']:.0f} times faster", "in the same run, interleaved"))
    table = tuple(
        (
            name,
            f"{of['ms']:.3g}",
            f"{of['ns_per_day_at_1_fs']:.3g}",
            f"{of['ns_per_day_at_1_fs'] / of['structures']:.3g}",
        )
        for name, of in part["engines"].items()
    )
    header = ("constant energy in", "ms a step and structure", "ns/day at 1 fs, all together", "of each structure")
    failed = (f"{name} is installed, but did not begin: {why}" for name, why in part["engines_that_failed"].items())
    words = ("Medians of wall time, interleaved. LAMMPS prints its own: hdistill export --to lammps.", *failed)
    how = "machine code" if part["compiled"] else "without machine code: hdistill export --to pt2 makes it faster"
    return Section("Speed", words, tuple(rows), ((f"Engines that are installed here ({how})", header, table),))
