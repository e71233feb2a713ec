"""What energies and forces cost through an adapter against its package's own ASE calculator, on one CPU thread.

    python benchmarks/adapter_cost.py                  # all families that are installed
    python benchmarks/adapter_cost.py 7net-0 chgnet

Both are loaded into one process of the family's interpreter and take turns, with a rattled structure that neither has seen; the
ratio is of medians of CPU seconds. The own calculator gives energy, forces and (crystals) stress, as the adapter does with
`--hessian none`. The mace and fairchem models are the small ones of the tests, where overheads weigh most. In units of energies and
forces: these with one product by differentiation, and with one by a forward difference of 1e-3 A (one more structure in the
batch); how far, in float32, the second is from the first, relative to it (median).
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from inside_teacher import loaded_teacher

ROOT = Path(__file__).resolve().parents[1]
TEACHERS = ("7net-0", "chgnet", "ani-1x", "{folder}/small.model", "{folder}/conserving.pt")
CHECKPOINTS = {"{folder}/small.model": "mace", "{folder}/conserving.pt": "fairchem"}
N_TURNS = 9
STEP = 1e-3  # A


def main(names: list[str]) -> None:
    from hdistill.labeler.teachers import environments, registry

    print(
        "| teacher | atoms | own, CPU ms | adapter, CPU ms | ratio | + 1 product | + 1 forward difference | error of that |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if name in CHECKPOINTS:
                python = environments.interpreter(CHECKPOINTS[name])
                script = ROOT / "tests" / "labeler" / "checkpoints" / f"{CHECKPOINTS[name]}.py"
                subprocess.run([str(python), str(script), folder], check=True, stdout=sys.stderr)
            teacher = registry.request(
                name.format(folder=folder), "omat" if "fairchem" in CHECKPOINTS.get(name, "") else None
            )
            python = environments.interpreter(teacher.family)
            asked = json.dumps([teacher.name, teacher.family, teacher.model, teacher.task])
            done = subprocess.run(
                [str(python), __file__, "--inside", asked], stdout=subprocess.PIPE, text=True, check=True
            )
            for row in json.loads(done.stdout.strip().splitlines()[-1]):
                own, adapter, product, difference = row["seconds"]
                print(
                    f"| {Path(name).name} | {row['n_atoms']} | {1e3 * own:.1f} | {1e3 * adapter:.1f} | {adapter / own:.2f} "
                    f"| {product / adapter:.2f} | {difference / adapter:.2f} | {row['error']:.1%} |",
                    flush=True,
                )


def inside(name: str, family: str, model: str, task: str | None) -> list[dict[str, Any]]:
    """In the teacher's interpreter: medians of CPU seconds."""
    teacher = loaded_teacher(name, family, model, task)
    import numpy as np

    from hdistill.data.structure import Directions, Structure

    own = own_calculator(family)(model, task, "float32", "cpu")
    rows = []
    for atoms in examples(family):
        generator = np.random.default_rng(0)
        seconds, errors = np.zeros((N_TURNS, 4)), np.zeros(N_TURNS)
        for turn in range(-3, N_TURNS):  # the first ones warm up
            atoms.positions += generator.normal(scale=0.01, size=atoms.positions.shape)
            s = Structure(atoms.numbers, atoms.positions.copy(), atoms.cell.array, atoms.pbc)
            signs = generator.choice(np.array([-1, 1], np.int8), size=(1, len(atoms), 3))
            moved = Structure(s.numbers, s.positions + STEP * signs[0], s.cell, s.pbc)
            clock = [time.process_time()]
            fresh = atoms.copy()
            fresh.calc = own
            fresh.get_potential_energy()
            fresh.get_forces()
            clock.append(time.process_time())
            teacher.label([s], [None])
            clock.append(time.process_time())
            (exact,) = teacher.label([s], [Directions("probes", signs=signs)])
            clock.append(time.process_time())
            here, ahead = teacher.label([s, moved], [None, None])
            clock.append(time.process_time())
            if turn >= 0:
                seconds[turn] = np.diff(clock)
                difference = -(np.asarray(ahead.forces, np.float64) - here.forces) / STEP
                errors[turn] = np.linalg.norm(difference - exact.hessian.values[0]) / np.linalg.norm(
                    exact.hessian.values
                )
        medians = np.median(seconds, axis=0).tolist()
        rows.append({"n_atoms": len(atoms), "seconds": medians, "error": float(np.median(errors))})
    return rows


def own_calculator(family: str) -> Any:
    """calculator(model, task, dtype, device) of the tests' file of this family."""
    spec = importlib.util.spec_from_file_location(
        "own", ROOT / "tests" / "labeler" / "own_calculators" / f"{family}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.calculator


def examples(family: str) -> list[Any]:
    from ase.build import bulk, molecule

    if family == "torchani":
        return [molecule("CH3OH"), molecule("C6H6")]
    cell = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    return [cell, cell * (2, 2, 1)]


if __name__ == "__main__":
    import importlib.util

    if sys.argv[1:2] == ["--inside"]:
        print("\n" + json.dumps(inside(*json.loads(sys.argv[2]))))
    else:
        main(sys.argv[1:] or list(TEACHERS))
