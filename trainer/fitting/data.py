"""The training split as a stream of steps: samples in order, their products drawn, cut into batches that fit, with targets."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hdistill.data.format.shard import Sample
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.labelsets.stream import BlockCache, shuffled

from ..inputs.batch import (
    Batch,
    Targets,
    batch_of,
    composition_of,
    mixed,
    pair_weights,
    targets_of,
    with_atom_energies,
    with_pairs,
    with_products,
)
from ..inputs.features import with_features
from ..inputs.neighbours import EdgeCache, Edges
from ..students.registry import size_of
from .loss import counts_of
from .ranks import Ranks
from .settings import FitSettings
from .statistics import Statistics

PAIRING_WINDOW = 512  # samples, among which partners of the same composition are looked for
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Piece:
    """A batch that fits in memory at once, its targets, and where its structures stand in the whole step."""

    batch: Batch
    targets: Targets
    places: Sequence[int]


@dataclass(frozen=True, eq=False)
class StepInputs:
    """What one gradient step is given. ids: of all its structures; counts: over how many each term of the loss is averaged in the
    whole step; pieces: this rank's share; pair_weights (S,S): of all its structures, where the step is cut and pairs are learned."""

    ids: Sequence[str]
    counts: Mapping[str, int]
    pieces: Sequence[Piece]
    pair_weights: NDArray[np.float64] | None = None


class TrainingData:
    """Steps of a label set's training split, with what was decoded and found kept in memory."""

    def __init__(self, labels: LabelSet, statistics: Statistics, settings: FitSettings, ranks: Ranks):
        self.labels, self.statistics, self.settings, self.ranks = labels, statistics, settings, ranks
        self.cutoff = size_of(settings.student).cutoff
        self.blocks, self.edges = BlockCache(), EdgeCache()

    def steps(self, first: int) -> Generator[StepInputs, None, None]:
        """The inputs of step `first` and of those after it, without end; the next is made while one is in use."""
        return prefetched(self._steps(first))

    def _steps(self, first: int) -> Iterator[StepInputs]:
        size = self.settings.batch_size
        pairing = self.settings.difference_weight > 0
        samples = paired(self._samples, first * size) if pairing else self._samples(first * size)
        step = first
        while some := list(islice(samples, size)):
            yield self.inputs(some, step)
            step += 1

    def inputs(self, samples: Sequence[Sample], step: int) -> StepInputs:
        """The inputs of one step on these samples.

        Every rank draws the products of all samples, from the seed and the step alone, and counts them all: neither the number
        of ranks nor the cutting into pieces changes more than the rounding.
        """
        settings = self.settings
        generator = np.random.default_rng((settings.seed, step))
        drawn = [with_products(sample, self._n_products(sample), generator) for sample in samples]
        share = self.ranks.share(drawn)
        places = self.ranks.share(range(len(drawn)))
        pieces: list[Piece] = []
        for chosen, edges in self._cut(share):
            done = sum(len(piece.places) for piece in pieces)
            batch = batch_of([s.structure for s in chosen], self.cutoff, self.ranks.device, edges)
            pieces.append(Piece(batch, self.targets(chosen), places[done : done + len(chosen)]))
        is_cut = settings.difference_weight > 0 and (self.ranks.count > 1 or len(pieces) > 1)
        return StepInputs(
            ids=[s.structure.id for s in samples],
            counts=counts_of(drawn, settings.hessian_norm, settings.targets),
            pieces=pieces,
            pair_weights=pair_weights([s.structure for s in drawn]) if is_cut else None,
        )

    def targets(self, samples: Sequence[Sample]) -> Targets:
        """What a student should predict for these samples, of all terms that are learned."""
        settings, statistics, device = self.settings, self.statistics, self.ranks.device
        if settings.targets == "mix":
            targets = targets_of(samples, statistics.teacher_references, "teacher", device)
            targets = mixed(targets, samples, statistics.references, settings.reference_share, device)
        else:
            targets = targets_of(samples, statistics.references, settings.targets, device)
        if statistics.features is not None:
            targets = with_features(targets, samples, statistics.features, device)
        if statistics.atom_references is not None:
            targets = with_atom_energies(targets, samples, statistics.atom_references, device)
        return with_pairs(targets, samples, device) if settings.difference_weight > 0 else targets

    def _samples(self, first: int) -> Iterator[Sample]:
        return shuffled(self.labels, "train", self.settings.seed, first, self.blocks)

    def _n_products(self, sample: Sample) -> int:
        """Of one structure in a step; none of one whose Hessian is left out."""
        outliers = self.statistics.outlier_ids
        is_outlier = bool(outliers) and bytes.fromhex(sample.structure.id) in outliers
        return 0 if is_outlier else self.settings.n_products

    def _cut(self, samples: Sequence[Sample]) -> Iterator[tuple[list[Sample], list[Edges]]]:
        """Samples in order with their edges, in batches of at most max_edges pairs, and of at least one sample."""
        chosen: list[Sample] = []
        edges: list[Edges] = []
        for sample in samples:
            own = self.edges.of(sample.structure, self.cutoff)
            if chosen and sum(e.n_pairs for e in edges) + own.n_pairs > self.settings.max_edges:
                yield chosen, edges
                chosen, edges = [], []
            chosen, edges = [*chosen, sample], [*edges, own]
        if chosen:
            yield chosen, edges


def paired(
    samples_from: Callable[[int], Iterator[Sample]], first: int, window: int = PAIRING_WINDOW
) -> Iterator[Sample]:
    """The samples of a stream, each once, from number `first` on, in windows in which those of one composition come in twos.

    samples_from: the stream from a number on. Where a window has no partner for a structure, it comes alone.
    """
    skip = first % window
    stream = samples_from(first - skip)
    while chunk := list(islice(stream, window)):
        yield from _in_pairs(chunk)[skip:]
        skip = 0


def _in_pairs(samples: Sequence[Sample]) -> list[Sample]:
    """The samples with each second one of a composition right behind the one before it."""
    pairs: list[list[Sample]] = []
    waiting: dict[bytes, list[Sample]] = {}
    for sample in samples:
        composition = composition_of(sample.structure)
        if composition in waiting:
            waiting.pop(composition).append(sample)
        else:
            pairs.append([sample])
            waiting[composition] = pairs[-1]
    return [sample for pair in pairs for sample in pair]


def prefetched(items: Iterator[T]) -> Generator[T, None, None]:
    """The items of an iterator, each made by another thread while the one before it is in use."""
    with ThreadPoolExecutor(1, "prefetch") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
