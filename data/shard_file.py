"""Arrays to an HDF5 image in memory, and back through a reader that trusts nothing.

The image is built in memory and written by `publish`: HDF5 files that are appended to are lost when the writer is killed, and
h5py crashes in close on a full disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import LabelSetError
from .schema import ARRAYS, FORMAT, SIGN, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py

Arrays = dict[str, NDArray[Any]]
CHUNK_ELEMENTS = 8192
MAX_CHUNK_BYTES = 1 << 24
MAX_SHARD_BYTES = 4 << 30  # logical size: a small file that claims more is refused unread
ALLOWED_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}  # HDF5's own numbers; all are built in


def image(arrays: Arrays, attributes: Mapping[str, Any]) -> bytes:
    """A complete HDF5 file in memory; the same arrays and attributes give the same bytes."""
    import h5py

    with h5py.File("image", "w", driver="core", backing_store=False, libver="v110") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["sign"] = SIGN
        for key, value in sorted(attributes.items()):
            file.attrs[key] = value
        for name, array in ((n, arrays[n]) for n in ARRAYS if n in arrays):
            dataset = _create(file, name, array)
            dataset.attrs["unit"] = ARRAYS[name].unit
            dataset.attrs["meaning"] = ARRAYS[name].meaning
        file.flush()
        return bytes(file.id.get_file_image())


def _create(file: h5py.File, name: str, array: NDArray[Any]) -> h5py.Dataset:
    if array.size == 0:  # HDF5 cannot chunk what is empty
        return file.create_dataset(name, data=array, track_times=False)
    per_row = max(1, array.size // len(array))
    rows = max(1, min(len(array), CHUNK_ELEMENTS // per_row))
    return file.create_dataset(
        name,
        data=array,
        chunks=(rows, *array.shape[1:]),
        compression="gzip",
        compression_opts=6,
        shuffle=True,
        fletcher32=True,
        track_times=False,
    )


@contextmanager
def open_shard(path: Path) -> Iterator[h5py.File]:
    """The shard, after every dataset was checked against the schema; nothing outside the file is ever opened.

    Raises LabelSetError where the file is no HDF5, of another format or version, or breaks the schema.
    """
    import h5py

    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise LabelSetError(f"{path} cannot be read as HDF5 ({error}); restore it from its origin.") from error
    with file:
        try:
            _check(file, path)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise LabelSetError(f"{path} is damaged ({error}); restore it from its origin.") from error
        yield file


def _check(file: h5py.File, path: Path) -> None:
    import h5py

    if file.attrs.get("format") != FORMAT:
        raise LabelSetError(f"{path} is not a shard of an hdistill label set.")
    if file.attrs.get("version") != VERSION:
        raise LabelSetError(
            f"{path} has format version {file.attrs.get('version')}; this hdistill reads version {VERSION}. "
            "Install the hdistill that wrote it."
        )
    missing = [a.name for a in ARRAYS.values() if not a.optional and a.name not in file]
    if missing:
        raise LabelSetError(f"{path} lacks the dataset {missing[0]}; restore it from its origin.")
    total = 0
    for name in file:
        if name not in ARRAYS:
            raise LabelSetError(
                f"{path} has a dataset {name} that format version {VERSION} does not know; it was refused."
            )
        if type(file.get(name, getlink=True)) is not h5py.HardLink or file.get(name, getclass=True) is not h5py.Dataset:
            raise LabelSetError(f"{path}: {name} points elsewhere or is no dataset; it was refused.")
        dataset = file[name]
        total += _check_dataset(dataset, name, path)
    if total > MAX_SHARD_BYTES:
        raise LabelSetError(f"{path} claims {total} bytes of arrays, more than a shard may have; it was refused.")
    _check_shapes({name: file[name] for name in file}, path)


def _check_dataset(dataset: h5py.Dataset, name: str, path: Path) -> int:
    """Type, storage and filters of one dataset; returns its logical size in bytes."""
    array = ARRAYS[name]
    kind = "|S" if dataset.dtype.kind == "S" else dataset.dtype.str
    if kind not in array.dtypes or len(dataset.shape or ()) != len(array.dims):
        raise LabelSetError(
            f"{path}: {name} has type {dataset.dtype} and shape {dataset.shape}; {array.dtypes[0]} {array.dims} was wanted."
        )
    if dataset.external or dataset.is_virtual:
        raise LabelSetError(f"{path}: {name} is stored outside the file; it was refused.")
    plist = dataset.id.get_create_plist()
    for index in range(plist.get_nfilters()):
        if plist.get_filter(index)[0] not in ALLOWED_FILTERS:
            raise LabelSetError(f"{path}: {name} uses an HDF5 filter that is not allowed here; it was refused.")
    if dataset.chunks and np.prod(dataset.chunks) * dataset.dtype.itemsize > MAX_CHUNK_BYTES:
        raise LabelSetError(f"{path}: {name} has oversized HDF5 chunks; it was refused.")
    return int(dataset.size) * int(dataset.dtype.itemsize)


def _check_shapes(datasets: Mapping[str, Any], path: Path) -> None:
    """Every dimension agrees with the offsets, and the offsets never go down."""
    sizes = {"S": datasets["id"].shape[0], "I": datasets["info_text"].shape[0], "A": datasets["numbers"].shape[0]}
    sizes["S+1"] = sizes["S"] + 1
    ends = {}
    for name in ("info_offsets", "atom_offsets", "product_offsets"):
        if datasets[name].shape != (sizes["S+1"],):
            raise LabelSetError(f"{path}: {name} has shape {datasets[name].shape}; ({sizes['S+1']},) was wanted.")
        offsets = datasets[name][:]
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise LabelSetError(f"{path}: {name} does not start at 0 or goes down; restore the shard from its origin.")
        ends[name] = offsets
    atoms = np.diff(ends["atom_offsets"])
    sizes["P"] = int(ends["product_offsets"][-1])
    sizes["V"] = int((3 * atoms * np.diff(ends["product_offsets"])).sum())
    sizes["B"] = (sizes["V"] + 7) // 8
    if ends["info_offsets"][-1] != sizes["I"] or ends["atom_offsets"][-1] != sizes["A"]:
        raise LabelSetError(f"{path}: the offsets do not end where the arrays end; restore the shard from its origin.")
    for name, dataset in datasets.items():
        wanted = tuple(sizes[d] if isinstance(d, str) else d for d in ARRAYS[name].dims)
        if dataset.shape != wanted:
            raise LabelSetError(f"{path}: {name} has shape {dataset.shape}; {wanted} was wanted.")
    has_directions = "hessian_signs" in datasets or "hessian_coordinate" in datasets
    if sizes["P"] and not ("hessian_values" in datasets and has_directions):
        raise LabelSetError(f"{path} counts {sizes['P']} Hessian products but does not hold them.")
    if sizes["P"] and (datasets["hessian_values"].dtype.kind == "i") != ("hessian_scale" in datasets):
        raise LabelSetError(f"{path}: compact Hessian products and hessian_scale go together; one is missing.")


def read_arrays(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """All arrays and the file's attributes."""
    with open_shard(path) as file:
        return {name: file[name][()] for name in ARRAYS if name in file}, dict(file.attrs)
