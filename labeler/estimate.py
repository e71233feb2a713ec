"""An estimate before a run: a few structures of the subset are labelled, time scaled by pairs of atoms, bytes by atoms."""

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
from hdistill.data.structure import Labels, Structure

from .planning import checks, differences
from .planning.early import check_settings
from .planning.plan import LabelSettings, request_of
from .planning.prepare import loaded, selection
from .process.batching import default_edges, n_pairs, pack
from .process.host import HostSettings, TeacherHost
from .run import RunSettings
from .work.bisection import Failure, label_with_bisection

N_SAMPLE = 12
ENOUGH_S = 2.0  # of measuring; one batch at least


@dataclass
class _Totals:
    structures: int = 0
    atoms: int = 0
    pairs: int = 0

    def counted(self, structures: Iterable[Structure], elements: set[int]) -> Iterator[Structure]:
        """The structures that the teacher can do, counted as they pass."""
        for structure in structures:
            if checks.structure_problem(structure, elements) is None:
                self.structures += 1
                self.atoms += structure.n_atoms
                self.pairs += n_pairs(structure)
                yield structure


def estimate(settings: LabelSettings, data: Path | None, run: RunSettings) -> dict[str, Any]:
    """Seconds and bytes that labelling would take; writes nothing. Raises what `label` raises."""
    check_settings(settings)
    totals = _Totals()
    host = TeacherHost(
        HostSettings(
            request_of(settings), run.teacher_python, run.threads, run.deadline_s, run.memory_bytes, run.workers
        )
    )
    try:
        stream = totals.counted(selection(settings, data, SourceReport()), set(loaded(host).elements))
        few = sorted(sample(stream, N_SAMPLE, settings.seed), key=lambda s: (s.n_atoms, s.id))
        if not few:
            raise InputError(f"{host.info.name} can label no structure of {', '.join(settings.subset)}.")
        samples, seconds = _timed(host, few, settings)
    finally:
        host.close()
    size = len(image(to_arrays(samples, settings.codec), {})) - len(image(to_arrays([], settings.codec), {}))
    tried_pairs = sum(n_pairs(s.structure) for s in samples)
    tried_atoms = sum(s.structure.n_atoms for s in samples)
    return {
        "n_structures": totals.structures,
        "n_atoms": totals.atoms,
        "n_tried": len(samples),
        "seconds_per_structure": seconds / tried_pairs * totals.pairs / totals.structures,
        "seconds": seconds / tried_pairs * totals.pairs / run.workers,
        "workers": run.workers,
        "bytes": int(size / tried_atoms * totals.atoms),
    }


def _timed(host: TeacherHost, structures: list[Structure], settings: LabelSettings) -> tuple[list[Sample], float]:
    """Labels of some structures, batch by batch until it has taken ENOUGH_S, and how long they took. Raises InputError.

    The smallest structure goes first, unmeasured: compilers and caches warm up.
    """
    spec = parse_spec(settings.hessian)
    edges = settings.batch_edges or default_edges(settings.device)
    label = host.label if settings.products != "difference" else differences.by_differences(host.label, edges)
    failures: list[Failure] = []
    samples: list[Sample] = []
    seconds = 0.0

    def ask(batch: list[Structure]) -> tuple[list[Sample], float]:
        directions = [draw(spec, settings.seed, s.id, s.n_atoms) for s in batch]
        began = time.perf_counter()
        answers = label_with_bisection(label, batch, directions, [n_pairs(s) for s in batch])
        taken = time.perf_counter() - began
        failures.extend(x for x in answers if isinstance(x, Failure))
        done = [Sample(s, x, "train") for s, x in zip(batch, answers, strict=True) if isinstance(x, Labels)]
        return done, taken

    warm: list[Sample] = []
    for structure in structures:
        warm, _ = ask([structure])
        if warm:
            break
    if not warm:
        raise InputError(
            f"The teacher did none of {len(structures)} structures that it was tried on; the first: {failures[0].text}"
        )
    sizes = [n_pairs(s) for s in structures]
    for batch in pack(sizes, edges):
        done, taken = ask([structures[i] for i in batch])
        if len(done) == len(batch):  # a batch that was halved says nothing of the time
            samples += done
            seconds += taken
        if samples and seconds > ENOUGH_S:
            break
    if not samples:
        return ask([warm[0].structure])
    return samples, seconds
