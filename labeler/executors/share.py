"""A share of a plan without any scheduler: what one task of a job array does. Threads, each with a teacher process of its own."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from hdistill.data.errors import InputError

from ..process import gpus
from ..process.host import HostSettings, TeacherHost
from ..work.chunk import Receipt, label_chunk


def parse(text: str) -> tuple[int, int]:
    """'3/64' to (3, 64): the third of 64 shares; 0/64 is the plan and no share of it. Raises InputError."""
    k, slash, n = text.partition("/")
    if not (slash and k.strip().isdigit() and n.strip().isdigit() and int(k) <= int(n) > 0):
        raise InputError(
            f"--part was '{text}'; it takes K/N with K from 1 to N, such as 3/64, or 0/64 for the plan alone."
        )
    return int(k), int(n)


def share_of(chunks: Sequence[int], part: tuple[int, int]) -> list[int]:
    """The chunks of one part, by their number: the same ones however many are missing still."""
    k, n = part
    return [chunk for chunk in chunks if chunk % n == k - 1]


def receipts(chunks: Sequence[int], folder: Path, host: HostSettings, workers: int) -> Iterator[Receipt]:
    """Receipts as chunks are done. Raises what label_chunk raises; what is finished is kept."""
    hosts: queue.SimpleQueue[TeacherHost] = queue.SimpleQueue()
    every = [TeacherHost(replace(host, gpu=gpu)) for gpu in gpus.one_each(host.request.device, workers)]
    for one in every:
        hosts.put(one)

    def work(chunk: int) -> Receipt:
        mine = hosts.get()
        try:
            return label_chunk(folder, chunk, mine)
        finally:
            hosts.put(mine)

    with ExitStack() as stack:
        for one in every:
            stack.callback(one.close)
        pool = stack.enter_context(ThreadPoolExecutor(workers))  # its exit waits for the threads, which stop() frees
        for one in every:
            stack.callback(one.stop)
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        for future in as_completed([pool.submit(work, chunk) for chunk in chunks]):
            yield future.result()
