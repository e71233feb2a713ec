"""Students against SevenNet-0 and CHGNet: milliseconds of one energy-and-forces call through ASE, neighbour list included.

    python benchmarks/student_speed.py       # needs `hdistill teachers install sevennet` and `... chgnet`

Each teacher is its package's own ASE calculator. One thread, calls in turn, medians; students have untrained weights, which
does not change their cost.
"""

from __future__ import annotations

import os
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import sys
import tempfile
from functools import partial
from pathlib import Path

from ase import Atoms
from ase.build import molecule
from ase.io import write

from hdistill.data.structure import Structure
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.run import RunSettings, label
from hdistill.pipelines.report.speed import interleaved_ms, own_calculator, student_call
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.settings import FitSettings

SITES = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
STUDENTS = ("painn", "painn-small", "moment", "moment-large", "gemnet-t", "gemnet-dt")
TEACHERS = ("7net-0", "chgnet")


def main() -> None:
    structures = benchmark_structures()
    with tempfile.TemporaryDirectory() as folder:
        students = {name: student_call(untrained(name, Path(folder))) for name in STUDENTS}
        processes = {name: own_calculator(name) for name in TEACHERS}
        header = "".join(f"{name:>13}" for name in (*TEACHERS, *STUDENTS))
        print(f"{'ms per call':20}{header}   against 7net-0: {', '.join((TEACHERS[1], *STUDENTS))}")
        for name, atoms in structures.items():
            s = Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
            calls: list[Callable[[], object]] = [partial(process.label, [s], [None]) for process in processes.values()]
            calls += [partial(call, s) for call in students.values()]
            times = interleaved_ms(*calls, repeats=3)
            ratios = ", ".join(f"{times[0] / ms:.1f}x" for ms in times[1:])
            print(f"{name:20}{''.join(f'{ms:13.2f}' for ms in times)}   {ratios}", flush=True)
        for process in processes.values():
            process.close()


def benchmark_structures() -> dict[str, Atoms]:
    """9, 40, 85 and 320 atoms; the two without periodicity stand in a box, which CHGNet needs."""
    cubic = Atoms("SrTiO3", scaled_positions=SITES, cell=[3.9] * 3, pbc=True)
    crystals = {n: cubic * (k, k, k) for n, k in ((40, 2), (320, 4))}
    cluster = (cubic * (4, 3, 2))[:85]
    ethanol = molecule("CH3CH2OH")
    for isolated in (ethanol, cluster):
        isolated.center(vacuum=8.0)
        isolated.pbc = True
    named = {"9, molecule": ethanol, "40, crystal": crystals[40], "85, cluster": cluster, "320, crystal": crystals[320]}
    for atoms in named.values():
        atoms.rattle(0.02, seed=0)
    return named


def untrained(student: str, folder: Path) -> Path:
    """A run folder of a student after one step, on labels of the Lennard-Jones teacher with the elements that are needed."""
    labels = folder / "labels"
    if not labels.exists():
        atoms = [Atoms("HCOSrTi", [(4 * i, 0.1 * k, 0) for i in range(5)], info={"group": str(k)}) for k in range(8)]
        write(folder / "start.xyz", atoms)
        settings = LabelSettings("lennard-jones", (str(folder / "start.xyz"),))
        label(
            settings, labels, run=RunSettings(workers=1, progress=False), say=lambda text: print(text, file=sys.stderr)
        )
    return fit(labels, folder / student, FitSettings(student=student, steps=1), progress=False).run


if __name__ == "__main__":
    main()
