"""Files from strangers and damaged files: each is refused with a named error, and nothing outside the file is opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from hdistill.data.errors import LabelSetError
from hdistill.data.labelset import info, open_label_set, verify
from hdistill.data.shard import read_samples, to_arrays
from hdistill.data.shard_file import image
from tests.data.samples import random_samples, write_label_set


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "shard.h5"
    path.write_bytes(image(to_arrays(random_samples(), "compact"), {}))
    return path


def replace(file: h5py.File, name: str, **settings: object) -> None:
    data = settings.pop("data", None)
    data = file[name][()] if data is None else data
    del file[name]
    file.create_dataset(name, data=data, **settings)


def external_link(file: h5py.File) -> None:
    del file["energy"]
    file["energy"] = h5py.ExternalLink("/etc/hostname", "/energy")


def soft_link(file: h5py.File) -> None:
    del file["energy"]
    file["energy"] = h5py.SoftLink("/charge")


def external_storage(file: h5py.File) -> None:
    n = len(file["energy"])
    del file["energy"]
    file.create_dataset("energy", (n,), "<f8", external=[("/etc/passwd", 0, 8 * n)])


def virtual(file: h5py.File) -> None:
    n = len(file["energy"])
    del file["energy"]
    layout = h5py.VirtualLayout((n,), "<f8")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "energy", (n,))
    file.create_virtual_dataset("energy", layout)


def huge(file: h5py.File) -> None:
    del file["positions"]
    file.create_dataset("positions", (1 << 37, 3), "<f8", chunks=(1024, 3))


def bomb_chunk(file: h5py.File) -> None:
    del file["info_text"]
    file.create_dataset("info_text", data=np.zeros(1 << 25, np.uint8), chunks=(1 << 25,), compression="gzip")


def cycle(file: h5py.File) -> None:
    file.create_group("loop")["again"] = file["/"]


DAMAGE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "external link": (external_link, "points elsewhere"),
    "soft link": (soft_link, "points elsewhere"),
    "external storage": (external_storage, "outside the file"),
    "virtual": (virtual, "outside the file"),
    "huge": (huge, "more than a shard may have|was wanted"),
    "oversized chunk": (bomb_chunk, "oversized"),
    "cycle": (cycle, "does not know"),
    "unknown dataset": (lambda f: f.create_dataset("extra", data=[1]), "does not know"),
    "foreign filter": (lambda f: replace(f, "positions", compression="lzf"), "filter"),
    "variable-length": (lambda f: replace(f, "group", data=["a"] * 5, dtype=h5py.string_dtype()), "was wanted"),
    "wrong dtype": (lambda f: replace(f, "energy", data=f["energy"][()].astype("f4")), "was wanted"),
    "wrong shape": (lambda f: replace(f, "energy", data=f["energy"][:-1]), "was wanted"),
    "missing dataset": (lambda f: f.pop("energy"), "lacks the dataset energy"),
    "missing values": (lambda f: f.pop("hessian_values"), "does not hold them"),
    "missing scale": (lambda f: f.pop("hessian_scale"), "go together"),
    "offsets go down": (lambda f: replace(f, "atom_offsets", data=f["atom_offsets"][:][::-1]), "goes down"),
    "offsets too long": (lambda f: replace(f, "atom_offsets", data=f["atom_offsets"][:] * 2), "do not end"),
    "another version": (lambda f: f.attrs.__setitem__("version", 2), "version 2"),
    "another format": (lambda f: f.attrs.__setitem__("format", "x"), "not a shard"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_refused_with_its_name(shard: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    with h5py.File(shard, "r+") as file:
        damage(file)
    with pytest.raises(LabelSetError, match=message):
        read_samples(shard)


def test_truncated_at_any_length(shard: Path) -> None:
    data = shard.read_bytes()
    for length in (0, 7, 100, len(data) // 2, len(data) - 1):
        shard.write_bytes(data[:length])
        with pytest.raises(LabelSetError):
            read_samples(shard)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_label_set(tmp_path / "labels", random_samples(sizes=(3, 4, 5, 6, 7, 2)))


def test_opened_from_the_folder_or_its_shards(labels: Path) -> None:
    assert len(open_label_set(labels).shards) == 2
    assert open_label_set(labels / "shards").digest == open_label_set(labels).digest
    assert verify(labels).elements == sorted(verify(labels).elements)


def test_every_single_bit_flip_is_found(labels: Path) -> None:
    """300 random flips; the hash of the file finds each before anything of it is read."""
    path = open_label_set(labels).shards[0].path
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.integers(0, 8 * len(data), 300):
        data[position // 8] ^= 1 << (position % 8)
        path.write_bytes(data)
        with pytest.raises(LabelSetError, match="has changed"):
            open_label_set(labels)
        data[position // 8] ^= 1 << (position % 8)
    path.write_bytes(data)
    open_label_set(labels)


def change_manifest(labels: Path, **changes: object) -> None:
    path = labels / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_manifests_that_are_wrong(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelSetError, match="no label set"):
        open_label_set(tmp_path / "nothing")
    good = (labels / "manifest.json").read_text()
    shards = json.loads(good)["shards"]
    for changes, message in (
        ({"version": 9}, "version 9"),
        ({"format": "other"}, "'hdistill label set' was wanted"),
        ({"shards": [{**shards[0], "name": "../../etc/passwd"}]}, "outside its folder"),
        ({"shards": [{**shards[0], "name": "absent.h5"}]}, "is missing"),
        ({"shards": [{**shards[0], "bytes": 5}]}, "5 were wanted"),
        ({"shards": [{**shards[0], "name": shards[1]["name"]}]}, "wanted|has changed"),
        ({"shards": [{"name": "x"}]}, "damaged"),
        ({"shards": 3}, "damaged"),
    ):
        change_manifest(labels, **changes)
        with pytest.raises(LabelSetError, match=message):
            open_label_set(labels)
        (labels / "manifest.json").write_text(good)
    (labels / "manifest.json").write_text(good[: len(good) // 2])
    with pytest.raises(LabelSetError, match="damaged"):
        info(labels)


def test_an_unfinished_set_says_so(labels: Path) -> None:
    (labels / "manifest.json").unlink()
    (labels / "plan.json").write_text("{}")
    with pytest.raises(LabelSetError, match="not finished"):
        open_label_set(labels)
