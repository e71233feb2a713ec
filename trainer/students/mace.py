"""MACE as a student: the package's own ScaleShiftMACE, called with edge vectors as all students are.

I. Batatia et al., NeurIPS 2022, arXiv:2206.07697. The package is in the interpreter, or in an environment of its own (packaged.py). Its
energies are the sum of what its layers' readouts say, times the scale; reference energies stay outside until it is written as a
.model file (force_field/engines/mace_model.py). The polynomial cutoff of order 6 ends with three derivatives zero in value, slope and
curvature, so that the Hessian is continuous.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import nn

from .elements import places_of
from .packaged import require
from .sizes import StudentSize

CORRELATION = 3  # factors in a product of neighbours' densities: bodies up to four
ORDER_OF_CUTOFF = 6
NEIGHBOURS = (
    16.0  # what sums over neighbours are divided by: about as many as there are in molecules and oxides within 5 A
)
MOST = {"channels": 512, "layers": 8, "max_l": 6, "basis": 64}
RADIAL, READOUT = [64, 64, 64], "16x0e"  # the package's own defaults


class Mace(nn.Module):
    """numbers (A,), edge_index (2,E), vectors (E,3) A -> energies (A,) eV. Raises InputError where the package is missing."""

    species_of: torch.Tensor

    def __init__(self, elements: Sequence[int], size: StudentSize, scale: float):
        super().__init__()
        if any(getattr(size, name) > most for name, most in MOST.items()) or size.options.keys() - {"hidden_l"}:
            raise ValueError("there is no MACE of the size that its card says")  # it might take all memory
        self.cutoff = size.cutoff
        self.n_species = len(elements)
        self.network = network(elements, size, scale)
        self.register_buffer("species_of", places_of(elements), persistent=False)

    @property
    def readout(self) -> nn.Module:
        """Of the last layer, which reads its scalars."""
        last: nn.Module = self.network.readouts[-1]
        return last

    @property
    def embedding(self) -> nn.Module:
        embedding: nn.Module = self.network.node_embedding
        return embedding

    def forward(self, numbers: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        n_atoms = numbers.shape[0]
        centre, neighbor = edge_index
        # Its vectors are positions[receiver] - positions[sender] + shift: with all positions 0 the shift is the vector, ours turned round.
        graph = {
            "node_attrs": nn.functional.one_hot(self.species_of[numbers], self.n_species).to(vectors.dtype),
            "positions": vectors.new_zeros(n_atoms, 3),
            "edge_index": torch.stack((neighbor, centre)),
            "shifts": -vectors,
            "cell": vectors.new_zeros(3, 3),
            "batch": torch.zeros_like(numbers),
            "ptr": numbers.new_zeros(2),  # one graph: its energies are those of atoms
        }
        energies: torch.Tensor = self.network(graph, compute_force=False)["node_energy"]
        return energies.to(vectors.dtype)


def network(elements: Sequence[int], size: StudentSize, scale: float, scripted: bool = False) -> Any:
    """The package's model with fresh weights in torch's default precision; energies of free atoms are 0.

    scripted: with e3nn's TorchScript, as the package's files have it; without, it can be differentiated three times and compiled.
    Raises InputError where the package is missing.
    """
    require(size)
    with (
        warnings.catch_warnings(),
        redirect_stdout(io.StringIO()),
    ):  # it prints what it lacks, and torch what it deprecates
        warnings.simplefilter("ignore")
        import mace  # before e3nn, whose constants it lets torch load  # noqa: F401, I001
        import e3nn

        before = e3nn.get_optimization_defaults()
        e3nn.set_optimization_defaults(jit_script_fx=scripted)
        try:
            made = _scale_shift(elements, size, scale)
        finally:
            e3nn.set_optimization_defaults(**before)
    if not scripted:
        made.spherical_harmonics = _Harmonics(size.max_l)
        for part in made.modules():
            if hasattr(part, "__codegen__"):
                part.__codegen__ = []  # else a copy of it would be made of TorchScript
    return made


def _scale_shift(elements: Sequence[int], size: StudentSize, scale: float) -> Any:
    from e3nn import o3
    from mace import modules

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    hidden = [(size.channels, (order, (-1) ** order)) for order in range(1 + int(size.options.get("hidden_l", 0)))]
    return modules.ScaleShiftMACE(
        r_max=size.cutoff,
        num_bessel=size.basis,
        num_polynomial_cutoff=ORDER_OF_CUTOFF,
        max_ell=size.max_l,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=size.layers,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps(hidden),
        MLP_irreps=o3.Irreps(READOUT),
        gate=nn.functional.silu,
        atomic_energies=torch.zeros(len(elements)).numpy(),
        avg_num_neighbors=NEIGHBOURS,
        atomic_numbers=list(elements),
        correlation=CORRELATION,
        radial_MLP=RADIAL,
        atomic_inter_scale=scale,
        atomic_inter_shift=0.0,
    )


class _Harmonics(nn.Module):
    """e3nn's spherical harmonics of the directions of vectors (E,3), normalized by component, without the TorchScript around them, which
    would fix the number of edges in compiled code and be compiled anew for others."""

    def __init__(self, max_l: int):
        super().__init__()
        from e3nn.o3 import _spherical_harmonics as e3nn_harmonics

        self.max_l = max_l
        self.polynomials = e3nn_harmonics._spherical_harmonics._torchdynamo_inline
        norms = [math.sqrt(2 * order + 1) for order in range(max_l + 1) for _ in range(2 * order + 1)]
        self.register_buffer("norms", torch.tensor(norms), persistent=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        x, y, z = (vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True)).unbind(1)
        harmonics: torch.Tensor = self.polynomials(self.max_l, x, y, z) * self.norms
        return harmonics
