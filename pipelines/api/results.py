"""Results of the functions of `import hdistill`: frozen dataclasses that print as the command line prints them.

A result that stands for a folder (a label set, a run) is a path, too (os.PathLike): it can be given to any function that takes one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..report import label_tables, student_tables
from ..report.rounds import distill_summary
from .printed import Result


@dataclass(frozen=True, repr=False)
class Labelled(Result):
    """What `label` made: the label set in `path` and its counts; seconds and n_labelled_now are of this call alone.

    source: what was read, a SourceSummary of data/format/manifest.py; None for a set that was put together from several readings.
    """

    path: Path
    seconds: float
    n_structures: int
    n_atoms: int
    n_groups: int
    n_quarantined: int
    n_labelled_now: int
    source: dict[str, Any] | None = None

    def text(self) -> str:
        return label_tables.label_summary(self.as_json())

    def __fspath__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, repr=False)
class Share(Result):
    """What one share of a job array did: chunks of this share and of the whole plan that are still missing."""

    path: Path
    share: str
    n_labelled_now: int
    n_chunks: int
    n_missing: int
    n_missing_elsewhere: int
    seconds: float

    def text(self) -> str:
        return label_tables.share_summary(self.as_json())


@dataclass(frozen=True, repr=False)
class Estimate(Result):
    """What labelling would take: seconds on `workers` workers, bytes; scaled from n_tried structures."""

    n_structures: int
    n_atoms: int
    n_tried: int
    seconds_per_structure: float
    seconds: float
    workers: int
    bytes: int

    def text(self) -> str:
        return label_tables.estimate_summary(self.as_json())


@dataclass(frozen=True, repr=False)
class Fitted(Result):
    """Where a fit ended. seconds: CPU time of its training steps; validation: errors of the student that was kept."""

    run: Path
    steps: int
    seconds: float
    best_step: int
    n_parameters: int
    n_train: int
    n_val: int
    validation: dict[str, Any]

    def text(self) -> str:
        return student_tables.fit_summary(self.as_json())

    def __fspath__(self) -> str:
        return str(self.run)


@dataclass(frozen=True, repr=False)
class Made(Result):
    """A label set that was made of others or of published data."""

    path: Path
    n_structures: int
    n_atoms: int
    n_groups: int
    n_quarantined: int
    n_products: int
    splits: dict[str, Any]

    def text(self) -> str:
        return label_tables.made_summary(self.as_json())

    def __fspath__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, repr=False)
class Evaluation(Result):
    """Errors of a student on one split: mean absolute errors over structures (energy) and components (forces, stress), and the
    Hessian's |H_s v - H_t v| / |H_t v| over all products; of the n_comparable structures that have another of their composition,
    the mean error of energy differences (meV, not per atom) and Spearman's rank correlation of the energies. None: the split or the
    student has no such quantity."""

    split: str
    targets: str
    n_structures: int
    n_atoms: int
    energy_mae_mev_per_atom: float
    force_mae_mev_per_angstrom: float
    stress_mae_mev_per_angstrom3: float | None
    hessian_relative_error: float | None
    n_comparable: int
    difference_mae_mev: float | None
    rank_correlation: float | None
    by_group: dict[str, dict[str, Any]]
    n_unknown_elements: int = 0
    n_without_reference: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        lines = [student_tables.evaluation_table(self.as_json())]
        if verdicts := self.more.get("verdicts"):
            lines.append(student_tables.verdict_table(verdicts))
        if "report" in self.more:
            lines.append(f"Report: {self.more['report']}")
        return "\n\n".join(lines)


@dataclass(frozen=True, repr=False)
class Simulated(Result):
    """Molecular dynamics that is over, in the folder `out`. drift and excursion of the total energy: None with a thermostat."""

    out: Path
    run: str
    n_atoms: int
    ensemble: str
    fs: float
    drift_mev_per_atom: float | None
    excursion_mev_per_atom: float | None
    mean_temperature_kelvin: float | None
    stable: bool
    stable_until_fs: float
    why: str
    more: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        return student_tables.simulation_summary(self.as_json())

    def __fspath__(self) -> str:
        return str(self.out)


@dataclass(frozen=True, repr=False)
class Distilled(Result):
    """What `distill` made, in the folder `path`: the student in `run`, the label set in `labels`, the recipe that repeats it.

    why: accuracy, budget or rounds, what ended the rounds; verdicts: figures with what was measured, what is required and whether it
    is met, passed: whether all are; rounds: a row each, of which on_policy (meV/A) are the force errors on structures of the student's own
    dynamics before it was trained on them; exam: the same of the student that came out;
    report: its page, against the teacher, with parts as of evaluate(); held_out: errors on the test split of the labels; command: runs
    the student.
    """

    path: Path
    run: str
    labels: str
    why: str
    why_in_words: str
    passed: bool
    verdicts: list[dict[str, Any]]
    rounds: list[dict[str, Any]]
    exam: dict[str, Any]
    report: str
    held_out: dict[str, Any]
    parts: dict[str, Any]
    n_structures: int
    teacher_seconds: float
    fit_cpu_seconds: float
    on_policy: list[float]
    recipe: str
    command: str
    more: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        return distill_summary(self.as_json())

    def __fspath__(self) -> str:
        return self.run


@dataclass(frozen=True, repr=False)
class Audited(Result):
    """Labels compared with what the teacher says now: for each quantity how many agree, and the worst structure."""

    path: Path
    agrees: bool
    n: int
    teacher: str
    quantities: dict[str, dict[str, Any]]
    failures: list[dict[str, Any]]
    more: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        return label_tables.audit_table(self.as_json())


@dataclass(frozen=True, repr=False)
class Exported(Result):
    """A label set as one file of another format."""

    path: Path
    format: str
    n_structures: int
    bytes: int

    def text(self) -> str:
        return label_tables.export_summary(self.as_json())

    def __fspath__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, repr=False)
class SampledStructures(Result):
    """What `sample` made: Atoms whose info says where they come from, and where they were written.

    by_move: how many of each move; dropped: why and how many were left out.
    """

    out: Path | None
    recipe: str
    n_starts: int
    n: int
    by_move: dict[str, int]
    dropped: dict[str, int]
    remarks: tuple[str, ...]
    structures: list[Any] = field(default_factory=list, compare=False)

    def as_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in ("recipe", "n_starts", "n", "by_move", "dropped", "remarks")}
        return {"out": None if self.out is None else str(self.out), **values}

    def text(self) -> str:
        moves = ", ".join(f"{n} {move}" for move, n in self.by_move.items())
        where = "" if self.out is None else f"{self.out}: "
        starts = f"{self.n_starts} start structure{'s' if self.n_starts != 1 else ''}"
        lines = [f"{where}{self.n} structures of {starts} by the recipe {self.recipe}: {moves}."]
        if self.dropped:
            lines.append("Left out: " + "; ".join(f"{n} {reason}" for reason, n in self.dropped.items()) + ".")
        return "\n".join(lines)
