"""Label sets changed at random, and signed again so that every layer is reached: a named error or a right answer, always.

A child process reads them (strangers.py): a crash of HDF5, a hang, a file opened elsewhere or too much memory would be its last
answer, and hypothesis shows the smallest change that does it. `make test` tries some hundred cases, `make test-long` 10^5.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings, strategies as st

from hdistill.data.format import shard_file
from hdistill.data.format.schema import ARRAYS
from hdistill.data.format.shard import to_arrays
from hdistill.data.format.shard_file import Arrays, image
from tests.data.hdf5_bytes import blocks, checksummed
from tests.data.samples import random_samples
from tests.data.strangers import Child, built, sign

QUICK, LONG = 160, 34_000  # cases of each of the three kinds of change
SIZES = (3, 1, 7, 2)


def bases() -> list[Arrays]:
    return [
        to_arrays(random_samples("probes:2", SIZES), "compact"),
        to_arrays(random_samples("rows:3", SIZES), "exact"),
        to_arrays(random_samples("none", SIZES), "compact"),
    ]


BASES = bases()


def images() -> list[bytes]:
    """Images as hdistill writes them, and one with many small chunks, so that HDF5's index of them is there to be changed."""
    actual = [image(arrays, {"plan": "x"}) for arrays in BASES]
    before, shard_file.CHUNK_ELEMENTS = shard_file.CHUNK_ELEMENTS, 4
    try:
        return [*actual, image(BASES[0], {"plan": "x"})]
    finally:
        shard_file.CHUNK_ELEMENTS = before


IMAGES = images()


class Reader:
    """The child, and a place to put label sets; a new child after one has died."""

    def __init__(self, folder: Path):
        self.folder, self.bait = folder, folder / "bait"
        self.bait.mkdir()
        (self.bait / "shard.h5").write_bytes(built(BASES[0]))
        (self.bait / "raw.bin").write_bytes(bytes(1 << 16))
        self.cases = self.right = 0
        self.child = Child(self.bait)

    def ask(self, data: bytes, base: int, manifest: bytes | None = None) -> None:
        """Fails where the answer is neither "right" nor a LabelSetError."""
        self.cases += 1
        labels = sign(self.folder / f"labels{self.cases}", data, BASES[base])
        if manifest is not None:
            (labels / "manifest.json").write_bytes(manifest)
        actual = self.child.ask(labels)
        rmtree(labels)
        if actual[0] in ("Crash", "Hang"):
            self.child.close()
            self.child = Child(self.bait)
        assert actual[0] in ("right", "LabelSetError"), actual
        self.right += actual == ["right"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    started = Reader(tmp_path_factory.mktemp("fuzz"))
    yield started
    # The limit holds 150 MB of data beyond the start (neighbours of a cell that is sheared by 256 A take nearly all of it), and what is
    # resident has the libraries' 110 MB besides.
    assert started.child.peak_megabytes() < 300
    started.child.close()


def fuzz(cases: int) -> Any:
    """Hypothesis' settings: the quick cases are the same at every call, the long ones are new ones."""
    return settings(
        max_examples=cases,
        deadline=None,
        derandomize=cases == QUICK,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


# 1. Bytes of the image.

INTERESTING = [
    0,
    1,
    2,
    3,
    7,
    8,
    0x0F,
    0x10,
    0x40,
    0x7F,
    0x80,
    0xFE,
    0xFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 40,
    (1 << 64) - 1,
]


@st.composite
def byte_changes(draw: st.DrawFn) -> tuple[int, list[tuple[int, bytes]], int | None, bool]:
    """(base, [(place, bytes)], length to cut to, whether checksums are made right)."""
    base = draw(st.integers(0, len(IMAGES) - 1))
    changes = []
    for _ in range(draw(st.integers(1, 4))):
        start, end = draw(st.sampled_from([*blocks(IMAGES[base]), (0, len(IMAGES[base]))]))
        place = draw(st.integers(start, end - 1))
        width = draw(st.sampled_from((1, 1, 1, 2, 4, 8)))
        value = draw(st.one_of(st.sampled_from(INTERESTING), st.integers(0, (1 << 8 * width) - 1)))
        changes.append((place, (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")))
    length = draw(st.one_of(st.none(), st.none(), st.none(), st.integers(0, len(IMAGES[base]))))
    return base, changes, length, draw(st.integers(0, 7)) > 0


def changed_bytes(base: int, changes: list[tuple[int, bytes]], length: int | None, mend: bool) -> bytes:
    data = IMAGES[base]
    for place, new in changes:
        data = (data[:place] + new + data[place + len(new) :])[: len(data)]
        if mend:
            data = checksummed(data, (place, place + len(new)))
    return data if length is None else data[:length]


def bytes_case(reader: Reader, case: tuple[int, list[tuple[int, bytes]], int | None, bool]) -> None:
    reader.ask(changed_bytes(*case), case[0] % 3)


# 2. Arrays: types, shapes, values, storage, links, attributes.

DTYPES = ["u1", "i1", "<i2", "<u2", "<i4", "<i8", "<u8", "<f2", "<f4", "<f8", ">f8", "S1", "S7", "?", "c8"]
VALUES = [
    0,
    1,
    -1,
    2,
    3,
    118,
    119,
    127,
    128,
    255,
    256,
    2**31 - 1,
    2**53,
    2**63 - 1,
    -(2**63),
    np.nan,
    np.inf,
    -np.inf,
    1e308,
]


@st.composite
def array_changes(draw: st.DrawFn) -> tuple[int, list[tuple[str, str, Any]]]:
    """(base, [(array, what is done to it, with what)])."""
    base = draw(st.integers(0, len(BASES) - 1))
    names = st.sampled_from([*BASES[base], *BASES[base], *ARRAYS])
    changes = []
    for _ in range(draw(st.integers(1, 3))):
        what = draw(st.sampled_from([*CHANGES, "value", "value", "value"]))
        changes.append((draw(names), what, draw(ARGUMENTS[what])))
    return base, changes


def _value(array: np.ndarray, argument: tuple[list[tuple[int, Any]], bool]) -> np.ndarray:
    flat = np.array(array).ravel()
    for place, value in argument[0]:
        if len(flat):
            with np.errstate(all="ignore"):
                flat[place % len(flat)] = b"\xff" if flat.dtype.kind == "S" else np.array([value]).astype(flat.dtype)[0]
    return flat.reshape(array.shape)


def _dtype(array: np.ndarray, argument: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return array.astype("f8" if array.dtype.kind == "S" else argument)


def _shape(array: np.ndarray, argument: str) -> np.ndarray:
    return {
        "shorter": array[:-1],
        "longer": np.concatenate([array, array[-1:]]),
        "empty": array[:0],
        "flat": array.ravel(),
        "deeper": array[..., None],
        "scalar": array.ravel()[0] if array.size else np.array(0.0),
        "double": np.concatenate([array, array]),
        "reversed": array[::-1],
        "turned": array.T,
    }[argument]


CHANGES = {"value": _value, "dtype": _dtype, "shape": _shape}
STORAGE = ["contiguous", "lzf", "gzip", "small", "scaleoffset", "fletcher", "resizable", "external", "virtual"]
STORAGE += ["soft", "link", "group", "type", "cycle", "gone", "twice", "stream", "longer stream", "raw", "unwritten"]
ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "value": st.tuples(
        st.lists(st.tuples(st.integers(0, 200), st.sampled_from(VALUES)), min_size=1, max_size=3), st.booleans()
    ),
    "dtype": st.sampled_from(DTYPES),
    "shape": st.sampled_from(
        ["shorter", "longer", "empty", "flat", "deeper", "scalar", "double", "reversed", "turned"]
    ),
    "storage": st.sampled_from(STORAGE),
    "attribute": st.tuples(
        st.sampled_from(["format", "version", "sign", "unit", "plan", "x"]),
        st.sampled_from(["text", b"bytes", 0, 1, 2, -1, 1.5, np.nan, 2**63, [1, 2], ["a", "b"], np.zeros(999)]),
        st.booleans(),
    ),
}
CHANGES["storage"] = CHANGES["attribute"] = lambda array, argument: array


def _store(file: h5py.File, name: str, data: np.ndarray, how: str, bait: Path) -> None:
    if how == "twice":
        file["again"] = file[name]
        return
    del file[name]
    many = data.ndim > 0 and data.size > 0
    if how == "soft":
        file[name] = h5py.SoftLink("/id")
    elif how == "link":
        file[name] = h5py.ExternalLink(str(bait / "shard.h5"), name)
    elif how == "group":
        file.create_group(name)
    elif how == "type":
        file[name] = data.dtype
    elif how == "cycle":
        file[name] = file["/"]
    elif how == "external":
        file.create_dataset(name, data.shape, data.dtype, external=[(str(bait / "raw.bin"), 0, max(1, data.nbytes))])
    elif how == "virtual" and many:
        layout = h5py.VirtualLayout(data.shape, data.dtype, maxshape=(None, *data.shape[1:]))
        source = h5py.VirtualSource(str(bait / "shard.h5"), name, data.shape, maxshape=(None, *data.shape[1:]))
        layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
        file.create_virtual_dataset(name, layout)
    elif how == "unwritten":
        file.create_dataset(name, data.shape, data.dtype)
    elif how in ("stream", "longer stream", "raw") and many:
        made = file.create_dataset(name, data.shape, data.dtype, chunks=data.shape, compression="gzip")
        raw = data.tobytes()
        streams = {"stream": zlib.compress(raw[:-1]), "longer stream": zlib.compress(raw + bytes(1 << 20)), "raw": raw}
        made.id.write_direct_chunk((0,) * data.ndim, streams[how], int(how == "raw"))
    elif how != "gone":
        settings_of = {
            "lzf": {"compression": "lzf"},
            "gzip": {"compression": "gzip", "shuffle": True},
            "small": {"chunks": (1, *data.shape[1:])},
            "scaleoffset": {"scaleoffset": 2} if data.dtype.kind in "iuf" else {},
            "fletcher": {"fletcher32": True},
            "resizable": {"maxshape": (None,) * data.ndim},
        }
        file.create_dataset(name, data=data, **(settings_of.get(how, {}) if many else {}))


def changed_arrays(base: int, changes: list[tuple[str, str, Any]], bait: Path) -> bytes:
    arrays = dict(BASES[base])
    for name, what, argument in changes:
        array = arrays.get(name, np.zeros(3))
        arrays[name] = np.asarray(CHANGES[what](array, argument))

    def apply(file: h5py.File) -> None:
        for name, what, argument in changes:
            here = {n for n in file if isinstance(file.get(n, getlink=True), h5py.HardLink)}  # follow no link here
            if what == "storage" and name in here and isinstance(file[name], h5py.Dataset):
                _store(file, name, arrays[name], argument, bait)
            elif what == "attribute":
                key, value, on_root = argument
                (file if on_root else file[min(here)]).attrs[key] = value

    return built(arrays, apply)


def arrays_case(reader: Reader, case: tuple[int, list[tuple[str, str, Any]]]) -> None:
    try:
        data = changed_arrays(*case, reader.bait)
    except (TypeError, ValueError, IndexError, OSError):  # not everything can be written
        reject()
    reader.ask(data, case[0])


# 3. The manifest.

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.sampled_from(VALUES), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=8,
)
PATHS = [
    ["format"], ["version"], ["counts"], ["counts", "n_structures"], ["counts", "elements"], ["counts", "elements", "1"],
    ["counts", "n_atoms"], ["counts", "n_quarantined"], ["shards"], ["shards", 0], ["splits"], ["splits", "n_structures"],
    ["hessian"], ["hessian", "n_products"], ["teacher"], ["licenses"], ["preflight"], ["subset"], ["plan"], ["quarantine"],
    *(["shards", 0, key] for key in ("name", "bytes", "sha256", "n_structures", "n_atoms", "n_products", "other")),
]  # fmt: skip
NAMES = ["../../etc/passwd", "/dev/zero", "00000-shard.h5/", "./00000-shard.h5", "..", "", "\0", "a" * 5000, "CON", "~"]


@st.composite
def manifest_changes(draw: st.DrawFn) -> tuple[list[tuple[list[Any], Any]], list[tuple[int, int]]]:
    """([(path, value)], [(place, byte)])."""
    value = st.one_of(JSON, st.sampled_from(NAMES))
    changes = draw(st.lists(st.tuples(st.sampled_from(PATHS), value), max_size=3))
    some_bytes = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=3)
    return changes, draw(some_bytes) if not changes or draw(st.booleans()) else []


def changed_manifest(good: dict[str, Any], case: tuple[list[tuple[list[Any], Any]], list[tuple[int, int]]]) -> bytes:
    manifest = json.loads(json.dumps(good))
    for path, value in case[0]:
        place = manifest
        for key in path[:-1]:
            usable = isinstance(place, dict) or (isinstance(place, list) and key == 0 and place)
            place = (place.setdefault(key, {}) if isinstance(place, dict) else place[0]) if usable else {}
        if isinstance(place, dict):
            place[path[-1]] = value
        elif isinstance(place, list) and place and path[-1] == 0:
            place[0] = value
    data = bytearray(json.dumps(manifest).encode(errors="surrogatepass"))
    for where, byte in case[1]:
        data[where % len(data)] = byte
    return bytes(data)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = sign(tmp_path_factory.mktemp("good") / "x", IMAGES[0], BASES[0])
    return dict(json.loads((folder / "manifest.json").read_bytes()))


def test_unchanged_ones_are_right(reader: Reader, good: dict[str, Any]) -> None:
    for number, data in enumerate(IMAGES):
        reader.ask(data, number % 3)
    for number, arrays in enumerate(BASES):
        reader.ask(built(arrays), number)
    reader.ask(IMAGES[0], 0, json.dumps(good).encode())
    assert reader.right == len(IMAGES) + len(BASES) + 1
    assert all(checksummed(data) == data for data in IMAGES)  # the checksums are HDF5's
    assert any(b"FADB" in data for data in IMAGES)


@fuzz(QUICK)
@given(byte_changes())
def test_bytes(reader: Reader, case: Any) -> None:
    bytes_case(reader, case)


@fuzz(QUICK)
@given(array_changes())
def test_arrays(reader: Reader, case: Any) -> None:
    arrays_case(reader, case)


@fuzz(QUICK)
@given(manifest_changes())
def test_manifest(reader: Reader, good: dict[str, Any], case: Any) -> None:
    reader.ask(IMAGES[0], 0, changed_manifest(good, case))


@pytest.mark.long
@fuzz(LONG)
@given(byte_changes())
def test_many_bytes(reader: Reader, case: Any) -> None:
    bytes_case(reader, case)


@pytest.mark.long
@fuzz(LONG)
@given(array_changes())
def test_many_arrays(reader: Reader, case: Any) -> None:
    arrays_case(reader, case)


@pytest.mark.long
@fuzz(LONG)
@given(manifest_changes())
def test_many_manifests(reader: Reader, good: dict[str, Any], case: Any) -> None:
    reader.ask(IMAGES[0], 0, changed_manifest(good, case))
