"""Parts that need a label set or nothing: details of the errors, smoothness, what it cost."""

from __future__ import annotations

from typing import Any

from .subject import Subject

Figures = dict[str, Any]


def accuracy(subject: Subject) -> Figures:
    from hdistill.data.sharing.remote import open_labels
    from hdistill.trainer.evaluation.details import details

    return details(subject.run, open_labels(subject.labels), subject.split, subject.device)


def smooth(subject: Subject) -> Figures:
    from hdistill.trainer.evaluation.smoothness import smoothness

    return smoothness(subject.run, subject.device)


def cost(subject: Subject) -> Figures:
    """label_bytes, n_structures, n_products of the label set; n_parameters and bytes of the student; fit_cpu_seconds, None where its
    log is not there."""
    import csv

    from hdistill.data.sharing.remote import open_labels
    from hdistill.trainer.force_field.checkpoint import load_student

    manifest = open_labels(subject.labels, check=False).manifest
    file = subject.file
    log = file.parent / "log.csv"
    rows = list(csv.DictReader(log.read_text().splitlines())) if log.is_file() else []
    seconds = rows[-1].get("cpu_seconds") if rows else None
    student = load_student(subject.run)
    return {
        "teacher": manifest.teacher.name,
        "n_structures": manifest.counts.n_structures,
        "n_products": manifest.hessian.n_products,
        "label_bytes": sum(shard.bytes for shard in manifest.shards),
        "n_parameters": sum(p.numel() for p in student.model.parameters()),
        "student_bytes": file.stat().st_size,
        "fit_cpu_seconds": float(seconds) if seconds else None,
    }
