"""Files from strangers and damaged files: each is refused with a named error, and nothing outside the file is opened.

A malicious publisher signs what he made, so behind the sha256 every other guard is tested alone. The reader runs in a child
process that notices any file it opens in a folder of bait, and may hold 150 MB.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hdistill.data.errors import LabelSetError
from hdistill.data.format import stored
from hdistill.data.format.schema import VERSION
from hdistill.data.format.shard import read_samples, to_arrays
from hdistill.data.format.shard_file import Arrays, image
from hdistill.data.format.stored import fletcher32
from hdistill.data.labelsets.label_set import info, open_label_set, verify
from tests.data.hdf5_bytes import checksummed
from tests.data.samples import random_samples, write_label_set
from tests.data.strangers import Child, built, child, sign

N = 5  # structures


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return to_arrays(random_samples(), "compact")


@pytest.fixture(scope="module")
def bait(arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that a reader could follow a trail to: a whole shard, and numbers that could be energies."""
    folder = tmp_path_factory.mktemp("guards") / "bait"
    folder.mkdir()
    (folder / "shard.h5").write_bytes(built(arrays))
    (folder / "raw.bin").write_bytes(bytes(1 << 16))
    return folder


@pytest.fixture(scope="module")
def reader(bait: Path) -> Iterator[Child]:
    with child(bait) as started:
        yield started
        assert started.peak_megabytes() < 200


def in_place_of(name: str, make: Callable[[h5py.File, str], Any]) -> Callable[[h5py.File, Path], None]:
    def change(file: h5py.File, _: Path) -> None:
        del file[name]
        make(file, name)

    return change


def stored_as(name: str, **settings: Any) -> Callable[[h5py.File, Path], None]:
    """The dataset written again with other settings of h5py's create_dataset."""

    def change(file: h5py.File, _: Path) -> None:
        chosen = {"data": file[name][()], **settings}
        del file[name]
        file.create_dataset(name, **{key: value for key, value in chosen.items() if value is not None})

    return change


def external_link(file: h5py.File, bait: Path) -> None:
    del file["energy"]
    file["energy"] = h5py.ExternalLink(str(bait / "shard.h5"), "/energy")


def external_storage(file: h5py.File, bait: Path) -> None:
    del file["energy"]
    file.create_dataset("energy", (N,), "<f8", external=[(str(bait / "raw.bin"), 0, 8 * N)])


def virtual(file: h5py.File, bait: Path) -> None:
    del file["energy"]
    layout = h5py.VirtualLayout((N,), "<f8")
    layout[:] = h5py.VirtualSource(str(bait / "shard.h5"), "energy", (N,))
    file.create_virtual_dataset("energy", layout)


def unlimited_virtual(file: h5py.File, bait: Path) -> None:
    """HDF5 opens the sources of this one when it is asked for the shape."""
    del file["energy"]
    layout = h5py.VirtualLayout((N,), "<f8", maxshape=(None,))
    source = h5py.VirtualSource(str(bait / "shard.h5"), "energy", (N,), maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("energy", layout)


def with_filters(*chosen: int) -> Callable[[h5py.File, Path], None]:
    """energy with a pipeline that h5py's create_dataset would not make."""

    def change(file: h5py.File, _: Path) -> None:
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk((N,))
        for code in chosen:
            settings.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (6,) if code == 1 else ())
        data = file["energy"][()]
        del file["energy"]
        space = h5py.h5s.create_simple((N,))
        made = h5py.h5d.create(file.id, b"energy", h5py.h5t.IEEE_F64LE, space, settings)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, data)

    return change


def raw_chunk(name: str, make: Callable[[bytes], bytes], mask: int = 0) -> Callable[[h5py.File, Path], None]:
    """The dataset in one gzip chunk, whose bytes are what `make` makes of the honest ones."""

    def change(file: h5py.File, _: Path) -> None:
        data = file[name][()]
        del file[name]
        made = file.create_dataset(name, data.shape, data.dtype, chunks=data.shape, compression="gzip")
        made.id.write_direct_chunk((0,) * data.ndim, make(data.tobytes()), mask)

    return change


def compact(file: h5py.File, _: Path) -> None:
    """energy inside its own header."""
    data = file["energy"][()]
    del file["energy"]
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_layout(h5py.h5d.COMPACT)
    made = h5py.h5d.create(file.id, b"energy", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((N,)), settings)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, data)


def bomb(file: h5py.File, _: Path) -> None:
    """A chunk of 256 kB, no larger on disk, that inflates to 256 MB."""
    del file["info_text"]
    made = file.create_dataset("info_text", (1 << 18,), "u1", chunks=(1 << 18,), compression="gzip")
    made.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 28), 9))
    file["info_offsets"][-1] = 1 << 18


def too_short(file: h5py.File, _: Path) -> None:
    """A chunk with a right checksum that has a number less than it should."""
    data = file["energy"][:-1].tobytes()
    del file["energy"]
    made = file.create_dataset("energy", (N,), "<f8", chunks=(N,), fletcher32=True)
    made.id.write_direct_chunk((0,), data + fletcher32(data).to_bytes(4, "little"))


def user_defined_link(data: bytes) -> bytes:
    """The external link's type, 64, raised to 65: a link of a class that some plugin may register."""
    place = data.index(b"\x01\x08\x40") if b"\x01\x08\x40" in data else data.index(b"\x01\x18\x40")
    return checksummed(data[: place + 2] + b"\x41" + data[place + 3 :])


def add(name: str, **settings: Any) -> Callable[[h5py.File, Path], None]:
    return lambda file, _: file.create_dataset(name, **settings)


def attribute(name: str, value: Any, on: str = "/") -> Callable[[h5py.File, Path], None]:
    return lambda file, _: file[on].attrs.__setitem__(name, value)


def many(file: h5py.File, _: Path) -> None:
    for number in range(1000):
        file.create_group(f"group{number}")


def many_attributes(file: h5py.File, _: Path) -> None:
    for number in range(1000):
        file["energy"].attrs[f"a{number}"] = number


def committed(file: h5py.File, _: Path) -> None:
    file["own"] = np.dtype("<f8")
    kind = file["own"]
    del file["energy"]
    file.create_dataset("energy", (N,), dtype=kind, data=np.zeros(N))
    del file["own"]


def cycle(file: h5py.File, _: Path) -> None:
    del file["energy"]
    file.create_group("energy")["again"] = file["/"]


def odd_type(make: Callable[[], h5py.h5t.TypeID]) -> Callable[[h5py.File, Path], None]:
    def change(file: h5py.File, _: Path) -> None:
        del file["energy"]
        h5py.h5d.create(file.id, b"energy", make(), h5py.h5s.create_simple((N,)))

    return change


def five_bits() -> h5py.h5t.TypeID:
    kind = h5py.h5t.IEEE_F64LE.copy()
    kind.set_ebias(900)
    return kind


SPACE_PADDED = h5py.h5t.C_S1.copy()
SPACE_PADDED.set_size(8)
SPACE_PADDED.set_strpad(h5py.h5t.STR_SPACEPAD)


POINTERS = h5py.h5t.C_S1.copy()
POINTERS.set_size(h5py.h5t.VARIABLE)
POINTERS.set_strpad(h5py.h5t.STR_NULLPAD)


def pointers(file: h5py.File, _: Path) -> None:
    del file["group"]
    h5py.h5d.create(file.id, b"group", POINTERS, h5py.h5s.create_simple((N,)))


def space_padded(file: h5py.File, _: Path) -> None:
    del file["group"]
    h5py.h5d.create(file.id, b"group", SPACE_PADDED, h5py.h5s.create_simple((N,)))


STRUCTURE: dict[str, tuple[Callable[[h5py.File, Path], Any], str]] = {
    # what leads elsewhere
    "external link": (external_link, "points elsewhere"),
    "soft link": (in_place_of("energy", lambda f, n: f.__setitem__(n, h5py.SoftLink("/charge"))), "points elsewhere"),
    "link to nothing": (in_place_of("energy", lambda f, n: f.__setitem__(n, h5py.SoftLink("/x"))), "points elsewhere"),
    "external storage": (external_storage, "outside the file"),
    "virtual": (virtual, "outside the file"),
    "unlimited virtual": (unlimited_virtual, "outside the file"),
    "compact": (compact, "neither contiguous nor chunked"),
    "cycle": (cycle, "energy is not a dataset"),
    "type in place of a dataset": (
        in_place_of("energy", lambda f, n: f.__setitem__(n, np.dtype("<f8"))),
        "is not a dataset",
    ),
    # what a shard does not have
    "unknown dataset": (add("extra", data=[1]), "'extra' that format version"),
    "a name to fool a terminal": (add("\x1b[31mred", data=[1]), r"'\\x1b\[31mred' that format version"),
    "a thousand groups": (many, "more than a shard has"),
    "missing dataset": (lambda f, _: f.pop("energy"), "lacks the dataset energy"),
    "another version": (attribute("version", VERSION + 1), f"version {VERSION + 1}"),
    "another format": (attribute("format", np.bytes_("x")), "not a shard"),
    "no format": (lambda f, _: f.attrs.pop("format"), "not a shard"),
    "a thousand attributes": (many_attributes, "1000 attributes"),
    "an attribute of several numbers": (attribute("x", np.zeros(3)), "strange type"),
    "a large attribute": (attribute("x", np.zeros(5000)), "strange type"),
    "a long attribute": (attribute("x", np.bytes_(b"x" * 60000)), "strange type"),
    "an attribute that points": (attribute("x", "text", "energy"), "strange type"),
    "an attribute with a reference": (lambda f, _: f.attrs.__setitem__("x", f["energy"].ref), "strange type"),
    # types
    "variable-length text": (stored_as("group", data=["a"] * N, dtype=h5py.string_dtype()), "was wanted"),
    "variable-length numbers": (
        in_place_of("energy", lambda f, n: f.create_dataset(n, (N,), dtype=h5py.vlen_dtype("f8"))),
        "was wanted",
    ),
    "references": (
        in_place_of("energy", lambda f, n: f.create_dataset(n, (N,), dtype=h5py.ref_dtype)),
        "HDF5 class 7",
    ),
    "region references": (
        in_place_of("energy", lambda f, n: f.create_dataset(n, (N,), dtype=h5py.regionref_dtype)),
        "was wanted",
    ),
    "compound": (in_place_of("energy", lambda f, n: f.create_dataset(n, (N,), dtype="f8,f8")), "was wanted"),
    "array type": (in_place_of("energy", lambda f, n: f.create_dataset(n, (N,), dtype="(3,)f8")), "was wanted"),
    "enumeration": (stored_as("pbc", dtype=h5py.enum_dtype({"NO": 0, "YES": 1}, "u1")), "was wanted"),
    "opaque": (in_place_of("energy", lambda f, n: f.create_dataset(n, (N,), dtype="V8")), "was wanted"),
    "committed type": (committed, "type of its own"),
    "big-endian": (lambda f, b: stored_as("energy", data=f["energy"][()].astype(">f8"))(f, b), "was wanted"),
    "single precision": (lambda f, b: stored_as("energy", data=f["energy"][()].astype("f4"))(f, b), "was wanted"),
    "a float of its own kind": (odd_type(five_bits), "an odd number"),
    "pointers that look like text": (pointers, "an odd text"),
    "text padded with spaces": (space_padded, "an odd text"),
    "very long text": (stored_as("group", data=np.array([b"x" * 5000] * N)), "an odd text"),
    # shapes and sizes
    "scalar": (stored_as("energy", data=1.0), "was wanted"),
    "nothing": (in_place_of("energy", lambda f, n: f.create_dataset(n, data=h5py.Empty("f8"))), "was wanted"),
    "one too few": (lambda f, b: stored_as("energy", data=f["energy"][:-1])(f, b), "was wanted"),
    "another rank": (lambda f, b: stored_as("energy", data=f["energy"][()][:, None])(f, b), "was wanted"),
    "4 TiB claimed": (
        in_place_of("positions", lambda f, n: f.create_dataset(n, (1 << 37, 3), "<f8", chunks=(1024, 3))),
        "claims .* more than a shard may have",
    ),
    "1 GiB of zeros in 1 MB": (
        stored_as("info_text", data=np.zeros(1 << 28, "u1"), chunks=(1 << 18,), compression="gzip"),
        "claims",
    ),
    "oversized chunk": (
        stored_as("info_text", data=np.zeros(1 << 20, "u1"), chunks=(1 << 20,), compression="gzip"),
        "oversized",
    ),
    "odd chunks": (stored_as("positions", chunks=(2, 2)), "odd HDF5 chunks"),
    "never written": (
        in_place_of("energy", lambda f, n: f.create_dataset(n, (N,), "<f8")),
        "missing, too long or beyond",
    ),
    "a chunk never written": (
        in_place_of("energy", lambda f, n: f.create_dataset(n, (N,), "<f8", chunks=(2,))),
        "chunks missing",
    ),
    # filters
    "foreign filter": (stored_as("positions", compression="lzf"), "filter that is not allowed"),
    "scale-offset": (stored_as("numbers", scaleoffset=0), "filter that is not allowed"),
    "unknown filter": (with_filters(32015), "filter that is not allowed"),
    "deflated twice": (with_filters(1, 1), "filter that is not allowed"),
    "filters in another order": (with_filters(1, 2), "filter that is not allowed"),
    "a stream that inflates to 1 GiB": (
        raw_chunk("energy", lambda data: zlib.compress(bytes(1 << 26))[: 1 << 16]),
        "inflates to more|missing, too long or beyond",
    ),
    "a small stream that inflates too far": (
        raw_chunk("group", lambda data: zlib.compress(data + b"x")),
        "inflates to more",
    ),
    "a gzip bomb": (bomb, "inflates to more"),
    "a stream that was cut off": (raw_chunk("group", lambda data: zlib.compress(data)[:-2]), "cut off"),
    "a chunk that is too short": (too_short, "has 32 bytes, 40 were wanted"),
    "a megabyte after the stream": (
        raw_chunk("group", lambda data: zlib.compress(data) + bytes(1 << 20)),
        "missing, too long or beyond",
    ),
    "a stream that ends too early": (raw_chunk("group", lambda data: zlib.compress(data[:-9])), "inflates to less"),
    "no stream at all": (raw_chunk("group", lambda data: b"nothing"), "damaged"),
    "a chunk without its filters": (raw_chunk("group", lambda data: data, mask=1), "in another way"),
    # what the arrays say of each other
    "values missing": (lambda f, _: f.pop("hessian_values"), "does not hold them"),
    "directions missing": (lambda f, _: f.pop("hessian_signs"), "does not hold them"),
    "exponents missing": (lambda f, _: f.pop("hessian_exponent"), "go together"),
    "rows and probes": (lambda f, _: f.create_dataset("hessian_coordinate", data=np.zeros(4 * N, "<i4")), "both"),
}


@pytest.mark.parametrize("kind", STRUCTURE)
def test_a_malicious_file_is_refused_by_name(
    arrays: Arrays, bait: Path, reader: Child, tmp_path: Path, kind: str
) -> None:
    change, message = STRUCTURE[kind]
    data = built(arrays, lambda file: change(file, bait))
    actual = reader.ask(sign(tmp_path / "labels", data, arrays))
    assert actual[0] == "LabelSetError", actual
    with pytest.raises(LabelSetError, match=message):
        raise LabelSetError(actual[1])


VALUES: dict[str, tuple[Callable[[Arrays], Any], str]] = {
    "offsets go down": (lambda a: {"atom_offsets": a["atom_offsets"][::-1]}, "goes down"),
    "no offsets": (lambda a: {"info_offsets": a["info_offsets"][:0]}, "info_offsets has shape"),
    "offsets start late": (lambda a: {"atom_offsets": a["atom_offsets"] + 1}, "does not start at 0"),
    "offsets wrap around": (
        lambda a: {"product_offsets": np.array([0, 2**63 - 1, -2, 4, 8, 20])},
        "goes down",
    ),
    "offsets too long": (lambda a: {"atom_offsets": a["atom_offsets"] * 2}, "do not end"),
    "text offsets too short": (lambda a: {"info_offsets": a["info_offsets"] // 2}, "do not end"),
    "no atoms": (lambda a: {"atom_offsets": np.array([0, 3, 3, 11, 16, 18])}, "without atoms"),
    "a lie about products": (
        lambda a: {"product_offsets": a["product_offsets"] + [0, 0, 0, 0, 0, 2**62]},
        "does not hold",
    ),
    "products in the wrong place": (
        lambda a: {"product_offsets": np.array([0, 8, 8, 12, 16, 20])},
        "hessian_.*was wanted",
    ),
    "element 0": (lambda a: {"numbers": a["numbers"] * 0}, "numbers holds 0"),
    "element 119": (lambda a: {"numbers": a["numbers"] + np.uint8(118)}, "1 to 118 was wanted"),
    "a fourth split": (lambda a: {"split": a["split"] + np.uint8(3)}, "split holds"),
    "pbc of 2": (lambda a: {"pbc": a["pbc"] * np.uint8(2)}, "pbc holds"),
    "group no UTF-8": (lambda a: {"group": np.array([b"\xff\xfe"] * N)}, "group is not UTF-8"),
    "text no UTF-8": (lambda a: {"info_text": a["info_text"] | np.uint8(0x80)}, "info_text is not JSON"),
    "text no JSON": (lambda a: {"info_text": a["info_text"] * 0 + np.uint8(ord("{"))}, "info_text is not JSON"),
    "text nested deeply": (
        lambda a: {"info_text": np.full(N << 17, ord("["), "u1"), "info_offsets": np.arange(N + 1) << 17},
        "info_text is not JSON",
    ),
    "text no object": (
        lambda a: {"info_text": np.full(N, ord("7"), "u1"), "info_offsets": np.arange(N + 1)},
        "not a JSON object",
    ),
    # found by `verify`
    "energy not finite": (lambda a: {"energy": a["energy"] * np.inf}, "energy holds inf"),
    "forces missing": (lambda a: {"forces": a["forces"] * np.float32(np.nan)}, "forces holds nan"),
    "exact values not finite": (
        lambda a: {"hessian_values": np.full(len(a["hessian_values"]), np.nan, "f4"), "hessian_exponent": None},
        "finite",
    ),
    "reference forces infinite": (
        lambda a: {"ref_forces": a["ref_forces"] * np.float32(np.inf)},
        "ref_forces holds -?inf",
    ),
    "reference forces half there": (
        lambda a: {"ref_forces": np.where(np.arange(54).reshape(18, 3) % 2, a["ref_forces"], np.float32(np.nan))},
        "missing for a part",
    ),
    "astronomic cell": (lambda a: {"cell": a["cell"] + 1e9}, "no structure is that large"),
    "spin 0": (lambda a: {"spin": a["spin"] * 0}, "multiplicity below 1"),
    "another structure's id": (lambda a: {"id": np.roll(a["id"], 1, axis=0)}, "does not hash to its own id"),
    "moved atoms": (lambda a: {"positions": a["positions"] + 1e-9}, "does not hash to its own id"),
    "bits after the end": (
        lambda a: {"hessian_signs": np.append(a["hessian_signs"][:-1], a["hessian_signs"][-1] | np.uint8(1))},
        "bits set after its end",
    ),
}


@pytest.mark.parametrize("kind", VALUES)
def test_malicious_values_are_refused_by_name(reader: Child, tmp_path: Path, kind: str) -> None:
    change, message = VALUES[kind]
    samples = random_samples("probes:3" if kind == "bits after the end" else "probes:4", sizes=(3, 1, 7, 5, 2))
    honest = to_arrays(samples, "compact")
    lies = honest | change(honest)
    kept = {n: a.astype(honest[n].dtype) if n.endswith("offsets") else a for n, a in lies.items() if a is not None}
    actual = reader.ask(sign(tmp_path / "labels", built(kept), honest))
    assert actual[0] == "LabelSetError", actual
    with pytest.raises(LabelSetError, match=message):
        raise LabelSetError(actual[1])


@pytest.mark.parametrize("value", [-1, 9, 2**31 - 1])
def test_rows_of_coordinates_that_are_not_there(reader: Child, tmp_path: Path, value: int) -> None:
    arrays = to_arrays(random_samples("rows:2"), "compact")
    arrays["hessian_coordinate"][0] = value  # the first structure has 3 atoms
    actual = reader.ask(sign(tmp_path / "labels", built(arrays), arrays))
    assert actual[0] == "LabelSetError"
    assert "coordinate that its structure does not have" in actual[1]


def test_bytes_that_no_library_writes(arrays: Arrays, bait: Path, reader: Child, tmp_path: Path) -> None:
    good, links = built(arrays), built(arrays, lambda file: external_link(file, bait))
    cases = {
        "older": (built(arrays, libver="earliest"), "version 1.8 or later"),
        "user block": (bytes(512) + good, "version 1.8 or later"),
        "text": (b"Dear reader,", "version 1.8 or later"),
        "empty": (b"", "version 1.8 or later"),
        "shuffled for another type": (other_setting(good, 2, b"\x08\0\0\0", b"\x04\0\0\0"), "odd settings"),
        "deflated at level 260": (other_setting(good, 1, b"\x04\0\0\0", b"\x04\x01\0\0"), "odd settings"),
        "beyond the end": (elsewhere(good), "beyond the file's end"),
        "user-defined link": (user_defined_link(links), "points elsewhere|damaged"),
        "checksum of a chunk": (one_bit_off(good, arrays), "checksum is wrong"),
    }
    for name, (data, message) in cases.items():
        actual = reader.ask(sign(tmp_path / name, data, arrays))
        assert actual[0] == "LabelSetError", (name, actual)
        with pytest.raises(LabelSetError, match=message):
            raise LabelSetError(actual[1])


def other_setting(data: bytes, code: int, old: bytes, new: bytes) -> bytes:
    """The image with another setting of a filter: identifier, flags (optional), number of settings, the setting."""
    start = bytes([code]) + b"\0\1\0\1\0"
    assert start + old in data
    return checksummed(data.replace(start + old, start + new, 1))


def elsewhere(data: bytes) -> bytes:
    """The image with the chunk of positions said to be a terabyte further on."""
    with h5py.File(io.BytesIO(data)) as file:
        place = int(file["positions"].id.get_chunk_info(0).byte_offset)
    assert data.count(place.to_bytes(8, "little")) == 1
    return checksummed(data.replace(place.to_bytes(8, "little"), (place + (1 << 40)).to_bytes(8, "little")))


def one_bit_off(data: bytes, arrays: Arrays) -> bytes:
    """The image with one bit of the first chunk of positions changed."""
    with h5py.File(io.BytesIO(data)) as file:
        place = file["positions"].id.get_chunk_info(0).byte_offset + 20
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_honest_files_of_other_writers_are_read(arrays: Arrays, bait: Path, reader: Child, tmp_path: Path) -> None:
    """Not everything that hdistill does not write is a lie: other chunks, no filters, room to grow."""
    cases: dict[str, Callable[[h5py.File, Path], None]] = {
        "as it is": lambda f, _: None,
        "contiguous": stored_as("positions"),
        "small chunks": stored_as("positions", chunks=(2, 3), compression="gzip", shuffle=True, fletcher32=True),
        "checksum alone": stored_as("numbers", chunks=(5,), fletcher32=True),
        "shuffle alone": stored_as("energy", chunks=(2,), shuffle=True),
        "resizable": stored_as("energy", chunks=(2,), maxshape=(None,), compression="gzip"),
        "attributes": attribute("software", np.bytes_("mine 1.0")),
    }
    for name, change in cases.items():
        data = built(arrays, lambda file, change=change: change(file, bait))  # type: ignore[misc]
        folder = sign(tmp_path / name, data, arrays)
        assert reader.ask(folder) == ["right"], name
    with h5py.File(tmp_path / "bait.h5", "w") as file:
        file["energy"] = h5py.ExternalLink(str(bait / "shard.h5"), "/energy")
    before = reader.ask(folder)
    with h5py.File(tmp_path / "bait.h5") as file:
        assert len(file["energy"]) == N
    assert before == ["right"]
    assert reader.ask(folder)[0] == "BaitTaken"  # the bait works: somebody else took it just now


# The manifest.


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_label_set(tmp_path / "labels", random_samples(sizes=(3, 4, 5, 6, 7, 2)))


def change_manifest(labels: Path, **changes: object) -> None:
    path = labels / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_manifests_that_are_wrong(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelSetError, match="not a label set"):
        open_label_set(tmp_path / "nothing")
    good = (labels / "manifest.json").read_text()
    first, second = json.loads(good)["shards"]
    whole = json.loads(good)
    counts, splits, hessian = whole["counts"], whole["splits"], whole["hessian"]
    row = {"id": "", "reason": "bad structure", "text": "it is", "attempts": 0}
    for changes, message in (
        ({"version": 99}, "version 99"),
        ({"version": True}, "version True"),
        ({"version": [1]}, "version a JSON list"),
        ({"format": "other"}, "'hdistill label set' was wanted"),
        ({"format": "\u001b[2J"}, r"format is '\\x1b\[2J'"),
        ({"shards": [{**first, "name": "../../etc/passwd"}]}, "outside its folder"),
        ({"shards": [{**first, "name": "../shards/" + first["name"]}]}, "outside its folder"),
        ({"shards": [{**first, "name": "/etc/passwd.h5"}]}, "outside its folder"),
        ({"shards": [{**first, "name": ".hidden.h5"}]}, "outside its folder"),
        ({"shards": [{**first, "name": "a\\b.h5"}]}, "outside its folder"),
        ({"shards": [{**first, "name": "C:x.h5"}]}, "outside its folder"),
        ({"shards": [{**first, "name": "x\0.h5"}]}, "outside its folder"),
        ({"shards": [{**first, "name": "x.h5\n"}]}, "outside its folder"),
        ({"shards": [{**first, "name": "x" * 300 + ".h5"}]}, "outside its folder"),
        ({"shards": [{**first, "name": ["x.h5"]}]}, r"shards\[0\].name is a JSON list, a text was wanted"),
        ({"shards": [first, first]}, "twice"),
        ({"shards": [{**first, "name": "absent.h5"}]}, "is missing"),
        ({"shards": [{**first, "bytes": 5}]}, "5 were wanted"),
        ({"shards": [{**first, "bytes": -1}]}, r"shards\[0\].bytes is -1, a whole number of >= 0"),
        ({"shards": [{**first, "bytes": 1e3}]}, r"shards\[0\].bytes is 1000.0, a whole number was wanted"),
        ({"shards": [{**first, "bytes": 1 << 40}]}, "a whole number of <= 4294967296 was wanted"),
        ({"shards": [{**first, "sha256": "0" * 64}]}, "has changed"),
        ({"shards": [{**first, "sha256": "x"}]}, "64 hexadecimal digits"),
        ({"shards": [{**first, "n_structures": 7}]}, "has 3 structures, the manifest says 7"),
        ({"shards": [{**first, "n_atoms": 7}]}, "atoms, the manifest says 7"),
        ({"shards": [{**first, "n_products": 7}]}, "Hessian products, the manifest says 7"),
        ({"shards": [{**first, "name": second["name"]}]}, "wanted|has changed"),  # the wrong shard under a right name
        ({"shards": [{"name": "x.h5"}]}, "damaged"),
        ({"shards": 3}, "shards is 3"),
        ({"shards": [3]}, r"shards\[0\] is 3, an object was wanted"),
        ({"shards": None}, "shards is None"),
        ({"counts": None}, "counts is None, an object was wanted"),
        ({"counts": {**counts, "n_structures": "6"}}, "counts.n_structures is '6', a whole number was wanted"),
        ({"counts": {**counts, "elements": {"119": 1}}}, "a key of counts.elements is wrong, an atomic number"),
        ({"counts": {**counts, "elements": {"one": 1}}}, "counts.elements"),
        ({"splits": {**splits, "n_structures": {"train": 1, "wrong": 2}}}, "a key of splits.n_structures"),
        ({"splits": {**splits, "by": "colour"}}, "splits.by is 'colour'"),
        ({"teacher": []}, "teacher is a JSON list"),
        ({"hessian": {**hessian, "n_products": 1.5}}, "hessian.n_products is 1.5"),
        ({"hessian": {**hessian, "codec": "zip"}}, "hessian.codec is 'zip'"),
        ({"quarantine": [{**row, "id": 3}]}, r"quarantine\[0\].id is 3, a text was wanted"),
        ({"quarantine": [{**row, "id": "not hex"}]}, r"quarantine\[0\].id is 'not hex', 32 hexadecimal digits"),
        ({"quarantine": [{**row, "id": "ab" * 16 + "\n"}]}, r"quarantine\[0\].id"),
        ({"quarantine": [{"id": ""}]}, r"lacks quarantine\[0\].reason"),
        ({"teacher": {**whole["teacher"], "elements": [0]}}, r"teacher.elements\[0\] is 0"),
        ({"history": {"parents": [{"digest": 3}]}}, r"history.parents\[0\]"),
        ({"more": 1}, "has a field 'more', which this version does not have"),
        ({"preflight": {**whole["preflight"], "\u001b[2J": 1}}, r"a field '\\x1b\[2J'"),
    ):
        change_manifest(labels, **changes)
        with pytest.raises(LabelSetError, match=message):
            open_label_set(labels)
        (labels / "manifest.json").write_text(good)
    for section in whole:
        (labels / "manifest.json").write_text(json.dumps({k: v for k, v in whole.items() if k != section}))
        for read in (open_label_set, info):
            with pytest.raises(LabelSetError, match=f"lacks {section}|format is None|version None"):
                read(labels)


DEEP = 100_000
BOMBS: dict[str, tuple[str, str]] = {
    "half": ('{"format": "hdistill la', "damaged"),
    "nothing": ("", "damaged"),
    "a list": ("[]", "no object"),
    "nested deeply": ('{"a":' + "[" * DEEP + "]" * DEEP + "}", "damaged"),
    "nested objects": ('{"a":' * DEEP + "1" + "}" * DEEP, "damaged"),
    "nested a little too deeply": ('{"a":' + "[" * 50 + "]" * 50 + "}", "nested too deeply"),
    "a huge number": ('{"a": ' + "9" * 100_000 + "}", "damaged"),
    "a large number": ('{"a": 9223372036854775808}', "whole number is too large"),
    "a huge exponent": ('{"a": 1e999}', "number is too large"),
    "NaN": ('{"a": NaN}', "NaN is not a number"),
    "Infinity": ('{"a": -Infinity}', "Infinity is not a number"),
    "a key twice": ('{"format": "hdistill label set", "format": "x"}', "a key is there twice"),
    "half a character": ('{"a": "\\ud800"}', "surrogates"),
    "not UTF-8": ('{"a": "\udcff"}', "damaged"),
    "many values": ('{"a": [' + "[]," * 3_000_000 + "[]]}", "larger than it can be"),
    "many texts": ('{"a": [' + '"abcd",' * 900_000 + "0]}", "format is None"),
    "one text": ('{"a": "' + "x" * 15_000_000 + '\\ud83d\\ude00"}', "format is None"),
    "wide characters": ('{"a": "' + "x" * 15_000_000 + '\U0001f600"}', "larger than it can be"),
    "larger than a manifest": (" " * (17 << 20), "larger than a manifest"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_json_bombs(labels: Path, reader: Child, kind: str) -> None:
    text, message = BOMBS[kind]
    (labels / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    actual = reader.ask(labels)
    assert actual[0] == "LabelSetError", actual
    with pytest.raises(LabelSetError, match=message):
        raise LabelSetError(actual[1])


def test_what_is_no_file(labels: Path, bait: Path, reader: Child, tmp_path: Path) -> None:
    """Pipes would hang, devices never end; a link is followed to a regular file of the right size and sha256 only."""
    shard = open_label_set(labels).shards[0].path
    content = shard.read_bytes()

    def refused(message: str) -> None:
        actual = reader.ask(labels)
        assert actual[0] == "LabelSetError", actual
        assert message in actual[1]

    pipe, target = tmp_path / "pipe", tmp_path / "elsewhere.h5"
    os.mkfifo(pipe)
    for special in (pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(LabelSetError, match="not a regular file"):
            read_samples(special)
    for special in (pipe, Path("/dev/zero"), tmp_path):
        shard.unlink()
        shard.symlink_to(special)
        refused("not a regular file")
    for name in ("raw.bin", "shard.h5"):
        shard.unlink()
        shard.symlink_to(bait / name)
        refused("were wanted")  # by its size alone: nothing was opened
    shard.unlink()
    target.write_bytes(content)
    shard.symlink_to(target)
    assert reader.ask(labels) == ["right"]
    target.write_bytes(bytes(len(content)))
    refused("has changed")
    target.write_bytes(content)
    shutil.move(labels / "shards", tmp_path / "moved")
    (labels / "shards").symlink_to(tmp_path / "moved")
    assert reader.ask(labels) == ["right"]
    for special in (pipe, Path("/dev/zero"), tmp_path):
        (labels / "manifest.json").unlink()
        (labels / "manifest.json").symlink_to(special)
        refused("not a regular file")


# Damage, and what changes under the reader's feet.


def test_truncated_at_any_length(arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "shard.h5"
    data = image(arrays, {})
    for length in (0, 7, 100, *range(1000, len(data), 1000), len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(LabelSetError):
            read_samples(path)


def test_opened_from_the_folder_or_its_shards(labels: Path) -> None:
    assert len(open_label_set(labels).shards) == 2
    assert open_label_set(labels / "shards").digest == open_label_set(labels).digest
    assert verify(labels).elements == sorted(verify(labels).elements)


def test_every_single_bit_flip_is_found(labels: Path) -> None:
    """1000 random flips; the hash of the file finds each before anything of it is read."""
    path = open_label_set(labels).shards[0].path
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.choice(8 * len(data), 1000, replace=False).tolist():
        data[position // 8] ^= 1 << (position % 8)
        path.write_bytes(data)
        with pytest.raises(LabelSetError, match="has changed"):
            open_label_set(labels)
        data[position // 8] ^= 1 << (position % 8)
    path.write_bytes(data)
    open_label_set(labels)


def test_a_flip_after_opening_is_found_by_the_checksum_of_its_piece(labels: Path) -> None:
    """Bits that rot between opening a set and reading a block: in the data of a shard no flip is silent."""
    path = open_label_set(labels).shards[0].path
    data = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        pieces = [file[name].id.get_chunk_info(0) for name in ("positions", "forces", "hessian_values")]
    rng = np.random.default_rng(1)
    for piece in pieces:
        for position in rng.integers(8 * piece.byte_offset, 8 * (piece.byte_offset + piece.size), 20).tolist():
            data[position // 8] ^= 1 << (position % 8)
            path.write_bytes(data)
            with pytest.raises(LabelSetError, match="damaged"):
                read_samples(path)
            data[position // 8] ^= 1 << (position % 8)


def test_a_shard_is_checked_once_and_again_when_it_has_changed(labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hdistill.data.format import shard_guard

    path = open_label_set(labels).shards[0].path
    checks: list[Path] = []
    layout_of = shard_guard.layout_of
    monkeypatch.setattr(shard_guard, "layout_of", lambda p, *rest: (checks.append(p), layout_of(p, *rest))[1])
    read_samples(path)
    read_samples(path)
    assert len(checks) == 2  # written a moment ago: it may change again within one tick of the clock
    assert not any(str(path) in key[0] for key in stored._kept)  # type: ignore[operator]
    old = time.time() - 60
    monkeypatch.setattr("hdistill.data.format.shard_file.SETTLED_S", -1.0)
    os.utime(path, (old, old))
    for _ in range(3):
        read_samples(path)
    assert len(checks) == 3
    assert any(str(path) in key[0] for key in stored._kept)  # type: ignore[operator]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LabelSetError):
        read_samples(path)


@pytest.mark.parametrize("replaced", [True, False])
def test_a_shard_replaced_or_removed_while_it_is_checked(
    labels: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    from hdistill.data.format import shard_guard

    path = open_label_set(labels).shards[0].path
    layout_of = shard_guard.layout_of

    def slow(p: Path, *rest: Any) -> Any:
        actual = layout_of(p, *rest)
        content = p.read_bytes()
        p.unlink()
        if replaced:
            (p.parent / "keeps-the-inode").write_bytes(content)
            p.write_bytes(content)
        return actual

    monkeypatch.setattr(shard_guard, "layout_of", slow)
    with pytest.raises(LabelSetError, match="was replaced or removed"):
        read_samples(path)


def test_an_unfinished_set_says_so(labels: Path) -> None:
    (labels / "manifest.json").unlink()
    (labels / "plan.json").write_text("{}")
    with pytest.raises(LabelSetError, match="not finished"):
        open_label_set(labels)


# What `verify` counts again.


def test_verify_counts_everything_again(labels: Path, tmp_path: Path) -> None:
    samples = random_samples(sizes=(3, 4, 5, 6, 7, 2))
    good = json.loads((labels / "manifest.json").read_text())
    splits = {split: sum(s.split == split for s in samples) for split in ("train", "val", "test")}
    atoms = sum(s.structure.n_atoms for s in samples)
    whole = {
        "counts": {**good["counts"], "n_atoms": atoms, "n_groups": 6, "n_quarantined": 1},
        "splits": {**good["splits"], "n_structures": splits},
        "hessian": {**good["hessian"], "n_products": 24, "n_elements": 12 * atoms},
        "quarantine": [{"id": "", "reason": "x", "text": "y", "attempts": 1}],
    }
    change_manifest(labels, **whole)
    verify(labels)
    for section, key, name in (
        ("counts", "n_structures", "structures"),
        ("counts", "n_atoms", "atoms"),
        ("counts", "n_groups", "groups"),
        ("counts", "n_quarantined", "structures in quarantine"),
        ("hessian", "n_products", "Hessian products"),
        ("hessian", "n_elements", "elements of Hessian products"),
    ):
        change_manifest(labels, **whole | {section: {**whole[section], key: whole[section][key] + 1}})  # type: ignore[dict-item]
        with pytest.raises(LabelSetError, match=f"counts {name} as"):
            verify(labels)
    for section, key, value, name in (
        ("counts", "elements", {"1": 1}, "elements"),
        ("splits", "n_structures", {"train": 6, "val": 0, "test": 0}, "structures in each split"),
    ):
        change_manifest(labels, **whole | {section: {**whole[section], key: value}})  # type: ignore[dict-item]
        with pytest.raises(LabelSetError, match=f"counts {name} as"):
            verify(labels)
    twice = write_label_set(tmp_path / "twice", [*samples, samples[0]])
    with pytest.raises(LabelSetError, match="a structure twice"):
        verify(twice)
    moved = [replace(s, structure=replace(s.structure, group="one")) for s in samples]
    torn = write_label_set(tmp_path / "torn", moved)
    with pytest.raises(LabelSetError, match="a group in two of its splits"):
        verify(torn)
