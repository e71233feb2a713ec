"""The parts of a report by name. One that was computed for the same student, data and settings is read back; one that cannot be had says
why, and the others go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdistill.data.errors import HDistillError, InputError, nearest
from hdistill.data.support.publish import publish, sha256_of

from .curvature import against_dft, curvature
from .distortions import distortions
from .labelled import accuracy, cost, smooth
from .motion import dynamics
from .relaxation import relaxation
from .scans import scans
from .speed import speed
from .subject import Subject
from .trajectories import trajectories

VERSION = 8  # of what parts hold
Figures = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """make: its figures; gives: of those, which can be required, by the name of the bar; quick: made by default."""

    make: Callable[[Subject], Figures]
    gives: dict[str, str]
    quick: bool = False
    needs: str = ""  # an option without which there is nothing to tell: "teacher" or "phonopy"


PARTS: dict[str, Part] = {
    "accuracy": Part(
        accuracy,
        {name: name for name in ("force_rmse", "energy_rmse", "force_cosine")} | {"domain_correlation": "domain"},
        True,
    ),
    "smoothness": Part(smooth, {"holes": "n_holes", "cutoff_step": "cutoff_step"}, True),
    "cost": Part(cost, {"label_bytes": "label_bytes", "n_parameters": "n_parameters"}, True),
    "speed": Part(speed, {"ms_per_call": "ms_per_call", "times_faster": "times_faster"}),
    "dynamics": Part(
        dynamics, {"nve_drift": "largest_drift", "nve_drift_per_ns": "largest_drift_per_ns", "stable_ps": "stable_ps"}
    ),
    "curvature": Part(
        curvature, {"frequency_mae": "frequency_mae", "phonon_mae": "phonon_mae", "imaginary_modes": "n_imaginary"}
    ),
    "relaxation": Part(
        relaxation,
        {name: name for name in ("rmsd", "energy_above", "lattice_error", "bulk_modulus_error", "elastic_error")},
    ),
    "distortions": Part(distortions, {}, needs="teacher"),
    "scans": Part(scans, {f"{kind}_scan_mae": f"{kind}_mae" for kind in ("bond", "angle", "torsion")}, needs="teacher"),
    "trajectories": Part(trajectories, {"overlap": "smallest_overlap"}, needs="teacher"),
    "dft": Part(against_dft, {"dft_phonon_mae": "frequency_mae"}, needs="phonopy"),
}


def parts_of(names: Sequence[str] | str, given: frozenset[str] = frozenset()) -> list[str]:
    """Names of parts; "quick" stands for some, "all" for those that can be had with the options that were `given`. Raises InputError."""
    wanted = [names] if isinstance(names, str) else list(names)
    resolved: list[str] = []
    for name in (word for each in wanted for word in each.split(",")):
        if name == "all":
            resolved += [part for part, of in PARTS.items() if not of.needs or of.needs in given]
        elif name == "quick":
            resolved += [part for part, of in PARTS.items() if of.quick]
        elif name in PARTS:
            resolved.append(name)
        else:
            raise InputError(
                f"There is no part '{name}'; there are {', '.join((*PARTS, 'quick', 'all'))}.{nearest(name, PARTS)}"
            )
    return list(dict.fromkeys(resolved))


def judge(subject: Subject, names: Sequence[str], keep: Path | None) -> dict[str, Figures]:
    """The figures of parts, in order. keep: where they are kept, None: nowhere."""
    done: dict[str, Figures] = {}
    common = _digest(subject) if names else ""
    for name in names:
        of = hashlib.sha256(repr((VERSION, name, common, *_forces_of(subject, name))).encode()).hexdigest()
        file = None if keep is None else keep / "parts" / f"{name}.json"
        figures = _kept(file, of)
        if figures is None:
            try:
                figures = PARTS[name].make(subject)
            except HDistillError as error:  # not kept: what was missing may be there the next time
                done[name] = {"does_not_apply": str(error)}
                continue
            if file is not None:
                publish(file, json.dumps({"of": of, "part": figures}).encode(), replace=True)
        done[name] = figures
    return done


def _digest(subject: Subject) -> str:
    """What every part depends on: the student's file, label set, split, device, structures, teacher, temperatures."""
    from hdistill.data.sharing.remote import open_labels

    labels = open_labels(subject.labels, check=False).digest
    structures = [repr(atoms.todict()) for atoms in subject.structures]
    teacher = None if subject.teacher is None else subject.teacher.teacher
    facts = (sha256_of(subject.file), labels, subject.split, subject.device, structures, teacher, subject.temperatures)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _forces_of(subject: Subject, name: str) -> list[str]:
    """Hashes of the files of forces from elsewhere, for the part that is about them."""
    place = subject.phonopy
    if PARTS[name].needs != "phonopy" or place is None:
        return []
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return [sha256_of(file) for file in files if file.is_file()]


def _kept(file: Path | None, of: str) -> Figures | None:
    try:
        content = json.loads(file.read_bytes()) if file is not None else None
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("of") != of or not isinstance(content.get("part"), dict):
        return None
    figures: Figures = content["part"]
    return figures
