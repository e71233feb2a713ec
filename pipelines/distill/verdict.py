"""The exam of the student that comes out: dynamics as long as asked, the teacher's word on frames of it, drift; and the result."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from . import measure
from .choose import at_random, ids_of
from .explore import explore, seed_of, stability, timestep_fs
from .folder import once, read_frames, write_frames
from .settings import RECIPE, DistillSettings
from .teach import Work, label_frames

EXAM_FRAMES = 12  # at random, of all asked conditions together
DRIFT_PS = 5.0
WORDS = {
    "accuracy": "the accuracy that was asked for is reached",
    "budget": "the budget of the teacher is used",
    "rounds": "all rounds are done",
}


def exam(out: Path, k: int, settings: DistillSettings, work: Work) -> dict[str, Any]:
    """Of out/run: how its dynamics hold for as long as was asked, its errors on frames of it that nothing was trained on, its drift.
    The frames and their labels are in out/exam, apart from the label set."""
    folder = out / "exam"
    run = out / "run"
    explored = once(
        folder / "explored.json", lambda: explore(run, out, folder, k, settings.stable_ps, settings, work, ahead=False)
    )
    chosen = once(folder / "chosen.json", lambda: _frames(folder, settings))
    errors: dict[str, Any] = {"n": 0, "force_mae": None, "force_rms": None, "energy_mae": None}
    seconds = 0.0
    if chosen["ids"]:
        from dataclasses import replace

        plain = replace(settings, hessian="none", splits="1,0,0")
        cost = once(
            folder / "labelled.json",
            lambda: label_frames(folder / "frames.xyz", folder / "labels", plain, work, extend=False),
        )
        seconds = cost["seconds"]
        errors = measure.on_policy(run, folder / "labels", chosen["ids"], work.device)
    drift = once(folder / "drift.json", lambda: _drift(out, settings, work))
    return {**errors, **stability(explored), "seconds": seconds, **drift}


def _frames(folder: Path, settings: DistillSettings) -> dict[str, Any]:
    visited = read_frames(folder / "visited.xyz")
    chosen = at_random(visited, EXAM_FRAMES, seed_of(settings.seed, "exam"))
    if not chosen:
        return {"ids": []}
    write_frames(folder / "frames.xyz", [visited[i] for i in chosen])
    return {"ids": ids_of(folder / "frames.xyz")}


def _drift(out: Path, settings: DistillSettings, work: Work) -> dict[str, Any]:
    """Of the total energy in NVE at the highest temperature, meV/atom over DRIFT_PS, of the first start structure."""
    from hdistill.trainer.evaluation.dynamics import nve
    from hdistill.trainer.force_field.calculator import HDistillCalculator

    atoms = read_frames(out / "start" / "dynamics.xyz")[0]
    dt = timestep_fs(atoms, settings) / 2
    steps = round(1000 * min(DRIFT_PS, settings.stable_ps) / dt)
    calculator = HDistillCalculator(
        out / "run", work.device, warn_beyond=None
    )  # as machine code, where the exam has built it
    done = nve(atoms, calculator, steps, dt, max(settings.temperatures), settings.seed).summary()
    return {
        "drift_mev_per_atom": done["drift_mev_per_atom"],
        "drift_ps": done["fs"] / 1000,
        "drift_stable": done["stable"],
    }


def result(
    out: Path,
    why: str,
    rows: list[dict[str, Any]],
    fitted: dict[str, Any],
    exam: dict[str, Any],
    settings: DistillSettings,
    most: int,
) -> dict[str, Any]:
    """What `hdistill distill --json` prints."""
    verdicts = verdicts_of(exam, settings)
    seconds = sum(row["seconds"] for row in rows) + exam["seconds"] + rows[0]["relax_seconds"]
    temperature = max(settings.temperatures)
    start = out / "start" / "dynamics.xyz"
    words = [
        "hdistill",
        "md",
        str(out / "run"),
        f"{start}@0",
        "-o",
        str(out / "md"),
        "--temperature",
        f"{temperature:g}",
    ]
    words += ["--friction", "0.01"]
    return {
        "path": out,
        "run": str(out / "run"),
        "labels": str(out / "labels"),
        "why": why,
        "why_in_words": f"{WORDS[why]} ({rows[-1]['n_labelled']} of at most {most} structures labelled).",
        "passed": all(verdict["passed"] for verdict in verdicts),
        "verdicts": verdicts,
        "rounds": rows,
        "exam": exam,
        "n_structures": rows[-1]["n_labelled"],
        "teacher_seconds": seconds,
        "fit_cpu_seconds": sum(row["fit_cpu_seconds"] for row in rows) + fitted["cpu_seconds"],
        "on_policy": [row["force_mae"] for row in rows if row.get("force_mae") is not None],
        "recipe": str(out / RECIPE),
        "command": shlex.join(words),
    }


def verdicts_of(exam: dict[str, Any], settings: DistillSettings) -> list[dict[str, Any]]:
    """Each figure with what was measured, what is required, and whether it is met: rows as of `hdistill evaluate --require`."""
    rows = []
    if exam["force_mae"] is not None:
        limit = max(settings.force_error, settings.force_share * exam["force_rms"])
        rows.append(_row("force error on its own dynamics, meV/A", exam["force_mae"], limit))
    asked = exam["n_replicas"]
    whole = f"replicas whole for {settings.stable_ps:g} ps"
    rows.append(_judged(whole, exam["n_whole"], f">= {asked}", exam["n_whole"] >= asked))
    if exam["drift_mev_per_atom"] is not None:
        drift = f"energy drift in {exam['drift_ps']:g} ps of NVE, meV/atom"
        rows.append(_row(drift, abs(exam["drift_mev_per_atom"]), 1.0))
    return rows


def _row(figure: str, measured: float, limit: float) -> dict[str, Any]:
    return _judged(figure, measured, f"<= {limit:.3g}", measured <= limit)


def _judged(figure: str, measured: float, required: str, passed: bool) -> dict[str, Any]:
    return {"figure": figure, "measured": measured, "required": required, "passed": passed}
