"""The built-in subset: strained and rattled cubic perovskites (Pm-3m, ABX3), for which no file is needed.

Each series is one random strain of one chemistry; its structures differ by their rattle. 5-atom cells: 20 series of 3
for each of 8 chemistries (480). 40-atom 2x2x2 cells: 8 series of 1 (64). The set is fixed: the same on every machine.

group is chemistry/series, so splits hold out strained cells of chemistries that are trained on; with the option
`by-chemistry` it is the chemistry, and splits hold out whole chemistries: a much harder, and with eight of them a
very noisy, test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, nearest
from ...structure import Structure
from ..reader import Located, Reader, SubsetRow
from ..report import Keys, SourceReport

# Lattice constants in A, as measured in the cubic phase (which for BaTiO3, CaTiO3, KNbO3 and CsPbBr3 lies above room
# temperature), rounded to 0.01: most of them in the table of L. Q. Jiang et al., J. Phys. Chem. Solids 67, 1531 (2006).
LATTICE_CONSTANTS = {
    ("Sr", "Ti", "O"): 3.91,
    ("Ba", "Ti", "O"): 4.01,
    ("Ca", "Ti", "O"): 3.90,
    ("K", "Nb", "O"): 4.02,
    ("Ba", "Zr", "O"): 4.19,
    ("K", "Mg", "F"): 3.99,
    ("Cs", "Ca", "F"): 4.52,
    ("Cs", "Pb", "Br"): 5.87,
}
SITES = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))  # A, B, X, X, X
SERIES = {5: (20, 3), 40: (8, 1)}  # atoms: series of each chemistry, structures of each series
MAX_STRAIN = 0.03
SIGMAS = (0.03, 0.10)  # A, of the rattle
MAX_DEVIATION = 2.0  # sigma: a rattle never pushes ions into one another
DECIMALS = 6  # of positions and cell in A: the last bits of a product differ between machines, ids may not
OPTIONS = ("5", "40", "by-chemistry")
N_STRUCTURES = len(LATTICE_CONSTANTS) * sum(n * m for n, m in SERIES.values())


def parse_options(text: str) -> frozenset[str]:
    """The options of `perovskites:5,by-chemistry`. Raises InputError."""
    options = frozenset(text.split(",")) if text else frozenset()
    for option in sorted(options - set(OPTIONS)):
        raise InputError(
            f"perovskites has no option '{option}'; it takes {', '.join(OPTIONS)}.{nearest(option, OPTIONS)}"
        )
    return options


def locate(name: str, data: Path | None) -> Located:
    """The subset with the options of `perovskites:OPTIONS`. Raises InputError."""
    return Located(READER, name="perovskites", options=parse_options(name))


def read(path: Path | None, located: Located, keys: Keys, report: SourceReport) -> Iterator[Structure]:
    """The structures: by size, then series, then chemistry. info: chemistry, series, sigma (A)."""
    options = located.options
    sizes = [size for size in SERIES if str(size) in options] or list(SERIES)
    for size in sizes:
        n_series, n_members = SERIES[size]
        for series in range(n_series):
            for species in LATTICE_CONSTANTS:
                for member in range(n_members):
                    report.take("group", "chemistry" if "by-chemistry" in options else "chemistry/series")
                    yield _structure(species, size, series, member, "by-chemistry" in options)


def _structure(species: tuple[str, str, str], size: int, series: int, member: int, by_chemistry: bool) -> Structure:
    from ase import Atoms

    a, b, x = species
    chemistry = f"{a}{b}{x}3"
    of_series = _generator(chemistry, size, series)
    atoms = Atoms([a, b, x, x, x], scaled_positions=SITES, cell=[LATTICE_CONSTANTS[species]] * 3, pbc=True)
    if size == 40:
        atoms = atoms.repeat(2)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + _strain(of_series)), scale_atoms=True)
    of_member = _generator(chemistry, size, series, member)
    sigma = round(float(of_member.uniform(*SIGMAS)), 4)
    rattle = sigma * np.clip(of_member.standard_normal((len(atoms), 3)), -MAX_DEVIATION, MAX_DEVIATION)
    name = f"{size}-{series:02d}"
    return Structure(
        numbers=np.asarray(atoms.numbers, np.int64),
        positions=np.round(atoms.positions + rattle, DECIMALS),
        cell=np.round(atoms.cell.array, DECIMALS),
        pbc=np.ones(3, bool),
        group=chemistry if by_chemistry else f"{chemistry}/{name}",
        info={"chemistry": chemistry, "series": name, "sigma": sigma},
    )


def _strain(generator: np.random.Generator) -> NDArray[np.float64]:
    """A symmetric strain (3,3), every component uniform in +-MAX_STRAIN."""
    values = generator.uniform(-MAX_STRAIN, MAX_STRAIN, (3, 3))
    return np.triu(values) + np.triu(values, 1).T


def _generator(*names: object) -> np.random.Generator:
    key = hashlib.blake2b(f"hdistill perovskites {names}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


WHAT = "strained, rattled cubic ABX3; options :5 :40 (atoms) and :by-chemistry (groups), joined with commas"
READER = Reader(
    name="perovskites",
    what=WHAT,
    read=read,
    locate=locate,
    rows=(SubsetRow("perovskites", WHAT, needs_data=False, n_structures=N_STRUCTURES, license="MIT"),),
)
