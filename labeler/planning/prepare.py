"""From settings to a plan that stands on disk: load the teacher, read the sources, spool the selection, pre-flight check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdistill.data import sources
from hdistill.data.errors import InputError, LabelSetError, PlanMismatch
from hdistill.data.labelsets.label_set import MANIFEST
from hdistill.data.labelsets.split import parse_fractions
from hdistill.data.probes import draw, parse_spec
from hdistill.data.sources import Keys, SourceReport, select as subset
from hdistill.data.structure import Structure
from hdistill.data.support.progress import Progress, progress
from hdistill.data.support.publish import sha256_of

from ..process import memory
from ..process.batching import default_edges
from ..process.host import HostSettings
from ..process.parent import TeacherProcess
from . import checks, plan as plans, preflight, spool as spools
from .turn import turn

PREFLIGHT_CANDIDATES = 64
Say = Callable[[str], None]


def prepare(
    settings: plans.LabelSettings, out: Path, data: Path | None, host: HostSettings, say: Say, show: bool = False
) -> plans.Plan:
    """The plan of `out`, made now or found there; show: with a progress bar. Raises PlanMismatch where another plan is there."""
    plans.check_settings(settings)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; -o takes a directory.")
    if (out / MANIFEST).exists() and not (out / plans.PLAN).exists():
        raise LabelSetError(f"{out} is a finished label set without its plan; label into another -o directory.")
    inputs = fingerprints(settings, data)
    with turn(out, (out / plans.PLAN).exists, say) as ours:
        if ours:
            return _new_plan(settings, out, data, inputs, host, say, show)
    standing = plans.load(out)
    plans.require_same_settings(standing, settings, out)
    if standing.inputs != inputs:
        raise PlanMismatch(f"{out} was begun with other input files; give those, or another -o directory.")
    if (out / MANIFEST).exists() or not plans.missing(standing, out):  # nothing is left for a teacher to do
        return standing
    with host.start() as teacher:
        plans.require_same_teacher(standing, teacher.info.as_json(), out)
    if not spools.is_intact(out / "spool", standing.spool):
        spool, _ = _spool(settings, out, data, SourceReport(), show)
        if spool.sha256 != standing.spool.sha256:
            raise PlanMismatch(
                f"{out} was begun by another version of hdistill or of ASE, which read other structures from the same files; "
                "use that one, or another -o directory."
            )
    done = standing.n_chunks - len(plans.missing(standing, out))
    say(f"Continuing {out.name}/: {done} of {standing.n_chunks} chunks are done.")
    return standing


def _new_plan(
    settings: plans.LabelSettings,
    out: Path,
    data: Path | None,
    inputs: list[dict[str, Any]],
    host: HostSettings,
    say: Say,
    show: bool,
) -> plans.Plan:
    with host.start() as teacher:  # first: a teacher that does not load is known before millions of structures are read
        report = SourceReport()
        spool, n_edges = _spool(settings, out, data, report, show)
        for line in [*report.lines(), *spool.warnings]:
            say(line)
        if spool.n_structures == 0:
            known = f" or all are in {', '.join(settings.not_in)}" if settings.not_in else ""
            raise InputError(f"No structure of {', '.join(settings.subset)} is left to label{known}; loosen --where.")
        candidates = _candidates(out, spool, teacher.info.elements)
        figures = _preflight(settings, candidates, teacher, host, say)
        batch_edges = _batch_edges(settings, candidates, teacher, host, say)
        plan = plans.Plan(
            settings=settings,
            teacher=teacher.info.as_json(),  # after the check: an ASE calculator is known to be conservative only then
            inputs=inputs,
            source=_source_facts(settings, report),
            spool=spool,
            chunk_starts=plans.cut(n_edges, batch_edges),
            batch_edges=batch_edges,
            preflight=figures,
        )
    return plans.save(plan, out)


def selection(settings: plans.LabelSettings, data: Path | None, report: SourceReport) -> Iterator[Structure]:
    """The structures that are to be labelled, as a stream: read, drop duplicates, select by --where, sample --limit."""
    return subset.sample(_matching(settings, data, report), settings.limit, settings.seed)


def _matching(
    settings: plans.LabelSettings, data: Path | None, report: SourceReport, bar: Progress | None = None
) -> Iterator[Structure]:
    """The same without --limit, which the spool applies on disk: a sample may be too large for memory."""
    keys = Keys(settings.energy_key, settings.forces_key, settings.stress_key, settings.group_key)
    read = sources.read(settings.subset, data, keys, report)
    unique = subset.unique(read if bar is None else _counted(read, bar), report, settings.not_in)
    return subset.select(unique, settings.where, report)


def _counted(structures: Iterator[Structure], bar: Progress) -> Iterator[Structure]:
    for structure in structures:
        bar.advance()
        yield structure


def _spool(
    settings: plans.LabelSettings, out: Path, data: Path | None, report: SourceReport, show: bool
) -> tuple[spools.Spool, NDArray[np.int64]]:
    """Spool what is to be labelled; the summary, and about how many pairs each structure has."""
    fractions = parse_fractions(settings.splits)
    with progress(None, "structures", "reading", show) as bar:
        stream = _matching(settings, data, report, bar)
        return spools.write(stream, out / "spool", settings.seed, fractions, settings.limit)


def _source_facts(settings: plans.LabelSettings, report: SourceReport) -> dict[str, Any]:
    """What the manifest says of where the structures came from: counts, keys taken, licence and citation."""
    named = {row.name: row for row in sources.catalogue()}
    rows = [named.get(name) or named.get(name.partition(":")[0]) for name in settings.subset]
    return {
        "n_read": report.n_read,
        "n_duplicates": report.n_duplicates,
        "skipped": dict(report.skipped),
        "taken": {quantity: dict(counts) for quantity, counts in report.taken.items() if counts},
        "license": " + ".join(sorted({row.license if row else "unknown" for row in rows})),
        "citation": sorted({row.citation for row in rows if row and row.citation}),
    }


def _candidates(out: Path, spool: spools.Spool, elements: tuple[int, ...]) -> list[Structure]:
    """Structures of this run, at most PREFLIGHT_CANDIDATES, that the teacher can do. Raises InputError where there is none."""
    first = [s for s, _ in spools.read(out / "spool", spool, 0, min(PREFLIGHT_CANDIDATES, spool.n_structures))]
    problems = [checks.structure_problem(s, elements) for s in first]
    good = [s for s, problem in zip(first, problems, strict=True) if problem is None]
    if not good:
        raise InputError(f"None of the first {len(first)} structures can be labelled; of the first, {problems[0]}.")
    return good


def _preflight(
    settings: plans.LabelSettings, candidates: list[Structure], teacher: TeacherProcess, host: HostSettings, say: Say
) -> dict[str, Any]:
    structure = preflight.choose(candidates)
    figures = preflight.check(teacher, host, structure, parse_spec(settings.hessian))
    product, force = figures["product_difference_error"], figures["force_difference_error"]
    said = [] if product is None else [f"the Hessian product agrees with central differences to {product:.1e}"]
    if teacher.info.conservative:
        said.append(f"the forces with -dE/dR to {force:.1e}")
    else:
        said.append("the forces are not the gradient of the energy, so Hessian rows are of -dF/dR and not symmetric")
    say(f"Pre-flight check in {figures['dtype']} (relative): {'; '.join(said)}.")
    return figures


def _batch_edges(
    settings: plans.LabelSettings, candidates: list[Structure], teacher: TeacherProcess, host: HostSettings, say: Say
) -> int:
    """Pairs in a batch: as the user said, else by device and by the memory that one batch is seen to take."""
    if settings.batch_edges is not None:
        return settings.batch_edges
    usual = default_edges(settings.device)
    spec = parse_spec(settings.hessian)
    directions = [draw(spec, settings.seed, s.id, s.n_atoms) for s in candidates]
    limit = teacher.device_bytes or host.limit_bytes
    found = memory.batch_edges(teacher, candidates, directions, limit, usual)
    if found < usual:
        say(
            f"Batches are kept to {found} pairs of atoms (usually {usual}): {limit / 1e9:.1f} GB is what a teacher may take."
        )
    return found


def fingerprints(settings: plans.LabelSettings, data: Path | None) -> list[dict[str, Any]]:
    """Name, size and sha256 of every input file: a plan is continued only with the files it was made of."""
    files = sources.files((*settings.subset, *settings.not_in), data)
    return [{"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in files]
