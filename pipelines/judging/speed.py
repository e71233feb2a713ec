"""By the clock: calls of the student, its machine code where that is there, and the teacher, interleaved; then steps of each engine."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from ase import Atoms

from .subject import Subject

N_CALLS, N_OF_TEACHER = 20, 5
WARM = 2  # calls that are not counted
ROUNDS, STEPS = 5, 10  # of each engine


def speed(subject: Subject) -> dict[str, Any]:
    """Median wall ms of a call at moved positions, neighbour list included, of the first structure; engines: ms a step and structure of
    dynamics in each engine that is installed, and ns/day at 1 fs of all its structures together; ns_per_day_at_1_fs: at the best call.

    times_faster: than the teacher through its own process, None without a teacher. The teacher's answers here are not kept.
    """
    from hdistill.trainer.force_field.calculator import HDistillCalculator

    atoms, rng = subject.atoms(1)[0], np.random.default_rng(0)
    eager = HDistillCalculator(subject.run, subject.device, warn_beyond=None, compiled=False)
    calculators: dict[str, Any] = {"eager": eager}
    best = subject.student()
    if best.compiled:
        calculators["machine code"] = best
    if subject.teacher is not None:
        calculators["teacher"] = subject.teacher.ask_anew()
    times: dict[str, list[float]] = {name: [] for name in calculators}
    with subject.bar(N_CALLS, "calls", "speed") as bar:
        for call in range(N_CALLS):
            atoms.positions += rng.normal(scale=0.005, size=atoms.positions.shape)
            for name, calculator in calculators.items():
                if name == "teacher" and call >= N_OF_TEACHER:
                    continue
                at = atoms.copy()
                at.calc = calculator
                began = time.perf_counter()
                at.get_forces()
                times[name].append(1e3 * (time.perf_counter() - began))
            bar.advance()
    ms = {name: statistics.median(each[WARM:]) for name, each in times.items()}
    own = min(value for name, value in ms.items() if name != "teacher")
    moving, failed = _engines(subject, atoms)
    return {
        "engines": moving,
        "engines_that_failed": failed,
        "ms_per_call": own,
        "ms": ms,
        "n_atoms": len(atoms),
        "compiled": bool(best.compiled),
        "ns_per_day_at_1_fs": 86.4 / own,
        "times_faster": ms["teacher"] / own if "teacher" in ms else None,
    }


def _engines(subject: Subject, atoms: Atoms) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """In each round every engine has its turn, so that a busy machine is busy for all of them."""
    from ase.md.velocitydistribution import thermalize_momenta

    from hdistill.trainer.force_field.engines.steps import engines

    moving = atoms.copy()
    thermalize_momenta(moving, temperature_K=300, rng=np.random.default_rng(0))
    rows, failed = engines(subject.run, moving, device=subject.device)
    times: dict[str, list[float]] = {name: [] for name in rows}
    for steps, _ in rows.values():
        steps(WARM)
    for _ in range(ROUNDS):
        for name, (steps, n) in rows.items():
            began = time.perf_counter()
            steps(STEPS)
            times[name].append(1e3 * (time.perf_counter() - began) / STEPS / n)
    best = {name: statistics.median(each) for name, each in times.items()}
    figures = {
        name: {"ms": ms, "ns_per_day_at_1_fs": 86.4 / ms, "structures": rows[name][1]} for name, ms in best.items()
    }
    return figures, failed
