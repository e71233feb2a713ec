"""What the symmetry of perfect crystals saves of a full Hessian, and what it costs in precision.

    python benchmarks/symmetry_saving.py [TEACHER ...]       # 7net-0 and chgnet if none is named

For each crystal: rows computed of rows wanted, seconds of the teacher for either, and how far the rebuilt Hessian is from the
one whose rows are all computed, relative to its largest element, in float32 and in float64.
"""

from __future__ import annotations

import sys

import numpy as np
from ase import Atoms
from ase.build import bulk

from hdistill.data.probes import draw, parse_spec
from hdistill.data.structure import Labels, Structure
from hdistill.labeler.planning import symmetry
from hdistill.labeler.process.parent import TeacherProcess
from hdistill.labeler.teachers import registry
from hdistill.labeler.teachers.environments import interpreter

DEADLINE_S = 3600.0
SITES = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
PEROVSKITE = Atoms("SrTiO3", scaled_positions=SITES, cell=[3.9] * 3, pbc=True)
CRYSTALS = {
    "SrTiO3": PEROVSKITE,
    "SrTiO3 2x2x2": PEROVSKITE * (2, 2, 2),
    "Si 8 atoms": bulk("Si", cubic=True),
    "Mg hcp": bulk("Mg"),
}


def values_of(labels: Labels) -> np.ndarray:
    assert labels.hessian is not None
    return np.asarray(labels.hessian.values, np.float64)


def main() -> None:
    print(
        "teacher  dtype    crystal       rows computed of wanted   s all rows   s by symmetry   times   largest difference"
    )
    for name in sys.argv[1:] or ("7net-0", "chgnet"):
        python = interpreter(registry.entry(name).family)
        for dtype in ("float32", "float64"):
            with TeacherProcess(python, registry.request(name, dtype=dtype)) as teacher:
                for crystal, atoms in CRYSTALS.items():
                    if dtype == "float64" and len(atoms) > 8:
                        continue
                    s = Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
                    every = draw(parse_spec("full"), 0, s.id, s.n_atoms)
                    teacher.label([s], [None])  # warms up
                    (truth,) = teacher.label([s], [every], DEADLINE_S)
                    seconds = teacher.seconds
                    ask = symmetry.sparing(lambda batch, wanted, _, t=teacher: t.label(batch, wanted, DEADLINE_S))
                    (actual,) = ask([s], [every], 0)
                    assert actual.hessian is not None
                    computed = actual.hessian.n_computed or 3 * s.n_atoms
                    largest = np.abs(values_of(truth)).max()
                    difference = np.abs(values_of(actual) - values_of(truth)).max() / largest
                    print(
                        f"{name:<7}  {dtype}  {crystal:<12}  {computed:>12} of {3 * s.n_atoms:<8}  {seconds:11.2f}"
                        f"  {teacher.seconds:14.2f}  {seconds / teacher.seconds:6.1f}   {difference:.1e}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
