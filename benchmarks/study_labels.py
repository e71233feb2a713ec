"""The label sets of study.py, all under one folder: a pool to learn from, samples of it, and test sets. Run again, it continues.

pool            4 probes; its training split is sampled for every point of a learning curve, its validation split goes along
pool-<n>        so many training structures of it; a smaller sample is a part of a larger one
<kind>-<n>      the same structures with other Hessian labels: rows-16, probes-16, full; features: with the teacher's node features
known           structures that nobody learns from, of molecules (or chemistries) that are learned from
new             structures of molecules (or chemistries) that are not
known-full, new-full    full Hessians of some of those, for frequencies
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hdistill.data.convert.cut import cut
from hdistill.data.labelsets.label_set import MANIFEST
from hdistill.data.labelsets.split import parse_fractions, split_of
from hdistill.data.sources import SourceReport
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.planning.prepare import selection
from hdistill.labeler.run import RunSettings, label

SMALL = "{'H','C','N','O'} >= elements and n_atoms <= 16"
HELD_OUT = "{'BaTiO3', 'CsCaF3'}"  # every element of theirs is in a chemistry that is trained on


@dataclass(frozen=True)
class Subset:
    """What is labelled by whom, and which structures are test sets.

    pool: an expression that chooses what is learned from; known: the split of the pool that is "known groups, other structures"
    (train: what --limit left out); new: an expression, or empty where it is the pool's test split.
    """

    name: str
    teacher: str
    source: str
    pool: str
    known: str
    new: str
    sizes: tuple[int, ...]  # training structures
    n_kinds: int  # training structures with other Hessian labels
    kinds: tuple[str, ...]
    n_test: int = 300  # structures of a test set, about
    n_full: int = 40


SPLITS = "0.7,0.1,0.2"
SUBSETS = {
    # A group is a molecule, and in one split alone: the pool's test split holds molecules that no student learns from.
    "spice": Subset(
        "spice",
        "ani-1x",
        "spice:monomers",
        SMALL,
        "train",
        "",
        (50, 100, 200, 500, 1000, 2000),
        200,
        ("rows:1", "rows:4", "rows:16", "probes:1", "probes:16", "full"),
    ),
    # A group is one strain of one chemistry: the pool's test split holds strains; whole chemistries are held out by name.
    "perovskites": Subset(
        "perovskites",
        "7net-0",
        "perovskites:5",
        f"not (chemistry in {HELD_OUT})",
        "test",
        f"chemistry in {HELD_OUT}",
        (25, 50, 100, 200),
        100,
        ("rows:1", "rows:4", "probes:1", "full"),
        n_test=60,
        n_full=20,
    ),
}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Labels:
    """Where the label sets of a subset are."""

    folder: Path

    def pool(self, n: int) -> Path:
        return self.folder / f"pool-{n}"

    def kind(self, kind: str, n: int) -> Path:
        return self.folder / f"{kind.replace(':', '-')}-{n}"

    def test(self, name: str) -> Path:
        return self.folder / name


def label_all(
    subset: Subset, out: Path, data: Path | None, teacher: str | None = None, kinds: Sequence[str] = ()
) -> Labels:
    """Everything that study.py needs of a subset, in the folder `out`; kinds: other Hessian labels that are wanted, too."""
    base = LabelSettings(teacher or subset.teacher, (subset.source,), where=subset.pool, splits=SPLITS)
    actual = Labels(out)
    limits = limits_for(subset.sizes, base, data)
    _label(replace(base, limit=max(limits.values())), out / "pool", data)
    for n, limit in limits.items():
        _once(actual.pool(n), lambda path, n=limit: cut(out / "pool", path, limit=n, seed=base.seed, say=say))
    _test_sets(subset, base, out, data)
    again = replace(base, where=None)
    for kind in kinds:
        source, features = (str(actual.pool(subset.n_kinds)),), kind == "features"
        wanted = replace(again, subset=source, hessian="none" if features else kind, node_features=features)
        _label(wanted, actual.kind(kind, subset.n_kinds), data)
    return actual


def _test_sets(subset: Subset, base: LabelSettings, out: Path, data: Path | None) -> None:
    """known, new: test structures with 4 probes each; known-full, new-full: some of them with all rows."""
    pool, n = out / "pool", subset.n_test
    if subset.known == "train":
        others = replace(base, limit=round(n / parse_fractions(SPLITS)[0]), not_in=(str(pool),))
        _label(others, out / "others", data)
        _once(out / "known", lambda path: cut(out / "others", path, split="train", say=say))
    else:
        _once(out / "known", lambda path: cut(pool, path, split=subset.known, limit=n, say=say))
    if subset.new:
        _label(replace(base, where=subset.new, limit=n), out / "new", data)
    else:
        _once(out / "new", lambda path: cut(pool, path, split="test", limit=n, say=say))
    for name in ("known", "new"):
        some = replace(base, subset=(str(out / name),), where=None, limit=subset.n_full, hessian="full", codec="exact")
        _label(some, out / f"{name}-full", data)


def _label(settings: LabelSettings, path: Path, data: Path | None) -> None:
    if not (path / MANIFEST).exists():
        label(settings, path, data, RunSettings(workers=1), say)


def _once(path: Path, make: Callable[[Path], Any]) -> None:
    """make(path), unless it is complete; what an interrupted call left is removed."""
    if not (path / MANIFEST).exists():
        shutil.rmtree(path, ignore_errors=True)
        make(path)


def limits_for(sizes: Sequence[int], settings: LabelSettings, data: Path | None) -> dict[int, int]:
    """By number of training structures how many --limit must keep for exactly so many of them to be in the training split."""
    fractions, limits, trained = parse_fractions(settings.splits), {}, 0
    for number, structure in enumerate(selection(replace(settings, limit=10**6), data, SourceReport()), start=1):
        trained += split_of(structure.group, settings.seed, fractions) == "train"
        if trained in sizes and trained not in limits:
            limits[trained] = number
    if len(limits) < len(sizes):
        raise SystemExit(f"Only {trained} structures are left for training; {max(sizes)} are needed.")
    return limits


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
