"""From settings to a plan that stands on disk: load the teacher, read the sources, spool the selection, pre-flight check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hdistill.data import sources, subset
from hdistill.data.errors import InputError, LabelSetError, PlanMismatch
from hdistill.data.labelset import MANIFEST
from hdistill.data.probes import parse_spec
from hdistill.data.publish import sha256_of
from hdistill.data.sources import Keys, SourceReport
from hdistill.data.split import assign, parse_fractions
from hdistill.data.structure import Structure

from . import checks, environments, plan as plans, preflight, spool as spools
from .teacher_process import TeacherProcess
from .teachers.contract import TeacherRequest

PREFLIGHT_CANDIDATES = 64
Say = Callable[[str], None]


def prepare(
    settings: plans.LabelSettings, out: Path, data: Path | None, teacher_python: Path | None, threads: int, say: Say
) -> tuple[plans.Plan, TeacherRequest]:
    """The plan of `out`, made now or found there, and the teacher to run. Raises PlanMismatch where another plan is there."""
    plans.check_settings(settings)
    request = plans.request_of(settings)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; -o takes a directory.")
    standing = plans.load(out) if (out / plans.PLAN).exists() else None
    inputs = _fingerprints(settings, data)
    if standing is not None:
        plans.require_same_settings(standing, settings, out)
        if standing.inputs != inputs:
            raise PlanMismatch(f"{out} was begun with other input files; give those, or another -o directory.")
        if (out / MANIFEST).exists():
            return standing, request
    elif (out / MANIFEST).exists():
        raise LabelSetError(f"{out} is a finished label set without its plan; label into another -o directory.")
    python = environments.interpreter(request.family, teacher_python)
    with TeacherProcess(python, request, threads) as teacher:
        if standing is None:
            return _new_plan(settings, out, data, inputs, teacher, python, request, say), request
        plans.require_same_teacher(standing, teacher.info.as_json(), out)
    if not spools.is_intact(out / "spool", standing.spool.sha256):
        spools.write(selection(settings, data, SourceReport()), out / "spool", settings.seed, _splitter(settings))
    done = standing.n_chunks - len(plans.missing(standing, out))
    say(f"Continuing {out.name}/: {done} of {standing.n_chunks} chunks are done.")
    return standing, request


def _new_plan(
    settings: plans.LabelSettings,
    out: Path,
    data: Path | None,
    inputs: list[dict[str, Any]],
    teacher: TeacherProcess,
    python: Path,
    request: TeacherRequest,
    say: Say,
) -> plans.Plan:
    report = SourceReport()
    spool, index = spools.write(selection(settings, data, report), out / "spool", settings.seed, _splitter(settings))
    for line in [*report.lines(), *spool.warnings]:
        say(line)
    if spool.n_structures == 0:
        raise InputError(f"No structure of {', '.join(settings.subset)} is left to label; loosen --where.")
    figures = _preflight(settings, out, spool.n_structures, teacher, python, request, say)
    plan = plans.Plan(
        settings=settings,
        teacher=teacher.info.as_json(),  # after the check: an ASE calculator is known to be conservative only then
        inputs=inputs,
        source=_source_facts(settings, report),
        spool=spool,
        chunk_starts=plans.cut(index["n_edges"]),
        preflight=figures,
    )
    return plans.save(plan, out)


def selection(settings: plans.LabelSettings, data: Path | None, report: SourceReport) -> Iterator[Structure]:
    """The structures that are to be labelled, as a stream: read, drop duplicates, select by --where, sample --limit."""
    keys = Keys(settings.energy_key, settings.forces_key, settings.stress_key, settings.group_key)
    unique = subset.unique(sources.read(settings.subset, data, keys, report), report)
    return subset.sample(subset.select(unique, settings.where, report), settings.limit, settings.seed)


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


def _preflight(
    settings: plans.LabelSettings,
    out: Path,
    n_structures: int,
    teacher: TeacherProcess,
    python: Path,
    request: TeacherRequest,
    say: Say,
) -> dict[str, Any]:
    candidates = [s for s, _ in spools.read(out / "spool", 0, min(PREFLIGHT_CANDIDATES, n_structures))]
    elements = set(teacher.info.elements)
    structure = preflight.first_good(candidates, lambda s: checks.structure_problem(s, elements))
    if structure is None:
        problem = checks.structure_problem(candidates[0], elements)
        raise InputError(f"None of the first {len(candidates)} structures can be labelled; of the first, {problem}.")
    figures = preflight.check(teacher, python, request, structure, parse_spec(settings.hessian))
    product, force = figures["product_difference_error"], figures["force_difference_error"]
    said = [] if product is None else [f"the Hessian product agrees with central differences to {product:.1e}"]
    if teacher.info.conservative:
        said.append(f"the forces with -dE/dR to {force:.1e}")
    else:
        said.append("the forces are not the gradient of the energy, so Hessian rows are of -dF/dR and not symmetric")
    say(f"Pre-flight check in {figures['dtype']} (relative): {'; '.join(said)}.")
    return figures


def _splitter(settings: plans.LabelSettings) -> spools.Assign:
    fractions = parse_fractions(settings.splits)
    return lambda groups, ids: assign(groups, ids, settings.seed, fractions)


def _fingerprints(settings: plans.LabelSettings, data: Path | None) -> list[dict[str, Any]]:
    """Name, size and sha256 of every input file: a plan is continued only with the files it was made of."""
    files = sources.files(settings.subset, data)
    return [{"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in files]
