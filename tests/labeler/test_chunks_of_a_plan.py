"""How a plan is cut into chunks: small ones of a small set, several batches in one where there are many, never too many."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hdistill.labeler.planning.plan import CHUNK_EDGES, CHUNK_STRUCTURES, MANY_CHUNKS, chunk_size, cut


def test_a_small_set_is_cut_as_fine_on_a_gpu_as_on_a_cpu() -> None:
    for batch_edges in (1500, 100_000):
        assert chunk_size(300, 60_000, batch_edges) == (CHUNK_STRUCTURES, CHUNK_EDGES)


def test_a_chunk_of_a_large_set_holds_several_batches_of_a_gpu() -> None:
    structures, edges = chunk_size(2_000_000, 1_600_000_000, 100_000)
    assert edges == 400_000
    assert structures == 64 * 400_000 // CHUNK_EDGES
    assert chunk_size(2_000_000, 1_600_000_000, 1500)[1] == 16_000  # on a CPU: what keeps the chunks few
    assert chunk_size(20_000, 16_000_000, 100_000)[1] == 16_000  # a thousand chunks are to be shared out first


@pytest.mark.parametrize(("n", "pairs"), [(10_000_000, 42), (10_000_000, 800), (1_500_000, 4000), (10**8, 2000)])
def test_there_are_never_too_many_chunks(n: int, pairs: int) -> None:
    structures, edges = chunk_size(n, n * pairs, 1500)
    assert n / structures <= MANY_CHUNKS * 1.001
    assert n * pairs / edges <= MANY_CHUNKS * 1.001


def test_chunks_follow_each_other_and_keep_to_the_size() -> None:
    rng = np.random.default_rng(0)
    n_edges = rng.integers(5, 3000, 5000)
    n_edges[17] = 10**6  # one structure always fits
    starts = cut(n_edges)
    assert (starts[0], starts[-1]) == (0, 5000)
    pieces = [n_edges[a:b] for a, b in pairwise(starts)]
    assert all(0 < len(piece) <= CHUNK_STRUCTURES for piece in pieces)
    assert [len(piece) for piece in pieces if piece.sum() > CHUNK_EDGES] == [1]
    for piece, following in pairwise(pieces):  # nothing is cut before it is full
        assert len(piece) == CHUNK_STRUCTURES or piece.sum() + following[0] > CHUNK_EDGES
