"""MACE: `mace-mp[:SIZE]` and `mace-off[:SIZE]` through the package's own loaders and cache, and any .model file.

One batched force evaluation keeps its graph from the positions, so a vector-Jacobian product of the forces is one product with
the Hessian of every structure at once. Energies of free atoms are taken out of the model and added in float64: of some -1000 eV
an atom, as all-electron references are, a float32 sum would lose 1e-3 eV. Atom energies hold them, too; node features are the
invariants of the last layer. I. Batatia et al., NeurIPS 2022, arXiv:2206.07697.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mace import data as mace_data  # before e3nn: importing mace lets e3nn 0.4.4 load its constants under torch >= 2.6
from mace.calculators import foundations_models, mace_mp, mace_off
from mace.modules import MACE, ScaleShiftMACE
from mace.tools import AtomicNumberTable, torch_geometric, torch_tools
from mace.tools.utils import get_cache_dir

from hdistill.data.errors import TeacherError, nearest
from hdistill.data.structure import Directions, Labels, Structure

from .about import describe, versions_of
from .contract import (
    Evaluation,
    TeacherRequest,
    check_elements,
    check_signals,
    label_by_autograd,
    products_are_wanted,
    stress_is_wanted,
)
from .geometry import in_standard_cell


class Mace:
    def __init__(self, request: TeacherRequest):
        model, path = _load(request)
        self.heads = [str(head) for head in getattr(model, "heads", ["Default"])]
        self.head = _head(request, self.heads)
        self.dtype = getattr(torch, request.dtype)
        self.device = torch.device(request.device)
        self.free_atoms = _take_free_atoms(model)[self.heads.index(self.head)].to(self.device)
        self.model = model.to(self.device, self.dtype).requires_grad_(False)
        self.table = AtomicNumberTable([int(z) for z in model.atomic_numbers])
        self.r_max = float(model.r_max)  # A
        self.request = check_signals(request, atom_energies=True, node_features=True)
        self.scalars = _scalars_of_last_layer(model)
        self.info = describe(
            request,
            self.table.zs,
            ("torch", "mace-torch", "e3nn", "matscipy"),
            [path],
            self.head if len(self.heads) > 1 else request.task,
        )

    def label(self, structures: Sequence[Structure], directions: Sequence[Directions | None]) -> list[Labels]:
        check_elements(structures, self.info.elements, self.info.name)
        evaluation = self.evaluate(structures, products_are_wanted(directions))
        return label_by_autograd(evaluation, structures, directions)

    def evaluate(self, structures: Sequence[Structure], products: bool) -> Evaluation:
        with torch_tools.default_dtype(self.dtype):
            batch = torch_geometric.Batch.from_data_list(
                [self._graph(in_standard_cell(s, self.r_max)) for s in structures]
            )
        data = batch.to(self.device).to_dict()
        positions = data[
            "positions"
        ].requires_grad_()  # taken now: for stress the model puts a strained one in its place
        stress = stress_is_wanted(structures)
        # e3nn's TorchScript would profile the first calls and run other code after: the same input, other last bits.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            out = self.model(data, training=products, compute_force=True, compute_stress=stress)
        forces = out["forces"]
        if products and not forces.requires_grad:  # no two atoms within the cutoff
            forces = forces + 0 * positions
        energy = out["energy"].double().index_add(0, data["batch"], data["node_attrs"].double() @ self.free_atoms)
        atom_energies = features = None
        if self.request.atom_energies:
            atom_energies = out["node_energy"].double() + data["node_attrs"].double() @ self.free_atoms
        if self.request.node_features:
            features = out["node_feats"][:, self.scalars]
        return Evaluation(energy, forces, positions, out["stress"], atom_energies, features)

    def _graph(self, structure: Structure) -> mace_data.AtomicData:
        configuration = mace_data.Configuration(
            atomic_numbers=structure.numbers,
            positions=structure.positions,
            cell=structure.cell,
            pbc=tuple(bool(periodic) for periodic in structure.pbc),
            # Read by models that were trained with them, such as those for OMol25.
            properties={"total_charge": structure.charge, "total_spin": structure.spin},
            property_weights={},
            head=self.head,
        )
        return mace_data.AtomicData.from_config(configuration, self.table, self.r_max, heads=self.heads)


def _scalars_of_last_layer(model: Any) -> slice:
    """Which of the node features, those of all layers side by side, are the invariant ones of the last layer."""
    irreps = model.products[-1].linear.irreps_out
    total = sum(product.linear.irreps_out.dim for product in model.products)
    return slice(total - irreps.dim, total - irreps.dim + irreps.count("0e"))  # e3nn puts scalars first


def _take_free_atoms(model: Any) -> torch.Tensor:
    """Energies of free atoms (heads, elements) eV in float64, which the model is left without."""
    kept = model.atomic_energies_fn.atomic_energies
    energies: torch.Tensor = kept.double().reshape(-1, kept.shape[-1]).clone()
    kept.zero_()
    return energies


def _load(request: TeacherRequest) -> tuple[Any, Path]:
    """The model as it was saved, and the file it came from."""
    kind, _, size = request.model.partition(":")
    if kind in _LOADERS:
        path, published = _cached(kind, size)
    else:
        path, published = Path(request.model), ""
        if not path.is_file():
            raise TeacherError(f"The MACE model file {path} was not found; give the path of an existing .model file.")
    try:
        if kind in _LOADERS:
            model = _LOADERS[kind](model=size, device="cpu", return_raw_model=True)
        else:
            model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        if not path.is_file():
            raise TeacherError(
                f"The weights of {request.name} are not on this machine and could not be downloaded ({_root(error)}); "
                f"connect to the network, or put the file {published} that the MACE project publishes at {path}."
            ) from error
        raise TeacherError(_unreadable(path, error)) from error
    if type(model) not in (MACE, ScaleShiftMACE):
        scripted = getattr(model, "original_name", None)  # of a model compiled to TorchScript
        kind = f"TorchScript {scripted}" if scripted else type(model).__name__
        raise TeacherError(f"{path} holds a {kind}; wanted is the .model file of a MACE energy model, not compiled.")
    return model, path


_LOADERS = {"mace-mp": mace_mp, "mace-off": mace_off}
_URLS = {"mace-mp": foundations_models.mace_mp_urls, "mace-off": foundations_models.mace_off_urls}


def _cached(kind: str, size: str) -> tuple[Path, str]:
    """Where the loader keeps (or will put) the weights of a size, and the name they are published under.

    Raises TeacherError for a size that the loader does not know.
    """
    urls = _URLS[kind]
    if size not in urls:
        raise TeacherError(f"{kind} has no size '{size}'.{nearest(size, urls)} Known: {', '.join(urls)}.")
    published = os.path.basename(urls[size])
    kept = "".join(c for c in published if c.isalnum() or c == "_") if kind == "mace-mp" else published
    return Path(get_cache_dir()) / kept, published


def _unreadable(path: Path, error: Exception) -> str:
    """One sentence for a file that does not load: damaged, or of other versions."""
    start = f"The MACE model file {path} could not be read ({type(error).__name__}: {_first_sentence(error)})"
    if not _is_whole(path):
        return f"{start}: it is damaged or no MACE model; delete it and fetch it again, or give another."
    installed = ", ".join(f"{name} {version}" for name, version in versions_of("e3nn", "mace-torch", "torch").items())
    return (
        f"{start}: it was made by other versions than are installed here ({installed}). Released models are read by "
        "e3nn 0.4.4, which `hdistill teachers install mace` brings."
    )


def _is_whole(path: Path) -> bool:
    """Whether a file is a zip archive, as torch writes them, with all its checksums right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError):
        return False


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return _first_sentence(error)


def _first_sentence(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]


def _head(request: TeacherRequest, heads: list[str]) -> str:
    """The head that serves the request's task. Raises TeacherError with the names to choose from."""
    known = ", ".join(heads)
    if request.task is None and len(heads) == 1:
        return heads[0]
    if request.task is None:
        raise TeacherError(
            f"{request.name} has several heads, each a level of theory: {known}; choose one with --task."
        )
    if request.task not in heads:
        raise TeacherError(
            f"{request.name} has no head '{request.task}'.{nearest(request.task, heads)} Known: {known}."
        )
    return request.task


load = Mace
