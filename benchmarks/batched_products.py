"""Products with the Hessian one by one against all in one vectorised backward pass, for every family, by size.

    python benchmarks/batched_products.py [FAMILY ...]       # sevennet chgnet mace fairchem torchani, those installed

One thread, CPU seconds, both in turn, medians. mace and fairchem are the small models of tests/labeler/checkpoints, in which the
overhead of each operation weighs more than in real ones: read theirs as upper bounds.
"""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
# name, model and task; of files made by checkpoints/<family>.py the file's name
TEACHERS = {
    "torchani": ("ani-1x", "ani-1x", None),
    "sevennet": ("7net-0", "7net-0", None),
    "chgnet": ("chgnet", "0.3.0", None),
    "mace": ("small.model", "small.model", None),
    "fairchem": ("conserving.pt", "conserving.pt", "omat"),
}
CRYSTALS = {"MgO": 2, "SrTiO3": 5, "SrTiO3 1x1x2": 10}
MOLECULES = {"CH3OH": 6, "C6H6": 12}
BATCHES = {
    True: ((2, 1), (2, 8), (5, 1), (5, 2), (10, 1)),
    False: ((6, 1), (6, 8), (6, 40), (12, 1), (12, 8), (12, 20)),
}


def main() -> None:
    from hdistill.labeler.teachers.environments import find

    print("teacher       atoms x structures, K   loop ms   vectorised ms   loop / vectorised   difference")
    for family in sys.argv[1:] or TEACHERS:
        python = find(family)
        if python is None:
            print(f"{family}: not installed; `hdistill teachers install {family}`")
            continue
        with tempfile.TemporaryDirectory() as folder:
            script = ROOT / "tests/labeler/checkpoints" / f"{family}.py"
            if script.exists():
                subprocess.run([python, script, folder], check=True, capture_output=True)
            command = [str(python), __file__, "--inside", family, folder]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=environment)


def inside(family: str, folder: str) -> None:
    """Runs in the teacher's interpreter and prints a line for each size."""
    sys.path.insert(0, str(ROOT / "labeler/process"))
    import child

    child.make_hdistill_importable()
    import torch

    from hdistill.data.hessian import products_by_autograd
    from hdistill.labeler.teachers.contract import TeacherRequest

    torch.set_num_threads(1)
    name, model, task = TEACHERS[family]
    if (Path(folder) / model).exists():
        name = model = str(Path(folder) / model)
    adapter = importlib.import_module(f"hdistill.labeler.teachers.{family}")
    teacher = adapter.load(TeacherRequest(name, family, model, task))
    for n_atoms, count in BATCHES[family != "torchani"]:
        evaluation = teacher.evaluate(_structures(n_atoms, count), products=True)
        forces, positions = evaluation.forces, evaluation.positions
        for k in sorted({4, 16, 3 * n_atoms}):
            vectors = torch.randn((k, *forces.shape), dtype=forces.dtype)

            def loop(v: Any = vectors, f: Any = forces, p: Any = positions) -> Any:
                return products_by_autograd(f, p, v)

            def vectorised(v: Any = vectors, f: Any = forces, p: Any = positions) -> Any:
                return products_by_autograd(f, p, v, batched_elements=v.numel())

            (one, first), (other, second) = _timed(loop, vectorised)
            difference = float((one - other).abs().max() / one.abs().max())
            size = f"{n_atoms} x {count}, {k}"
            print(
                f"{family:<12}  {size:>22}  {1e3 * first:8.0f}  {1e3 * second:14.0f}  {first / second:18.2f}   {difference:.0e}",
                flush=True,
            )


def _timed(*methods: Callable[[], Any]) -> list[tuple[Any, float]]:
    """What each method gives and its median CPU seconds, in turn."""
    actual: list[Any] = [None] * len(methods)
    times: list[list[float]] = [[] for _ in methods]
    for turn in range(ROUNDS + 1):
        for index, method in enumerate(methods):
            began = time.process_time()
            actual[index] = method()
            if turn:  # the first turn warms up
                times[index].append(time.process_time() - began)
    return [(value, statistics.median(taken)) for value, taken in zip(actual, times, strict=True)]


def _structures(n_atoms: int, count: int) -> list[Any]:
    from ase import Atoms
    from ase.build import molecule

    from hdistill.data.structure import Structure

    sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    actual = []
    for seed in range(count):
        if n_atoms in MOLECULES.values():
            atoms = molecule(next(name for name, n in MOLECULES.items() if n == n_atoms))
        elif n_atoms == CRYSTALS["MgO"]:
            a = 2.1
            atoms = Atoms("MgO", positions=[(0, 0, 0), (a, a, a)], cell=[[0, a, a], [a, 0, a], [a, a, 0]], pbc=True)
        else:
            atoms = Atoms("SrTiO3", scaled_positions=sites, cell=[3.9] * 3, pbc=True) * (1, 1, n_atoms // 5)
        atoms.rattle(0.05, seed=seed)
        actual.append(Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc))
    return actual


if __name__ == "__main__":
    inside(*sys.argv[2:4]) if sys.argv[1:2] == ["--inside"] else main()
