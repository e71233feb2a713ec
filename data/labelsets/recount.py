"""Every value and every count of a label set against the schema and the manifest: what `hdistill labels verify` adds to opening."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LabelSetError
from ..format.plausible import first_problem
from ..format.records import Manifest, QuarantineRow
from ..format.schema import ARRAYS, MAX_QUARANTINE_ROWS, SPLITS
from ..format.shard import decode
from ..format.shard_file import OpenShard
from .balance import id_sum, require_balance
from .split import group_keys

BLOCK = 256  # structures decoded at a time
MAX_COORDINATE = 1e5  # A
NAN_WHERE_NONE = ("stress", "ref_energy", "ref_forces", "ref_stress", "atom_energies", "node_features")
WHOLE = ("ref_forces",)  # per atom, but of a structure all or none


@dataclass
class Recount:
    """Counts over the shards of a set, to be compared with its manifest."""

    structures: int = 0
    atoms: int = 0
    products: int = 0
    values: int = 0
    elements: Counter[int] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    ids: list[NDArray[np.void]] = field(default_factory=list)
    groups: list[NDArray[np.uint64]] = field(default_factory=list)

    def add(self, shard: OpenShard, path: Path) -> None:
        """Check and count one shard. Raises LabelSetError naming the first thing that is wrong."""
        _check_numbers(shard, path)
        _check_samples(shard, path)
        atoms, products = np.diff(shard["atom_offsets"]), np.diff(shard["product_offsets"])
        self.structures += len(atoms)
        self.atoms += int(atoms.sum())
        self.products += int(products.sum())
        self.values += int((3 * atoms * products).sum())
        owner = np.repeat(np.arange(len(atoms)), atoms)
        pairs = np.unique(owner * 128 + shard["numbers"][:])
        self.elements.update((pairs % 128).tolist())
        split = shard["split"][:]
        self.splits.update(SPLITS[i] for i in split.tolist())
        self.ids.append(np.ascontiguousarray(shard["id"][:]).view("V16").ravel())
        self.groups.append(group_keys(shard["group"][:]) << np.uint64(2) | split)

    def check(self, manifest: Manifest, what: str) -> None:
        """The manifest's counts against these; each id once, and no group in two splits. Raises LabelSetError."""
        ids = np.concatenate(self.ids) if self.ids else np.zeros(0, "V16")
        if len(np.unique(ids)) < len(ids):
            raise LabelSetError(f"{what} holds a structure twice; make it again with `hdistill labels merge`.")
        groups = np.unique(np.concatenate(self.groups)) if self.groups else np.zeros(0, np.uint64)
        n_groups = len(np.unique(groups >> np.uint64(2)))
        counts, hessian, splits = manifest.counts, manifest.hessian, manifest.splits
        if splits.by == "group" and len(groups) > n_groups:
            raise LabelSetError(f"{what} has a group in two of its splits, though it says it was split by group.")
        compared: dict[str, tuple[Any, Any]] = {
            "structures": (counts.n_structures, self.structures),
            "atoms": (counts.n_atoms, self.atoms),
            "groups": (counts.n_groups, n_groups),
            "elements": (counts.elements, {str(z): n for z, n in sorted(self.elements.items())}),
            "structures in each split": (splits.n_structures, {s: self.splits[s] for s in SPLITS}),
            "Hessian products": (hessian.n_products, self.products),
            "elements of Hessian products": (hessian.n_elements, self.values),
            "structures in quarantine": (min(counts.n_quarantined, MAX_QUARANTINE_ROWS), len(manifest.quarantine)),
        }
        listed = id_sum(row.id for row in manifest.quarantine)
        if manifest.balance is not None:
            labelled = id_sum(np.frombuffer(ids.tobytes(), np.uint8))
            require_balance(manifest.balance, labelled, what)
            if counts.n_quarantined == len(manifest.quarantine) and listed != manifest.balance.quarantined:
                raise LabelSetError(
                    f"{what} lists other structures in quarantine than it counts; restore it from its origin."
                )
        if listed.n and (both := np.isin(ids, _packed(manifest.quarantine))).any():
            raise LabelSetError(
                f"{what} has structure {ids[both][0].tobytes().hex()} in quarantine, and labels of it, too."
            )
        for name, (stated, counted) in compared.items():
            if stated != counted:
                raise LabelSetError(f"{what} counts {name} as {_short(stated)}, but there are {_short(counted)}.")


def _packed(rows: Sequence[QuarantineRow]) -> NDArray[np.void]:
    return np.frombuffer(b"".join(bytes.fromhex(row.id) for row in rows), "V16")


def _check_numbers(shard: OpenShard, path: Path) -> None:
    """Every floating-point number is finite, or missing where the schema lets it be missing; positions are not astronomic."""
    for name in (n for n in shard if shard[n].dtype.kind == "f"):
        for piece in shard[name].pieces():
            bad = np.isinf(piece) if name in NAN_WHERE_NONE else ~np.isfinite(piece)
            if bad.any():
                raise LabelSetError(f"{path}: {name} holds {piece[bad].ravel()[0]}; finite numbers were wanted.")
            if name in ("positions", "cell") and (np.abs(piece) > MAX_COORDINATE).any():
                raise LabelSetError(
                    f"{path}: {name} holds more than {MAX_COORDINATE:.0f} A; no structure is that large."
                )
    if shard["spin"][:].min(initial=1) < 1:
        raise LabelSetError(f"{path}: spin holds a multiplicity below 1.")
    bits = shard.get("hessian_signs")
    used = int((3 * np.diff(shard["atom_offsets"]) * np.diff(shard["product_offsets"])).sum()) % 8
    if bits is not None and len(bits) and used and int(bits[len(bits) - 1]) & (0xFF >> used):
        raise LabelSetError(f"{path}: hessian_signs has bits set after its end.")


def _check_samples(shard: OpenShard, path: Path) -> None:
    """Every structure decodes, hashes to its own id, can be matter, and lacks a reference label wholly or not at all."""
    n = len(shard["id"])
    for start in range(0, n, BLOCK):
        _check_structures(shard, start, min(start + BLOCK, n), path)
        stop = min(start + BLOCK, n)
        stored = [row.tobytes().hex() for row in shard["id"][start:stop]]
        for name in (x for x in NAN_WHERE_NONE if x in shard and ARRAYS[x].dims != ("S",)):
            _check_whole(shard, name, start, stop, path)
        for wanted, sample in zip(stored, decode(shard, start, stop), strict=True):
            if wanted != sample.structure.id:
                raise LabelSetError(f"{path}: structure {wanted} does not hash to its own id; restore the shard.")


def _check_structures(shard: OpenShard, start: int, stop: int, path: Path) -> None:
    ends = shard["atom_offsets"][start : stop + 1]
    cell, pbc = shard["cell"][start:stop], shard["pbc"][start:stop].astype(bool)
    problem = first_problem(np.diff(ends), shard["positions"][ends[0] : ends[-1]], cell, pbc)
    if problem is not None:
        id = shard["id"][start + problem[0]].tobytes().hex()
        raise LabelSetError(f"{path}: structure {id} cannot be: {problem[1]}; leave it out and label again.")


def _check_whole(shard: OpenShard, name: str, start: int, stop: int, path: Path) -> None:
    ends = shard["atom_offsets"][start : stop + 1]
    per_atom = ARRAYS[name].dims[0] == "A"
    missing = np.isnan(shard[name][ends[0] : ends[-1]] if per_atom else shard[name][start:stop])
    rows = missing.reshape(len(missing), -1)
    any_missing, all_missing = rows.any(axis=1), rows.all(axis=1)
    if per_atom:
        begins = ends[:-1] - ends[0]
        any_missing, all_missing = (
            np.logical_or.reduceat(any_missing, begins),
            np.logical_and.reduceat(all_missing, begins),
        )
    if (any_missing != all_missing).any():
        raise LabelSetError(f"{path}: {name} is missing for a part of a structure; all of it or nothing was wanted.")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 120 else f"{text[:116]}..."
