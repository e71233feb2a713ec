"""What a shard from a stranger must satisfy before anything of it is read.

HDF5 is asked for the structure of the file only, in an order in which nothing is followed before it is known to stay inside:
names and links, then storage, then filters, then types, shapes and places. External files, virtual datasets, links, and types
with pointers are followed silently by HDF5, even by asking a virtual dataset for its shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..errors import LabelSetError
from .schema import ARRAYS, FORMAT, VERSION
from .stored import DEFLATE, MAX_CHUNK_BYTES, PIPELINE, SHUFFLE, Stored

MAX_SHARD_BYTES = 4 << 30  # of arrays: a small file that claims more is refused unread
MAX_EXPANSION = 64  # arrays over file; real label sets have 2 to 6
FREE_BYTES = 64 << 20  # of arrays, whatever the size of the file
MAX_STRING_BYTES = 1 << 12  # of a group's name
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTE_BYTES = 1 << 14
SIGNATURE = b"\x89HDF\r\n\x1a\n"
SUPERBLOCKS = (2, 3)  # HDF5 1.8 and later; older ones have structures without checksums
# What h5py makes of an error inside HDF5, by its place there.
H5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)


@dataclass(frozen=True, eq=False)
class Layout:
    """The attributes of a shard and where each of its arrays lies."""

    attributes: dict[str, Any]
    arrays: dict[str, Stored]


def layout_of(path: Path, start: bytes, file_bytes: int) -> Layout:
    """The checked layout of a shard, given its first bytes and its size. Nothing outside the file is ever opened.

    Raises LabelSetError naming what is wrong.
    """
    start = start[: len(SIGNATURE) + 1]
    if start[:-1] != SIGNATURE or start[-1] not in SUPERBLOCKS:
        raise LabelSetError(
            f"{path} cannot be read as HDF5 of version 1.8 or later; restore it from its origin, or convert it with h5repack."
        )
    try:
        file = h5py.File(path, "r", locking=False)
    except H5_ERRORS as error:
        raise LabelSetError(f"{path} cannot be read as HDF5 ({error}); restore it from its origin.") from error
    try:
        with file:
            return _layout(file, path, file_bytes)
    except H5_ERRORS as error:
        raise LabelSetError(f"{path} is damaged ({error}); restore it from its origin.") from error


def _layout(file: h5py.File, path: Path, file_bytes: int) -> Layout:
    attributes = _attributes(file.id, path) if h5py.h5a.exists(file.id, b"format") else {}
    if attributes.get("format") != FORMAT:
        raise LabelSetError(f"{path} is not a shard of an hdistill label set.")
    version = attributes.get("version")
    if version != VERSION:
        raise LabelSetError(
            f"{path} has format version {_shown(version)}; this hdistill reads version {VERSION}. "
            "Install the hdistill that wrote it."
        )
    datasets = {name: _dataset(file, name, path) for name in _names(file, path)}
    for name, dataset in datasets.items():
        _check_storage(dataset, name, path)
    _check_size(datasets, path, file_bytes)
    return Layout(attributes, {name: _stored(datasets[name], name, path, file_bytes) for name in datasets})


def _names(file: h5py.File, path: Path) -> list[str]:
    """The datasets of the file, in the schema's order, after a look at every link."""
    if len(file) > len(ARRAYS):
        raise LabelSetError(f"{path} has {len(file)} objects, more than a shard has; it was refused.")
    names = set(file)
    for name in names:
        if name not in ARRAYS:
            raise LabelSetError(
                f"{path} has an object {_shown(name)} that format version {VERSION} does not know; it was refused."
            )
    missing = [array.name for array in ARRAYS.values() if not array.optional and array.name not in names]
    if missing:
        raise LabelSetError(f"{path} lacks the dataset {missing[0]}; restore it from its origin.")
    return [name for name in ARRAYS if name in names]


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.h5d.DatasetID:
    key = name.encode()
    if file.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
        raise LabelSetError(f"{path}: {name} points elsewhere; it was refused.")
    if h5py.h5o.get_info(file.id, key).type != h5py.h5o.TYPE_DATASET:
        raise LabelSetError(f"{path}: {name} is not a dataset; it was refused.")
    return h5py.h5d.open(file.id, key)


def _attributes(owner: Any, path: Path) -> dict[str, Any]:
    """Attributes of an object: a few single numbers and texts, nothing else."""
    count = h5py.h5a.get_num_attrs(owner)
    if count > MAX_ATTRIBUTES:
        raise LabelSetError(f"{path} has {count} attributes on one object; it was refused.")
    values = {}
    for index in range(count):
        attribute = h5py.h5a.open(owner, index=index)
        kind = attribute.get_type()
        pointer = kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()
        if (
            kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING)
            or pointer
            or attribute.get_space().get_simple_extent_type() != h5py.h5s.SCALAR
            or attribute.get_storage_size() > MAX_ATTRIBUTE_BYTES
        ):
            raise LabelSetError(f"{path} has an attribute {_shown(attribute.name)} of a strange type; it was refused.")
        values[attribute.name.decode()] = _attribute_value(attribute)
    return values


def _attribute_value(attribute: h5py.h5a.AttrID) -> Any:
    value = np.empty((), attribute.dtype)
    attribute.read(value)
    content = value.item()
    return content.decode() if isinstance(content, bytes) else content


def _check_storage(dataset: h5py.h5d.DatasetID, name: str, path: Path) -> None:
    """Storage, filters, type and rank, in this order: asking a virtual dataset for its shape opens other files."""
    settings = dataset.get_create_plist()
    layout = settings.get_layout()
    if layout == h5py.h5d.VIRTUAL or settings.get_external_count():
        raise LabelSetError(f"{path}: {name} is stored outside the file; it was refused.")
    if layout not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
        raise LabelSetError(f"{path}: {name} is neither contiguous nor chunked; it was refused.")
    filters = _filters(settings)
    if [code for code in PIPELINE if code in filters] != filters:
        raise LabelSetError(f"{path}: {name} uses an HDF5 filter that is not allowed here; it was refused.")
    _attributes(dataset, path)
    array, kind, dtype = ARRAYS[name], dataset.get_type(), _dtype(dataset)
    if kind.committed():
        raise LabelSetError(f"{path}: {name} has a type of its own in the file; it was refused.")
    space = dataset.get_space()
    simple = space.get_simple_extent_type() == h5py.h5s.SIMPLE
    shape = space.get_simple_extent_dims() if simple else ()
    if dtype not in array.dtypes or len(shape) != len(array.dims):
        raise LabelSetError(
            f"{path}: {name} has type {_shown(dtype)} and shape {shape}; {array.dtypes[0]} {array.dims} was wanted."
        )
    if layout == h5py.h5d.CHUNKED:
        chunk = settings.get_chunk()
        size = math.prod(chunk) * kind.get_size()
        if size > MAX_CHUNK_BYTES or chunk[1:] != shape[1:]:
            raise LabelSetError(f"{path}: {name} has oversized or odd HDF5 chunks ({chunk}); it was refused.")


def _filters(settings: h5py.h5p.PropDCID) -> list[int]:
    return [settings.get_filter(index)[0] for index in range(settings.get_nfilters())]


def _dtype(dataset: h5py.h5d.DatasetID) -> str:
    """The type as schema.py writes it; what is only like one of those gets a name that is none of them."""
    kind = dataset.get_type()
    if kind.get_class() == h5py.h5t.STRING:
        plain = not kind.is_variable_str() and kind.get_strpad() == h5py.h5t.STR_NULLPAD
        return "|S" if plain and 0 < kind.get_size() <= MAX_STRING_BYTES else "an odd text"
    if kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT):
        return f"HDF5 class {kind.get_class()}"
    dtype = np.dtype(kind.dtype)
    # An integer of 5 bits or a float with another exponent reads as the nearest type of numpy.
    return str(dtype.str) if kind == h5py.h5t.py_create(dtype) else "an odd number"


def _check_size(datasets: dict[str, h5py.h5d.DatasetID], path: Path, file_bytes: int) -> None:
    total = sum(math.prod(d.shape) * d.get_type().get_size() for d in datasets.values())
    if total > min(MAX_SHARD_BYTES, max(FREE_BYTES, MAX_EXPANSION * file_bytes)):
        raise LabelSetError(
            f"{path} claims {total} bytes of arrays in a file of {file_bytes}, more than a shard may have; it was refused."
        )


def _stored(dataset: h5py.h5d.DatasetID, name: str, path: Path, file_bytes: int) -> Stored:
    """Where the pieces of a dataset lie: all there, none beyond the end of the file."""
    settings, kind, shape = dataset.get_create_plist(), dataset.get_type(), dataset.shape
    dtype = np.dtype(f"S{kind.get_size()}") if ARRAYS[name].dtypes == ("|S",) else np.dtype(kind.dtype)
    if math.prod(shape) == 0:
        return Stored(name, dtype, shape, 1, (), np.zeros(0, np.int64), np.zeros(0, np.int64))
    if settings.get_layout() == h5py.h5d.CONTIGUOUS:
        stored = _contiguous(dataset, name, dtype, shape)
    else:
        stored = _chunked(dataset, name, dtype, shape, path, file_bytes)
    room = stored.piece_bytes + stored.piece_bytes // 64 + 64  # what does not compress grows a little
    if (stored.sizes > room).any() or (stored.places < 0).any() or (stored.places > file_bytes - stored.sizes).any():
        raise LabelSetError(
            f"{path}: {name} has pieces that are missing, too long or beyond the file's end; it was refused."
        )
    return stored


def _contiguous(dataset: h5py.h5d.DatasetID, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Stored:
    place, wanted = dataset.get_offset(), math.prod(shape) * dtype.itemsize  # no place where nothing was ever written
    return Stored(name, dtype, shape, shape[0], (), np.array([-1 if place is None else place]), np.array([wanted]))


def _chunked(
    dataset: h5py.h5d.DatasetID, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], path: Path, file_bytes: int
) -> Stored:
    settings = dataset.get_create_plist()
    rows = settings.get_chunk()[0]
    wanted = -(-shape[0] // rows)
    if wanted > file_bytes or dataset.get_num_chunks() != wanted:
        raise LabelSetError(f"{path}: {name} has chunks missing; restore the shard from its origin.")
    places: NDArray[np.int64] = np.full(wanted, -1)
    sizes: NDArray[np.int64] = np.full(wanted, -1)

    def note(chunk: Any) -> None:
        k, rest = divmod(chunk.chunk_offset[0], rows)
        if chunk.filter_mask or rest or any(chunk.chunk_offset[1:]):
            raise ValueError(f"{name} has a chunk that is stored in another way than the others")
        places[k], sizes[k] = chunk.byte_offset, chunk.size

    dataset.chunk_iter(note)
    filters = tuple(_filters(settings))
    for index in range(len(filters)):
        code, _, values, _ = settings.get_filter(index)
        if not _fits(code, values, dtype.itemsize):
            raise LabelSetError(f"{path}: {name} has a filter with odd settings; it was refused.")
    return Stored(name, dtype, shape, rows, filters, places, sizes)


def _fits(code: int, values: tuple[int, ...], item_bytes: int) -> bool:
    """Whether a filter's settings are those of a writer of such items: HDF5 and stored.py would read others differently."""
    if code == SHUFFLE:
        return tuple(values) == (item_bytes,)
    if code == DEFLATE:
        return len(values) == 1 and values[0] <= 9
    return len(values) == 0


def _shown(name: object) -> str:
    """A name from the file as it may be printed: short, without control characters."""
    text = ascii(name)
    return text if len(text) < 80 else f"{text[:76]}..."
