"""Does a fit's memory stay flat from 10^3 to 10^6 structures, and does reading keep up with the student?

    python benchmarks/fit_scale.py [--largest 1000000]

Lennard-Jones labels of 1000 clusters of 8 atoms with 4 probes each, written again and again with other geometries until a set has
the size wanted; what is measured does not depend on their values. Each fit runs in a process of its own, whose peak memory is
the kernel's count (VmHWM). Loader: CPU time of samples decoded, products drawn, edges found and batches put together, in a first
epoch; student: CPU time of whole steps with the Hessian term, reading included, which on the smallest set is next to nothing; the
ratio is how many times faster the loader is than the student there.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import click
import numpy as np
from ase import Atoms
from ase.io import write as write_atoms

from hdistill.data.format.shard_file import Arrays, open_shard
from hdistill.data.labelsets.label_set import LabelSet, open_label_set
from hdistill.data.labelsets.stream import blocks_of, n_samples, window_blocks
from hdistill.data.labelsets.writer import Block, facts_of, write
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.run import RunSettings, label

BASE = 1000  # structures that are really labelled
CORNERS = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
STEPS = 60


@click.command()
@click.option("--largest", default=1_000_000, show_default=True, help="Structures of the largest set.")
@click.option("--student", default="painn-small", show_default=True)
@click.option("--child", type=click.Path(path_type=Path), hidden=True)
def main(largest: int, student: str, child: Path | None) -> None:
    if child is not None:
        print(json.dumps(measured(child, student)))
        return
    print(
        "| structures | peak memory of a fit, MB | loader, samples per CPU s | student | loader / student | before the first step, s |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        base = labelled(Path(folder))
        n, rate = BASE, 0.0
        while n <= largest:
            labels = Path(folder) / str(n)
            write(labels, copies(base, n // BASE), facts_of(open_label_set(base).manifest))
            command = [sys.executable, __file__, "--child", str(labels), "--student", student]
            actual = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            rate = rate or actual["student"]
            print(
                f"| {n} | {actual['peak_mb']:.0f} | {actual['loader']:.0f} | {actual['student']:.0f} "
                f"| {actual['loader'] / rate:.1f} | {actual['opening']:.1f} |",
                flush=True,
            )
            n *= 10


def labelled(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    clusters = [
        Atoms("Ar8", 3.8 * CORNERS + rng.normal(scale=0.15, size=(8, 3)), info={"group": str(k)}) for k in range(BASE)
    ]
    write_atoms(folder / "start.xyz", clusters)
    settings = LabelSettings("lennard-jones", (str(folder / "start.xyz"),))
    return label(settings, folder / "base", None, RunSettings(workers=1, progress=False), lambda text: None).path


def copies(base: Path, count: int) -> Iterator[Block]:
    """The structures of a label set `count` times, each time elsewhere in space and with ids of their own."""
    for shard in open_label_set(base).shards:
        with open_shard(shard.path) as file:
            arrays: Arrays = {name: file[name][:] for name in file}
        for copy in range(count):
            rng = np.random.default_rng(copy)
            ids = rng.integers(0, 256, arrays["id"].shape, np.uint8)
            yield Block(arrays | {"id": ids, "positions": arrays["positions"] + copy}, 0.0, 0.0)


def measured(labels: Path, student: str) -> dict[str, float]:
    """Peak memory of a fit in this process, and rates of loader and student in samples per CPU second."""
    from hdistill.trainer.fitting.data import TrainingData
    from hdistill.trainer.fitting.fit import fit
    from hdistill.trainer.fitting.ranks import Ranks
    from hdistill.trainer.fitting.settings import FitSettings
    from hdistill.trainer.fitting.statistics import compute_statistics

    settings = FitSettings(student=student, steps=STEPS, batch_size=16, validate_every=STEPS)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as run:
        done = fit(labels, Path(run) / "run", settings, progress=False)
    opening = time.process_time() - began - done.seconds
    peak = next(
        int(line.split()[1]) / 1024 for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    label_set = open_label_set(labels, check=False)
    data = TrainingData(label_set, compute_statistics(label_set, settings), settings, Ranks())
    n, began = whole_windows(label_set), time.process_time()
    with closing(data.steps(0)) as steps:
        for _ in islice(steps, n // 16):
            pass
    loader = n / (time.process_time() - began)
    return {"peak_mb": peak, "loader": loader, "student": 16 * STEPS / done.seconds, "opening": opening}


def whole_windows(labels: LabelSet) -> int:
    """Samples of the training split in four windows of the order: a part of one would have all of its blocks decoded for less."""
    blocks = len(blocks_of(labels, "train"))
    return round(n_samples(labels, "train") * min(1.0, 4 * window_blocks(labels) / blocks)) // 16 * 16


if __name__ == "__main__":
    main()
