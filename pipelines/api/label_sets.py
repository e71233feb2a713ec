"""Label sets as a whole: open, look at, verify, merge, cut, audit, in and out of other formats, share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..report import label_tables, text
from .arguments import Labels, Place, cache_of, folder_of, labels_place
from .before import check_split
from .printed import Figures, Rows, result_of
from .results import Audited, Exported, Made

if TYPE_CHECKING:
    from hdistill.data.format.records import Manifest
    from hdistill.data.format.shard import Sample
    from hdistill.data.labelsets.label_set import LabelSet

Say = Callable[[str], None]


def open_labels(labels: Labels, *, cache: Place | None = None, cache_size: str | int = "10GB") -> LabelSet:
    """A label set in a folder, or at an address (s3://, gs://, hf://, https://), whose bytes agree with its manifest.

    Raises LabelSetError, RemoteError.
    """
    from hdistill.data.sharing.remote import open_labels as open_place

    place = labels_place(labels)
    return open_place(place, cache_of(place, cache, cache_size))


def samples(labels: Labels, split: str = "train") -> Iterator[Sample]:
    """The samples of a split in order: each has a `structure`, its `labels` (energy eV, forces eV/A, stress, hessian) and `split`.

    Raises InputError for a split that there is not or that is empty.
    """
    from hdistill.data.labelsets.label_set import LabelSet
    from hdistill.data.labelsets.stream import in_order

    check_split(split)
    return in_order(labels if isinstance(labels, LabelSet) else open_labels(labels), split)


def info(labels: Place) -> Figures:
    """Counts, teacher, Hessian labels, licences and size of a label set."""
    from hdistill.data.labelsets.label_set import info as read_info

    return Figures(read_info(folder_of(labels)), text.untrusted(label_tables.label_set_table))


def verify(labels: Place) -> LabelSet:
    """Check every byte, value, id and count of a label set. Raises LabelSetError at the first thing that is wrong."""
    from hdistill.data.labelsets.label_set import verify as verify_all

    return verify_all(folder_of(labels))


def quarantine(labels: Place) -> Rows:
    """The structures that the teacher could not label, with reasons."""
    from hdistill.data.format.manifest import read_manifest
    from hdistill.data.support.typed import as_json

    return Rows(as_json(read_manifest(folder_of(labels)).quarantine), text.untrusted(label_tables.quarantine_table))


def merge(labels: Sequence[Place], out: Place, *, say: Say = print) -> Made:
    """Put label sets of one teacher and the same settings together; each structure is taken once.

    Raises LabelSetError for sets that were not labelled alike and for labels that contradict each other, by the structure's name.
    """
    from hdistill.data.convert.merge import merge as run_merge

    folder = folder_of(out)
    return _made(folder, run_merge([folder_of(each) for each in labels], folder, say))


def subset(
    labels: Place,
    out: Place,
    *,
    where: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    say: Say = print,
) -> Made:
    """Cut a label set out of another one; labels and splits stay as they are stored. Raises InputError where nothing matches."""
    from hdistill.data.convert.cut import cut

    folder = folder_of(out)
    return _made(folder, cut(folder_of(labels), folder, where, split, limit, seed, say))


def audit(labels: Place, *, say: Say = print, **settings: Any) -> Audited:
    """Label random structures anew with the set's teacher and compare. `agrees` of the result is true only if all do.

    settings: n structures, seed (drawn anew where it is None), teacher and arguments (of one that does not come with hdistill, which is
    never taken from the set), teacher_python, device, threads, deadline_s. Raises InputError, LabelSetError, TeacherError.
    """
    from hdistill.labeler.audit import AuditSettings, audit as run_audit

    return result_of(Audited, run_audit(folder_of(labels), AuditSettings(**settings), say))


def export_labels(labels: Place, out: Place, *, to: str = "extxyz", split: str | None = None) -> Exported:
    """Write a label set as one file, to "extxyz", "ase-db" or "parquet", Hessian products included. Raises InputError."""
    from hdistill.data.convert.exporting import export

    return result_of(Exported, export(folder_of(labels), to, folder_of(out), split))


def import_labels(file: Place, out: Place, *, say: Say = print, **settings: Any) -> Made:
    """Make a label set of published energies, forces and full Hessians: extended XYZ, HDF5, npz, .fchk, vasprun.xml, ORCA's .hess,
    outputs of NWChem, Q-Chem and CP2K, xTB's and Turbomole's hessian, phonopy's files, folders of ASE's Vibrations and Phonons.

    settings: hessian, units ("eV/A", "hartree/bohr", ...), length, negate, codec, seed, splits, level_of_theory, licence,
    citation, group_key, geometry, energy, at_minimum, delta. Each Hessian is checked; what fails is in quarantine. Raises InputError.
    """
    from hdistill.data.convert.importing import ImportSettings, import_file

    folder = folder_of(out)
    return _made(folder, import_file(folder_of(file), folder, ImportSettings(**settings), say))


def card(labels: Place, **stated: Any) -> Figures:
    """Write README.md and croissant.json of a label set again, with what you state: title, authors, url, date, release,
    structures_license, weights_license. Raises InputError."""
    from hdistill.data.publication.documents import state

    folder = folder_of(labels)
    written = asdict(state(folder, **stated))
    return Figures(written, lambda _: f"{folder}: README.md and croissant.json are written.")


def push(labels: Place, destination: Place, *, permission_by: str | None = None, progress: bool = True) -> Figures:
    """Copy a label set to a folder, s3://, gs:// or hf://; the same call continues.

    permission_by: who has the permission to push what the licences do not let one share. Raises LicenceError, RemoteError.
    """
    from hdistill.data.sharing.push_pull import as_json, push as run_push

    moved = run_push(folder_of(labels), str(destination), permission_by, progress)
    return Figures(as_json(moved), lambda figures: label_tables.copy_summary(figures, "pushed to"))


def pull(source: Place, out: Place, *, progress: bool = True) -> Figures:
    """Copy a label set from s3://, gs://, hf://, http(s):// or a folder; the same call continues, every shard is hashed."""
    from hdistill.data.sharing.push_pull import as_json, pull as run_pull

    moved = run_pull(str(source), folder_of(out), progress)
    return Figures(as_json(moved), lambda figures: label_tables.copy_summary(figures, "pulled from"))


def _made(folder: Path, manifest: Manifest) -> Made:
    from hdistill.data.support.typed import as_json

    counts = {name: getattr(manifest.counts, name) for name in ("n_structures", "n_atoms", "n_groups", "n_quarantined")}
    splits = as_json(manifest.splits)
    return Made(path=folder, **counts, n_products=manifest.hessian.n_products, splits=splits)
