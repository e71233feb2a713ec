"""What Hessian labels cost a teacher: a call with energies, forces and 1 or 4 probes over one with energies and forces alone.

    python benchmarks/study_label_time.py OUT      # OUT of study.py; needs the teachers of its subsets

32 structures a call, one thread, calls in turn, medians of wall time.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from functools import partial
from pathlib import Path

import click
from study_labels import SUBSETS, Labels
from study_measure import every_sample, labelling_teacher

from hdistill.data.probes import draw, parse_spec
from hdistill.pipelines.report.speed import interleaved_ms

N_STRUCTURES = 32
KINDS = ("none", "probes:1", "probes:4")
ROUNDS = 5


@click.command()
@click.argument("out", type=click.Path(path_type=Path, exists=True))
def main(out: Path) -> None:
    print(f"| teacher | {' | '.join(f'{kind}, ms' for kind in KINDS)} | over none |\n|---|---|---|---|---|")
    for name, subset in SUBSETS.items():
        labels = Labels(out / name / "labels")
        structures = [sample.structure for sample in every_sample(labels.test("new"))[:N_STRUCTURES]]
        with labelling_teacher(subset.teacher) as teacher:
            wanted = [[draw(parse_spec(kind), 0, s.id, s.n_atoms) for s in structures] for kind in KINDS]
            calls = [partial(teacher.label, structures, directions) for directions in wanted]
            times = interleaved_ms(*calls, repeats=ROUNDS)
        ratios = ", ".join(f"{ms / times[0]:.1f}x" for ms in times[1:])
        print(f"| {subset.teacher} | {' | '.join(f'{ms:.0f}' for ms in times)} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
