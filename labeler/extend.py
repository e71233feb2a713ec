"""More labels for a finished label set: further Hessian products of its structures, or further structures. Nothing is redone.

A pass is an ordinary labelling run in DIR/passes/NAME/, with its own plan. When it is complete, new shards are written beside the
old ones, manifest.json is replaced at one stroke, and only then go the old shards and the pass. Killed anywhere, the old set or
the new one is valid, and the same command completes it. A request that is already met changes nothing.

    add      the set has so many products more than its plan says: probes 5 to 8 after 1 to 4, the same as labelling 8 at once
    extend   structures whose ids are not in the set yet, with as many products; a group that is known keeps its split
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hdistill.data.convert import merge
from hdistill.data.errors import HDistillError, InputError, LabelSetError, PlanMismatch
from hdistill.data.format.manifest import History, Manifest, Pass, TeacherOfPass, read_manifest
from hdistill.data.format.schema import SPLITS
from hdistill.data.format.shard import append_products, concatenate, decode, packed_ids, select, without_products
from hdistill.data.format.shard_file import Arrays, open_shard, read_arrays
from hdistill.data.labelsets import agreement, provenance, writer
from hdistill.data.labelsets.label_set import LabelSet, open_label_set
from hdistill.data.labelsets.split import parse_fractions, split_of
from hdistill.data.probes import HessianSpec, parse_spec

from .planning import plan as plans
from .planning.prepare import fingerprints
from .run import LabelResult, RunSettings, complete, label, label_part
from .teachers import registry as catalogue

PASSES = "passes"
AT_ONCE = 1024  # structures that are decoded together
Say = Callable[[str], None]


class TeacherDrifted(HDistillError):
    """The teacher no longer says of a structure what it said in an earlier pass."""


def add(
    settings: plans.LabelSettings,
    more: str,
    out: Path,
    data: Path | None = None,
    run: RunSettings = RunSettings(),  # noqa: B008 (frozen)
    say: Say = print,
) -> LabelResult:
    """Label the set of `settings`, as label() does, and then `more` ("probes:4") products of each structure than the plan says.

    Raises what label() raises, and TeacherDrifted where energies or forces of the second pass differ from the stored ones.
    """
    started = time.monotonic()
    out = out.resolve()
    spec = parse_spec(more)
    base = parse_spec(settings.hessian)
    if spec.kind != base.kind or not spec.count or spec.first:
        raise InputError(
            f"--add was '{more}' for --hessian {base}; it takes {_countable(base)}:K, so many more of the same."
        )
    first = complete(settings, out, data, run, say)
    clean(out, first.manifest)
    have, want = first.manifest.hessian.per_structure or 0, base.count + spec.count
    if have >= want:
        say(f"{out.name}/ has {base.kind} 1 to {have} of each structure already; nothing to add.")
        return replace(first, seconds=time.monotonic() - started)
    wanted = HessianSpec(base.kind, want - have, have)
    folder = out / PASSES / f"add-{have}-{want}"
    say(f"Labelling {base.kind} {have + 1} to {want} of each structure.")
    pass_settings = replace(
        settings,
        subset=(str(out),),
        hessian=str(wanted),
        where=None,
        limit=None,
        energy_key=None,
        forces_key=None,
        stress_key=None,
        group_key=None,
        not_in=(),
        atom_energies=False,
        node_features=False,
    )
    done = _run_pass(pass_settings, folder, None, run, say)
    old, new = open_label_set(out), open_label_set(folder)
    provenance.require_same_teacher(old.manifest.teacher, new.manifest.teacher, (str(out), "this pass"))
    drift = _drift(old, new)
    record = msgspec.structs.replace(_record(old, new), add=str(wanted), products=(have, want), drift=drift)
    facts = _facts_with(old.manifest, record, hessian=provenance.hessian_settings(old.manifest, want))
    manifest = _replace(out, record, lambda: writer.write(out, _with_products(old, new), facts))
    return LabelResult(out, manifest, first.n_labelled_now + done.n_labelled_now, time.monotonic() - started)


def extend(
    settings: plans.LabelSettings,
    out: Path,
    data: Path | None = None,
    run: RunSettings = RunSettings(),  # noqa: B008 (frozen)
    say: Say = print,
) -> LabelResult:
    """Label the structures of a subset that the set in `out` does not have, and put them into it.

    Teacher, Hessian labels, codec, seed and splits must be the set's own; the new structures get as many products as it has.
    Raises what label() raises, PlanMismatch for other settings.
    """
    started = time.monotonic()
    out = out.resolve()
    manifest = read_manifest(out)
    clean(out, manifest)
    hessian = _require_settings(settings, manifest, out)
    asked = {
        **{"names": [Path(name).name for name in settings.subset], "where": settings.where, "limit": settings.limit},
        **{key: getattr(settings, key) for key in ("energy_key", "forces_key", "stress_key", "group_key")},
        "inputs": fingerprints(settings, data),
    }
    for former in manifest.passes:
        if former.extend == asked:
            say(f"{out.name}/ was extended by {', '.join(asked['names'])} already; nothing to do.")
            return LabelResult(out, manifest, 0, time.monotonic() - started)
    name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    folder = out / PASSES / f"extend-{name}"
    done = _run_pass(replace(settings, hessian=hessian, not_in=(str(out),)), folder, data, run, say)
    old, new = open_label_set(out), open_label_set(folder)
    provenance.require_same_teacher(old.manifest.teacher, new.manifest.teacher, (str(out), "this pass"))
    record = msgspec.structs.replace(_record(old, new), extend=asked, n_structures=new.manifest.counts.n_structures)
    rows = merge.index([old, new])
    chosen = _splits_kept(old, new, rows)
    facts = _facts_with(
        old.manifest,
        record,
        subset=provenance.united_subset([old.manifest.subset, new.manifest.subset]),
        licenses=provenance.united_licenses([old.manifest.licenses, new.manifest.licenses]),
        quarantine=merge.united_quarantine([old.manifest.quarantine, new.manifest.quarantine], rows),
    )
    manifest = _replace(out, record, lambda: writer.write(out, merge.blocks([old, new], rows, chosen), facts))
    return LabelResult(out, manifest, done.n_labelled_now, time.monotonic() - started)


def clean(out: Path, manifest: Manifest) -> None:
    """Remove what a pass left that was killed after it had replaced the manifest."""
    if not (out / PASSES).is_dir():
        return
    writer.sweep(out, manifest)
    done = {record.name for record in manifest.passes}
    for folder in (out / PASSES).iterdir():
        if folder.name in done:
            shutil.rmtree(folder, ignore_errors=True)
    if not any((out / PASSES).iterdir()):
        shutil.rmtree(out / PASSES, ignore_errors=True)


def _run_pass(
    settings: plans.LabelSettings, folder: Path, data: Path | None, run: RunSettings, say: Say
) -> LabelResult:
    try:
        n = 0
        if run.workers == 1 and run.scheduler is None and run.jobs is None:  # one worker needs no cluster
            n = label_part(settings, folder, (1, 1), data, run, say).n_labelled_now
        done = label(settings, folder, data, run, say)
        return replace(done, n_labelled_now=n + done.n_labelled_now)
    except InputError:
        if not (folder / plans.PLAN).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _replace(out: Path, record: Pass, write: Callable[[], Manifest]) -> Manifest:
    """Write the new set over the old one and clean up; another labeler that did the same pass may have been quicker."""
    try:
        manifest = write()
    except (LabelSetError, FileNotFoundError):
        manifest = read_manifest(out)
        if record.name not in {former.name for former in manifest.passes}:
            raise
    clean(out, manifest)
    return manifest


def _record(old: LabelSet, new: LabelSet) -> Pass:
    """What the manifest says of a pass. Neither paths nor the pass's plan, which names one: the same pass gives the same bytes."""
    manifest = new.manifest
    return Pass(
        name=new.path.name,
        parent=old.digest,
        preflight=manifest.preflight,
        environment=manifest.environment,
        teacher=TeacherOfPass(device=manifest.teacher.device, versions=manifest.teacher.versions),
        quarantine=manifest.quarantine,
    )


def _facts_with(manifest: Manifest, record: Pass, **changed: Any) -> writer.Facts:
    """The facts of a set with one more pass."""
    history = msgspec.structs.replace(manifest.history or History(), passes=(*manifest.passes, record))
    return replace(writer.facts_of(manifest), history=history, **changed)


def _drift(old: LabelSet, new: LabelSet) -> dict[str, float]:
    """Largest difference of energies and forces between the passes. Raises TeacherDrifted."""
    allowed = agreement.tolerance(old.manifest)
    found = {"energy": 0.0, "forces": 0.0}
    for arrays, more, places in _pairs(old, new):
        for start in range(0, len(places), AT_ONCE):
            block = places[start : start + AT_ONCE]
            stored = decode(without_products(select(arrays, block)), 0, len(block))
            again = decode(without_products(select(more, block)), 0, len(block))
            for sample, other in zip(stored, again, strict=True):
                for difference in agreement.compare(sample.labels, other.labels, allowed):
                    if not difference.agrees:
                        raise TeacherDrifted(
                            f"The teacher is not what it was: of structure {sample.structure.id} ({sample.structure.group}) it "
                            f"gives another {difference}. Use the environment that labelled the set; {new.path} can be removed."
                        )
                    if difference.quantity in found:
                        found[difference.quantity] = max(found[difference.quantity], difference.found)
    return found


def _with_products(old: LabelSet, new: LabelSet) -> Iterator[writer.Block]:
    """The old set's shards with the new products behind their own, everything as it is stored."""
    hessians = old.manifest.hessian, new.manifest.hessian
    all_computed = all(h.n_computed == h.n_products for h in hessians)  # else it is not known of a part
    for arrays, more, _ in _pairs(old, new):
        counts = [int(part["product_offsets"][-1]) for part in (arrays, more)]
        yield writer.Block(
            append_products(arrays, more),
            sum(n * h.codec_error_mean for n, h in zip(counts, hessians, strict=True)),
            max((h.codec_error_max for n, h in zip(counts, hessians, strict=True) if n), default=0.0),
            sum(counts) if all_computed else None,
        )


def _pairs(old: LabelSet, new: LabelSet) -> Iterator[tuple[Arrays, Arrays, NDArray[np.int64]]]:
    """Each shard of the old set, the same structures with the labels of the new set, and which of them the new set has.

    A structure that the second pass could not label stands in for itself, without products. Memory: 28 bytes for each structure
    of the set, and two or three shards.
    """
    ids = _all_ids(new)
    order = np.argsort(ids, kind="stable")
    starts = np.cumsum([0, *(shard.n_structures for shard in new.shards)])
    load = lru_cache(maxsize=2)(lambda path: read_arrays(path)[0])  # both sets are in the same order as a rule
    for shard in old.shards:
        arrays = read_arrays(shard.path)[0]
        keys = packed_ids(arrays)
        places = (
            order[np.minimum(np.searchsorted(ids[order], keys), len(ids) - 1)] if len(ids) else np.zeros(0, np.int64)
        )
        known = np.flatnonzero(ids[places] == keys) if len(ids) else np.zeros(0, np.int64)
        rows = places[known] if len(ids) else known
        parts, at = [], np.zeros(len(keys), np.int64)
        n = 0
        for number, other in enumerate(new.shards):
            mine = np.flatnonzero((rows >= starts[number]) & (rows < starts[number + 1]))
            if len(mine):
                parts.append(select(load(other.path), rows[mine] - starts[number]))
                at[known[mine]] = n + np.arange(len(mine))
                n += len(mine)
        missing = np.setdiff1d(np.arange(len(keys)), known)
        if len(missing):
            parts.append(without_products(select(arrays, missing)))
            at[missing] = n + np.arange(len(missing))
        yield arrays, select(concatenate(parts), at), known


def _all_ids(labels: LabelSet) -> NDArray[np.bytes_]:
    """The id of every structure, (S,) of 16 bytes."""
    found = [np.zeros(0, "S16")]
    for shard in labels.shards:
        with open_shard(shard.path) as file:
            found.append(packed_ids(file))
    return np.concatenate(found)


def _splits_kept(old: LabelSet, new: LabelSet, rows: merge.Rows) -> merge.Selection:
    """Everything is taken; a group that the old set has keeps its split, another one goes by its hash alone."""
    splits = old.manifest.splits
    if splits.fractions is None or splits.seed is None:
        raise PlanMismatch(
            f"{old.path} was put together from sets with different splits; label into another set and merge."
        )
    seed, fractions = splits.seed, parse_fractions(splits.fractions)
    split = rows.split.copy()
    fresh = rows.set == 1
    if splits.by == "group":
        units = _groups(new)
        known = dict(zip(rows.group[~fresh].tolist(), rows.split[~fresh].tolist(), strict=True))
    else:
        units = [row.hex() for row in _bytes16(rows.id[fresh])]
        known = {}
    split[fresh] = [
        known.get(key, SPLITS.index(split_of(unit, seed, fractions)))
        for key, unit in zip(rows.group[fresh].tolist(), units, strict=True)
    ]
    return merge.Selection(np.ones(len(split), bool), split, 0, 0)


def _groups(labels: LabelSet) -> list[str]:
    found: list[str] = []
    for shard in labels.shards:
        with open_shard(shard.path) as file:
            found += [group.decode() for group in file["group"][:].tolist()]
    return found


def _bytes16(ids: NDArray[np.bytes_]) -> list[bytes]:
    """numpy drops NULs at the end of bytes; ids may end in them."""
    return [row.ljust(16, b"\0") for row in ids.tolist()]


def _require_settings(settings: plans.LabelSettings, manifest: Manifest, out: Path) -> str:
    """Raise PlanMismatch where the settings are not those of the set; returns the Hessian labels that new structures get."""
    teacher, hessian, splits = manifest.teacher, manifest.hessian, manifest.splits
    spec = parse_spec(settings.hessian)
    arguments = catalogue.parse_arguments(settings.arguments)
    for name, had, has in (
        ("teacher", teacher.name, settings.teacher),
        ("task", teacher.task, settings.task or teacher.task),
        ("dtype", teacher.dtype, settings.dtype),
        ("argument", teacher.arguments, arguments),
        ("kind of Hessian labels", hessian.kind, spec.kind),
        ("codec", hessian.codec, settings.codec),
        ("seed", hessian.seed, settings.seed),
        ("splits", splits.fractions, settings.splits),
    ):
        if had != has:
            raise PlanMismatch(
                f"{out} was labelled with {name} {had} and now it is {has}; give the set's own to extend it."
            )
    if spec.kind in ("full", "none"):
        return settings.hessian
    if hessian.per_structure is None:
        raise PlanMismatch(
            f"The structures of {out} have different numbers of {spec.kind}; label into another set and merge."
        )
    return str(HessianSpec(spec.kind, hessian.per_structure))


def _countable(spec: HessianSpec) -> str:
    return spec.kind if spec.count else "probes or rows"
