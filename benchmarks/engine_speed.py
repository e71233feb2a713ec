"""How fast students are where people simulate: ms for each step, neighbour list included, interleaved in one process.

    python benchmarks/engine_speed.py --students moment painn-small --sizes 40 320 -o speed.json

For each student and number of atoms (9: ethanol, else SrTiO3, rattled; weights are random, which costs the same): a call of the
eager and of the compiled calculator at moved positions, a step of NVE in ASE, OpenMM and torch-sim, and 32 structures at once in
torch-sim, where these are installed. Ratios are to the first row of the same round, medians over rounds: the machine may be busy. Teachers
run through TeacherCalculator in processes of their own, whose CPU time counts. --references: SNAP and UF3 in LAMMPS (tantalum and niobium:
about as many atoms of another crystal, from 40 on) and NEP through calorine (the same structure), in the same rounds. Students in LAMMPS:
lammps_ranks.py.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.spacegroup import crystal
from engine_references import LAMMPS_OWN, Row, cpu_with_children, in_lammps, nep

from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import StudentCard, save_student
from hdistill.trainer.force_field.engines.steps import BATCH, TIMESTEP_FS, engines
from hdistill.trainer.inputs.references import References
from hdistill.trainer.students.build import build
from hdistill.trainer.students.registry import size_of

ELEMENTS = (1, 6, 8, 22, 38)


def timed_structure(n_atoms: int) -> Atoms:
    """Ethanol for 9 atoms, else about so many of SrTiO3 (5, 40, 80, 320, 1715, 2560 fit exactly) rattled by 0.02 A; at 300 K."""
    from ase.build import molecule
    from ase.md.velocitydistribution import thermalize_momenta

    if n_atoms == 9:
        atoms = molecule("CH3CH2OH")
    else:
        cell = crystal(
            ["Sr", "Ti", "O"], [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], spacegroup=221, cellpar=[3.9] * 3 + [90] * 3
        )
        edge = max(1, math.floor((n_atoms / 5) ** (1 / 3) + 1e-6))
        atoms = cell.repeat((edge, edge, max(1, round(n_atoms / 5 / edge**2))))
    atoms.rattle(0.02, seed=0)
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(0))
    return atoms


def student_run(folder: Path, name: str) -> Path:
    size = size_of(name)
    run = folder / name
    run.mkdir()
    card = StudentCard(
        name, size, References(ELEMENTS, (0.0,) * len(ELEMENTS)), 1.0, {"dtype": "float32"}, "", {}, {}, 0, {}
    )
    save_student(run, card, build(size, ELEMENTS, 1.0))
    return run


def call(calculator: Any, atoms: Atoms) -> Callable[[int], None]:
    """Energy and forces at moved positions: atoms swing as in dynamics, so that lists with a skin last as long as there."""
    moving = atoms.copy()
    moving.calc = calculator
    start, velocity = moving.positions.copy(), moving.get_velocities() * TIMESTEP_FS * units.fs
    clock = [0]

    def run(steps: int) -> None:
        for _ in range(steps):
            clock[0] += 1
            moving.positions = start + 10 * np.sin(clock[0] / 10) * velocity
            moving.get_forces()

    return run


def rows_for(
    run: Path, atoms: Atoms, teachers: dict[str, Any], device: str, with_code: bool, references: bool
) -> dict[str, tuple[Row, int]]:
    """What is timed, by name, and how many structures one step of it moves."""
    eager = HDistillCalculator(run, device, compiled=False)
    rows: dict[str, tuple[Row, int]] = {
        "eager call": (call(eager, atoms), 1),
    }
    if with_code:
        rows["compiled call"] = (call(HDistillCalculator(run, device, compiled=True), atoms), 1)
    rows |= {f"{name} call": (call(teacher, atoms), 1) for name, teacher in teachers.items()}
    if references:
        if (calculator := nep(tuple(sorted(set(atoms.symbols))), run)) is not None:
            rows["NEP call"] = (call(calculator, atoms), 1)
        for kind in LAMMPS_OWN if len(atoms) >= 40 else ():
            if (made := in_lammps(kind, len(atoms))) is not None:
                rows[f"{kind} in LAMMPS, {made[1]} atoms"] = (made[0], 1)
    moving, failed = engines(run, atoms, with_code, device, BATCH if len(atoms) < 500 else 1)
    for name, why in failed.items():
        print(f"{name}: left out, {why}")
    rows |= {f"{name} NVE": row for name, row in moving.items()}
    return rows


def synchronized() -> float:
    """Wall time, when the GPU has done what it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


def interleaved(
    rows: dict[str, tuple[Row, int]], seconds: float, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """ms for each step and structure, one list of rounds a row; in each round every row has its turn."""
    counts = {}
    for name, (run, _) in rows.items():
        run(1)
        counts[name] = max(1, int(seconds / max(timed(run, 2, clock) / 2, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, (run, structures) in rows.items():
            times[name].append(1e3 * timed(run, counts[name], clock) / counts[name] / structures)
    return times


def timed(run: Row, steps: int, clock: Callable[[], float]) -> float:
    """Seconds of so many steps: what the row says itself, else what the clock does."""
    began = clock()
    own = run(steps)
    return own if isinstance(own, float) else clock() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", nargs="+", default=["moment", "painn-small"])
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[40, 320], help="9 (ethanol), 5, 40, 80, 320, 2560 atoms"
    )
    parser.add_argument("--teachers", nargs="+", default=[], help="names of `hdistill teachers`, for one row more each")
    parser.add_argument("--references", action="store_true", help="SNAP in LAMMPS and NEP through calorine, too")
    parser.add_argument(
        "--clock",
        choices=["cpu", "wall"],
        default="cpu",
        help="CPU time of this process and its teachers', where others are busy, too",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda; of a GPU the wall clock is what counts")
    parser.add_argument("--eager", action="store_true", help="without machine code")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row and round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    clock = cpu_with_children if options.teachers else time.process_time
    if options.clock == "wall":
        clock = time.perf_counter
    if options.device != "cpu":
        clock = synchronized
    from hdistill.labeler.teacher_calculator import TeacherCalculator

    teachers = {name: TeacherCalculator(name) for name in options.teachers}
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.students:
            run = student_run(Path(folder), name)
            for n_atoms in options.sizes:
                atoms = timed_structure(n_atoms)
                times = interleaved(
                    rows_for(run, atoms, teachers, options.device, not options.eager, options.references),
                    options.seconds,
                    options.rounds,
                    clock,
                )
                first = next(iter(times))
                for row, values in times.items():
                    ratio = statistics.median(a / b for a, b in zip(times[first], values, strict=True))
                    best = min(values)
                    results.append(
                        {
                            **{
                                "student": name,
                                "n_atoms": len(atoms),
                                "row": row,
                                "ms": best,
                                "speedup_over_eager_call": ratio,
                            },
                            **{"ns_per_day_1fs": 86.4 / best, "times": values},
                        }
                    )
                    print(
                        f"{name:12} {len(atoms):5} atoms  {row:26} {best:9.3f} ms  {ratio:7.2f} x  {86.4 / best:8.2f} ns/day",
                        flush=True,
                    )
    if options.out:
        options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
