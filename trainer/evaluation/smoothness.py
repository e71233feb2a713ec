"""Where a force field breaks without anybody's labels: holes at short range, steps at the cutoff, energies that do not add up."""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from hdistill.data.structure import Structure

from ..force_field.calculator import HDistillCalculator
from ..force_field.engines.batched import BatchedStudent

SHORTEST = 0.5  # of the sum of covalent radii: where dimers begin
WALL = 0.75  # of the sum: nearer than this two atoms must repel each other
N_POINTS = 60
EPSILON = 1e-4  # A on both sides of the cutoff


def smoothness(run: Path, device: str = "cpu") -> dict[str, Any]:
    """Dimers of all pairs of the student's elements, alone in space.

    dimers: for each pair, distances A, energies eV above those at the cutoff, hole: the largest distance below WALL of the
    covalent radii at which the two attract each other (A), None where they repel; n_holes; cutoff_step: largest change of a dimer's
    energy (eV) across the cutoff; extensivity: |E(two far copies) - 2 E| of the closest dimer, eV.
    """
    calculator = HDistillCalculator(run, device, warn_beyond=None)
    student, cutoff = BatchedStudent(calculator), calculator.student.cutoff
    elements = calculator.student.card.references.elements

    def energies_and_pulls(pair: tuple[int, int], distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energies, and the force along the distance on the second atom: positive pushes apart."""
        outputs = student([_dimer(pair, float(d)) for d in distances])
        return outputs.energies.cpu().numpy().reshape(-1, 2).sum(1), outputs.forces.cpu().numpy().reshape(-1, 2, 3)[
            :, 1, 2
        ]

    dimers: dict[str, Any] = {}
    steps = []
    for pair in combinations_with_replacement(elements, 2):
        reach = float(covalent_radii[pair[0]] + covalent_radii[pair[1]])
        distances = np.linspace(SHORTEST * reach, cutoff + 0.3, N_POINTS)
        energy, pull = energies_and_pulls(pair, distances)
        edge, _ = energies_and_pulls(pair, np.array([cutoff - EPSILON, cutoff + EPSILON]))
        steps.append(abs(float(edge[1] - edge[0])))
        attracted = distances[(distances < WALL * reach) & (pull < 0)]
        dimers["-".join(chemical_symbols[z] for z in pair)] = {
            "distances": distances.tolist(),
            "energies": (energy - energy[-1]).tolist(),
            "hole": float(attracted.max()) if len(attracted) else None,
        }
    one = _dimer((elements[0], elements[-1]), 1.2 * float(covalent_radii[elements[0]] + covalent_radii[elements[-1]]))
    far = Structure(np.tile(one.numbers, 2), np.concatenate([one.positions, one.positions + 3 * cutoff]))
    both = student([one, far]).energies.cpu().numpy()
    return {
        "dimers": dimers,
        "n_pairs": len(dimers),
        "n_holes": sum(each["hole"] is not None for each in dimers.values()),
        "cutoff_step": max(steps),
        "extensivity": abs(float(both[2:].sum() - 2 * both[:2].sum())),
    }


def _dimer(pair: tuple[int, int], distance: float) -> Structure:
    return Structure(np.array(pair), np.array([(0.0, 0.0, 0.0), (0.0, 0.0, distance)]))
