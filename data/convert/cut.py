"""A label set cut out of another: what matches an expression, or a reproducible sample of it; stored bytes stay as they are.

Splits are kept, so what was held out stays held out. Memory: one shard, and 24 bytes for each structure that matches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, nearest
from ..format.records import History, Manifest
from ..format.schema import SPLITS
from ..format.shard import select
from ..format.shard_file import read_arrays
from ..labelsets import provenance
from ..labelsets.balance import NONE
from ..labelsets.facts import Facts, facts_of
from ..labelsets.label_set import LabelSet, open_label_set
from ..labelsets.writer import Block, finished, sweep, write
from ..sources.readers.label_sets import bare_samples
from ..sources.select import order_key, select as matching
from ..structure import Structure
from .merge import codec_error


def cut(
    path: Path,
    out: Path,
    where: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
    check: bool = True,
) -> Manifest:
    """Write the structures that match into the directory `out`; returns its manifest. Killed, it may be run again.

    where: an expression as for `hdistill label`; split: train, val or test; limit: so many of them, by a hash of seed and id,
    so that a smaller sample is a part of a larger one. Raises InputError where nothing matches, LabelSetError.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit was {limit}; it takes a number of structures, 1 or more.")
    if split is not None and split not in SPLITS:
        raise InputError(f"--split was '{split}'; it is {', '.join(SPLITS)}.{nearest(split, SPLITS)}")
    labels = open_label_set(path, check=check)
    settings = {"where": where, "split": split, "limit": limit, "seed": seed}
    if (done := finished(out, plan_of(labels, settings))) is not None:
        say(f"{out} is complete already.")
        return done
    chosen = choose(labels, where, split, limit, seed)
    n = sum(len(rows) for rows in chosen)
    if n == 0:
        raise InputError(f"No structure of {path} matches; loosen --where or --split.")
    say(f"{n} of {labels.manifest.counts.n_structures} structures match.")
    manifest = write(out, _blocks(labels, chosen), _facts(labels, settings))
    sweep(out, manifest)
    return manifest


def choose(
    labels: LabelSet, where: str | None, split: str | None, limit: int | None, seed: int
) -> list[NDArray[np.int64]]:
    """The rows of each shard that are taken, ascending."""
    places: list[tuple[int, int]] = []
    keys: list[int] = []
    place = 0, 0

    def structures() -> Iterator[Structure]:
        nonlocal place
        for number, shard in enumerate(labels.shards):
            for row, sample in enumerate(bare_samples(shard.path)):
                place = number, row
                if split in (None, sample.split):
                    yield sample.structure

    for structure in matching(structures(), where):
        places.append(place)
        if limit is not None:
            keys.append(order_key(seed, structure.id))
    if limit is not None:
        places = sorted(places[i] for i in np.argsort(np.array(keys, np.uint64), kind="stable")[:limit])
    taken = np.array(places, np.int64).reshape(-1, 2)
    return [taken[taken[:, 0] == number, 1] for number in range(len(labels.shards))]


def _blocks(labels: LabelSet, chosen: list[NDArray[np.int64]]) -> Iterator[Block]:
    for shard, rows in zip(labels.shards, chosen, strict=True):
        if len(rows):
            arrays = select(read_arrays(shard.path)[0], rows)
            yield Block(arrays, *codec_error(labels.manifest, arrays))


def plan_of(labels: LabelSet, settings: dict[str, Any]) -> str:
    """Identifies what is cut out of what."""
    return provenance.digest_of({"subset": labels.digest, **settings})


def _facts(labels: LabelSet, settings: dict[str, Any]) -> Facts:
    return replace(
        facts_of(labels.manifest),
        plan=plan_of(labels, settings),
        quarantine=(),
        planned=None,
        n_unlisted=0,
        unlisted=NONE,
        history=History(made_by="subset", settings=settings, parents=(provenance.parent(labels),)),
    )
