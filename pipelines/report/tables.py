"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from hdistill.data.errors import LabelSetError

WORST_GROUPS = 10


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, as wide as they need to be."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def size(n_bytes: float) -> str:
    """Bytes for people: 1.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def duration(seconds: float) -> str:
    """Seconds for people: 3 min, 2.5 h."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"


def untrusted(show: Callable[[Any], str]) -> Callable[[Any], str]:
    """A table of what strangers may have written, such as a manifest: no control characters reach the terminal, and what is missing
    or of another type than the table wants is one sentence. Raises LabelSetError."""

    def shown(result: Any) -> str:
        try:
            text = show(result)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise LabelSetError(f"The manifest lacks something to be shown here ({error!r}); use --json.") from error
        return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)

    return shown


def label_summary(result: dict[str, Any]) -> str:
    return (
        f"{result['path']}: {result['n_structures']} structures, {result['n_atoms']} atoms, "
        f"{result['n_quarantined']} in quarantine, {duration(result['seconds'])}."
    )


def share_summary(result: dict[str, Any]) -> str:
    """What one share of a job array did, and what is to be done next."""
    if result["share"].startswith("0/"):
        left = result["n_missing_elsewhere"]
        return f"{result['path']}: the plan stands, {left} chunks are to be labelled; {duration(result['seconds'])}."
    done = result["n_chunks"] - result["n_missing"]
    text = f"{result['path']}: part {result['share']}, {done} of {result['n_chunks']} chunks, {duration(result['seconds'])}."
    if result["n_missing"] + result["n_missing_elsewhere"] == 0:
        return f"{text} All parts are done: run the same command without --part to finish the label set."
    return f"{text} {result['n_missing_elsewhere']} chunks of other parts are still missing."


def label_set_table(info: dict[str, Any]) -> str:
    """What `hdistill labels info` shows."""
    teacher, hessian = info["teacher"], info["hessian"]
    per = hessian["per_structure"]
    computed = hessian.get("n_computed") or hessian["n_products"]
    rows = [
        ("structures", f"{info['n_structures']} ({info['n_atoms']} atoms, {info['n_groups']} groups)"),
        ("in quarantine", str(info["n_quarantined"])),
        ("splits", ", ".join(f"{name} {n}" for name, n in info["splits"].items())),
        ("elements", " ".join(_symbol(int(z)) for z in info["elements"])),
        ("teacher", f"{teacher['name']}{' / ' + teacher['task'] if teacher['task'] else ''}, {teacher['dtype']}"),
        ("level of theory", teacher["level_of_theory"]),
        ("weights", f"sha256 {teacher['weights_sha256'] or '-'}, {info['licenses']['weights']}"),
        ("forces", "-dE/dR" if teacher["conservative"] else "predicted directly; Hessian rows are of -dF/dR"),
        (
            "Hessian",
            f"{hessian['kind']}{f', {per} per structure' if per else ''}; {hessian['n_products']} products"
            + (f", {computed} of them computed, the others by symmetry" if computed != hessian["n_products"] else ""),
        ),
    ]
    if hessian["n_products"]:
        loss = f"relative error {hessian['codec_error_mean']:.1e} (at most {hessian['codec_error_max']:.1e})"
        rows.append(("codec", f"{hessian['codec']}, {hessian['bytes_per_element']:.2f} bytes per element, {loss}"))
    error = info["preflight"]["product_difference_error"]
    if error is not None:
        rows.append(("pre-flight", f"product against differences {error:.1e} in {info['preflight']['dtype']}"))
    rows += [
        ("licence of structures", info["licenses"]["structures"]),
        ("licence of labels", info["licenses"].get("labels", "unknown")),
        ("size", f"{size(info['bytes'])} in {info['n_shards']} shard{'s' if info['n_shards'] != 1 else ''}"),
        *_history_rows(info["history"]),
        ("plan", info["plan"]),
    ]
    return table(("label set", ""), rows)


def _history_rows(history: dict[str, Any]) -> list[tuple[str, str]]:
    """How a set was made, when it was not by one labelling run: its parents and passes."""
    rows = [("made by", history["made_by"])] if "made_by" in history else []
    for parent in history.get("parents", ()):
        names = ", ".join(parent["subset"].get("names", ()))
        rows.append(
            ("parent", f"{parent['counts']['n_structures']} structures of {names}, digest {parent['digest'][:12]}")
        )
    rows += [("differing", noted) for noted in history.get("noted", ())]
    for record in history.get("passes", ()):
        if "add" in record:
            first, last = record["products"]
            rows.append(("added", f"products {first + 1} to {last} of each structure"))
        else:
            rows.append(("extended", f"{record['n_structures']} structures of {', '.join(record['extend']['names'])}"))
    return rows


def made_summary(made: dict[str, Any]) -> str:
    """What merge, subset and import say of the new set."""
    splits = ", ".join(f"{name} {n}" for name, n in made["splits"]["n_structures"].items())
    return (
        f"{made['path']}: {made['n_structures']} structures, {made['n_products']} Hessian products ({splits}), "
        f"{made['n_quarantined']} in quarantine."
    )


def export_summary(made: dict[str, Any]) -> str:
    return f"{made['path']}: {made['n_structures']} structures as {made['format']}, {size(made['bytes'])}."


def audit_table(result: dict[str, Any]) -> str:
    """What `hdistill labels audit` shows: each quantity with its worst structure."""
    rows = [
        (
            name,
            f"{row['n'] - row['n_outside']} of {row['n']}",
            f"{row['worst']:.3g}",
            f"{row['allowed']:.3g}",
            row["unit"],
            f"{row['id']} ({row['group']})",
        )
        for name, row in result["quantities"].items()
    ]
    shown = table(("quantity", "agree", "worst", "allowed", "unit", "worst structure"), rows)
    failed = [f"{row['id']}: {row['reason']}, {row['text']}" for row in result["failures"]]
    verdict = f"All {result['n']} structures agree with {result['teacher']}."
    if not result["agrees"]:
        verdict = f"The labels are not those of {result['teacher']}; do not trust this set."
    return "\n".join([shown, *failed, verdict])


def quarantine_table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "No structure is in quarantine."
    return table(("structure", "reason", "text"), [(row["id"], row["reason"], row["text"]) for row in rows])


def teacher_rows() -> list[dict[str, Any]]:
    """Every known teacher with its family's interpreter, or the command that installs it."""
    from hdistill.labeler.teachers import environments, registry

    where = {family: environments.find(family) for family in registry.FAMILIES}
    return [
        {
            **asdict(entry),
            "python": str(where[entry.family]) if where[entry.family] else None,
            "install": None if where[entry.family] else f"hdistill teachers install {entry.family}",
        }
        for entry in registry.ENTRIES.values()
    ]


def teacher_table(rows: list[dict[str, Any]]) -> str:
    shown = [
        (
            row["name"],
            row["family"],
            row["elements"],
            row["license_class"],
            row["task"],
            row["python"] or row["install"],
        )
        for row in rows
    ]
    header = ("teacher", "family", "elements", "licence", "tasks", "installed in, or install with")
    more = "Also: mace-mp:SIZE, mace-off:SIZE, a MACE .model file, a fairchem .pt file, ase:module.Class."
    return table(header, shown) + "\n" + more


def subset_table(rows: list[dict[str, Any]]) -> str:
    shown = [
        (
            row["name"],
            "-" if row["n_structures"] is None else str(row["n_structures"]),
            "--data PATH" if row["needs_data"] and row["name"] != "FILE" else "",
            row["license"],
            row["what"],
        )
        for row in rows
    ]
    return table(("subset", "structures", "needs", "licence", "what"), shown)


def student_table(rows: list[dict[str, Any]]) -> str:
    """What `hdistill students` shows."""
    shown = []
    for row in rows:
        if "cutoff" not in row:
            shown.append((row["name"], "", "", "", "", f"of {row['package']}"))
            continue
        shown.append(
            (
                row["name"],
                f"{row['cutoff']:g}",
                str(row["layers"]),
                str(row["channels"]),
                "direct" if row["direct"] else "gradient",
                row["architecture"],
            )
        )
    return table(("student", "cutoff A", "layers", "channels", "forces", "architecture"), shown)


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])


def fit_summary(result: dict[str, Any]) -> str:
    """One paragraph on a finished fit."""
    errors = result["validation"]
    validation = (
        f"; validation: force MAE {errors['force_mae_mev_per_angstrom']:.1f} meV/A, "
        f"energy MAE {errors['energy_mae_mev_per_atom']:.2f} meV/atom (step {result['best_step']})"
        if errors
        else ""
    )
    return (
        f"{result['run']}: {result['n_parameters']} parameters, {result['n_train']} structures, {result['steps']} steps, "
        f"{duration(result['seconds'])} of CPU time{validation}."
    )


def evaluation_table(result: dict[str, Any]) -> str:
    """What `hdistill evaluate` shows: all of the split, then the groups with the largest force errors."""
    groups = sorted(result["by_group"].items(), key=lambda item: -item[1]["force_mae_mev_per_angstrom"])
    header = ["structures", "force MAE meV/A", "energy MAE meV/atom"]
    has_stress = result["stress_mae_mev_per_angstrom3"] is not None
    header += ["stress MAE meV/A^3"] if has_stress else []
    header += ["Hessian rel. error", "dE MAE meV", "rank of E"]
    rows = [("all", *_errors(result, has_stress))]
    rows += [(name, *_errors(row, has_stress)) for name, row in groups[:WORST_GROUPS]]
    lines = [table((f"split {result['split']}", *header), rows)]
    if len(groups) > WORST_GROUPS:
        lines.append(f"({len(groups) - WORST_GROUPS} more groups with smaller errors)")
    if result["n_comparable"]:
        lines.append(
            f"dE: energy differences between the {result['n_comparable']} structures that share a composition, of whole structures; "
            "rank: Spearman's correlation of their energies, 1 in the right order."
        )
    for name, why in (
        ("n_unknown_elements", "with elements that the student was not trained on"),
        ("n_without_reference", "without energies or forces of their own"),
    ):
        if result[name]:
            lines.append(f"Left out: {result[name]} structures {why}.")
    return "\n".join(lines)


def verdict_table(rows: list[dict[str, Any]]) -> str:
    """What was required, what was measured, and whether it holds."""
    cells = [
        (
            row["figure"],
            "not measured" if row["measured"] is None else f"{row['measured']:.4g}",
            row["required"],
            "passed" if row["passed"] else "FAILED",
        )
        for row in rows
    ]
    return table(("requirement", "measured", "required", ""), cells)


def _errors(row: dict[str, Any], has_stress: bool) -> tuple[str, ...]:
    columns = [("force_mae_mev_per_angstrom", ".1f"), ("energy_mae_mev_per_atom", ".2f")]
    columns += [("stress_mae_mev_per_angstrom3", ".2f")] if has_stress else []
    columns += [("hessian_relative_error", ".3f"), ("difference_mae_mev", ".1f"), ("rank_correlation", ".2f")]
    return str(row["n_structures"]), *("-" if row[name] is None else format(row[name], form) for name, form in columns)


def estimate_summary(result: dict[str, Any]) -> str:
    """What `hdistill label --dry-run` shows."""
    return (
        f"{result['n_structures']} structures, {result['n_atoms']} atoms: about {duration(result['seconds'])} on "
        f"{result['workers']} workers ({result['seconds_per_structure']:.3g} s each), about {size(result['bytes'])}. "
        f"Estimated from {result['n_tried']} structures; nothing was written."
    )


def simulation_summary(result: dict[str, Any]) -> str:
    """What `hdistill md` says at the end."""
    text = f"{result['out']}: {result['n_atoms']} atoms, {result['fs']:g} fs ({result['ensemble']})"
    if result["drift_mev_per_atom"] is not None:
        drift, excursion = result["drift_mev_per_atom"], result["excursion_mev_per_atom"]
        text += f", energy drift {drift:.3g} meV/atom, at most {excursion:.3g} from the start"
    if result["mean_temperature_kelvin"] is not None:
        text += f", mean temperature {result['mean_temperature_kelvin']:.0f} K"
    if result["ensemble"] == "NPT" and result.get("mean_pressure_gpa") is not None:
        text += f", mean pressure {result['mean_pressure_gpa']:.2f} GPa"
    if result.get("replicas"):
        text += f", {len(result['replicas'])} replicas"
    if result.get("ns_per_day"):
        text += f", {result['ns_per_day']:.3g} ns/day{' (machine code)' if result.get('compiled') else ''}"
    return f"{text}; stopped: {result['why']}." if result["why"] else f"{text}; the structure stayed whole."


def copy_summary(result: dict[str, Any], what: str) -> str:
    """What `hdistill labels push` and `pull` say."""
    return (
        f"{result['folder']} {what} {result['address']}: {result['n_moved']} of {result['n_shards']} shards moved "
        f"({size(result['bytes'])} of {size(result['total_bytes'])}); licence of the labels: {result['license']}.\n"
        f"digest {result['label_set']}"
    )


def doctor_table(rows: list[dict[str, Any]]) -> str:
    """What `hdistill doctor` shows."""
    shown = [
        (row["what"], "ok" if row["ok"] else "missing", row["used_by"], row["found"] if row["ok"] else row["bring"])
        for row in rows
    ]
    return table(("", "", "used by", "found, or what brings it"), shown)
