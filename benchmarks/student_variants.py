"""Variants of students for benchmarks, their errors, and rows of results as lines of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hdistill.data.errors import InputError
from hdistill.data.format.schema import SPLITS
from hdistill.data.format.shard import Sample
from hdistill.data.labelsets.label_set import open_label_set
from hdistill.data.labelsets.stream import in_order
from hdistill.trainer.evaluation.errors import errors_of, joined, summary
from hdistill.trainer.force_field.checkpoint import load_student
from hdistill.trainer.students.registry import size_of
from hdistill.trainer.students.sizes import SIZES

MEASURED = ("force_mae_mev_per_angstrom", "energy_mae_mev_per_atom", "hessian_relative_error")


def registered(name: str) -> str:
    """A student by name, or a variant of one, STUDENT:FIELD=VALUE,..., which is known by that name from here on."""
    base, _, changes = name.partition(":")
    size = size_of(base)
    values: dict[str, Any] = {}
    for change in filter(None, changes.split(",")):
        field, _, value = change.partition("=")
        if field not in asdict(size):
            raise InputError(f"'{field}' is not a field of a student's size; there are {', '.join(asdict(size))}.")
        values[field] = json.loads(value)
    SIZES[name] = replace(size, **values)
    return name


def samples_of(label_set: Path) -> list[Sample]:
    """All samples, whatever their split."""
    opened = open_label_set(label_set, check=False)
    return [sample for split in SPLITS for sample in in_order(opened, split)]


def errors(run: Path, test: list[Sample]) -> dict[str, float]:
    """Errors of a run's student on a CPU, against the teacher."""
    student = load_student(run)
    actual = summary(
        joined(list(errors_of(student.model, student.cutoff, student.card.references, test, "teacher")))
    ).as_json()
    return {name: actual[name] for name in MEASURED if name in actual}


def read_rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def add_row(file: Path, row: dict[str, Any]) -> None:
    """Append a line at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        stream.write(json.dumps(row) + "\n")
