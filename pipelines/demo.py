"""The whole thing on a real teacher: SevenNet-0 labels perovskites, three students learn from the labels, one table, one picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .report.figures import Contender, draw
from .report.text import size, table

TEACHER = "7net-0"
LIMIT = 120  # structures: few, as where labels are dear; with plenty, plain training catches up (docs/results.md)
STEPS = 1500
Say = Callable[[str], None]


DISTILLED = Contender("distilled", "energies + forces + Hessian", "#c44e52")
SAME_STEPS = Contender("plain-same-steps", "energies + forces, same steps", "#8c8c8c")
SAME_TIME = Contender("plain-same-time", "energies + forces, same CPU time", "#4c72b0")


def run_demo(out: Path, workers: int = 2, say: Say = print, limit: int = LIMIT, steps: int = STEPS) -> dict[str, Any]:
    """Label, fit three students, evaluate, compare speed; returns what the table shows. Runs on, if it was interrupted."""
    from hdistill.labeler.planning.plan import LabelSettings
    from hdistill.labeler.run import RunSettings, label
    from hdistill.trainer.evaluation.errors import evaluate_student
    from hdistill.trainer.fitting.settings import FitSettings

    from .report.speed import against_teacher

    say(f"1/4  {TEACHER} labels {limit} rattled, strained perovskites: energies, forces and 4 Hessian probes each.")
    settings = LabelSettings(TEACHER, ("perovskites",), limit=limit, splits="0.7,0.1,0.2")
    labels = label(settings, out / "labels", run=RunSettings(workers=workers), say=say)

    say("2/4  Three students learn from these labels alone.")
    distilled = FitSettings(student="painn-small", steps=steps, product_method="difference")
    plain = replace(distilled, hessian_weight=0.0)
    fits = {DISTILLED: _fit(DISTILLED, labels.path, out, distilled, say)}
    fits[SAME_STEPS] = _fit(SAME_STEPS, labels.path, out, plain, say)
    longer = replace(plain, steps=100 * steps, max_seconds=fits[DISTILLED]["seconds"])
    fits[SAME_TIME] = _fit(SAME_TIME, labels.path, out, longer, say)

    say("3/4  Held-out structures, and the clock.")
    rows = []
    for contender, fitted in fits.items():
        errors = evaluate_student(out / contender.folder, labels.path, "test")
        errors.pop("by_group")
        with_hessian = contender is DISTILLED
        n_bytes = sum(shard.bytes for shard in labels.manifest.shards) - (
            0 if with_hessian else labels.manifest.hessian.bytes
        )
        rows.append({"name": contender.name, "folder": contender.folder, **fitted, **errors, "label_bytes": n_bytes})
    speed = against_teacher(out / DISTILLED.folder, labels.path, TEACHER)

    say("4/4  A table and a picture.")
    result = {"rows": rows, "speed": speed, "picture": str(out / "demo.png"), "labels": str(labels.path)}
    draw(result, [DISTILLED, SAME_STEPS, SAME_TIME], out)
    (out / "demo.json").write_text(json.dumps(result, indent=1))
    (out / "demo.md").write_text(summary(result) + "\n")
    return result


def _fit(contender: Contender, labels: Path, out: Path, settings: Any, say: Say) -> dict[str, Any]:
    from hdistill.trainer.fitting.fit import fit

    say(f"     {contender.name}")
    done = fit(labels, out / contender.folder, settings)
    return {"steps": done.steps, "seconds": done.seconds, "n_parameters": done.n_parameters, "n_train": done.n_train}


def summary(result: dict[str, Any]) -> str:
    """The table of the demo and the commands for one's own file."""
    header = ("student", "steps", "CPU s", "force MAE meV/A", "energy MAE meV/atom", "Hessian rel. error", "labels")
    rows = [
        (
            row["name"],
            str(row["steps"]),
            f"{row['seconds']:.0f}",
            f"{row['force_mae_mev_per_angstrom']:.1f}",
            f"{row['energy_mae_mev_per_atom']:.2f}",
            f"{row['hessian_relative_error']:.3f}",
            size(row["label_bytes"]),
        )
        for row in result["rows"]
    ]
    first, speed = result["rows"][0], result["speed"]
    clock = table(
        ("one energy + forces call through ASE", f"{TEACHER} ms", "student ms", "faster by"),
        [
            (f"{row['n_atoms']} atoms", f"{row['teacher_ms']:.0f}", f"{row['student_ms']:.1f}", f"{row['ratio']:.0f}x")
            for row in speed
        ],
    )
    return "\n".join(
        [
            f"Held out: {first['n_structures']} structures; trained on {first['n_train']}; "
            f"students of {first['n_parameters']} parameters; the truth is {TEACHER}.",
            "",
            table(header, rows),
            "",
            clock,
            "",
            f"Picture: {result['picture']}",
            "",
            "The same on your own structures:",
            f"  hdistill label --teacher {TEACHER} --subset my.xyz -o my-labels/",
            "  hdistill fit my-labels/ -o my-run/",
            "  hdistill evaluate my-run/ my-labels/",
        ]
    )
