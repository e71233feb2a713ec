"""Arrays to an HDF5 image in memory, and back through a reader that trusts nothing.

The image is built in memory and written by `publish`: HDF5 files that are appended to are lost when the writer is killed, and
h5py crashes in close on a full disk. What a file must satisfy is in shard_guard.py (its structure) and below (its offsets and
what indexes other things); how its arrays are read is in stored.py.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LabelSetError
from .plausible import crowded_shard
from .schema import ARRAYS, FORMAT, SIGN, SPLITS, VERSION
from .stored import Stored, StoredArray

if TYPE_CHECKING:
    import h5py

Arrays = dict[str, NDArray[Any]]
CHUNK_ELEMENTS = 8192
# zlib begins a new code every 16k symbols: so each of the two byte planes of 16-bit numbers gets a code of its own.
CHUNK_ELEMENTS_OF = {"hessian_values": 16384}
OFFSETS = ("info_offsets", "atom_offsets", "product_offsets")
RANGES = {"numbers": (1, 118), "split": (0, len(SPLITS) - 1), "pbc": (0, 1)}  # what indexes tables of readers
MAX_FREE_DIMENSION = 1 << 14  # of a dimension that nothing else decides, as features of an atom
KEPT_SHARDS = 512  # checked ones; of 10^5 small structures each, their offsets are 3.2 MB
SETTLED_S = 1.0  # a file that changed this lately may change again without another time stamp


def image(arrays: Arrays, attributes: Mapping[str, Any]) -> bytes:
    """A complete HDF5 file in memory; the same arrays and attributes give the same bytes."""
    import h5py

    # HDF5 will not have two open files of one name, and threads make images at the same time; the name is not in the bytes.
    name = f"image-{threading.get_ident()}"
    with h5py.File(name, "w", driver="core", backing_store=False, libver="v110") as file:
        for key, value in {
            "format": FORMAT,
            "version": VERSION,
            "sign": SIGN,
            **dict(sorted(attributes.items())),
        }.items():
            file.attrs[key] = _plain(value)
        for name, array in ((n, arrays[n]) for n in ARRAYS if n in arrays):
            dataset = _create(file, name, array)
            dataset.attrs["unit"] = _plain(ARRAYS[name].unit)
            dataset.attrs["meaning"] = _plain(ARRAYS[name].meaning)
        file.flush()
        return bytes(file.id.get_file_image())


def _plain(value: Any) -> Any:
    """Texts of fixed length: those of variable length are pointers into the file, which a reader has to trust."""
    if not isinstance(value, str):
        return value
    text = value.encode()
    return np.array(text, f"S{max(1, len(text))}")


def _create(file: h5py.File, name: str, array: NDArray[Any]) -> h5py.Dataset:
    if array.size == 0:  # HDF5 cannot chunk what is empty
        return file.create_dataset(name, data=array, track_times=False)
    per_row = max(1, array.size // len(array)) * max(1, array.dtype.itemsize // 8)  # long texts count as more
    rows = max(1, min(len(array), CHUNK_ELEMENTS_OF.get(name, CHUNK_ELEMENTS) // per_row))
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


@dataclass(frozen=True, eq=False)
class _Checked:
    """What is known of a shard that was checked: kept, so that a reader of blocks checks once and not at every block."""

    attributes: dict[str, Any]
    arrays: dict[str, Stored]
    offsets: Arrays
    value_offsets: NDArray[np.int64]


_Identity = tuple[str, int, int, int, int, int]
_checked: OrderedDict[_Identity, _Checked] = OrderedDict()


class OpenShard(Mapping[str, Any]):
    """An open shard: its arrays by name, in the schema's order, to be sliced as those of h5py. Offsets are in memory.

    value_offsets (S+1,) is where each structure's Hessian values begin.
    """

    def __init__(self, checked: _Checked, descriptor: int, where: str, identity: _Identity | None):
        self.attrs = checked.attributes
        self.offsets, self.value_offsets = checked.offsets, checked.value_offsets
        self._arrays = {n: StoredArray(stored, descriptor, where, identity) for n, stored in checked.arrays.items()}

    def __getitem__(self, name: str) -> Any:
        return self.offsets[name] if name in self.offsets else self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def stored_bytes(self, name: str) -> int:
        """Bytes of an array on disk."""
        return self._arrays[name].stored_bytes


@contextmanager
def open_shard(path: Path) -> Iterator[OpenShard]:
    """The shard, after everything in it was checked against the schema; nothing outside the file is ever opened.

    A file is checked when this process first sees it, and again when it has changed. Raises LabelSetError where the file is no
    HDF5, of another format or version, or breaks the schema.
    """
    descriptor = _open(path)
    try:
        status = os.fstat(descriptor)
        identity = (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        settled = time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_S
        checked = _checked.pop(identity, None)
        if checked is None:
            checked = _check(path, descriptor, status.st_size)
        if settled:
            _keep(identity, checked)
        yield OpenShard(checked, descriptor, str(path), identity if settled else None)
    finally:
        os.close(descriptor)


def _keep(identity: _Identity, checked: _Checked) -> None:
    """At the end of what is kept; the longest unused goes where there is too much. Each step is one operation: threads."""
    _checked[identity] = checked
    while len(_checked) > KEPT_SHARDS:
        _checked.popitem(last=False)


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would block
    except (OSError, ValueError) as error:
        raise LabelSetError(f"{path} cannot be read ({error}); restore it from its origin.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise LabelSetError(f"{path} is not a regular file; it was refused.")
    return descriptor


def _check(path: Path, descriptor: int, file_bytes: int) -> _Checked:
    from .shard_guard import layout_of

    layout = layout_of(path, os.pread(descriptor, 16, 0), file_bytes)
    try:
        same = os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        same = False
    if not same:  # HDF5 opened the file by its name
        raise LabelSetError(f"{path} was replaced or removed while it was read; try again.")
    arrays = {name: StoredArray(stored, descriptor, str(path)) for name, stored in layout.arrays.items()}
    offsets = _check_shapes(arrays, path)
    _check_values(arrays, offsets, path)
    sizes = 3 * np.diff(offsets["atom_offsets"]) * np.diff(offsets["product_offsets"])
    return _Checked(layout.attributes, layout.arrays, offsets, np.concatenate([[0], np.cumsum(sizes)]))


def _check_shapes(arrays: Mapping[str, StoredArray], path: Path) -> Arrays:
    """Every dimension agrees with the offsets, and the offsets never go down; returns the offsets."""
    sizes = {"S": len(arrays["id"]), "I": len(arrays["info_text"]), "A": len(arrays["numbers"])}
    sizes["S+1"] = sizes["S"] + 1
    ends: Arrays = {}
    for name in OFFSETS:
        if arrays[name].shape != (sizes["S+1"],):
            raise LabelSetError(f"{path}: {name} has shape {arrays[name].shape}; ({sizes['S+1']},) was wanted.")
        offsets = arrays[name][:]
        # Compared, not subtracted: differences of 64-bit numbers can wrap around.
        if offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any():
            raise LabelSetError(f"{path}: {name} does not start at 0 or goes down; restore the shard from its origin.")
        ends[name] = offsets
    if ends["info_offsets"][-1] != sizes["I"] or ends["atom_offsets"][-1] != sizes["A"]:
        raise LabelSetError(f"{path}: the offsets do not end where the arrays end; restore the shard from its origin.")
    atoms, products = np.diff(ends["atom_offsets"]), np.diff(ends["product_offsets"])
    if (atoms == 0).any():
        raise LabelSetError(f"{path} has a structure without atoms; restore the shard from its origin.")
    sizes["P"] = int(ends["product_offsets"][-1])
    # Checked before multiplying: a product has three elements or more, so more of them than elements is a lie that could wrap.
    if sizes["P"] > len(arrays.get("hessian_values", ())):
        raise LabelSetError(f"{path} counts {sizes['P']} Hessian products but does not hold them.")
    sizes["V"] = int((3 * atoms * products).sum())
    sizes["B"] = (sizes["V"] + 7) // 8
    for name, array in arrays.items():
        _check_shape(name, array, sizes, path)
    _check_products(arrays, sizes["P"], path)
    return ends


def _check_shape(name: str, array: StoredArray, sizes: dict[str, int], path: Path) -> None:
    for dim, length in zip(ARRAYS[name].dims, array.shape, strict=True):
        if isinstance(dim, str) and dim not in sizes and length <= MAX_FREE_DIMENSION:
            sizes[dim] = length
    wanted = tuple(sizes.get(d, MAX_FREE_DIMENSION) if isinstance(d, str) else d for d in ARRAYS[name].dims)
    if array.shape != wanted:
        raise LabelSetError(f"{path}: {name} has shape {array.shape}; {wanted} was wanted.")


def _check_products(arrays: Mapping[str, StoredArray], n_products: int, path: Path) -> None:
    directions = [name for name in ("hessian_signs", "hessian_coordinate") if name in arrays]
    if n_products and not ("hessian_values" in arrays and directions):
        raise LabelSetError(f"{path} counts {n_products} Hessian products but does not hold them.")
    if len(directions) == 2:
        raise LabelSetError(f"{path} has both probes and rows; restore it from its origin.")
    if n_products and (arrays["hessian_values"].dtype.kind == "u") != ("hessian_exponent" in arrays):
        raise LabelSetError(f"{path}: compact Hessian products and hessian_exponent go together; one is missing.")


def _check_values(arrays: Mapping[str, StoredArray], offsets: Arrays, path: Path) -> None:
    """What readers use as an index or decode, whatever it is; `verify` looks at the rest."""
    for name, (low, high) in RANGES.items():
        for piece in arrays[name].pieces():
            if piece.size and not (low <= piece.min() and piece.max() <= high):
                raise LabelSetError(f"{path}: {name} holds {piece.min()} to {piece.max()}; {low} to {high} was wanted.")
    for piece in arrays["group"].pieces():
        _check_text(piece, path)
    if "hessian_coordinate" in arrays:
        limit = np.repeat(3 * np.diff(offsets["atom_offsets"]), np.diff(offsets["product_offsets"]))
        start = 0
        for piece in arrays["hessian_coordinate"].pieces():
            if (piece < 0).any() or (piece >= limit[start : start + len(piece)]).any():
                raise LabelSetError(f"{path}: hessian_coordinate names a coordinate that its structure does not have.")
            start += len(piece)
    crowd = crowded_shard(arrays, offsets["atom_offsets"])
    if crowd is not None:
        id = arrays["id"][crowd[0] : crowd[0] + 1].tobytes().hex()
        raise LabelSetError(f"{path}: structure {id} cannot be: {crowd[1]}; the shard was refused.")


def _check_text(texts: NDArray[np.bytes_], path: Path) -> None:
    if not texts.tobytes().isascii():
        try:
            for text in texts.tolist():
                text.decode()
        except UnicodeDecodeError as error:
            raise LabelSetError(f"{path}: group is not UTF-8 ({error}); restore the shard from its origin.") from error


def read_arrays(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """All arrays and the file's attributes."""
    with open_shard(path) as shard:
        return {name: shard[name][()] for name in shard}, dict(shard.attrs)
