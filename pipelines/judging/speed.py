"""Calls by the clock: student, its machine code where that is there, and the teacher, interleaved in one run."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from .subject import Subject

N_CALLS, N_OF_TEACHER = 20, 5
WARM = 2  # calls that are not counted


def speed(subject: Subject) -> dict[str, Any]:
    """Median wall ms of a call at moved positions, neighbour list included, of the first structure; ns/day at 1 fs a step.

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
    return {
        "ms_per_call": own,
        "ms": ms,
        "n_atoms": len(atoms),
        "compiled": bool(best.compiled),
        "ns_per_day_at_1_fs": 86.4 / own,
        "times_faster": ms["teacher"] / own if "teacher" in ms else None,
    }
