"""report/: the verdicts, the rounds and the errors on held-out structures, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hdistill.data.support.publish import publish

from ..report.rounds import distill_page

SPLIT = "test"


def held_out(out: Path, device: str) -> dict[str, Any]:
    """Errors of the student on the test split of the labels; empty where that has none."""
    from hdistill.data.labelsets.label_set import open_label_set
    from hdistill.data.labelsets.stream import n_samples
    from hdistill.trainer.evaluation.errors import evaluate_student

    if not n_samples(open_label_set(out / "labels"), SPLIT):
        return {}
    return evaluate_student(out / "run", out / "labels", SPLIT, device)


def write_report(out: Path, result: dict[str, Any]) -> None:
    """report/report.json and report/report.md. Paths in them are relative to the result's folder, so that it can be passed on."""
    plain = {
        name: value for name, value in result.items() if name not in ("path", "run", "labels", "recipe", "command")
    }
    publish(out / "report" / "report.json", (json.dumps(plain, indent=1) + "\n").encode(), replace=True)
    publish(out / "report" / "report.md", distill_page(plain).encode(), replace=True)
