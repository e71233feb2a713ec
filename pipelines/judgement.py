"""`hdistill evaluate` beyond mean errors: parts, each kept in the report's folder with what it depends on, and verdicts.

A part is a function of a run and a label set that gives plain numbers. One that was computed for the same student, labels and split is
read back; a part that does not apply says why.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdistill.data.errors import HDistillError, InputError, nearest
from hdistill.data.support.publish import publish

VERSION = 1
QUICK = ("accuracy", "smoothness")
NVE_PS, NVE_STEP_FS = 2.0, 0.5
TEMPERATURES = (300.0, 600.0)  # K
N_SPEED = 20  # calls
Part = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What is judged, against what: a run, a label set, a split of it."""

    run: Path
    labels: Path | str
    split: str
    device: str


def parts_of(names: Sequence[str] | str) -> list[str]:
    """Names of parts; "all" and "quick" stand for several. Raises InputError."""
    wanted = [names] if isinstance(names, str) else list(names)
    resolved: list[str] = []
    for name in (word for each in wanted for word in each.split(",")):
        if name in ("all", "quick"):
            resolved += PARTS if name == "all" else QUICK
        elif name in PARTS:
            resolved.append(name)
        else:
            raise InputError(
                f"There is no part '{name}'; there are {', '.join((*PARTS, 'quick', 'all'))}.{nearest(name, PARTS)}"
            )
    return list(dict.fromkeys(resolved))


def judge(subject: Subject, parts: Sequence[str], keep: Path | None, say: Callable[[str], None]) -> dict[str, Part]:
    """The parts, in order. keep: where they are kept, none: nowhere. A part that fails says why, and the others go on."""
    done: dict[str, Part] = {}
    for name in parts:
        of = _digest(subject, name)
        file = None if keep is None else keep / "parts" / f"{name}.json"
        kept = _kept(file, of)
        if kept is None:
            say(f"{name} ...")
            try:
                kept = PARTS[name](subject)
            except HDistillError as error:
                kept = {"does_not_apply": str(error)}
            if file is not None:
                publish(file, json.dumps({"of": of, "part": kept}).encode(), replace=True)
        done[name] = kept
    return done


def measured(
    errors: dict[str, Any], parts: dict[str, Part], twin: dict[str, Any] | None = None
) -> dict[str, float | None]:
    """All figures that can be required, by name; None where there is none. Units: meV/A, meV/atom, meV/A^3, A, ps, ms."""
    accuracy, smooth = parts.get("accuracy", {}), parts.get("smoothness", {})
    dynamics, speed = parts.get("dynamics", {}), parts.get("speed", {})
    domain = accuracy.get("domain") or {}
    figures = {
        "force_mae": errors.get("force_mae_mev_per_angstrom"),
        "energy_mae": errors.get("energy_mae_mev_per_atom"),
        "stress_mae": errors.get("stress_mae_mev_per_angstrom3"),
        "hessian_error": errors.get("hessian_relative_error"),
        "difference_mae": errors.get("difference_mae_mev"),
        "rank_correlation": errors.get("rank_correlation"),
        "force_rmse": accuracy.get("force_rmse"),
        "energy_rmse": accuracy.get("energy_rmse"),
        "force_cosine": accuracy.get("force_cosine"),
        "domain_correlation": domain.get("rank_correlation"),
        "holes": smooth.get("n_holes"),
        "cutoff_step": smooth.get("cutoff_step"),
        "nve_drift": dynamics.get("largest_drift"),
        "stable_ps": dynamics.get("stable_ps"),
        "ms_per_call": speed.get("ms_per_call"),
        "from_scratch_ratio": None,
    }
    if twin is not None and twin.get("force_mae_mev_per_angstrom"):
        figures["from_scratch_ratio"] = errors["force_mae_mev_per_angstrom"] / twin["force_mae_mev_per_angstrom"]
    return figures


def verdicts(requirements: Sequence[str], figures: dict[str, float | None]) -> list[dict[str, Any]]:
    """Each of "force_mae<=30" with what was measured and whether it holds; what was not measured does not. Raises InputError."""
    rows = []
    for text in requirements:
        match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>)\s*([-+0-9.eE]+)\s*", text)
        if match is None or not _is_number(match[3]):
            raise InputError(
                f"--require was '{text}'; it takes a figure, <, <=, > or >=, and a number, such as force_mae<=30."
            )
        name, sign, bar = match[1], match[2], float(match[3])
        if name not in figures:
            raise InputError(
                f"There is no figure '{name}' to require; there are {', '.join(figures)}.{nearest(name, figures)}"
            )
        value = figures[name]
        holds = value is not None and {"<=": value <= bar, ">=": value >= bar, "<": value < bar, ">": value > bar}[sign]
        rows.append({"figure": name, "measured": value, "required": f"{sign} {bar:g}", "passed": bool(holds)})
    return rows


def _accuracy(subject: Subject) -> Part:
    from hdistill.data.sharing.remote import open_labels
    from hdistill.trainer.evaluation.details import details

    return details(subject.run, open_labels(subject.labels), subject.split, subject.device)


def _smoothness(subject: Subject) -> Part:
    from hdistill.trainer.evaluation.smoothness import smoothness

    return smoothness(subject.run, subject.device)


def _dynamics(subject: Subject) -> Part:
    """NVE of the first held-out structure at each temperature: drift in meV/atom over NVE_PS, and whether it stays whole."""
    from hdistill.trainer.evaluation.dynamics import nve
    from hdistill.trainer.force_field.calculator import HDistillCalculator

    atoms = _first(subject)
    calculator = HDistillCalculator(subject.run, subject.device, warn_beyond=None)
    if not calculator.conservative:
        raise InputError(
            "The student predicts forces directly: they are the gradient of no energy, so that none is conserved."
        )
    runs = [
        {
            "temperature": temperature,
            **nve(atoms, calculator, round(1e3 * NVE_PS / NVE_STEP_FS), NVE_STEP_FS, temperature).summary(),
        }
        for temperature in TEMPERATURES
    ]
    drifts = [abs(run["drift_mev_per_atom"]) for run in runs if run["drift_mev_per_atom"] is not None]
    return {
        "runs": runs,
        "formula": str(atoms.symbols),
        "largest_drift": max(drifts) if drifts else None,
        "stable_ps": min(run["stable_until_fs"] for run in runs) / 1e3,
    }


def _speed(subject: Subject) -> Part:
    """Wall time of a call at moved positions, neighbour list included, of the first held-out structure; ns/day at 1 fs."""
    import statistics
    import time

    import numpy as np

    from hdistill.trainer.force_field.calculator import HDistillCalculator

    atoms, rng = _first(subject), np.random.default_rng(0)
    calculator = HDistillCalculator(subject.run, subject.device, warn_beyond=None)
    atoms.calc = calculator
    times = []
    for _ in range(N_SPEED):
        atoms.positions += rng.normal(scale=0.005, size=atoms.positions.shape)
        began = time.perf_counter()
        atoms.get_forces()
        times.append(time.perf_counter() - began)
    ms = 1e3 * statistics.median(times[2:])
    return {
        "ms_per_call": ms,
        "n_atoms": len(atoms),
        "compiled": calculator.compiled,
        "ns_per_day_at_1_fs": 86.4 / ms,
    }


PARTS: dict[str, Callable[[Subject], Part]] = {
    "accuracy": _accuracy,
    "smoothness": _smoothness,
    "dynamics": _dynamics,
    "speed": _speed,
}


def _first(subject: Subject) -> Any:
    from ase import Atoms

    from hdistill.data.sharing.remote import open_labels
    from hdistill.trainer.evaluation.errors import samples_of
    from hdistill.trainer.force_field.checkpoint import load_student

    known = set(load_student(subject.run).card.references.elements)
    samples = samples_of(open_labels(subject.labels), subject.split)
    structure = next((s.structure for s in samples if set(s.structure.numbers.tolist()) <= known), None)
    if structure is None:
        raise InputError(f"Split '{subject.split}' has no structure of the student's elements.")
    return Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)


def _digest(subject: Subject, name: str) -> str:
    """What a part depends on: the student's file, the label set's manifest, the split, the version of parts."""
    from hdistill.data.sharing.remote import open_labels
    from hdistill.trainer.force_field.checkpoint import STUDENT

    file = subject.run / STUDENT if subject.run.is_dir() else subject.run
    student = hashlib.sha256(file.read_bytes()).hexdigest()
    facts = (VERSION, name, student, open_labels(subject.labels, check=False).digest, subject.split)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _kept(file: Path | None, of: str) -> Part | None:
    try:
        content = json.loads(file.read_bytes()) if file is not None else None
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("of") != of or not isinstance(content.get("part"), dict):
        return None
    part: Part = content["part"]
    return part


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
