"""What metatomic scripts of a student: systems and neighbour lists to energies, of systems or of atoms.

TorchScript reads the annotations below as they stand, and metatomic compares them: hence typing's old names, and no
`from __future__ import annotations`.
"""
# ruff: noqa: UP006, UP035, UP045
# mypy: disable-error-code="name-defined"

from typing import Any, Dict, List, Optional

import torch


def module_of(energies_of: torch.nn.Module, cutoff: float, references: torch.Tensor) -> Any:
    """energies_of: (numbers, edge_index, vectors) to energies (A,) eV, TorchScript; references (119,) eV, NaN of elements that the
    student does not know."""
    # TorchScript looks for the names in annotations among those of the file.
    global Labels, ModelOutput, NeighborListOptions, System, TensorBlock, TensorMap
    from metatensor.torch import Labels, TensorBlock, TensorMap
    from metatomic.torch import ModelOutput, NeighborListOptions, System

    class Student(torch.nn.Module):
        references: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.energies_of = energies_of
            self.cutoff = cutoff
            self.register_buffer("references", references)

        def requested_neighbor_lists(self) -> List[NeighborListOptions]:
            return [
                NeighborListOptions(self.cutoff, True, True)
            ]  # both directions of a pair, nothing beyond the cutoff

        def forward(
            self, systems: List[System], outputs: Dict[str, ModelOutput], selected_atoms: Optional[Labels]
        ) -> Dict[str, TensorMap]:
            results: Dict[str, TensorMap] = {}
            if "energy" not in outputs:
                return results
            numbers: List[torch.Tensor] = []
            edges: List[torch.Tensor] = []
            vectors: List[torch.Tensor] = []
            atoms: List[torch.Tensor] = []
            first = 0
            for k, system in enumerate(systems):
                pairs = system.get_neighbor_list(self.requested_neighbor_lists()[0])
                edges.append(pairs.samples.values[:, :2].to(torch.int64).t() + first)  # first_atom, second_atom, ...
                vectors.append(pairs.values.reshape(-1, 3))
                numbers.append(system.types.to(torch.int64))
                index = torch.arange(len(system), device=system.device)
                atoms.append(torch.stack([torch.full_like(index, k), index], dim=1))
                first += len(system)
            z = torch.cat(numbers)
            own = self.references.index_select(0, z)
            if bool(own.isnan().any()):
                raise ValueError(
                    "This student was not trained on one of these elements; its metadata names those it knows."
                )
            energies = self.energies_of(z, torch.cat(edges, dim=1), torch.cat(vectors)) + own
            samples = torch.cat(atoms).to(torch.int32)
            if selected_atoms is not None:
                chosen = Labels(["system", "atom"], samples).select(selected_atoms)
                samples, energies = samples.index_select(0, chosen), energies.index_select(0, chosen)
            if outputs["energy"].sample_kind == "atom":
                labels = Labels(["system", "atom"], samples)
            else:
                owner = samples[:, 0].to(torch.int64)
                energies = energies.new_zeros(len(systems)).index_add(0, owner, energies)
                labels = Labels(
                    ["system"], torch.arange(len(systems), dtype=torch.int32, device=z.device).reshape(-1, 1)
                )
            zero = torch.zeros(1, 1, dtype=torch.int32, device=z.device)
            none: List[Labels] = []
            block = TensorBlock(energies.reshape(-1, 1), labels, none, Labels(["energy"], zero))
            results["energy"] = TensorMap(Labels(["_"], zero), [block])
            return results

    return Student().eval()
