"""Molecular dynamics with a student, and the demo."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .arguments import Place, folder_of
from .results import Figures, Simulated, result_of

if TYPE_CHECKING:
    from ase import Atoms


def md(
    run: Place,
    start: Place | Atoms,
    out: Place,
    *,
    steps: int = 10_000,
    timestep: float = 0.5,
    temperature: float = 300.0,
    friction: float | None = None,
    every: int = 10,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Simulated:
    """Move atoms with a run's student, into a new folder: trajectory.xyz, log.csv, summary.json.

    start: Atoms, or a file (its last structure, or FILE@INDEX); velocities are kept, else drawn from the temperature (K).
    timestep in fs. friction, 1/fs, such as 0.01: a Langevin thermostat (NVT); None: constant energy (NVE). every: steps between
    two frames. What ended the run early is in `why` of the result. Raises InputError.
    """
    from hdistill.trainer.evaluation.dynamics import Motion

    from ..md import run_md

    motion = Motion(steps, timestep, temperature, friction, every, seed)
    return result_of(Simulated, run_md(folder_of(run), start, folder_of(out), motion, device, progress))


def demo(out: Place = "demo", *, workers: int = 2, say: Callable[[str], None] = print) -> Figures:
    """Label, distil and compare on a real teacher (SevenNet-0) in minutes; the same call continues."""
    from ..demo import run_demo, summary

    return Figures(run_demo(folder_of(out), workers, say), summary)
