"""A teacher on a GPU beside the same teacher on the CPU: do they agree, and what do energies, forces and products cost?

    python benchmarks/gpu_teacher.py --teacher 7net-0                 # needs a GPU; the teacher's environment as `hdistill label` finds it
    python benchmarks/gpu_teacher.py --teacher 7net-0 --python python3

Rattled SrTiO3 of 40 atoms, alone and in batches as a labelling run packs them; medians of repeated calls through the process that
`hdistill label` uses, so that packing and the pipe are in the figures.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click
import numpy as np
from ase.build import make_supercell
from ase.spacegroup import crystal

from hdistill.data.probes import draw, parse_spec
from hdistill.data.structure import Directions, Labels, Structure
from hdistill.labeler.process.parent import TeacherProcess
from hdistill.labeler.teachers import registry
from hdistill.labeler.teachers.environments import interpreter

DEADLINE_S = 600.0


def structures(n: int) -> list[Structure]:
    """Rattled 2x2x2 cells of cubic SrTiO3, 40 atoms each."""
    cell = crystal(
        ("Sr", "Ti", "O"), [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], spacegroup=221, cellpar=[3.905] * 3 + [90] * 3
    )
    atoms = make_supercell(cell, 2 * np.eye(3))
    rng = np.random.default_rng(0)
    return [
        Structure(
            numbers=atoms.numbers,
            positions=atoms.positions + rng.normal(scale=0.03, size=atoms.positions.shape),
            cell=np.asarray(atoms.cell),
            pbc=np.array([True, True, True]),
            group=f"rattle-{index}",
        )
        for index in range(n)
    ]


def timed(
    teacher: TeacherProcess, batch: Sequence[Structure], directions: Sequence[Directions | None], repeats: int
) -> tuple[list[Labels], float]:
    """Labels and the median seconds of a call."""
    labels = teacher.label(batch, directions, DEADLINE_S)
    seconds = []
    for _ in range(repeats):
        teacher.label(batch, directions, DEADLINE_S)
        seconds.append(teacher.seconds)
    return labels, statistics.median(seconds)


@click.command()
@click.option("--teacher", default="7net-0", show_default=True)
@click.option(
    "--python", type=click.Path(path_type=Path), help="Interpreter that has the teacher. Default: its own environment."
)
@click.option("--batches", default="1,8,64", show_default=True, help="Structures in a call.")
@click.option("--repeats", default=5, show_default=True)
@click.option("--cpu-threads", default=8, show_default=True)
def main(teacher: str, python: Path | None, batches: str, repeats: int, cpu_threads: int) -> None:
    """Compare a teacher on cuda and cpu."""
    all_structures = structures(max(int(n) for n in batches.split(",")))
    probes = [draw(parse_spec("probes:4"), 0, s.id, s.n_atoms) for s in all_structures]
    print(f"{teacher}, SrTiO3 of 40 atoms; per structure, ms: energies and forces, the same with 4 probes")
    first: dict[str, Labels] = {}
    runs: list[tuple[str, Literal["float32", "float64"]]] = [
        (device, dtype) for device in ("cuda", "cpu") for dtype in ("float32", "float64")
    ]
    for device, dtype in runs:
        request = registry.request(teacher, dtype=dtype, device=device)
        with TeacherProcess(interpreter(request.family, python), request, threads=cpu_threads) as process:
            for n in (int(text) for text in batches.split(",")):
                if device == "cpu" and (n > 1 or dtype == "float64") and first.get(f"cpu {dtype}"):
                    continue  # on a CPU a batch costs what its structures cost one by one
                times = 1 if device == "cpu" else repeats
                _, plain = timed(process, all_structures[:n], [None] * n, times)
                labels, with_probes = timed(process, all_structures[:n], probes[:n], times)
                first.setdefault(f"{device} {dtype}", labels[0])
                memory = f", {process.peak_bytes / 1e9:.1f} GB" if device == "cuda" else f", {cpu_threads} threads"
                print(f"{device} {dtype} x{n}: {1e3 * plain / n:.1f} {1e3 * with_probes / n:.1f}{memory}", flush=True)
    truth = first["cpu float64"]
    for name, own in first.items():
        if own.hessian is None or truth.hessian is None:
            continue
        print(
            f"{name} against cpu float64: energy {abs(own.energy - truth.energy) / len(truth.forces):.1e} eV/atom, "
            f"forces {np.abs(own.forces - truth.forces).max():.1e} eV/A, "
            f"products {np.abs(own.hessian.values - truth.hessian.values).max():.1e} eV/A^2"
        )


if __name__ == "__main__":
    main()
