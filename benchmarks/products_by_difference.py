"""What 4 probes cost by forward differences and by differentiation, in units of energies and forces, and how far they are apart.

    python benchmarks/products_by_difference.py            # 7net-0: 8 silicon atoms x 4, and 40 atoms of SrTiO3

The code is the labeler's own (labeler/planning/differences.py), inside the teacher's process. One thread, CPU seconds, methods in
turn, medians; errors are medians relative to differentiation.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

from inside_teacher import loaded_teacher

N_TURNS = 3
WARM_UP = 1
BATCH_EDGES = 8192


def main(name: str = "7net-0") -> None:
    from hdistill.labeler.teachers import environments, registry

    teacher = registry.request(name)
    asked = json.dumps([teacher.name, teacher.family, teacher.model, teacher.task])
    command = [str(environments.interpreter(teacher.family)), __file__, "--inside", asked]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(
        "| teacher | structures | energies and forces, CPU ms | by differentiation | by forward differences | error |"
    )
    print("|---|---|---|---|---|---|")
    for what, plain, own, forward, error in json.loads(done.stdout.splitlines()[-1]):
        print(f"| {name} | {what} | {1e3 * plain:.0f} | {own / plain:.2f} | {forward / plain:.2f} | {error:.2%} |")


def inside(name: str, family: str, model: str, task: str | None) -> list[tuple[str, float, float, float, float]]:
    """In the teacher's interpreter: medians of CPU seconds plain, with 4 own products, with 4 differences; their error."""
    teacher = loaded_teacher(name, family, model, task)
    import numpy as np
    from ase import Atoms
    from ase.build import bulk

    from hdistill.data.probes import draw, parse_spec
    from hdistill.data.structure import Directions, Labels, Structure
    from hdistill.labeler.planning import differences

    def label(structures: Sequence[Structure], directions: Sequence[Directions | None], _: int) -> list[Labels]:
        return list(teacher.label(structures, directions))

    # Pairs are counted by vesin, which a teacher may not have; batches are as large as these structures are together.
    setattr(differences, "n_pairs", lambda structure: structure.n_atoms)  # noqa: B010
    forward = differences.by_differences(label, BATCH_EDGES)
    sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    perovskite = Atoms("SrTiO3", scaled_positions=sites, cell=[3.9] * 3, pbc=True) * (2, 2, 2)
    rows = []
    for what, atoms, count in (("8 Si x 4", bulk("Si", cubic=True), 4), ("40 SrTiO3", perovskite, 1)):
        seconds, errors = np.zeros((N_TURNS, 3)), np.zeros(N_TURNS)
        for turn in range(-WARM_UP, N_TURNS):
            structures = []
            for k in range(count):
                moved = atoms.copy()
                moved.rattle(0.05, seed=100 * (turn + WARM_UP) + k)
                structures.append(Structure(moved.numbers, moved.positions, moved.cell.array, moved.pbc))
            wanted = [draw(parse_spec("probes:4"), 0, s.id, s.n_atoms) for s in structures]
            clock = [time.process_time()]
            label(structures, [None] * count, 0)
            clock.append(time.process_time())
            exact = label(structures, wanted, 0)
            clock.append(time.process_time())
            ours = forward(structures, wanted, 0)
            clock.append(time.process_time())
            if turn >= 0:
                seconds[turn] = np.diff(clock)
                a, b = (np.stack([x.hessian.values for x in labels if x.hessian]) for labels in (ours, exact))
                errors[turn] = np.linalg.norm(a - b) / np.linalg.norm(b)
        plain, own, difference = np.median(seconds, axis=0).tolist()
        rows.append((what, plain, own, difference, float(np.median(errors))))
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        print("\n" + json.dumps(inside(*json.loads(sys.argv[2]))))
    else:
        main(*sys.argv[1:])
