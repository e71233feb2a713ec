"""Counts over the shards of a set, and its manifest made of them and of what is known besides.

A manifest is read by strangers, and by its own reader within limits: texts are cleaned of what a terminal would act on and of
paths of somebody's disk, and what may be long (quarantine, input files, ancestors) is listed up to a size.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from ..format.manifest import parse_manifest
from ..format.migrate import MANIFEST_VERSION
from ..format.records import (
    Balance,
    Counts,
    HessianRecord,
    History,
    InputFile,
    Licenses,
    Manifest,
    Parent,
    Pass,
    QuarantineRow,
    ShardRow,
    Splits,
)
from ..format.schema import FORMAT, MAX_QUARANTINE_ROWS, SIGN, SPLITS, UNITS, SplitName
from ..format.shard_file import Arrays, open_shard
from ..publication.licences import labels_licence
from ..support.text import published, published_json
from ..support.typed import as_bytes, as_json
from .balance import NONE, id_sum, plus, require_balance
from .facts import Facts
from .split import group_keys

MAX_TEXT = 400  # characters of why a structure is in quarantine; quarantine/ has all of them
MAX_REASON = 60
MAX_QUARANTINE_BYTES = 8 << 20  # of JSON, for all texts of a set together
MAX_PASS_ROWS, MAX_PASSES_ROWS = 1000, 4000  # quarantined structures that one later pass lists, and all together
MAX_NAMES, MAX_NAME = 4000, 200  # input files and names of subsets; bytes of one
MAX_CITATIONS, MAX_CITATION = 400, 4000
MAX_SKIPPED = 1000  # reasons
MAX_GENERATIONS = 8  # of ancestors whose own history is told


class Cost(NamedTuple):
    """error_sum, error_max and n_computed of one block, or of several together."""

    error_sum: float = 0.0
    error_max: float = 0.0
    n_computed: int | None = 0

    def plus(self, other: Cost) -> Cost:
        known = self.n_computed is not None and other.n_computed is not None
        computed = (self.n_computed or 0) + (other.n_computed or 0) if known else None
        return Cost(self.error_sum + other.error_sum, max(self.error_max, other.error_max), computed)


class Totals:
    """Counts over the shards of a set."""

    def __init__(self) -> None:
        self.structures = self.atoms = self.products = self.elements_stored = self.hessian_bytes = 0
        self.cost = Cost()
        self.elements: Counter[int] = Counter()
        self.groups: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self.splits: Counter[SplitName] = Counter()
        self.ids = NONE

    def add(self, arrays: Arrays, cost: Cost, path: Path) -> None:
        """Count one shard, which lies at `path`."""
        atoms, products = np.diff(arrays["atom_offsets"]), np.diff(arrays["product_offsets"])
        self.structures += len(arrays["id"])
        self.atoms += len(arrays["numbers"])
        self.products += int(products.sum())
        self.elements_stored += int((3 * atoms * products).sum())
        self.cost = self.cost.plus(cost)
        owner = np.repeat(np.arange(len(arrays["id"])), atoms)
        pairs = np.unique(np.stack([owner, arrays["numbers"].astype(np.int64)]), axis=1)
        self.elements.update(pairs[1].tolist())
        # 64 bits of a hash for each group: names of ten million molecules would not be small.
        self.groups = np.union1d(self.groups, group_keys(np.unique(arrays["group"])))
        self.splits.update(SPLITS[i] for i in arrays["split"].tolist())
        self.ids = plus(self.ids, id_sum(arrays["id"]))
        with open_shard(path) as file:
            self.hessian_bytes += sum(file.stored_bytes(n) for n in file if n.startswith("hessian_"))


def manifest_of(facts: Facts, shards: Sequence[ShardRow], totals: Totals) -> Manifest:
    """Everything a stranger needs to know of the set, as its own reader has read it.

    Raises LabelSetError where structures of the plan are missing, and where the reader refuses what was made.
    """
    licence = labels_licence(facts.licenses.structures, facts.licenses.weights, facts.licenses.weights_class)
    quarantined = plus(id_sum(row.id for row in facts.quarantine), facts.unlisted)
    planned = facts.planned or plus(totals.ids, quarantined)
    balance = Balance(planned=planned, quarantined=quarantined)
    require_balance(balance, totals.ids, "The labelling")
    manifest = Manifest(
        format=FORMAT,
        version=MANIFEST_VERSION,
        plan=facts.plan,
        units=UNITS,
        sign=SIGN,
        teacher=facts.teacher,
        hessian=HessianRecord(
            kind=facts.hessian.kind,
            per_structure=facts.hessian.per_structure,
            seed=facts.hessian.seed,
            codec=facts.hessian.codec,
            n_products=totals.products,
            n_elements=totals.elements_stored,
            n_computed=totals.cost.n_computed,
            codec_error_mean=totals.cost.error_sum / totals.products if totals.products else 0.0,
            codec_error_max=totals.cost.error_max,
            bytes=totals.hessian_bytes,
            bytes_per_element=totals.hessian_bytes / totals.elements_stored if totals.elements_stored else None,
        ),
        preflight=facts.preflight,
        subset=replace(
            facts.subset,
            names=_first(facts.subset.names, MAX_NAMES, MAX_NAME),
            inputs=_first_files(facts.subset.inputs),
            skipped=_commonest(facts.subset.skipped),
            citation=_first(facts.subset.citation, MAX_CITATIONS, MAX_CITATION),
        ),
        counts=Counts(
            n_structures=totals.structures,
            n_atoms=totals.atoms,
            n_groups=len(totals.groups),
            n_quarantined=len(facts.quarantine) + facts.n_unlisted,
            elements={str(z): n for z, n in sorted(totals.elements.items())},
        ),
        balance=balance,
        splits=Splits(
            fractions=facts.splits.fractions,
            seed=facts.splits.seed,
            by=facts.splits.by,
            n_structures={name: totals.splits[name] for name in SPLITS},
        ),
        quarantine=_listed(facts.quarantine[:MAX_QUARANTINE_ROWS]),
        licenses=Licenses(
            structures=facts.licenses.structures,
            weights=facts.licenses.weights,
            weights_class=facts.licenses.weights_class,
            code=facts.licenses.code,
            labels=licence.id,
            labels_class=licence.license_class,
            labels_why=licence.why,
        ),
        environment={
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in ("hdistill", "numpy", "h5py")},
        },
        history=_recent(facts.history),
        shards=tuple(shards),
    )
    return parse_manifest(as_bytes(published_json(as_json(manifest))), "The manifest of the new label set")


def _listed(rows: Sequence[QuarantineRow]) -> tuple[QuarantineRow, ...]:
    """Rows whose texts are cleaned and, where they are many, cut so short that a reader takes them all."""
    limit = min(MAX_TEXT, MAX_QUARANTINE_BYTES // max(1, len(rows)) - MAX_REASON)
    return tuple(replace(row, reason=_cut(row.reason, MAX_REASON), text=_cut(row.text, limit)) for row in rows)


def _cut(text: str, n_bytes: int) -> str:
    """The beginning of a text that takes so many bytes in JSON, which writes what is not ASCII as six or twelve."""
    text = published(text)[:n_bytes]
    if len(encoded := json.dumps(text)) <= n_bytes + 2:
        return text
    return text[: n_bytes * len(text) // len(encoded)] if not text.isascii() else text[: n_bytes // 2]


def _first(texts: tuple[str, ...], n: int, n_bytes: int) -> tuple[str, ...]:
    first = tuple(_cut(text, n_bytes) for text in texts[:n])
    return first if len(texts) <= n else (*first, f"and {len(texts) - n} more")


def _commonest(counts: dict[str, int]) -> dict[str, int]:
    if len(counts) <= MAX_SKIPPED:
        return counts
    kept = dict(sorted(counts.items(), key=lambda row: -row[1])[:MAX_SKIPPED])
    return kept | {"other reasons": sum(counts.values()) - sum(kept.values())}


def _first_files(files: tuple[InputFile, ...]) -> tuple[InputFile, ...]:
    """So many files, and one row for all others: their bytes together, and the sha256 of their sha256s."""
    first = tuple(replace(file, name=_cut(file.name, MAX_NAME)) for file in files[:MAX_NAMES])
    others = files[MAX_NAMES:]
    if not others:
        return first
    sha256 = hashlib.sha256("".join(file.sha256 for file in others).encode()).hexdigest()
    rest = InputFile(name=f"and {len(others)} more", bytes=sum(file.bytes for file in others), sha256=sha256)
    return (*first, rest)


def _recent(history: History | None, generation: int = 1) -> History | None:
    """A history whose passes list few quarantined structures, and whose ancestors are told to some depth."""
    if history is None:
        return None
    share = min(MAX_PASS_ROWS, MAX_PASSES_ROWS // max(1, len(history.passes)))
    passes = tuple(_with_rows(done, share) for done in history.passes)
    parents = tuple(_with_history(parent, generation) for parent in history.parents)
    return replace(history, passes=passes, parents=parents)


def _with_rows(done: Pass, n: int) -> Pass:
    return replace(done, quarantine=_listed(done.quarantine[:n]))


def _with_history(parent: Parent, generation: int) -> Parent:
    return replace(parent, history=_recent(parent.history, generation + 1) if generation < MAX_GENERATIONS else None)
