"""A real, tiny teacher: a 12-6 Lennard-Jones pair potential, twice continuously differentiable at its cutoff.

    E = sum_pairs  4 eps [(sigma/r)^12 - (sigma/r)^6] s(r)

s(r) is 1 below r_on and falls to 0 at r_cut as 1 - 10 x^3 + 15 x^4 - 6 x^5, x = (r - r_on)/(r_cut - r_on). The same eps and
sigma for every element. It needs no download, so tests, tutorials and overhead benchmarks run on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hdistill.data.structure import Directions, Labels, Structure

from .contract import Evaluation, TeacherInfo, TeacherRequest, check_elements, label_by_autograd, versions_of

EPSILON = 0.0104  # eV, argon
SIGMA = 3.4  # A, argon
R_ON, R_CUT = 5.0, 6.5  # A
ELEMENTS = tuple(range(1, 119))


class LennardJones:
    def __init__(self, request: TeacherRequest):
        self.dtype = getattr(torch, request.dtype)
        self.device = torch.device(request.device)
        self.info = TeacherInfo(
            name=request.name,
            family="lennard_jones",
            task=None,
            dtype=request.dtype,
            device=request.device,
            elements=ELEMENTS,
            conservative=True,
            has_stress=True,
            hessian_method="autograd",
            weights_sha256=None,
            weights_license="MIT",
            license_class="open",
            level_of_theory="Lennard-Jones 12-6, eps = 0.0104 eV, sigma = 3.4 A, smoothly cut at 6.5 A",
            citation="J. E. Lennard-Jones, Proc. R. Soc. A 106, 463 (1924)",
            versions=versions_of("torch"),
        )

    def label(self, structures: Sequence[Structure], directions: Sequence[Directions | None]) -> list[Labels]:
        check_elements(structures, ELEMENTS, self.info.name)
        return label_by_autograd(self.evaluate(structures), structures, directions)

    def evaluate(self, structures: Sequence[Structure]) -> Evaluation:
        def tensor(array: np.ndarray, dtype: torch.dtype = self.dtype) -> torch.Tensor:
            return torch.as_tensor(array, dtype=dtype, device=self.device)

        lists = [_half_list(s) for s in structures]
        sizes = [s.n_atoms for s in structures]
        first = np.cumsum(sizes) - sizes
        i = tensor(np.concatenate([pairs[0] + a for pairs, a in zip(lists, first, strict=True)]), torch.long)
        j = tensor(np.concatenate([pairs[1] + a for pairs, a in zip(lists, first, strict=True)]), torch.long)
        shift = tensor(np.concatenate([pairs[2] for pairs in lists]))
        owner = tensor(np.repeat(np.arange(len(structures)), sizes), torch.long)
        positions = tensor(np.concatenate([s.positions for s in structures])).requires_grad_()
        strain = torch.zeros(len(structures), 3, 3, dtype=self.dtype, device=self.device, requires_grad=True)
        vector = positions[j] - positions[i] + shift
        vector = vector + torch.einsum("ea,eab->eb", vector, strain[owner[i]])
        energy = torch.zeros(len(structures), dtype=self.dtype, device=self.device)
        energy = energy.index_add(0, owner[i], pair_energy(vector.norm(dim=1)))
        gradient, virial = torch.autograd.grad(energy.sum(), (positions, strain), create_graph=True)
        volume = tensor(np.array([abs(np.linalg.det(s.cell)) or 1.0 for s in structures]))
        stress = 0.5 * (virial + virial.transpose(1, 2)) / volume[:, None, None]
        return Evaluation(energy, -gradient, positions, stress)


def pair_energy(r: torch.Tensor) -> torch.Tensor:
    """Energy (E,) eV of pairs at distances r (E,) A; exactly zero from R_CUT on."""
    x = ((r - R_ON) / (R_CUT - R_ON)).clamp(0.0, 1.0)
    switch = 1 + x**3 * (-10 + x * (15 - 6 * x))
    s6 = (SIGMA / r) ** 6
    return 4 * EPSILON * (s6 * s6 - s6) * switch


def _half_list(structure: Structure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """i, j (E,) and the shift (E,3) A of the image of j, each pair once."""
    import vesin

    neighbors = vesin.NeighborList(cutoff=R_CUT, full_list=False)
    i, j, s = neighbors.compute(structure.positions, structure.cell, structure.pbc, quantities="ijS")
    return i.astype(np.int64), j.astype(np.int64), s @ structure.cell


load = LennardJones
