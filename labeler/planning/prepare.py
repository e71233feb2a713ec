"""From settings to a plan that stands on disk: check, read the sources, load the teacher, pre-flight check, size of batches.

What can be seen to be wrong is said before a teacher is loaded: the settings at once, the sources too where they are small. Of
large ones the teacher comes first, for one that does not load should be known before millions of structures are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdistill.data import sources
from hdistill.data.errors import InputError, LabelSetError, PlanMismatch, TeacherError
from hdistill.data.labelsets.label_set import MANIFEST
from hdistill.data.labelsets.split import parse_fractions
from hdistill.data.probes import HessianSpec, draw, parse_spec
from hdistill.data.sampling.diverse import most_diverse
from hdistill.data.sources import Keys, SourceReport, select as selecting
from hdistill.data.structure import Structure
from hdistill.data.support.progress import Progress, progress
from hdistill.data.support.publish import sha256_of
from hdistill.data.support.typed import as_json

from ..process.batching import default_edges
from ..process.host import TeacherHost, TeacherWillNotStart
from ..teachers.contract import TeacherInfo
from . import batch_size, checks, differences, early, preflight, spool as spools
from .plan import (
    PLAN,
    LabelSettings,
    Plan,
    cut,
    load,
    require_same_settings,
    save,
)
from .roughness import roughness_lines
from .turn import turn

N_CANDIDATES = 64  # structures of which one is checked, and a batch of which is measured
SMALL_BYTES = 20 << 20  # of input files, which are read in seconds
Say = Callable[[str], None]


def prepare(
    settings: LabelSettings,
    out: Path,
    data: Path | None,
    host: TeacherHost,
    say: Say,
    show: bool = False,
    is_pass: bool = False,
) -> Plan:
    """The plan of `out`, made now or found there.

    host: the teacher, which is loaded where it is needed and left as it is. show: with a progress bar. is_pass: the structures
    will join another set, and may be as few as they like. Raises PlanMismatch where another plan is there, InputError, TeacherError.
    """
    early.check_settings(settings)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; -o takes a directory.")
    if (out / MANIFEST).exists() and not (out / PLAN).exists():
        raise LabelSetError(f"{out} is a finished label set without its plan; label into another -o directory.")
    inputs = fingerprints(settings, data)
    with turn(out, (out / PLAN).exists, say) as first:
        if first:
            return _new_plan(settings, out, data, inputs, host, say, show, is_pass)
    standing = load(out)
    require_same_settings(standing, settings, out)
    if standing.inputs != inputs:
        raise PlanMismatch(f"{out} was begun with other input files; give those, or another -o directory.")
    if not (out / MANIFEST).exists():
        _restore_spool(standing, settings, out, data, show)
    return standing


def _restore_spool(standing: Plan, settings: LabelSettings, out: Path, data: Path | None, show: bool) -> None:
    """Make the spool of a plan again where it is gone or damaged. Raises PlanMismatch where it comes out as another."""
    if spools.is_intact(out / "spool", standing.spool):
        return
    spool, _ = _spool(settings, out, data, SourceReport(), show)
    if spool.sha256 != standing.spool.sha256:
        raise PlanMismatch(
            f"{out} was begun by another version of hdistill or of ASE, which read other structures from the same files; "
            "use that one, or another -o directory."
        )


def _new_plan(
    settings: LabelSettings,
    out: Path,
    data: Path | None,
    inputs: list[dict[str, Any]],
    host: TeacherHost,
    say: Say,
    show: bool,
    is_pass: bool,
) -> Plan:
    if sum(file["bytes"] for file in inputs) > SMALL_BYTES:
        loaded(host)
    report = SourceReport()
    spool = None
    try:
        spool, n_pairs = _spool(settings, out, data, report, show)
        if spool.n_structures == 0:
            raise _nothing_left(settings)
        if not is_pass:
            early.require_splits(spool, settings)
        for line in [*report.lines(), *spool.warnings, *early.charge_lines(settings, report.n_charged)]:
            say(line)
        candidates = _candidates(out, spool, loaded(host).elements)
        figures, info = _preflight(settings, candidates, host, say)
        by_differences = _by_differences(settings, candidates, host, figures, say)
        batch_edges = _batch_edges(settings, candidates, host, say, by_differences)
        plan = Plan(
            settings=settings,
            teacher=info.as_json() | ({"hessian_method": differences.METHOD} if by_differences else {}),
            inputs=inputs,
            source=_source_facts(settings, report),
            spool=spool,
            chunk_starts=cut(n_pairs, batch_edges),
            batch_edges=batch_edges,
            preflight=figures,
        )
        return save(plan, out)
    except BaseException:
        _remove_spool(out, spool)
        raise


def _remove_spool(out: Path, spool: spools.Spool | None) -> None:
    """A plan that was not made leaves nothing behind."""
    with suppress(OSError):
        if spool is not None and not (out / PLAN).exists():
            spools.path_of(out / "spool", spool).unlink(missing_ok=True)
        (out / "spool").rmdir()  # where it is empty


def loaded(host: TeacherHost) -> TeacherInfo:
    """What the teacher says of itself once it is loaded. Raises TeacherError, TeacherMissing, InputError."""
    try:
        return host.info
    except TeacherWillNotStart as error:
        if isinstance(error.__cause__, TeacherError):
            raise error.__cause__ from None
        raise


def _nothing_left(settings: LabelSettings) -> InputError:
    subset = ", ".join(settings.subset)
    if settings.not_in:
        return InputError(
            f"No structure of {subset} is left to label: all are in {', '.join(settings.not_in)}"
            + (f", or do not match --where `{settings.where}`." if settings.where else ".")
        )
    if settings.where:
        return InputError(f"No structure of {subset} is left: none matches `{settings.where}`; loosen --where.")
    return InputError(f"No structure of {subset} is left to label.")


def selection(settings: LabelSettings, data: Path | None, report: SourceReport) -> Iterator[Structure]:
    """The structures that are to be labelled, as a stream: read, drop duplicates, select by --where, sample --limit or --diverse."""
    return selecting.sample(_matching(settings, data, report), settings.limit, settings.seed)


def _matching(
    settings: LabelSettings, data: Path | None, report: SourceReport, bar: Progress | None = None
) -> Iterator[Structure]:
    """The same without --limit, which the spool applies on disk: a sample may be too large for memory."""
    keys = Keys(settings.energy_key, settings.forces_key, settings.stress_key, settings.group_key)
    read = sources.read(settings.subset, data, keys, report)
    unique = selecting.unique(read if bar is None else _counted(read, bar), report, settings.not_in)
    matching = selecting.select(unique, settings.where, report)
    return matching if settings.diverse is None else iter(most_diverse(matching, settings.diverse))


def _counted(structures: Iterator[Structure], bar: Progress) -> Iterator[Structure]:
    for structure in structures:
        bar.advance()
        yield structure


def _spool(
    settings: LabelSettings, out: Path, data: Path | None, report: SourceReport, show: bool
) -> tuple[spools.Spool, NDArray[np.int64]]:
    """Spool what is to be labelled; the summary, and about how many pairs each structure has."""
    fractions = parse_fractions(settings.splits)
    with progress(None, "structures", "reading", show) as bar:
        stream = _matching(settings, data, report, bar)
        return spools.write(stream, out / "spool", settings.seed, fractions, settings.limit)


def _source_facts(settings: LabelSettings, report: SourceReport) -> dict[str, Any]:
    """What the manifest says of where the structures came from: counts, keys taken, what was read, licence and citation."""
    rows = [sources.row_of(name) for name in settings.subset]
    return {
        "n_read": report.n_read,
        "n_duplicates": report.n_duplicates,
        "skipped": dict(report.skipped),
        "taken": {quantity: dict(counts) for quantity, counts in report.taken.items() if counts},
        "report": as_json(report.summary()),
        "license": " + ".join(sorted({row.license if row else "unknown" for row in rows})),
        "citation": sorted({row.citation for row in rows if row and row.citation}),
    }


def _candidates(out: Path, spool: spools.Spool, elements: tuple[int, ...]) -> list[Structure]:
    """The first N_CANDIDATES structures of this run that the teacher can do. Raises InputError where there is none."""
    good: list[Structure] = []
    problems: list[str] = []
    for start in range(0, spool.n_structures, N_CANDIDATES):
        for structure, _ in spools.read(out / "spool", spool, start, min(start + N_CANDIDATES, spool.n_structures)):
            problem = checks.structure_problem(structure, elements)
            if problem is None:
                good.append(structure)
            else:
                problems.append(problem)
        if len(good) >= N_CANDIDATES:
            break
    if not good:
        raise InputError(f"None of the {len(problems)} structures can be labelled; of the first, {problems[0]}.")
    return good[:N_CANDIDATES]


def _preflight(
    settings: LabelSettings, candidates: list[Structure], host: TeacherHost, say: Say
) -> tuple[dict[str, Any], TeacherInfo]:
    only_forces = settings.products == "difference"  # the teacher may have no second derivatives
    spec = HessianSpec("none") if only_forces else parse_spec(settings.hessian)
    figures, info = preflight.check_one_of(host, candidates, spec)
    product, force = figures["product_difference_error"], figures["force_difference_error"]
    sentences = [] if product is None else [f"the Hessian product agrees with central differences to {product:.1e}"]
    if info.conservative:
        sentences.append(f"the forces with -dE/dR to {force:.1e}")
    else:
        sentences.append(
            "the forces are not the gradient of the energy, so Hessian rows are of -dF/dR and not symmetric"
        )
    say(f"Pre-flight check in {figures['dtype']} (relative): {'; '.join(sentences)}.")
    for line in roughness_lines(figures, info.name):
        say(line)
    if settings.atom_energies is None and figures["atom_energies"]:
        say("The teacher's energy of each atom is stored, too; --no-atom-energies leaves it out.")
    return figures, info


def _by_differences(
    settings: LabelSettings, candidates: list[Structure], host: TeacherHost, figures: dict[str, Any], say: Say
) -> bool:
    """Whether products are made by forward differences, tried on the structure of the pre-flight check; adds to its figures."""
    if settings.products in (None, "autograd") or settings.hessian == "none":
        return False
    if settings.products == "difference":
        differences.require_gradient(host.info.conservative, host.info.name)
    elif not host.info.conservative or host.info.hessian_method == "central differences":
        say(f"Hessian products as {host.info.name} makes them ({host.info.hessian_method}).")
        return False
    (structure,) = (s for s in candidates if s.id == figures["structure"])
    wanted = draw(parse_spec(settings.hessian), settings.seed, structure.id, structure.n_atoms)
    if wanted is None:
        return False
    edges = settings.batch_edges or default_edges(settings.device)
    figures |= differences.compared(host.label, structure, wanted, edges, exact=settings.products == "auto")
    taken, line = differences.chosen(figures, settings.products, host.info.name)
    say(line)
    return taken


def _batch_edges(
    settings: LabelSettings, candidates: list[Structure], host: TeacherHost, say: Say, only_forces: bool
) -> int:
    """Pairs in a batch: as the user said, else by device and by the memory that one batch is seen to take."""
    if settings.batch_edges is not None:
        return settings.batch_edges
    usual = default_edges(settings.device)
    spec = parse_spec(settings.hessian)
    directions = [None if only_forces else draw(spec, settings.seed, s.id, s.n_atoms) for s in candidates]
    limit = host.limit_bytes
    measured = batch_size.measure(host, candidates, directions, limit, usual)
    if measured < usual:
        say(
            f"Batches are kept to {measured} pairs of atoms (usually {usual}): {limit / 1e9:.1f} GB is what a teacher may take."
        )
    return measured


def fingerprints(settings: LabelSettings, data: Path | None) -> list[dict[str, Any]]:
    """Name, size and sha256 of every input file: a plan is continued only with the files it was made of."""
    files = sources.files((*settings.subset, *settings.not_in), data)
    return [{"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in files]
