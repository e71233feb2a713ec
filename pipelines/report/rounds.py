"""The result of `distill`: on a terminal, and as the first sections of its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .canvas import BLUE, ORANGE, figure_of, png_of
from .page import Section
from .student_tables import verdict_table
from .text import duration


def distill_summary(result: Mapping[str, Any]) -> str:
    """The verdicts as a table, why it ended, where things are and the command that runs the student."""
    return "\n".join(
        [
            verdict_table(result["verdicts"]),
            "",
            *_sentences(result),
            *(f"stopped: {sentence}" for sentence in result["exam"]["stopped"][:3]),
            "",
            f"report {result['report']}",
            f"student {result['run']}   labels {result['labels']}   again: hdistill distill --recipe {result['recipe']} -o again/",
            f"  {result['command']}",
        ]
    )


def rounds_section(result: Mapping[str, Any]) -> Section:
    """result: `distill` of report.json."""
    rows = tuple(
        (
            *(str(row["round"]), str(row["n_labelled"]), f"{row['seconds']:.0f}"),
            *(
                _number(row.get("force_mae"), ".1f"),
                _number(row.get("force_rms"), ".0f"),
                _number(row.get("chosen_force_mae"), ".1f"),
            ),
            f"{row['n_whole']}/{row['n_replicas']} for {row['picoseconds']:g} ps" if "n_replicas" in row else "-",
            _number(row.get("validation_force_mae"), ".1f"),
        )
        for row in result["rounds"]
    )
    header = (
        *("round", "labelled", "teacher s", "on-policy meV/Å", "rms of forces", "chosen meV/Å", "replicas whole"),
        "validation meV/Å",
    )
    words = "On-policy: force errors on structures taken at random from the student's own dynamics, before it learned from them."
    stopped = tuple(f"Stopped: {sentence}" for sentence in result["exam"]["stopped"])
    pictures = (("rounds", "Force errors of each round, before the student was trained on its structures."),)
    measured = any(row.get("force_mae") is not None for row in result["rounds"])
    sentences = (*_sentences(result), words, *stopped)
    return Section("How it was made", sentences, tables=(("", header, rows),), pictures=pictures if measured else ())


def rounds_picture(result: Mapping[str, Any]) -> bytes:
    figure, axis = figure_of(6.0, 3.6)
    rows = [row for row in result["rounds"] if row.get("force_mae") is not None]
    rounds = [row["round"] for row in rows]
    axis.plot(rounds, [row["force_mae"] for row in rows], "o-", color=BLUE, label="on-policy, at random")
    axis.plot(rounds, [row["chosen_force_mae"] for row in rows], "s--", color=ORANGE, label="all chosen")
    axis.set(xlabel="round", ylabel="force MAE, meV/Å", ylim=(0, None))
    axis.set_xticks(rounds)
    axis.legend(frameon=False, fontsize=9)
    return png_of(figure)


def _sentences(result: Mapping[str, Any]) -> tuple[str, ...]:
    exam = result["exam"]
    share = "" if exam["force_mae"] is None else f", {100 * exam['force_mae'] / exam['force_rms']:.1f} % of their size"
    return (
        f"Ended because {result['why_in_words']}",
        f"{result['n_structures']} structures labelled in {duration(result['teacher_seconds'])} of the teacher's time; "
        f"{duration(result['fit_cpu_seconds'])} of training. The force error is that on {exam['n']} structures of the student's own "
        f"dynamics that it never learned from{share}.",
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
