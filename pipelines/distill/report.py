"""report/: what `hdistill evaluate` says of the student that came out, against the teacher, after the rounds and their verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..judging.judgement import judgement
from ..judging.parts import parts_of
from ..judging.reference import reference_of
from ..judging.subject import Subject
from ..report.judgement_report import write_report
from .folder import read_frames
from .relax import FMAX
from .settings import DistillSettings
from .teach import Work

OF_MINIMA = ("curvature", "relaxation", "scans", "distortions")  # parts that begin at a minimum of the teacher
NOT_AT_A_MINIMUM = "The teacher found no minimum near the start, as is usual for liquids and large molecules."
ELSEWHERE = ("path", "run", "labels", "recipe", "command", "verdicts")  # paths, and what the report says itself


def report_of(out: Path, result: dict[str, Any], settings: DistillSettings, work: Work) -> dict[str, Any]:
    """Make report/; returns what the result says of it: its page, errors on held-out structures, figures of the parts."""
    from hdistill.labeler.teachers.registry import parse_arguments

    folder = out / "report"
    starts = _minima(out, settings)
    wanted = parts_of(settings.report, frozenset({"teacher"}))
    made = [name for name in wanted if starts or name not in OF_MINIMA]
    with reference_of(
        settings.teacher,
        folder / "teacher.sqlite",
        settings.task,
        work.device,
        work.run.teacher_python,
        dtype=settings.dtype,
        arguments=parse_arguments(settings.arguments),
        threads=work.run.threads,
    ) as teacher:
        split = _split(out / "labels")
        where = (out / "run", out / "labels", split, work.device)
        subject = Subject(*where, tuple(starts), teacher, progress=work.progress, temperatures=settings.temperatures)
        figures = judgement(subject, made, keep=folder)
    figures["parts"] |= {name: {"does_not_apply": NOT_AT_A_MINIMUM} for name in wanted if name not in made}
    figures["verdicts"] = result["verdicts"]
    names = sorted({row["structure"] for row in json.loads((out / "start" / "relaxed.json").read_text())["structures"]})
    figures["distill"] = {name: value for name, value in result.items() if name not in ELSEWHERE} | {
        "conditions": {
            "temperatures": settings.temperatures,
            "pressures": settings.pressures,
            "start": ", ".join(names),
        }
    }
    page = write_report(folder, figures, f"A force field distilled from {settings.teacher}")
    return {"report": str(page), "held_out": figures["errors"], "parts": figures["parts"]}


def _minima(out: Path, settings: DistillSettings) -> list[Any]:
    """The start structures that the teacher relaxed to a minimum; as they were given, where none was to be relaxed."""
    relaxed = json.loads((out / "start" / "relaxed.json").read_text())["structures"]
    frames = read_frames(out / "start" / "relaxed.xyz")
    ended = [settings.relax == "none" or row["largest_force"] <= 10 * FMAX for row in relaxed]
    return [atoms for atoms, at_minimum in zip(frames, ended, strict=True) if at_minimum]


def _split(labels: Path) -> str:
    """test; val or train where a small label set has no other structures."""
    from hdistill.data.labelsets.label_set import open_label_set
    from hdistill.data.labelsets.stream import n_samples

    label_set = open_label_set(labels)
    return next((split for split in ("test", "val") if n_samples(label_set, split)), "train")
