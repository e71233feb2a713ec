"""What the report says of dynamics, curvature, minima, distortions and scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .page import Section

Rows = tuple[tuple[str, ...], ...]
TITLES = {"dft": "Phonons against forces from elsewhere", "trajectories": "Where atoms are and go"}


def _dynamics(part: Mapping[str, Any]) -> Section:
    table = tuple(
        (
            f"{run['temperature']:g} K",
            _number(run["drift_mev_per_atom"], "+.3f"),
            _number(run["drift_mev_per_atom_ns"], "+.3g"),
            _number(run["fluctuation_mev_per_atom"], ".3f"),
            _number(run["excursion_mev_per_atom"], ".3f"),
            f"{run['momentum_a_per_fs']:.1e}",
            f"{run['stable_until_fs'] / 1e3:g}",
            run["why"] or "whole",
        )
        for run in part["runs"]
    )
    replicas = tuple(
        (
            f"{run['temperature']:g} K",
            _number(run["mean_temperature_kelvin"], ".0f"),
            f"{run['stable_until_fs'] / 1e3:g}",
            run["why"] or "whole",
        )
        for run in part["replicas"]
    )
    header = (
        "NVE from",
        "drift meV/atom",
        "per ns",
        "fluctuation meV/atom",
        "largest excursion meV/atom",
        "motion of the whole Å/fs",
        "whole for ps",
        "",
    )
    return Section(
        "Dynamics",
        (
            f"Constant energy of {part['formula']}, then {len(replicas)} replicas with a thermostat. Drift: the slope of the total energy "
            "by least squares; the fluctuation is about that line.",
        ),
        tables=(("", header, table), ("", ("NVT at", "mean temperature K", "whole for ps", ""), replicas)),
    )


def _curvature(part: Mapping[str, Any]) -> Section:
    rows: list[tuple[str, str, str]] = []
    if part["frequency_mae"] is not None:
        rows.append(
            ("frequencies, mean error", f"{part['frequency_mae']:.1f} cm⁻¹", "molecules, each model at its own minimum")
        )
    if part["phonon_mae"] is not None:
        rows.append(("phonons, mean error", f"{part['phonon_mae']:.3f} THz", "mesh of 8x8x8, the teacher's minimum"))
    tables: list[tuple[str, tuple[str, ...], Rows]] = []
    molecules = [row for row in part["molecules"] if "why" not in row]
    if molecules:
        header = (
            "molecule",
            "error cm⁻¹",
            "at the same geometry",
            "imaginary modes",
            "heat capacity J/K/mol",
            "teacher's",
        )
        tables.append(
            (
                "Vibrations",
                header,
                tuple(
                    (
                        row["formula"],
                        _number(row["own_mae"], ".1f"),
                        _number(row["same_mae"], ".1f"),
                        str(row["n_imaginary"]),
                        f"{row['heat_capacity']:.1f}",
                        _number(row.get("heat_capacity_of_teacher"), ".1f"),
                    )
                    for row in molecules
                ),
            )
        )
    crystals = [row for row in part["crystals"] if "why" not in row]
    if crystals:
        tables.append(("Phonons", PHONON_HEADER, tuple(_phonon_row(row, "student", row) for row in crystals)))
        teachers = tuple(_phonon_row(row, "teacher", {}) for row in crystals if "teacher" in row)
        if teachers:
            tables.append(("The teacher's", PHONON_HEADER, teachers))
    pictures = [(f"phonons{i}", f"Phonons of {row['formula']}.") for i, row in enumerate(crystals)]
    if any("teacher" in row for row in molecules):
        pictures.insert(
            0, ("frequencies", "Frequencies of the student against the teacher's, each at its own minimum.")
        )
    failed = [row for row in (*part["molecules"], *part["crystals"]) if "why" in row]
    sentences = [f"Not measured: {row['formula']}: {row['why']}" for row in failed]
    sums = [row["sum_rule"] for row in crystals]
    if sums:
        sentences.append(
            f"Acoustic sum rule: force constants add up to {max(sums):.1e} eV/Å² at most, before they are made to."
        )
    return Section("Curvature", tuple(sentences), tuple(rows), tuple(tables), tuple(pictures))


PHONON_HEADER = (
    "crystal", "mean error THz", "largest THz", "lowest THz", "imaginary", "heat capacity J/K/mol", "supercell"
)  # fmt: skip


def _phonon_row(row: Mapping[str, Any], who: str, off: Mapping[str, Any]) -> tuple[str, ...]:
    one = row[who]
    return (
        row["formula"],
        _number(off.get("frequency_mae"), ".3f"),
        _number(off.get("largest"), ".3f"),
        f"{one['lowest']:.2f}",
        f"{100 * one['imaginary_share']:.1f} %",
        f"{one['heat_capacity']:.2f}",
        f"{row['n_atoms']} atoms, {row['n_displacements']} displacements",
    )


def _dft(part: Mapping[str, Any]) -> Section:
    names = {"student": "student", "teacher": "teacher", "dft": "forces of the file"}
    table = tuple(
        (names[who], *_phonon_row(part, who, part.get(f"{who}_off", {}))[1:-1]) for who in names if who in part
    )
    words = (
        f"{part['formula']}, {part['n_displacements']} displaced supercells of {part['n_atoms']} atoms; the geometry is the file's own. "
        "Without the non-analytical term of polar crystals.",
    )
    header = ("", *PHONON_HEADER[1:-1])
    pictures = (("dft", "Phonons by the student, the teacher where there is one, and the forces of the file."),)
    return Section(TITLES["dft"], words, tables=(("", header, table),), pictures=pictures)


def _relaxation(part: Mapping[str, Any]) -> Section:
    rows: list[tuple[str, str, str]] = []
    n = len(part["structures"])
    count = f"{n} structure{'s' if n != 1 else ''}, from starts rattled by 0.1 Å"
    for key, name, unit, form in (
        ("rmsd", "distance from the teacher's minimum, rms", "Å", ".3f"),
        ("energy_above", "the teacher's energy there, above its minimum", "meV/atom", ".2f"),
        ("lattice_error", "lattice constants, largest error", "%", ".2f"),
        ("bulk_modulus_error", "bulk modulus, largest error", "%", ".1f"),
        ("elastic_error", "elastic constants, largest error of any", "GPa", ".1f"),
    ):
        if part[key] is not None:
            rows.append((name, f"{part[key]:{form}} {unit}", count))
    tables: list[tuple[str, tuple[str, ...], Rows]] = []
    crystals = [row for row in part["structures"] if "student" in row]
    for row in crystals:
        header = ("", "a, b, c Å", "volume Å³/atom", "bulk modulus GPa", "C11, C12, C44 GPa")
        lines = tuple((who, *_of_crystal(row[who])) for who in ("student", "teacher") if who in row)
        tables.append((f"{row['student']['formula']} (primitive cell)", header, lines))
    molecules = tuple(
        (row["formula"], _number(row["rmsd"], ".3f"), _number(row["energy_above"], ".2f"))
        for row in part["structures"]
        if "why" not in row and "student" not in row
    )
    if molecules:
        tables.append(("Molecules", ("molecule", "rms distance Å", "energy above meV/atom"), molecules))
    sentences = tuple(f"Not measured: {row['formula']}: {row['why']}" for row in part["structures"] if "why" in row)
    pictures = tuple((f"eos{i}", f"Energy of {row['student']['formula']} by volume.") for i, row in enumerate(crystals))
    return Section("Minima", sentences, tuple(rows), tuple(tables), pictures)


def _of_crystal(one: Mapping[str, Any]) -> tuple[str, ...]:
    c = one["elastic"]
    return (
        ", ".join(f"{length:.4f}" for length in one["lattice"]),
        f"{one['volume']:.3f}",
        f"{one['bulk_modulus']:.1f}",
        f"{c[0][0]:.0f}, {c[0][1]:.0f}, {c[3][3]:.0f}",
    )


def _distortions(part: Mapping[str, Any]) -> Section:
    table = tuple(
        (
            f"{row['kind']} {row['amount']:+.2f}" if row["kind"] == "strain" else f"rattle {row['amount']:.2f} Å",
            f"{row['force_mae']:.1f}",
            f"{row['force_rms']:.0f}",
            f"{row['energy_error']:.2f}",
            str(row["n_structures"]),
        )
        for row in part["rows"]
    )
    header = ("", "force MAE meV/Å", "the teacher's rms meV/Å", "error of the energy it costs meV/atom", "structures")
    words = [f"Against the teacher: {', '.join(part['formulas'])}."]
    if part["n_too_close"]:
        words.append(
            f"{part['n_too_close']} distorted structures were left out: atoms were closer than 0.6 of their radii."
        )
    return Section(
        "Distortions",
        tuple(words),
        tables=(("", header, table),),
        pictures=(("distortions", "Force error by amount."),),
    )


def _scans(part: Mapping[str, Any]) -> Section:
    rows = tuple(
        (f"{kind}s, mean error", f"{part[f'{kind}_mae']:.2f} kcal/mol", "rigid, from the teacher's minimum")
        for kind in ("bond", "angle", "torsion")
        if part[f"{kind}_mae"] is not None
    )
    table = tuple(
        (c["molecule"], c["kind"], c["atoms"], f"{c['mae']:.2f}", f"{max(c['teacher'], default=0):.1f}")
        for c in part["curves"]
    )
    header = ("molecule", "scan", "atoms", "error kcal/mol", "the teacher's highest")
    return Section("Scans", (), rows, (("", header, table),), (("scans", "Energies above the minimum."),))


def _trajectories(part: Mapping[str, Any]) -> Section:
    pairs = tuple(
        (f"{run['temperature']:g} K", name, f"{pair['overlap']:.3f}", f"{pair['overlap_of_halves']:.3f}")
        for run in part["runs"]
        for name, pair in run["pairs"].items()
    )
    spread = tuple(
        (
            *(f"{run['temperature']:g} K", name, f"{of['student']:.4f}", f"{of['teacher']:.4f}"),
            *(f"{run['displacement']['of'][name][who][-1]:.3f}" for who in ("student", "teacher")),
        )
        for run in part["runs"]
        for name, of in run["vibration"].items()
    )
    last = part["runs"][0]["displacement"]["ps"][-1]
    words = (
        f"{part['formula']} for {part['picoseconds']:g} ps by both, same start and thermostat. Two halves of the teacher's "
        "own run show what chance leaves.",
    )
    header = ("at", "element", "student", "teacher", f"displacement after {last:g} ps: student", "teacher")
    tables = (
        ("Distances up to 6 Å", ("at", "pair", "overlap with the teacher's", "of the halves of its run"), pairs),
        ("Mean square distance from the mean place, and mean square displacement, Å²", header, spread),
    )
    pictures = (
        *(
            (f"distances{i}", f"How often atoms are so far apart at {run['temperature']:g} K.")
            for i, run in enumerate(part["runs"])
        ),
        (
            "displacements",
            "Mean square displacements: level where atoms vibrate about a place, rising where they diffuse.",
        ),
    )
    return Section(TITLES["trajectories"], words, tables=tables, pictures=pictures)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


PHYSICAL: dict[str, Callable[[Mapping[str, Any]], Section]] = {
    "dynamics": _dynamics,
    "curvature": _curvature,
    "relaxation": _relaxation,
    "distortions": _distortions,
    "scans": _scans,
    "trajectories": _trajectories,
    "dft": _dft,
}
