"""What there is, as tables: teachers, subsets, students, what is installed."""

from __future__ import annotations

from typing import Any

from .text import size, table


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


def bundle_table(rows: list[dict[str, Any]]) -> str:
    """What `hdistill students --bundles` shows."""
    shown = [
        (
            *(row["name"], " ".join(row["elements"]), row["teacher"]["name"], row["license"], row["student"]),
            *(
                f"{row['validation']['force_mae_mev_per_angstrom']:.0f}",
                size(row["bytes"]),
                f"{row['folder']}/README.md",
            ),
        )
        for row in rows
    ]
    header = ("bundle", "elements", "teacher", "licence", "student", "validation meV/A", "size", "what it is for")
    return table(header, shown)


def doctor_table(rows: list[dict[str, Any]]) -> str:
    """What `hdistill doctor` shows."""
    shown = [
        (row["what"], "ok" if row["ok"] else "missing", row["used_by"], row["found"] if row["ok"] else row["bring"])
        for row in rows
    ]
    return table(("", "", "used by", "found, or what brings it"), shown)
