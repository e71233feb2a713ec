"""CPU per structure of hdistill's labels (energies, forces, 4 probes) against the full Hessian, with a MACE model.

    python benchmarks/label_cost.py          # needs `hdistill teachers install mace`

Baselines: MACE's own get_hessian, and a plain loop over all 3N rows with our adapter; one structure at a time, as they are used.
One thread, CPU seconds, methods in turn, medians. The model is the small one of tests/labeler/checkpoints: ratios matter.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
BATCH = {10: 3, 40: 1}  # structures in a batch, by atoms: about what the labeler packs on a CPU


def main() -> None:
    from hdistill.labeler.teachers.environments import interpreter

    python = str(interpreter("mace"))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, ROOT / "tests/labeler/checkpoints/mace.py", folder], check=True, capture_output=True)
        command = [python, __file__, "--inside", str(Path(folder) / "small.model")]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    print("atoms  4 probes s/structure  get_hessian  full by loop   get_hessian / probes   loop / probes")
    for n_atoms, (probes, own, loop) in json.loads(done.stdout.splitlines()[-1]).items():
        print(f"{n_atoms:>5}  {probes:20.3f}  {own:11.3f}  {loop:12.3f}  {own / probes:21.1f}x  {loop / probes:13.1f}x")


def inside(model: str) -> None:
    """Runs in the teacher's interpreter: prints {n_atoms: [CPU s of each method per structure]}."""
    sys.path.insert(0, str(ROOT / "labeler/process"))
    import child

    child.make_hdistill_importable()
    import torch
    from ase import Atoms
    from mace.calculators import MACECalculator

    from hdistill.data.probes import draw, parse_spec
    from hdistill.data.structure import Structure
    from hdistill.labeler.teachers.contract import TeacherRequest
    from hdistill.labeler.teachers.mace import load

    torch.set_num_threads(1)
    teacher = load(TeacherRequest(model, "mace", model))
    calculator = MACECalculator(model_paths=model, device="cpu", default_dtype="float32")
    actual = {}
    for n_atoms, count in BATCH.items():
        cells = (1, 1, 2) if n_atoms == 10 else (2, 2, 2)
        structures: list[Structure] = []
        for seed in range(count):
            atoms = Atoms("SrTiO3", scaled_positions=SITES, cell=[3.9] * 3, pbc=True) * cells
            atoms.rattle(0.05, seed=seed)
            structures.append(Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc))
        probes = [draw(parse_spec("probes:4"), 0, s.id, n_atoms) for s in structures]
        full = draw(parse_spec("full"), 0, structures[0].id, n_atoms)

        def batch_of_probes(structures=structures, probes=probes) -> None:
            teacher.label(structures, probes)

        def own_hessian(atoms=atoms) -> None:
            calculator.get_hessian(atoms)

        def loop(structures=structures, full=full) -> None:
            teacher.label(structures[:1], [full])

        methods: tuple[tuple[Callable[[], object], int], ...] = ((batch_of_probes, count), (own_hessian, 1), (loop, 1))
        times: list[list[float]] = [[], [], []]
        for turn in range(ROUNDS + 1):
            for (method, divisor), taken in zip(methods, times, strict=True):
                began = time.process_time()
                method()
                if turn:  # the first turn warms up
                    taken.append((time.process_time() - began) / divisor)
        actual[n_atoms] = [statistics.median(taken) for taken in times]
    print(json.dumps(actual))


SITES = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]

if __name__ == "__main__":
    inside(sys.argv[2]) if sys.argv[1:2] == ["--inside"] else main()
