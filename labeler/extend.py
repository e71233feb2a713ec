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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from hdistill.data.convert import merge
from hdistill.data.errors import InputError, LabelSetError, PlanMismatch
from hdistill.data.format.manifest import MANIFEST, read_manifest
from hdistill.data.format.records import History, Manifest, Pass, TeacherOfPass
from hdistill.data.labelsets import provenance, writer
from hdistill.data.labelsets.label_set import LabelSet, open_label_set
from hdistill.data.probes import HessianSpec, parse_spec
from hdistill.data.support.text import published, published_json

from .joining import TeacherDrifted as TeacherDrifted, require_no_drift, splits_kept, with_products
from .planning.differences import METHOD
from .planning.plan import PLAN, LabelSettings, base_name
from .planning.prepare import fingerprints
from .run import LabelResult, RunSettings, label
from .teachers import registry

PASSES = "passes"
Say = Callable[[str], None]


def add(
    settings: LabelSettings,
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
    is_complete = (out / MANIFEST).exists()  # which is not news to one who adds to it
    first = label(settings, out, data, run, (lambda _: None) if is_complete else say)
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
        products=_products(first.manifest),
        where=None,
        limit=None,
        diverse=None,
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
    drift = require_no_drift(old, new)
    record = msgspec.structs.replace(_record(old, new), add=str(wanted), products=(have, want), drift=drift)
    facts = _facts_with(old.manifest, record, hessian=provenance.hessian_settings(old.manifest, want))
    manifest = _replace(out, record, lambda: writer.write(out, with_products(old, new), facts))
    return LabelResult(out, manifest, first.n_labelled_now + done.n_labelled_now, time.monotonic() - started)


def extend(
    settings: LabelSettings,
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
    stated = {
        **{"names": [Path(name).name for name in settings.subset], "where": settings.where, "limit": settings.limit},
        **{key: getattr(settings, key) for key in ("energy_key", "forces_key", "stress_key", "group_key")},
        "inputs": fingerprints(settings, data),
        **({} if settings.diverse is None else {"diverse": settings.diverse}),
    }
    asked = published_json(stated)  # as the manifest has it
    for former in manifest.passes:
        if former.extend == asked:
            say(f"{out.name}/ was extended by {', '.join(asked['names'])} already; nothing to do.")
            return LabelResult(out, manifest, 0, time.monotonic() - started)
    name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    folder = out / PASSES / f"extend-{name}"
    done = _run_pass(
        replace(settings, hessian=hessian, products=_products(manifest), not_in=(str(out),)), folder, data, run, say
    )
    old, new = open_label_set(out), open_label_set(folder)
    provenance.require_same_teacher(old.manifest.teacher, new.manifest.teacher, (str(out), "this pass"))
    record = msgspec.structs.replace(_record(old, new), extend=asked, n_structures=new.manifest.counts.n_structures)
    rows = merge.index([old, new])
    chosen = splits_kept(old, new, rows)
    facts = _facts_with(
        old.manifest,
        record,
        subset=provenance.united_subset([old.manifest.subset, new.manifest.subset]),
        licenses=provenance.united_licenses([old.manifest.licenses, new.manifest.licenses]),
        **merge.united_books([old.manifest, new.manifest], rows, chosen),
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


def _run_pass(settings: LabelSettings, folder: Path, data: Path | None, run: RunSettings, say: Say) -> LabelResult:
    try:
        return label(settings, folder, data, run, say, is_pass=True)
    except InputError:
        if not (folder / PLAN).exists():
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


def _require_settings(settings: LabelSettings, manifest: Manifest, out: Path) -> str:
    """Raise PlanMismatch where the settings are not those of the set; returns the Hessian labels that new structures get."""
    teacher, hessian, splits = manifest.teacher, manifest.hessian, manifest.splits
    spec = parse_spec(settings.hessian)
    arguments = registry.parse_arguments(settings.arguments)
    for name, had, has in (
        ("teacher", base_name(teacher.name), base_name(published(settings.teacher))),
        ("task", teacher.task, settings.task or teacher.task),
        ("dtype", teacher.dtype, settings.dtype),
        ("argument", teacher.arguments, published_json(arguments)),
        ("kind of Hessian labels", hessian.kind, spec.kind),
        ("codec", hessian.codec, settings.codec),
        ("seed", hessian.seed, settings.seed),
        (
            "products",
            _products(manifest),
            _products(manifest) if settings.products in (None, "auto") else settings.products,
        ),
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


def _products(manifest: Manifest) -> Literal["autograd", "difference"]:
    """How the products of a set were made, and so those of what joins it."""
    return "difference" if manifest.teacher.hessian_method == METHOD else "autograd"


def _countable(spec: HessianSpec) -> str:
    return spec.kind if spec.count else "probes or rows"
