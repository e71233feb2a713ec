"""A student in LAMMPS on one and on two MPI ranks: us for each atom and step of NVE, interleaved in one run.

    python benchmarks/lammps_ranks.py --students moment --sizes 320 2560

Rattled SrTiO3 at 300 K, float32, fresh weights, one thread a rank, LAMMPS' own time of its loop (wall time: two ranks need two idle
cores). The ratio is the median over rounds of one rank's time over two ranks'. Only strictly local students run on several.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from ase.data import chemical_symbols
from ase.io import write
from engine_speed import ELEMENTS, student_run, timed_structure

from hdistill.trainer.force_field.engines.lammps import (
    LammpsExport,
    export_lammps,
    lammps_folder,
    library_path,
    mpi_folder,
)

STEPS = """
units metal
atom_style atomic
newton on
plugin load ./{plugin}
read_data start.data
pair_style hdistill
pair_coeff * * student.pt2 H C O Ti Sr
velocity all create 300 1 loop geom
fix 1 all nve
timestep 0.001
neighbor 0.5 bin
thermo 1000000
run 2
run {steps}
"""


def loop_seconds(export: LammpsExport, steps: int, ranks: int) -> float:
    """Of the second `run`, when everything has been touched once."""
    (export.folder / "in.speed").write_text(STEPS.format(plugin=export.plugin.name, steps=steps))
    program = str(lammps_folder() / "lmp")
    words = [str(mpi_folder() / "bin" / "mpiexec"), "-n", str(ranks), program, "-in", "in.speed", "-log", "none"]
    environment = {**os.environ, "LD_LIBRARY_PATH": library_path(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=export.folder, env=environment, capture_output=True, text=True, check=True)
    return float(re.findall(rf"Loop time of (\S+) on {ranks} procs", done.stdout)[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", nargs="+", default=["moment"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[320, 2560])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="about, for each row and round")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in given.students:
            export = export_lammps(student_run(Path(folder), name), Path(folder) / f"{name}-lammps")
            for size in given.sizes:
                atoms = timed_structure(size)
                order = [chemical_symbols[z] for z in ELEMENTS]
                write(export.folder / "start.data", atoms, format="lammps-data", masses=True, specorder=order)
                steps = max(5, round(5 * given.seconds / loop_seconds(export, 5, 1)))
                pairs = [
                    [loop_seconds(export, steps, ranks) for ranks in (1, given.ranks)] for _ in range(given.rounds)
                ]
                best = [1e6 * min(times) / steps / len(atoms) for times in zip(*pairs, strict=True)]
                ratio = statistics.median(one / more for one, more in pairs)
                print(
                    f"{name:12} {len(atoms):5} atoms  1 rank {best[0]:7.2f} us/atom  {given.ranks} ranks {best[1]:7.2f}  "
                    f"{ratio:5.2f} x  {86.4e3 / best[1] / len(atoms):8.2f} ns/day at 1 fs",
                    flush=True,
                )


if __name__ == "__main__":
    main()
