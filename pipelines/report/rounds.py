"""The result of `distill` for people."""

from __future__ import annotations

from typing import Any

from .text import duration, table


def distill_summary(result: dict[str, Any]) -> str:
    """The verdicts as a table, why it ended, where things are and the command that runs the student."""
    return "\n".join(
        [
            *_verdicts(result),
            *(f"stopped: {sentence}" for sentence in result["exam"]["stopped"][:3]),
            "",
            f"student {result['run']}   labels {result['labels']}   again: hdistill distill --recipe {result['recipe']} -o again/",
            f"  {result['command']}",
        ]
    )


def distill_page(result: dict[str, Any]) -> str:
    """A page in Markdown: verdicts, rounds, errors on held-out structures."""
    rounds = [
        (
            *(str(row["round"]), str(row["n_labelled"]), f"{row['seconds']:.0f}"),
            *(
                _number(row.get("force_mae"), ".1f"),
                _number(row.get("force_rms"), ".0f"),
                _number(row.get("chosen_force_mae"), ".1f"),
            ),
            f"{row['n_whole']}/{row['n_replicas']} for {row['picoseconds']:g} ps" if "n_replicas" in row else "",
            _number(row.get("validation_force_mae"), ".1f"),
        )
        for row in result["rounds"]
    ]
    header = (
        *("round", "labelled", "teacher s", "on-policy meV/A", "rms of forces", "chosen meV/A", "replicas whole"),
        "validation meV/A",
    )
    lines = ["# A distilled force field", "", *_verdicts(result), "", table(header, rounds), ""]
    lines += [
        "On-policy: force errors on structures taken at random from the student's own dynamics, before it learned from them."
    ]
    if held := result["held_out"]:
        forces, energies = held["force_mae_mev_per_angstrom"], held["energy_mae_mev_per_atom"]
        curvature = held["hessian_relative_error"]
        more = "" if curvature is None else f", Hessian {curvature:.3f} (relative)"
        lines += [
            f"Held-out structures of the label set ({held['n_structures']}): forces {forces:.1f} meV/A, energies {energies:.2f} "
            f"meV/atom{more}."
        ]
    return "\n".join(lines) + "\n"


def _verdicts(result: dict[str, Any]) -> list[str]:
    rows = [
        (v["question"], _number(v["found"]), str(v["wanted"]), "yes" if v["passed"] else "NO")
        for v in result["verdicts"]
    ]
    exam = result["exam"]
    share = "" if exam["force_mae"] is None else f", {100 * exam['force_mae'] / exam['force_rms']:.1f} % of their size"
    return [
        table(("the student that came out", "found", "wanted", "met"), rows),
        "",
        f"Ended because {result['why_in_words']}",
        f"{result['n_structures']} structures labelled in {duration(result['teacher_seconds'])} of the teacher's time; "
        f"{duration(result['fit_cpu_seconds'])} of training. The force error is that on {exam['n']} structures of the student's own "
        f"dynamics that it never learned from{share}.",
    ]


def _number(value: Any, form: str = ".3g") -> str:
    if value is None:
        return ""
    return f"{value:{form}}" if isinstance(value, float) else str(value)
