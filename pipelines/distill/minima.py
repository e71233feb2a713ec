"""Conformers at the student's own minima. Their energies are what people compare, and dynamics at hundreds of kelvins are never there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdistill.data.structure import geometry_of
from hdistill.data.support.progress import progress

from .around import rattled, turned
from .explore import seed_of
from .first import minima as relaxed_starts
from .folder import read_frames, write_frames
from .settings import DistillSettings
from .start import name_of
from .teach import Work

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

SHARE = 0.25  # of a round's structures
FMAX, STEPS = 0.05, 150  # eV/A; near a minimum is enough
TURNS = 3  # times one or two torsions
OFF = 0.03  # A
SAME = 0.1  # A: the largest difference of sorted distances between conformers that are the same


def find_minima(
    run: Path, out: Path, folder: Path, n: int, k: int, settings: DistillSettings, work: Work
) -> dict[str, Any]:
    """Writes folder/minima.xyz: up to SHARE of n conformers of the molecules that have torsions, relaxed by the run's student."""
    from hdistill.data.sampling.torsions import rotatable_bonds
    from hdistill.trainer.force_field.calculator import HDistillCalculator

    starts = [
        (atoms, bonds)
        for atoms in relaxed_starts(read_frames(out / "start" / "dynamics.xyz"))
        if not atoms.pbc.any() and (bonds := rotatable_bonds(geometry_of(atoms)))
    ]
    wanted = round(SHARE * n) if starts else 0
    found: list[Atoms] = []
    if wanted:
        import numpy as np

        rng = np.random.default_rng(seed_of(settings.seed, k, "minima"))
        calculator = HDistillCalculator(run, work.device, warn_beyond=None)
        with progress(2 * wanted, "conformers", f"round {k}: minima of the student", work.progress) as bar:
            for start in _conformers(starts, 2 * wanted, rng):
                at = _minimum(start, calculator)
                bar.advance(1, kept=len(found))
                if at is not None and not any(_is_same(at, other) for other in found):
                    at.info |= {
                        "move": "minimum",
                        "group": f"{at.info['parent']}:minimum-{k}:{len(found)}",
                        "asked": False,
                    }
                    found.append(at)
                if len(found) == wanted:
                    break
    write_frames(folder / "minima.xyz", found)
    return {"n": len(found)}


def _conformers(starts: Sequence[tuple[Atoms, Any]], tries: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """Of each molecule in turn."""
    for number in range(tries):
        start, bonds = starts[number % len(starts)]
        atoms = start
        for _ in range(TURNS):
            atoms = turned(atoms, bonds, rng) or atoms
        atoms = rattled(atoms, OFF, rng)  # a turn by half a circle may end at a saddle, and stay there
        known = {key: start.info[key] for key in ("charge", "spin") if key in start.info}
        atoms.info = {"parent": name_of(start), **known}
        yield atoms


def _minimum(start: Atoms, calculator: Any) -> Atoms | None:
    """Near the minimum downhill from here; None where the molecule falls apart on the way."""
    import numpy as np
    from ase.optimize import FIRE2

    from hdistill.trainer.evaluation.dynamics import Limits, Motion, Watch

    at = start.copy()
    at.calc = calculator
    watch = Watch(at, Limits())
    FIRE2(at, logfile=None).run(fmax=FMAX, steps=STEPS)
    energy = float(at.get_potential_energy()) / len(at)
    broken = not np.isfinite(at.positions).all() or watch.problem(at, energy, 0.0, Motion())
    at.calc = None
    return None if broken else at


def _is_same(one: Atoms, other: Atoms) -> bool:
    import numpy as np

    if one.get_chemical_formula() != other.get_chemical_formula():
        return False
    apart = [np.sort(atoms.get_all_distances().ravel()) for atoms in (one, other)]
    return bool(np.abs(apart[0] - apart[1]).max() < SAME)
