"""fairchem (UMA, eSEN): pretrained models by name through the package's own loader, and any inference checkpoint file.

The forces of one batched prediction keep their graph: in conserving models the heads are put in training mode (which only
asks them for it), in direct-force models, which predict without gradients, these are turned on inside the model. So the
package's own normalisation and references apply to both. Rows of a direct model are of -dF/dR and are not symmetric.
Charge and multiplicity reach the model for the task omol; the other tasks get the package's defaults, as in their training.
Atom energies hold the task's energies of free atoms; node features are the scalars (l = 0) that the backbone gives the heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from fairchem.core.calculate import pretrained_mlip
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.models.base import HeadInterface
from fairchem.core.units.mlip_unit import InferenceSettings, load_predict_unit
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from hdistill.data.errors import TeacherError, nearest
from hdistill.data.structure import Directions, Labels, Structure

from .about import describe
from .contract import Evaluation, TeacherRequest, check_elements, check_signals, label_by_autograd, products_are_wanted
from .geometry import in_standard_cell

SEED = 0
Evaluate = Callable[[Sequence[Structure], bool], Evaluation]


class FairChem:
    def __init__(self, request: TeacherRequest):
        path, self.unit = _load(request)
        self.task = _task(request, list(self.unit.dataset_to_tasks))
        self.dtype = getattr(torch, request.dtype)
        self.request = request
        self.positions = torch.zeros(0, 3)  # of the last batch, taken as it enters the model
        self.features = torch.zeros(0, 0)  # of the last batch, as the backbone gives them
        self.atom_energies: list[torch.Tensor] = []  # of the last batch, of each readout, in the model's own scale
        backbone = self.unit.model.module.backbone
        datasets = getattr(backbone, "dataset_mapping", None) or {}
        self.has_charge = datasets.get(self.task, self.task) == "omol"
        self.products = False  # whether the forces of the batch need their graph
        self.heads = [module for module in self.unit.model.modules() if isinstance(module, HeadInterface)]
        self.reach = float(backbone.cutoff)
        self.unit.model.register_forward_pre_hook(self._enter)
        backbone.register_forward_hook(self._keep_features)
        readouts = [m for name, m in self.unit.model.named_modules() if name.rpartition(".")[2] == "energy_block"]
        for readout in readouts:
            readout.register_forward_hook(lambda module, inputs, output: self.atom_energies.append(output))
        self.request = check_signals(request, atom_energies=len(readouts) == 1, node_features=True)
        quantities = {task.property: task for task in self.unit.dataset_to_tasks[self.task]}
        if not {"energy", "forces"} <= quantities.keys():
            raise TeacherError(
                f"{request.name} predicts {', '.join(quantities)} for {self.task}; energy and forces are wanted."
            )
        self.energy_task = quantities["energy"]
        self.info = describe(
            request,
            _elements(quantities["energy"].element_references, backbone.max_num_elements),
            ("torch", "fairchem-core", "e3nn", "ase"),
            [path],
            self.task,
            conservative=not backbone.regress_config.direct_forces,
            has_stress="stress" in quantities,
        )

    def label(self, structures: Sequence[Structure], directions: Sequence[Directions | None]) -> list[Labels]:
        check_elements(structures, self.info.elements, self.info.name)
        labels: dict[int, Labels] = {}
        for indices, evaluate in self._batches(structures):
            batch = [structures[i] for i in indices]
            wanted = [directions[i] for i in indices]
            answer = label_by_autograd(evaluate(batch, products_are_wanted(wanted)), batch, wanted)
            labels |= zip(indices, answer, strict=True)
        return [labels[i] for i in range(len(structures))]

    def _batches(self, structures: Sequence[Structure]) -> Iterator[tuple[list[int], Evaluate]]:
        """What goes into one prediction: all, but for free atoms, of which the package answers one at a time, from a table."""
        alone = [s.n_atoms == 1 and not s.pbc.any() for s in structures]
        if not all(alone):
            yield [i for i, single in enumerate(alone) if not single], self.evaluate
        for i, single in enumerate(alone):
            if single:
                yield [i], self._free_atom

    def evaluate(self, structures: Sequence[Structure], products: bool) -> Evaluation:
        self.products = products
        for head in self.heads:  # keep the graph of their forces if, and only if, they are told that it is training
            head.training = products
        # Edges are rotated about themselves by random angles, which changes the last bits: the same batch, the same angles.
        torch.manual_seed(SEED)
        predicted = self.unit.predict(atomicdata_list_to_batch([self._data(s) for s in structures]))
        forces = predicted["forces"]
        if products and not forces.requires_grad:
            raise TeacherError(f"{self.info.name} gives forces that torch cannot differentiate; take another model.")
        stress = predicted["stress"].reshape(-1, 3, 3) if "stress" in predicted else None
        return Evaluation(
            predicted["energy"],
            forces,
            self.positions,
            stress,
            self._atom_energies(structures) if self.request.atom_energies else None,
            self.features if self.request.node_features else None,
        )

    def _atom_energies(self, structures: Sequence[Structure]) -> torch.Tensor:
        """Energies of atoms (A,) eV: the readout's, in the task's scale, its mean shared by all atoms, with the references."""
        (readout,) = self.atom_energies
        scale = self.energy_task.normalizer
        numbers = torch.as_tensor(np.concatenate([s.numbers for s in structures]), device=readout.device).long()
        shares = torch.cat([torch.full((s.n_atoms,), 1.0 / s.n_atoms, dtype=torch.float64) for s in structures])
        energies: torch.Tensor = readout.reshape(-1).double() * scale.rmsd + scale.mean * shares.to(readout.device)
        references = self.energy_task.element_references
        return energies if references is None else energies + references.element_references.flatten()[numbers]

    def _free_atom(self, structures: Sequence[Structure], products: bool) -> Evaluation:
        self.products = products
        (structure,) = structures
        try:
            energy = self.unit.predict(atomicdata_list_to_batch([self._data(structure)]))["energy"]
        except ValueError as error:
            raise TeacherError(
                f"Structure {structure.id} is a free atom, for which {self.info.name} has no energy."
            ) from error
        if self.request.node_features:
            raise TeacherError(
                f"Structure {structure.id} is a free atom, for which {self.info.name} has no node features."
            )
        positions = torch.as_tensor(structure.positions, dtype=self.dtype).requires_grad_()
        return Evaluation(energy, 0 * positions, positions, atom_energies=energy.reshape(1))

    def _data(self, structure: Structure) -> AtomicData:
        s = in_standard_cell(structure, self.reach)
        atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc)
        if self.has_charge:
            atoms.info.update(charge=structure.charge, spin=structure.spin)
        self.unit.validate_atoms_data(atoms, self.task)  # fills in the defaults of the other tasks
        return AtomicData.from_ase(atoms, r_data_keys=["spin", "charge"], task_name=self.task, target_dtype=self.dtype)

    def _enter(self, model: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if self.products:
            torch.set_grad_enabled(
                True
            )  # until predict leaves its no_grad block, which it enters for direct-force models
        self.positions = arguments[0]["pos"].requires_grad_()
        self.atom_energies.clear()

    def _keep_features(self, module: torch.nn.Module, inputs: Any, outputs: dict[str, torch.Tensor]) -> None:
        self.features = outputs["node_embedding"][:, 0]  # l = 0: the scalars


def _load(request: TeacherRequest) -> tuple[Path, Any]:
    """The checkpoint's file and the package's predict unit. Raises TeacherError for what cannot be fetched or read."""
    named = not Path(request.model).is_absolute()
    if named and request.model not in pretrained_mlip.available_models:
        known = ", ".join(pretrained_mlip.available_models)
        hint = nearest(request.model, pretrained_mlip.available_models)
        raise TeacherError(f"fairchem has no model '{request.model}'.{hint} Known: {known}, or a checkpoint file.")
    if not named and not Path(request.model).is_file():
        raise TeacherError(f"The checkpoint {request.model} was not found; give the path of an existing file.")
    try:
        checkpoint = pretrained_mlip.resolve_checkpoint(request.model)
    except Exception as error:
        raise TeacherError(_not_fetched(request.model, error)) from error
    device, _, index = request.device.partition(":")
    if index:
        torch.cuda.set_device(int(index))  # the package takes "cuda" and then the current device
    settings = InferenceSettings(
        tf32=False,
        activation_checkpointing=False,
        merge_mole=False,  # else one composition for all structures
        compile=False,
        execution_mode="general",  # else, on a GPU, kernels of its own whose second derivatives nobody has checked
        base_precision_dtype=getattr(torch, request.dtype),
    )
    try:
        unit = load_predict_unit(
            checkpoint.path,
            settings,
            device=device,
            atom_refs=checkpoint.atom_refs,
            form_elem_refs=checkpoint.form_elem_refs,
        )
    except Exception as error:
        raise TeacherError(
            f"{checkpoint.path} could not be read as a fairchem inference checkpoint ({type(error).__name__}: "
            f"{_first_sentence(error)}); it is damaged, of another kind, or made by another version of fairchem-core."
        ) from error
    return Path(checkpoint.path), unit


def _not_fetched(name: str, error: Exception) -> str:
    """One sentence for a pretrained model that did not arrive: no permission, or no network."""
    model = pretrained_mlip._MODEL_CKPTS.checkpoints[name]
    where = f"{model.repo_id} on Hugging Face"
    file = f"give the file {model.filename} as --teacher /path/to/{model.filename}"
    if isinstance(error, (GatedRepoError, RepositoryNotFoundError)):
        return (
            f"The weights of {name} are gated: accept their licence at {where}, then type `hf auth login` (or set HF_TOKEN) "
            f"and try again, or {file}."
        )
    return (
        f"The weights of {name} are not on this machine and could not be fetched from {where} ({type(error).__name__}); "
        f"connect to the network, or {file}."
    )


def _task(request: TeacherRequest, tasks: list[str]) -> str:
    """The task to label with. Raises TeacherError with the names to choose from."""
    known = ", ".join(tasks)
    if request.task is None and len(tasks) == 1:
        return tasks[0]
    if request.task is None:
        raise TeacherError(f"{request.name} has several tasks: {known}; choose one with --task.")
    if request.task not in tasks:
        raise TeacherError(
            f"{request.name} has no task '{request.task}'.{nearest(request.task, tasks)} Known: {known}."
        )
    return request.task


def _elements(references: Any, size: int) -> tuple[int, ...]:
    """Atomic numbers that the checkpoint states free-atom energies for, else all that its embedding (size,) has room for."""
    if references is None:
        return tuple(range(1, size))
    stated = references.element_references.flatten()[:size].nonzero().flatten().tolist()
    return tuple(int(number) for number in stated if number > 0)


def _first_sentence(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]


load = FairChem
