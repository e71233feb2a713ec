"""Which rows or +-1 probes of the Hessian are labelled: a pure function of (seed, structure id).

Random +-1 probes: E |(H_student - H_teacher) v|^2 = |H_student - H_teacher|_F^2 (Rodriguez et al., arXiv 2603.04523;
Hutchinson's estimator). Random rows are the choice of Amin, Raja and Krishnapriyan, arXiv 2501.09009.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .errors import InputError
from .structure import Directions


@dataclass(frozen=True)
class HessianSpec:
    """What is labelled of the Hessian: kind and, for rows and probes, how many per structure, after how many others."""

    kind: Literal["probes", "rows", "full", "none"]
    count: int = 0
    first: int = 0

    def __str__(self) -> str:
        counted = f"{self.kind}:{self.count}" if self.count else self.kind
        return f"{counted}@{self.first}" if self.first else counted


def parse_spec(text: str) -> HessianSpec:
    """'probes:4', 'rows:16', 'full' or 'none' as a HessianSpec; 'probes:4@8' is four after the first eight. Raises InputError."""
    if text == "full":
        return HessianSpec("full")
    if text == "none":
        return HessianSpec("none")
    match = re.fullmatch(r"(probes|rows):([1-9]\d{0,3})(?:@(\d{1,5}))?", text)
    if match is None:
        raise InputError(f"--hessian was '{text}'; it takes probes:K, rows:K (K from 1 to 9999), full or none.")
    return HessianSpec("probes" if match[1] == "probes" else "rows", int(match[2]), int(match[3] or 0))


def draw(spec: HessianSpec, seed: int, structure_id: str, n_atoms: int) -> Directions | None:
    """The directions of one structure; None where there are none. Probe k does not depend on how many are drawn after it.

    Rows are drawn without replacement, so a structure with 3N < K coordinates gets all of its 3N rows.
    """
    if spec.kind == "none":
        return None
    n = 3 * n_atoms
    if spec.kind == "full":
        return Directions("rows", coordinate=np.arange(n, dtype=np.int32))
    generator = _generator(seed, structure_id)
    if spec.kind == "rows":
        rows = generator.permutation(n)[spec.first : spec.first + spec.count].astype(np.int32)
        return Directions("rows", coordinate=rows) if len(rows) else None
    drawn = [generator.bytes((n + 7) // 8) for _ in range(spec.first + spec.count)][spec.first :]
    bits = np.unpackbits(np.frombuffer(b"".join(drawn), np.uint8))
    signs = bits.reshape(spec.count, -1)[:, :n].astype(np.int8) * 2 - 1
    return Directions("probes", signs=signs.reshape(spec.count, n_atoms, 3))


def _generator(seed: int, structure_id: str) -> np.random.Generator:
    key = hashlib.blake2b(f"hdistill probes {seed} {structure_id}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
