"""Round 0: the start structures relaxed by the teacher, and the structures around them that it labels first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .around import around, conformers, supercell
from .folder import read_frames, write_frames
from .relax import relax
from .settings import DistillSettings
from .teach import Work

if TYPE_CHECKING:
    from ase import Atoms

CONFORMERS = 7  # of each molecule, in which dynamics begin, besides the relaxed one


def relaxed(out: Path, settings: DistillSettings, work: Work) -> dict[str, Any]:
    """Writes start/relaxed.xyz (and what was passed on the way, path.xyz) and start/dynamics.xyz, where dynamics begin: supercells of
    crystals."""
    from hdistill.labeler.teacher_calculator import TeacherCalculator
    from hdistill.labeler.teachers.registry import parse_arguments

    folder = out / "start"
    began = time.monotonic()
    with TeacherCalculator(
        settings.teacher,
        settings.task,
        settings.dtype,
        work.device,
        parse_arguments(settings.arguments),
        python=work.run.teacher_python,
        threads=work.run.threads,
    ) as calculator:
        done, path, figures = relax(read_frames(folder / "start.xyz"), settings, calculator, work.say)
        seconds = time.monotonic() - began
        larger = [supercell(atoms) for atoms in done]
        larger += conformers(done, CONFORMERS, settings.seed)
        cost = _seconds_per_structure(calculator, larger, settings) / (1 if work.run.is_elsewhere else work.run.workers)
    write_frames(folder / "relaxed.xyz", done)
    write_frames(folder / "path.xyz", path)
    write_frames(folder / "dynamics.xyz", larger)
    return {"seconds": seconds, "seconds_per_structure": cost, "structures": figures}


def minima(starts: Sequence[Atoms]) -> list[Atoms]:
    """Those that are relaxed."""
    return [atoms for atoms in starts if atoms.info.get("move") != "torsions"]


def _seconds_per_structure(calculator: Any, frames: Sequence[Atoms], settings: DistillSettings) -> float:
    """Wall seconds of labelling one, products included, in one process; the second of two tries, since the first warms up."""
    from hdistill.data.probes import draw, parse_spec

    spec = parse_spec(settings.hessian)
    some = [*frames[:2]]
    directions = [draw(spec, number, "a structure to time", len(atoms)) for number, atoms in enumerate(some)]
    for _ in range(2):
        began = time.monotonic()
        calculator.label(some, directions)
    return (time.monotonic() - began) / len(some)


def sampled(out: Path, folder: Path, own: Sequence[Atoms], n: int, settings: DistillSettings) -> dict[str, Any]:
    """Writes rounds/0/frames.xyz: n structures around the relaxed ones, the end of the way there, and frames of one's own."""
    starts = read_frames(out / "start" / "dynamics.xyz")
    path = read_frames(out / "start" / "path.xyz")[-3:]
    frames = around(minima(starts), max(10, n - len(path) - len(own)), settings.seed)
    for number, atoms in enumerate((*path, *own)):
        atoms.info.setdefault("group", f"start-{number}")
    frames = [*path, *own, *frames]
    write_frames(folder / "frames.xyz", frames)
    return {"n": len(frames), "n_own": len(own)}
