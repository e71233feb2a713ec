"""A prediction before a run: label a few structures of the subset, scale time by pairs of atoms and bytes by atoms."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdistill.data.errors import InputError
from hdistill.data.format.shard import Sample, to_arrays
from hdistill.data.format.shard_file import image
from hdistill.data.probes import draw, parse_spec
from hdistill.data.sources import SourceReport
from hdistill.data.sources.select import sample
from hdistill.data.structure import Structure

from .planning import checks, plan as plans
from .planning.prepare import selection
from .process.batching import default_edges, edges, pack
from .process.parent import TeacherProcess
from .run import RunSettings
from .teachers import environments

N_SAMPLE = 12


@dataclass
class _Totals:
    structures: int = 0
    atoms: int = 0
    edges: int = 0

    def counted(self, structures: Iterable[Structure], elements: set[int]) -> Iterator[Structure]:
        """The structures that the teacher can do, counted as they pass."""
        for structure in structures:
            if checks.structure_problem(structure, elements) is None:
                self.structures += 1
                self.atoms += structure.n_atoms
                self.edges += edges(structure)
                yield structure


def predict(settings: plans.LabelSettings, data: Path | None, run: RunSettings) -> dict[str, Any]:
    """Seconds and bytes that labelling would take; writes nothing. Raises what `label` raises."""
    plans.check_settings(settings)
    request = plans.request_of(settings)
    totals = _Totals()
    python = environments.interpreter(request.family, run.teacher_python)
    with TeacherProcess(python, request, run.threads) as teacher:
        stream = totals.counted(selection(settings, data, SourceReport()), set(teacher.info.elements))
        few = list(sample(stream, N_SAMPLE, settings.seed))
        if not few:
            raise InputError(f"{teacher.info.name} can label no structure of {', '.join(settings.subset)}.")
        _label(teacher, few, settings)  # compilers and caches warm up
        began = time.perf_counter()
        samples = _label(teacher, few, settings)
        seconds = time.perf_counter() - began
    size = len(image(to_arrays(samples, settings.codec), {})) - len(image(to_arrays([], settings.codec), {}))
    few_edges, few_atoms = sum(edges(s) for s in few), sum(s.n_atoms for s in few)
    return {
        "n_structures": totals.structures,
        "n_atoms": totals.atoms,
        "n_tried": len(few),
        "seconds_per_structure": seconds / few_edges * totals.edges / totals.structures,
        "seconds": seconds / few_edges * totals.edges / run.workers,
        "workers": run.workers,
        "bytes": int(size / few_atoms * totals.atoms),
    }


def _label(teacher: TeacherProcess, structures: list[Structure], settings: plans.LabelSettings) -> list[Sample]:
    spec = parse_spec(settings.hessian)
    limit = settings.batch_edges or default_edges(settings.device)
    samples = []
    for batch in pack([edges(s) for s in structures], limit):
        chosen = [structures[i] for i in batch]
        directions = [draw(spec, settings.seed, s.id, s.n_atoms) for s in chosen]
        labels = teacher.label(chosen, directions)
        samples += [Sample(s, x, "train") for s, x in zip(chosen, labels, strict=True)]
    return samples
