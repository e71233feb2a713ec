"""How fast students are where people simulate: ms for each step, neighbour list included, interleaved in one process.

    python benchmarks/engine_speed.py --students moment painn-small --sizes 40 320 -o speed.json

For each student and number of atoms (SrTiO3, rattled; weights are random, which costs the same): a call of the eager and of the
compiled calculator at moved positions, a step of NVE in ASE, OpenMM and torch-sim, and 32 structures at once in torch-sim, where these are
installed. Ratios are to the first row of the same round, medians over rounds: the machine may be busy. A teacher, if given, runs
through TeacherCalculator in a process of its own, whose CPU time is not seen here: --clock wall. LAMMPS prints its
own timings: `hdistill export --to lammps`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from ase.spacegroup import crystal

from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import StudentCard, save_student
from hdistill.trainer.inputs.references import References
from hdistill.trainer.students.build import build
from hdistill.trainer.students.registry import size_of

ELEMENTS = (8, 22, 38)
TIMESTEP_FS = 1.0
BATCH = 32


def perovskite(n_atoms: int) -> Atoms:
    """SrTiO3 of 5, 40, 320 or 2560 atoms, rattled by 0.02 A, at 300 K."""
    from ase.md.velocitydistribution import thermalize_momenta

    cell = crystal(
        ["Sr", "Ti", "O"], [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], spacegroup=221, cellpar=[3.9] * 3 + [90] * 3
    )
    repeat = round((n_atoms / 5) ** (1 / 3))
    atoms = cell.repeat(repeat)
    atoms.rattle(0.02, seed=0)
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(0))
    return atoms


def student_run(folder: Path, name: str) -> Path:
    size = size_of(name)
    run = folder / name
    run.mkdir()
    card = StudentCard(name, size, References(ELEMENTS, (0.0,) * 3), 1.0, {"dtype": "float32"}, "", {}, {}, 0, {})
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


def ase_md(calculator: Any, atoms: Atoms) -> Callable[[int], None]:
    moving = atoms.copy()
    moving.calc = calculator
    dynamics = VelocityVerlet(moving, TIMESTEP_FS * units.fs)
    return lambda steps: dynamics.run(steps)


def openmm_md(run: Path, atoms: Atoms) -> Callable[[int], None]:
    from openmm import Context, Platform, System, VerletIntegrator, unit

    from hdistill.trainer.force_field.engines.openmm import openmm_force

    system = System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    system.setDefaultPeriodicBoxVectors(*(atoms.cell.array / 10))
    system.addForce(openmm_force(run, atoms.numbers, periodic=True, compiled=True))
    integrator = VerletIntegrator(TIMESTEP_FS * unit.femtosecond)
    context = Context(system, integrator, Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / 10)
    context.setVelocitiesToTemperature(300, 0)
    context_kept = [context]  # a Context that is collected takes its integrator with it
    return lambda steps: context_kept[0].getIntegrator().step(steps)


def torchsim_md(run: Path, atoms: Atoms, copies: int) -> Callable[[int], None]:
    import torch
    import torch_sim as ts

    from hdistill.trainer.force_field.engines.torchsim import torchsim_model

    model = torchsim_model(run, compiled=True)
    state = ts.io.atoms_to_state([atoms] * copies, torch.device("cpu"), torch.float64)
    dt = torch.tensor(TIMESTEP_FS * 1e-3 * ts.units.MetalUnits.time, dtype=torch.float64)
    kT = torch.tensor(300 * units.kB, dtype=torch.float64)
    start, step = ts.integrators.nve(model=model, dt=dt, kT=kT, seed=0)
    kept = [start(state)]

    def run_steps(steps: int) -> None:
        for _ in range(steps):
            kept[0] = step(kept[0])

    return run_steps


def rows_for(run: Path, atoms: Atoms, teacher: Any) -> dict[str, tuple[Callable[[int], None], int]]:
    """What is timed, by name, and how many structures one step of it moves."""
    eager = HDistillCalculator(run, compiled=False)
    compiled = HDistillCalculator(run, compiled=True)
    rows: dict[str, tuple[Callable[[int], None], int]] = {
        "eager call": (call(eager, atoms), 1),
        "compiled call": (call(compiled, atoms), 1),
        "ASE NVE, compiled": (ase_md(HDistillCalculator(run, compiled=True), atoms), 1),
    }
    if teacher is not None:
        rows["teacher call"] = (call(teacher, atoms), 1)
    for name, make in (
        ("OpenMM NVE", lambda: openmm_md(run, atoms)),
        ("torch-sim NVE", lambda: torchsim_md(run, atoms, 1)),
        (f"torch-sim NVE, {BATCH} at once", lambda: torchsim_md(run, atoms, BATCH)),
    ):
        try:
            rows[name] = (make(), BATCH if "at once" in name else 1)
        except ImportError as error:
            print(f"{name}: left out, {error}")
    return rows


def interleaved(
    rows: dict[str, tuple[Callable[[int], None], int]], seconds: float, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """ms for each step and structure, one list of rounds a row; in each round every row has its turn."""
    counts = {}
    for name, (run, _) in rows.items():
        run(1)
        began = clock()
        run(2)
        counts[name] = max(1, int(seconds / max((clock() - began) / 2, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, (run, structures) in rows.items():
            began = clock()
            run(counts[name])
            times[name].append(1e3 * (clock() - began) / counts[name] / structures)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", nargs="+", default=["moment", "painn-small"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[40, 320], help="5, 40, 320, 2560 atoms")
    parser.add_argument("--teacher", help="a name of `hdistill teachers`, for one row more")
    parser.add_argument(
        "--clock", choices=["cpu", "wall"], default="cpu", help="CPU time of this process, where others are busy, too"
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row and round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    teacher = None
    if options.teacher and options.clock == "cpu":
        parser.error("A teacher works in another process; give --clock wall, on an idle machine.")
    if options.teacher:
        from hdistill.labeler.teacher_calculator import TeacherCalculator

        teacher = TeacherCalculator(options.teacher)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.students:
            run = student_run(Path(folder), name)
            for n_atoms in options.sizes:
                atoms = perovskite(n_atoms)
                times = interleaved(rows_for(run, atoms, teacher), options.seconds, options.rounds, clock)
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
