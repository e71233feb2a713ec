"""Which of the visited frames the teacher is asked about: some at random, the others spread out among those that are least known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .around import around
from .explore import seed_of
from .first import minima as minima_of
from .folder import read_frames, write_frames
from .settings import DistillSettings
from .teach import Work

if TYPE_CHECKING:
    from ase import Atoms

UNSURE = 0.5  # of the frames, by domain distance: the diverse ones are taken from the upper share


def choose(run: Path, out: Path, folder: Path, n: int, k: int, settings: DistillSettings, work: Work) -> dict[str, Any]:
    """Writes folder/frames.xyz: n of the frames in folder/visited.xyz, those in minima.xyz among them; ids of all, and of those at random.

    Only frames at conditions that were asked for are taken at random, each with the same chance, so that errors on them are those
    of the dynamics that the user wants; of the others also what a stopped replica saw last. Where a poor student's dynamics ended too
    soon to give n, the others are made around the start.
    """
    visited, minima = read_frames(folder / "visited.xyz"), read_frames(folder / "minima.xyz")
    of_dynamics = n - len(minima)
    drawn, spread = pick(visited, of_dynamics, settings.random_share, seed_of(settings.seed, k, "choose"), run, work)
    for index in drawn:
        visited[index].info["at_random"] = True
    frames = [*(visited[index] for index in (*drawn, *spread)), *minima]
    if len(frames) < n:
        work.say(
            f"round {k}: dynamics ended too soon to give more than {len(frames)} structures; "
            f"{n - len(frames)} more are made around the start."
        )
        frames += _around_the_start(out, n - len(frames), k, settings)
    write_frames(folder / "frames.xyz", frames)
    ids = ids_of(folder / "frames.xyz")
    return {"ids": ids, "random_ids": ids[: len(drawn)], "n_visited": len(visited)}


def _around_the_start(out: Path, n: int, k: int, settings: DistillSettings) -> list[Atoms]:
    frames = around(minima_of(read_frames(out / "start" / "dynamics.xyz")), n, seed_of(settings.seed, k, "again"))
    for number, frame in enumerate(frames):
        frame.info |= {"group": f"{frame.info['parent']}:again-{k}:{number}", "asked": False}
    return frames


def pick(
    visited: Sequence[Atoms], n: int, random_share: float, seed: int, run: Path, work: Work
) -> tuple[list[int], list[int]]:
    """Indices of frames taken at random, and of those spread out among the unsure."""
    chosen = at_random(visited, max(1, round(random_share * n)), seed)
    rest = sorted(set(range(len(visited))) - set(chosen), key=lambda i: (*_unsure(visited[i]), i))
    wanted = n - len(chosen)
    return chosen, spread_out(visited, rest[: max(wanted, int(UNSURE * len(rest)))], wanted, run, work)


def at_random(visited: Sequence[Atoms], n: int, seed: int) -> list[int]:
    """Indices of n of the frames at the conditions that were asked for, each with the same chance."""
    import numpy as np

    asked = [i for i, atoms in enumerate(visited) if atoms.info.get("asked")]
    drawn = np.random.default_rng(seed).choice(len(asked), min(n, len(asked)), replace=False)
    return sorted(asked[i] for i in drawn.tolist())


def _unsure(atoms: Atoms) -> tuple[bool, float]:
    """By which frames are sorted: what stopped replicas saw last comes first, then the least known."""
    return not atoms.info.get("last"), -float(atoms.info.get("domain_distance", 0.0))


def ids_of(file: Path) -> list[str]:
    """The ids that the structures of a file have in a label set, in order."""
    from hdistill.data import sources

    return [structure.id for structure in sources.read(str(file))]


def spread_out(visited: Sequence[Atoms], among: Sequence[int], n: int, run: Path, work: Work) -> list[int]:
    """n of the frames with these indices, spread out over what the student sees of their atoms: the least known one first, then each
    time the one that is furthest from those taken (farthest points; Gonzalez, Theor. Comput. Sci. 38, 293, 1985)."""
    import numpy as np

    if n >= len(among):
        return list(among)
    points = _descriptors([visited[i] for i in among], run, work)
    taken, nearest = [0], np.linalg.norm(points - points[0], axis=1)
    while len(taken) < n:
        taken.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[taken[-1]], axis=1))
    return [among[i] for i in taken]


def _descriptors(frames: Sequence[Atoms], run: Path, work: Work) -> Any:
    """(F,D): means and spreads, over the atoms of each element, of what the student's readout reads, each in units of its spread over
    the frames. Of a student without features: the sorted distances between atoms."""
    import numpy as np

    from hdistill.data.structure import geometry_of
    from hdistill.trainer.force_field.calculator import HDistillCalculator
    from hdistill.trainer.force_field.engines.batched import BatchedStudent

    student = BatchedStudent(HDistillCalculator(run, work.device, warn_beyond=None))
    rows = []
    for atoms in frames:
        features = student([geometry_of(atoms)]).features
        if features is None:
            rows.append(np.sort(atoms.get_all_distances(mic=bool(atoms.pbc.any())).ravel()))
            continue
        array = features.double().cpu().numpy()
        parts = [array[atoms.numbers == z] for z in np.unique(atoms.numbers)]
        rows.append(np.concatenate([part.mean(axis=0) for part in parts] + [part.std(axis=0) for part in parts]))
    width = max(map(len, rows))  # structures of other elements have other rows
    points = np.stack([np.pad(row, (0, width - len(row))) for row in rows])
    return (points - points.mean(axis=0)) / (points.std(axis=0) + 1e-12)
