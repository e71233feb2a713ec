"""Label sets as tables and sentences."""

from __future__ import annotations

from typing import Any

from .text import duration, size, table


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


def estimate_summary(result: dict[str, Any]) -> str:
    """What `hdistill label --dry-run` shows."""
    return (
        f"{result['n_structures']} structures, {result['n_atoms']} atoms: about {duration(result['seconds'])} on "
        f"{result['workers']} workers ({result['seconds_per_structure']:.3g} s each), about {size(result['bytes'])}. "
        f"Estimated from {result['n_tried']} structures; nothing was written."
    )


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


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])


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


def copy_summary(result: dict[str, Any], what: str) -> str:
    """What `hdistill labels push` and `pull` say."""
    return (
        f"{result['folder']} {what} {result['address']}: {result['n_moved']} of {result['n_shards']} shards moved "
        f"({size(result['bytes'])} of {size(result['total_bytes'])}); licence of the labels: {result['license']}.\n"
        f"digest {result['label_set']}"
    )
