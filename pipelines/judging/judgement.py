"""All that a report says of a student: errors, its twin's, parts, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .bars import measured, verdicts
from .parts import judge
from .subject import Subject


def judgement(
    subject: Subject,
    parts: Sequence[str],
    bars: Sequence[str] = (),
    keep: Path | None = None,
    twin: Path | None = None,
    cache: Any = None,
) -> dict[str, Any]:
    """errors and twin (None without one): mean errors on the split; parts by name; verdicts on the bars; student_sha256: what report.json
    holds.

    keep: a folder where parts are kept, None: nowhere; cache: of label sets that are read from elsewhere.
    """
    from hdistill.data.support.publish import sha256_of
    from hdistill.trainer.evaluation.errors import evaluate_student

    where = (subject.labels, subject.split, subject.device, subject.progress, cache)
    errors = evaluate_student(subject.run, *where)
    beside = None if twin is None else evaluate_student(twin, *where)
    done = judge(subject, parts, keep)
    return {
        "student_sha256": sha256_of(subject.file),
        "errors": errors,
        "twin": beside,
        "parts": done,
        "verdicts": verdicts(list(bars), measured(errors, done, beside)),
    }
