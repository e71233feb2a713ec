"""The structures of a label set as a source: another teacher may label them, or the same one may label more of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...structure import Structure
from ..charge_spin import UnfitError, check
from ..files import MANIFEST
from ..reader import Located, Reader, SubsetRow
from ..report import Keys, SourceReport

if TYPE_CHECKING:
    from ...format.shard import Sample

AT_ONCE = 1024  # structures that are decoded together


def read(path: Path | None, located: Located, keys: Keys, report: SourceReport) -> Iterator[Structure]:
    """Every structure with group, info and reference labels as they are stored. Raises LabelSetError."""
    from ...labelsets.label_set import open_label_set

    assert path is not None
    for shard in open_label_set(path.parent).shards:
        for sample in bare_samples(shard.path):
            structure = sample.structure
            try:
                check(structure.numbers, structure.charge, structure.spin, bool(structure.pbc.any()), "the label set")
            except UnfitError as error:
                report.skip(error.reason, f"{path.parent.name}, {structure.id}: {error}")
                continue
            for quantity in ("charge", "spin", "group"):
                report.take(quantity, "label set")
            yield structure


def stored_ids(folder: Path) -> Iterator[bytes]:
    """The id of every structure, 16 bytes. Raises LabelSetError."""
    from ...format.shard_file import open_shard
    from ...labelsets.label_set import open_label_set

    for shard in open_label_set(folder, check=False).shards:
        with open_shard(shard.path) as file:
            ids = file["id"][:]
        yield from (row.tobytes() for row in ids)


def bare_samples(shard: Path) -> Iterator[Sample]:
    """The samples of a shard without their Hessian products, which are not even read."""
    from ...format.shard import decode
    from ...format.shard_file import open_shard

    with open_shard(shard) as file:
        arrays = {name: file[name][()] for name in file if not name.startswith("hessian_")}
    for start in range(0, len(arrays["id"]), AT_ONCE):
        yield from decode(arrays, start, min(start + AT_ONCE, len(arrays["id"])))


READER = Reader(
    name="label set",
    what="a label set, by its directory",
    read=read,
    recognises=lambda path: path.name == MANIFEST,
    rows=(SubsetRow("LABELS", "the structures of a label set, by its directory"),),
    order=0,
)
