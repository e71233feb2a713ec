"""Ways of storing Hessian products: bytes, error and reading time of each. codec_ab.py makes the labels and calls `sizes`.

A way is a quantiser (products to whole numbers and a step), for some of them a lossless change of these numbers, and a packing
with HDF5's built-in filters. All bytes are those that HDF5 stores, with steps and directions; one shard for each label set.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from ase.neighborlist import primitive_neighbor_list

from hdistill.data.format import codec
from hdistill.data.format.shard import read_samples
from hdistill.data.labelsets.label_set import open_label_set
from hdistill.data.structure import HessianProducts, Structure

BLOCK = 32  # structures that a stream reads together
RADIUS, N_BASIS, WIDTH = 4.5, 14, 0.2  # A: pairs that a spring model sees, its radial functions, their width


class Labelled(NamedTuple):
    """One structure and its products as the teacher gave them."""

    structure: Structure
    products: HessianProducts

    @property
    def values(self) -> np.ndarray:
        return self.products.values.astype(np.float64)


class Stored(NamedTuple):
    """Products of one structure as numbers of shape (K,N,3) and what belongs to each product or atom."""

    numbers: np.ndarray
    step: np.ndarray


def load(folder: Path) -> list[Labelled]:
    """All products of a label set, which is exact."""
    samples = [s for shard in open_label_set(folder).shards for s in read_samples(shard.path)]
    return [Labelled(s.structure, s.labels.hessian) for s in samples if s.labels.hessian is not None]


# Quantisers: products (K,N,3) to whole numbers and steps.


def by_largest(bits: int) -> Callable[[np.ndarray], Stored]:
    """One float32 step for each product, so that its largest element fills the integer."""

    def quantise(x: np.ndarray) -> Stored:
        step = (np.abs(x).max(axis=(1, 2)) / (2 ** (bits - 1) - 1)).astype("<f4")
        return Stored(np.rint(x / np.where(step > 0, step, 1).astype(float)[:, None, None]), step)

    return quantise


def by_power(bits: int, axis: tuple[int, ...] = (1, 2)) -> Callable[[np.ndarray], Stored]:
    """A power of two, at most 2**-bits of the root mean square of a product (or, with axis (2,), of each of its atoms)."""

    def quantise(x: np.ndarray) -> Stored:
        rms = np.sqrt((x**2).mean(axis=axis))
        exponent = np.where(rms > 0, np.frexp(rms)[1] - 1 - bits, 0).astype("|i1")
        return Stored(np.rint(np.ldexp(x, -_spread(exponent, x))), exponent)

    return quantise


def _spread(step: np.ndarray, x: np.ndarray) -> np.ndarray:
    return step.astype(int).reshape(*step.shape, *[1] * (x.ndim - step.ndim))


def restore(stored: Stored) -> np.ndarray:
    """The products again, float64."""
    if stored.step.dtype.kind == "f":
        return stored.numbers * stored.step.astype(float)[:, None, None]
    return np.ldexp(stored.numbers, _spread(stored.step, stored.numbers))


# Lossless changes: what can be told from other stored numbers is taken off. Each is (structures, their numbers) -> numbers.

Numbers = list[np.ndarray]


def momentum(labelled: Sequence[Labelled], stored: Sequence[Stored]) -> Numbers:
    """A shift of all atoms changes nothing: the elements of a product add up to zero, so the last atom is replaced by the sum."""
    return [np.concatenate([s.numbers[:, :-1], s.numbers.sum(axis=1, keepdims=True)], axis=1) for s in stored]


def symmetry(labelled: Sequence[Labelled], stored: Sequence[Stored]) -> Numbers:
    """w . (H v) = v . (H w) for each pair of products: one element of the later one is predicted from all else.

    For probes this is the most that could be gained: a decoder knows the other elements only after solving for all of them.
    """
    actual = []
    for (structure, products), s in zip(labelled, stored, strict=True):
        v = products.directions.vectors(structure.n_atoms).reshape(len(s.numbers), -1)
        q = s.numbers.reshape(v.shape)
        changed = q.copy()
        for j, i in itertools.combinations(range(len(v))[::-1], 2):
            element = int(np.flatnonzero(v[i])[0]) if products.directions.kind == "rows" else (7 * i) % v.shape[1]
            known = v[j] @ q[i] * 2.0 ** (int(s.step[i]) - int(s.step[j])) - v[i] @ q[j] + v[i, element] * q[j, element]
            changed[j, element] = q[j, element] - np.rint(known * v[i, element])
        actual.append(changed.reshape(s.numbers.shape))
    return actual


def earlier(labelled: Sequence[Labelled], stored: Sequence[Stored]) -> Numbers:
    """An atom with the signs that an earlier probe gave it (or all opposite ones) is predicted by that probe's numbers, shrunk."""
    actual = []
    for (_, products), s in zip(labelled, stored, strict=True):
        signs, changed = products.directions.signs, s.numbers.copy()
        for k in range(1, 0 if signs is None else len(signs)):
            assert signs is not None
            agree = np.sign(np.einsum("jac,ac->ja", signs[:k], signs[k])) * (
                np.abs(np.einsum("jac,ac->ja", signs[:k], signs[k])) == 3
            )
            scale = np.exp2(s.step[:k].astype(float) - s.step[k])
            sums = np.einsum("ja,jac->ac", agree * scale[:, None], s.numbers[:k])
            n = np.abs(agree).sum(axis=0)[:, None]
            changed[k] -= np.rint(0.6 * sums / np.maximum(n, 1))
        actual.append(changed)
    return actual


def springs(labelled: Sequence[Labelled], stored: Sequence[Stored]) -> Numbers:
    """Springs between pairs of atoms, stretched and bent, by elements and distance, fitted to one half of the structures,
    predict the products of the other half. Their constants would have to be stored too; they are not counted."""
    keys = sorted(
        {pair for s, _ in labelled for pair in itertools.combinations_with_replacement(sorted(set(s.numbers)), 2)}
    )
    designs = [_design(s, p.directions.vectors(s.n_atoms), keys) for s, p in labelled]
    actual: Numbers = [s.numbers for s in stored]
    for half in (0, 1):
        square, right = np.zeros((designs[0].shape[1],) * 2), np.zeros(designs[0].shape[1])
        for design, one in list(zip(designs, labelled, strict=True))[1 - half :: 2]:
            weight = 1 / (one.values**2).mean()
            square += weight * design.T @ design
            right += weight * design.T @ one.values.ravel()
        constants = np.linalg.solve(square + 1e-3 * np.eye(len(square)), right)
        for i in range(half, len(stored), 2):
            guess = (designs[i] @ constants).reshape(stored[i].numbers.shape)
            actual[i] = stored[i].numbers - np.rint(np.ldexp(guess, -_spread(stored[i].step, guess)))
    return actual


def _design(structure: Structure, v: np.ndarray, keys: list[tuple[int, int]]) -> np.ndarray:
    """Products of v (K,N,3) with each spring of constant 1: (3*K*N, springs)."""
    i, j, distance, vector = primitive_neighbor_list(
        "ijdD", structure.pbc, structure.cell, structure.positions, RADIUS, self_interaction=False
    )
    unit = vector / distance[:, None]
    radial = np.exp(-(((distance[:, None] - np.linspace(0.9, RADIUS, N_BASIS)) / WIDTH) ** 2))
    difference = v[:, i] - v[:, j]
    along = np.einsum("kec,ec->ke", difference, unit)[..., None] * unit
    z = np.sort(np.stack([structure.numbers[i], structure.numbers[j]], axis=1), axis=1)
    kind = np.array([keys.index((int(a), int(b))) for a, b in z], int)
    design = np.zeros((*v.shape, len(keys), 2, N_BASIS))
    for which, part in enumerate((along, difference - along)):
        terms = part[..., None] * radial[None, :, None, :]  # (K,E,3,basis)
        for k in range(len(v)):
            np.add.at(design[k, :, :, :, which].transpose(0, 2, 1, 3), (i, kind), terms[k])
    return design.reshape(v.size, -1)


# Packings: whole numbers (V,) to HDF5 datasets.

Packing = Callable[[h5py.File, np.ndarray], None]


def packed(dtype: str, elements: int = 8192, zigzag: bool = False, **filters: Any) -> Packing:
    """One dataset with gzip after shuffle, or other filters; zigzag: 0, -1, 1, -2, ... as 0, 1, 2, 3, ..."""

    def pack(file: h5py.File, numbers: np.ndarray) -> None:
        wanted = np.where(numbers < 0, -2 * numbers - 1, 2 * numbers) if zigzag else numbers
        array = wanted.astype(dtype)
        assert np.dtype(dtype).kind == "f" or (array == wanted).all(), "these numbers do not fit"
        options = filters or {"compression": "gzip", "compression_opts": 6, "shuffle": True}
        if "scaleoffset" not in options:  # h5py does not allow both
            options = options | {"fletcher32": True}
        file.create_dataset("values", data=array, chunks=(min(elements, len(array)),), **options)

    return pack


def bit_planes(file: h5py.File, numbers: np.ndarray, elements: int = 16384) -> None:
    """Shuffle by bits: the first bits of 16384 numbers, their second bits, ..., each plane packed, then gzip."""
    zigzag = np.where(numbers < 0, -2 * numbers - 1, 2 * numbers).astype(">u2")
    padded = np.zeros(-(-len(zigzag) // elements) * elements, ">u2")
    padded[: len(zigzag)] = zigzag
    bits = np.unpackbits(padded.view(np.uint8).reshape(-1, elements, 2), axis=2).transpose(0, 2, 1)
    planes = np.packbits(np.ascontiguousarray(bits).reshape(-1))
    options = {"compression": "gzip", "compression_opts": 6, "fletcher32": True}
    file.create_dataset("values", data=planes, chunks=(2 * elements,), **options)


class Way(NamedTuple):
    """A way of storing products, its quantiser, what is taken off its numbers, its packing."""

    name: str
    quantise: Callable[[np.ndarray], Stored]
    pack: Packing
    change: Callable[[Sequence[Labelled], Sequence[Stored]], Numbers] | None = None


def _as_is(dtype: str) -> Callable[[np.ndarray], Stored]:
    return lambda x: Stored(x.astype(dtype), np.zeros(0, "<f4"))


ZIGZAG = packed("<u2", 16384, zigzag=True)
WAYS = [
    Way("exact: float32", _as_is("<f4"), packed("<f4")),
    Way("float16", _as_is("<f2"), packed("<f2")),
    Way("int16, float32 step by the largest", by_largest(16), packed("<i2")),
    Way("int8, float32 step by the largest", by_largest(8), packed("|i1")),
    Way("step rms/512, int16", by_power(9), packed("<i2")),
    Way("step rms/256, int16", by_power(8), packed("<i2")),
    Way("step rms/128, int16", by_power(7), packed("<i2")),
    Way("step rms/64, int16", by_power(6), packed("<i2")),
    Way("... zigzag", by_power(6), packed("<u2", zigzag=True)),
    Way("**... zigzag, chunks of 16384: `compact`**", by_power(6), ZIGZAG),
    Way("the same with rms/128", by_power(7), ZIGZAG),
    Way("the same with rms/256", by_power(8), ZIGZAG),
    Way("the same with rms/32", by_power(5), ZIGZAG),
    Way("`compact`, chunks of 65536", by_power(6), packed("<u2", 65536, zigzag=True)),
    Way(
        "`compact`, gzip 9",
        by_power(6),
        packed("<u2", 16384, True, compression="gzip", compression_opts=9, shuffle=True),
    ),
    Way("`compact`, bit planes", by_power(6), bit_planes),
    Way("`compact`, scaleoffset instead of gzip", by_power(6), packed("<i2", 16384, scaleoffset=0)),
    Way("`compact`, a step for each atom", by_power(6, (2,)), ZIGZAG),
    Way("`compact` + translation", by_power(6), ZIGZAG, momentum),
    Way("`compact` + symmetry of H (at best)", by_power(6), ZIGZAG, symmetry),
    Way("`compact` + earlier products", by_power(6), ZIGZAG, earlier),
    Way("`compact` + springs", by_power(6), ZIGZAG, springs),
    Way("rms/128 + springs", by_power(7), ZIGZAG, springs),
]


def measure(way: Way, labelled: Sequence[Labelled]) -> tuple[float, np.ndarray]:
    """Stored bytes per element and the relative error of each product."""
    stored = [way.quantise(one.values) for one in labelled]
    exact = stored[0].step.size == 0
    restored = [s.numbers.astype(float) if exact else restore(s) for s in stored]
    numbers = way.change(labelled, stored) if way.change else [s.numbers for s in stored]
    errors = [
        np.linalg.norm(back - one.values, axis=(1, 2)) / np.linalg.norm(one.values, axis=(1, 2))
        for back, one in zip(restored, labelled, strict=True)
    ]
    flat = np.concatenate([n.ravel() for n in numbers])
    with h5py.File("size", "w", driver="core", backing_store=False) as file:
        way.pack(file, flat)
        options = {"compression": "gzip", "compression_opts": 6, "shuffle": True, "fletcher32": True, "chunks": (8192,)}
        sides = {
            "steps": np.concatenate([s.step.ravel() for s in stored]),
            "directions": _directions([one.products for one in labelled]),
        }
        for name, side in sides.items():
            if side.size:
                file.create_dataset(name, data=side, **options | {"chunks": (min(8192, len(side)),)})
        n_bytes = sum(file[name].id.get_storage_size() for name in file)
    return n_bytes / len(flat), np.concatenate(errors)


def _directions(products: Sequence[HessianProducts]) -> np.ndarray:
    if products[0].directions.kind == "rows":
        return np.concatenate([np.asarray(p.directions.coordinate, "<i4") for p in products])
    return np.packbits(np.concatenate([np.ravel(p.directions.signs) for p in products]) > 0)  # type: ignore[arg-type]


def sizes(sets: dict[str, list[Labelled]]) -> str:
    """A Markdown table: bytes per element in each label set; relative errors over all of them."""
    lines = [
        f"| stored as | {' | '.join(sets)} | relative error, mean (largest) |",
        "|---|" + "---|" * (len(sets) + 1),
    ]
    for way in WAYS:
        actual = [measure(way, labelled) for labelled in sets.values()]
        error = np.concatenate([errors for _, errors in actual])
        cells = " | ".join(f"{n_bytes:.2f}" for n_bytes, _ in actual)
        lines.append(f"| {way.name} | {cells} | {error.mean():.1e} ({error.max():.1e}) |")
    return "\n".join(lines)


def reading(labelled: Sequence[Labelled], rounds: int = 7) -> str:
    """A Markdown table: microseconds to read and decode the products of a structure, in blocks; ways in turn, medians."""
    ways: dict[str, Callable[[int, int], object]] = {}
    ends = np.cumsum([0, *[one.values.size for one in labelled]])
    products = np.cumsum([0, *[len(one.values) for one in labelled]])
    owner = np.repeat(np.arange(products[-1]), [one.values[0].size for one in labelled for _ in one.values])
    files = []
    for way in (WAYS[0], WAYS[2], WAYS[3], WAYS[9]):
        file = h5py.File(way.name.replace("/", " "), "w", driver="core", backing_store=False, rdcc_nbytes=0)
        files.append(file)
        stored = [way.quantise(one.values) for one in labelled]
        way.pack(file, np.concatenate([s.numbers.ravel() for s in stored]))
        step = np.concatenate([s.step for s in stored])

        def read(a: int, b: int, file: Any = file, step: np.ndarray = step) -> object:
            values = file["values"][ends[a] : ends[b]]
            if not len(step):
                return values
            own = owner[ends[a] : ends[b]]
            if step.dtype.kind == "f":
                return values.astype(np.float32) * step[own]
            return codec.decode(values[:, None, None], step[own])

        ways[way.name.strip("*. ")] = read
    times: dict[str, list[float]] = {name: [] for name in ways}
    starts = np.random.default_rng(0).permutation(np.arange(0, len(labelled) - BLOCK, BLOCK))
    for _ in range(rounds):
        for name, way_to_read in ways.items():
            began = time.process_time()
            for start in starts.tolist():
                way_to_read(start, start + BLOCK)
            times[name].append((time.process_time() - began) / (len(starts) * BLOCK))
    for file in files:
        file.close()
    base = statistics.median(times["exact: float32"])
    lines = ["| stored as | reading, µs per structure | ratio to exact |", "|---|---|---|"]
    for name, taken in times.items():
        lines.append(f"| {name} | {1e6 * statistics.median(taken):.1f} | {statistics.median(taken) / base:.2f}x |")
    return "\n".join(lines)
