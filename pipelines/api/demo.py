"""The whole thing on a real teacher: SevenNet-0 labels perovskites, three students learn from the labels; a table, a picture, a report,
and dynamics at the speed of the machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..report.figures import Contender, draw
from ..report.text import size, table

TEACHER = "7net-0"
LIMIT = 120  # structures: few, as where labels are dear; with plenty, plain training catches up (docs/results.md)
STEPS = 1500
MD_STEPS = 2000  # of 1 fs
PARTS = ("accuracy", "smoothness", "cost")  # of the report
Say = Callable[[str], None]


DISTILLED = Contender("distilled", "energies + forces + Hessian", "#c44e52")
SAME_STEPS = Contender("plain-same-steps", "energies + forces, same steps", "#8c8c8c")
SAME_TIME = Contender("plain-same-time", "energies + forces, same CPU time", "#4c72b0")


def run_demo(
    out: Path, workers: int = 2, say: Say = print, limit: int = LIMIT, steps: int = STEPS, compiled: bool = True
) -> dict[str, Any]:
    """Label, fit three students, evaluate, compare speed, move atoms; returns what the table shows. Runs on, if it was interrupted.

    compiled: dynamics as machine code, where a compiler is.
    """
    from hdistill.labeler.planning.plan import LabelSettings
    from hdistill.labeler.run import RunSettings, label
    from hdistill.trainer.evaluation.errors import evaluate_student
    from hdistill.trainer.fitting.settings import FitSettings

    from ..report.speed import against_teacher

    say(f"1/5  {TEACHER} labels {limit} rattled, strained perovskites: energies, forces and 4 Hessian probes each.")
    settings = LabelSettings(TEACHER, ("perovskites",), limit=limit, splits="0.7,0.1,0.2")
    labels = label(settings, out / "labels", run=RunSettings(workers=workers), say=say)

    say("2/5  Three students learn from these labels alone.")
    distilled = FitSettings(student="painn-small", steps=steps, product_method="difference")
    plain = replace(distilled, hessian_weight=0.0)
    fits = {DISTILLED: _fit(DISTILLED, labels.path, out, distilled, say)}
    fits[SAME_STEPS] = _fit(SAME_STEPS, labels.path, out, plain, say)
    longer = replace(plain, steps=100 * steps, max_seconds=fits[DISTILLED]["seconds"])
    fits[SAME_TIME] = _fit(SAME_TIME, labels.path, out, longer, say)

    say("3/5  Held-out structures, and the clock.")
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

    say("4/5  Molecular dynamics with the student that learned from Hessians.")
    moved = _move(out, labels.path, compiled, say)

    say("5/5  A table, a picture and a report.")
    result = {
        **{"rows": rows, "speed": speed, "md": moved},
        **{"picture": str(out / "demo.png"), "report": str(_report(out, labels.path)), "labels": str(labels.path)},
    }
    draw(result, [DISTILLED, SAME_STEPS, SAME_TIME], out)
    (out / "demo.json").write_text(json.dumps(result, indent=1))
    (out / "demo.md").write_text(summary(result) + "\n")
    return result


def _fit(contender: Contender, labels: Path, out: Path, settings: Any, say: Say) -> dict[str, Any]:
    from hdistill.trainer.fitting.fit import fit

    say(f"     {contender.name}")
    done = fit(labels, out / contender.folder, settings)
    return {"steps": done.steps, "seconds": done.seconds, "n_parameters": done.n_parameters, "n_train": done.n_train}


def _move(out: Path, labels: Path, compiled: bool, say: Say) -> dict[str, Any]:
    """Constant energy from 300 K, of the largest held-out structure, in the fastest engine that is here."""
    from hdistill.data.labelsets.label_set import open_label_set
    from hdistill.data.sampling.relax import as_atoms
    from hdistill.trainer.evaluation.errors import samples_of
    from hdistill.trainer.evaluation.simulation import Conditions
    from hdistill.trainer.force_field.engines.parity import NotExported

    from ..dynamics.run import run_md
    from ..dynamics.settings import MdSettings

    start = max((s.structure for s in samples_of(open_label_set(labels, check=False), "test")), key=lambda s: s.n_atoms)
    # What is shown is the speed and whether energy is kept; the structures are strained, and a few are unlike those learned from.
    settings = MdSettings(Conditions("nve", 1.0), MD_STEPS, 100, stop_beyond=None, compiled=compiled)
    where = (out / DISTILLED.folder, as_atoms(start), out / "md")
    try:
        return run_md(*where, settings)
    except NotExported as error:
        say(f"     {error} So it runs without machine code.")
        return run_md(*where, replace(settings, compiled=False))


def _report(out: Path, labels: Path) -> Path:
    from ..judging.judgement import judgement
    from ..judging.subject import Subject
    from ..report.judgement_report import write_report

    subject = Subject(out / DISTILLED.folder, labels, "test")
    figures = judgement(subject, PARTS, keep=out / "report", twin=out / SAME_TIME.folder)
    return write_report(out / "report", figures, f"Perovskites, distilled from {TEACHER}")


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
    moved = result["md"]
    how = "machine code" if moved.get("compiled") else "without a compiler"
    nve = (
        f"{moved['n_atoms']} atoms, {moved['fs'] / 1000:g} ps at constant energy: {moved['ns_per_day']:.2g} ns/day ({how}), drift "
        f"{moved['drift_mev_per_atom']:.2g} meV/atom."
        if moved["drift_mev_per_atom"] is not None and moved.get("ns_per_day")
        else f"{moved['n_atoms']} atoms at constant energy: {moved['why'] or 'whole'}."
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
            nve,
            "",
            f"Picture: {result['picture']}   report: {result['report']}",
            "",
            "The same on your own structures:",
            f"  hdistill label --teacher {TEACHER} --subset my.xyz -o my-labels/",
            "  hdistill fit my-labels/ -o my-run/",
            "  hdistill evaluate my-run/ my-labels/",
        ]
    )
