"""The rounds: start -> relax -> sample -> label -> fit; then explore -> choose -> label -> measure -> fit, until it is good enough.

Each step writes its record whole when it is done, and a step that has one is not done again: kill it anywhere, and the same call
goes on. What a step is given depends on records and seeds alone, so the same seed makes the same run on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import choose, explore, first, measure, minima, report, table, verdict
from .folder import claim, locked, once, read_frames, write_frames
from .settings import DistillSettings, shares, write_recipe
from .start import box_remarks, require_box
from .teach import Work, fit_student, label_frames

if TYPE_CHECKING:
    from ase import Atoms

    Record = dict[str, Any]

SOON_PS = 1.0  # of the first round's dynamics; each round's are twice as long as the last one's, up to what must hold
LONGER = 2.0
IN_ROUNDS = 0.5  # of the learning rate
# Times steps, of the last fit, at the whole learning rate: at half of it forces come out the same, and conformers in a worse order
# (docs/results.md).
LAST = 4


def run_rounds(
    start: Sequence[Atoms], own: Sequence[Atoms], out: Path, settings: DistillSettings, work: Work
) -> dict[str, Any]:
    """From start structures (and frames of one's own) to a student in out/run and its verdict; returns the result's figures.

    Raises InputError, PlanMismatch, TeacherError; what is done is kept.
    """
    require_box(start)
    with locked(out):
        claim(out, settings, [_identity(atoms) for atoms in (*start, *own)])
        write_frames(out / "start" / "start.xyz", start)
        if own:
            write_frames(out / "start" / "own.xyz", own)
        for remark in box_remarks(start, settings.pressures, settings.teacher):
            work.say(remark)
        state = _State(out, settings, work)
        state.begin(own)
        while (why := state.reason_to_end()) is None:
            state.round()
        return state.finish(why)


class _State:
    """Where a run stands: the records of its rounds, read back or just made."""

    def __init__(self, out: Path, settings: DistillSettings, work: Work):
        self.out, self.settings, self.work = out, settings, work
        self.rows: list[Record] = []
        self.shares = shares(settings, 1.0)

    def begin(self, own: Sequence[Atoms]) -> None:
        """Relax, sample around, label, fit: round 0."""
        out, settings, work = self.out, self.settings, self.work
        folder = _round(out, 0)
        relaxed = once(out / "start" / "relaxed.json", lambda: first.relaxed(out, settings, work))
        self.shares = shares(settings, relaxed["seconds_per_structure"])
        once(folder / "sampled.json", lambda: first.sampled(out, folder, own, self.shares.first, settings))
        names = [name for name in ("start", "own") if (out / "start" / f"{name}.xyz").exists()]
        files = {name: [f"start/{name}.xyz"] if name in names else [] for name in ("start", "own")}
        resolved = replace(settings, structures=self.shares.most, budget_s=None)
        write_recipe(out, resolved, files["start"], files["own"])
        cost = once(folder / "labelled.json", lambda: self._label(folder, extend=False))
        fitted = once(folder / "fitted.json", lambda: self._fit(folder, settings.steps, None, 1.0))
        self._add({"round": 0, **cost, **_validation(fitted), "relax_seconds": relaxed["seconds"]})

    def round(self) -> None:
        """Dynamics by the student, structures chosen of it, labels, the student's errors on them, a fit that goes on."""
        settings, k = self.settings, len(self.rows)
        folder, before = _round(self.out, k), _round(self.out, k - 1) / "run"
        picoseconds = self._picoseconds()
        explored = once(
            folder / "explored.json",
            lambda: explore.explore(before, self.out, folder, k, picoseconds, settings, self.work),
        )
        n = min(self.shares.per_round, self.shares.most - self.n_labelled)
        once(
            folder / "minima.json",
            lambda: minima.find_minima(before, self.out, folder, n, k, settings, self.work),
        )
        chosen = once(
            folder / "chosen.json", lambda: choose.choose(before, self.out, folder, n, k, settings, self.work)
        )
        cost = once(folder / "labelled.json", lambda: self._label(folder, extend=True))
        errors = once(folder / "errors.json", lambda: self._errors(before, chosen))
        fitted = once(folder / "fitted.json", lambda: self._fit(folder, max(1, settings.steps // 2), before, IN_ROUNDS))
        stability = explore.stability(explored)
        self._add({"round": k, **cost, **_validation(fitted), **errors, **stability, "picoseconds": picoseconds})
        table.picture(self.rows, read_frames(folder / "frames.xyz"), folder / "round.png")

    @property
    def n_labelled(self) -> int:
        return int(self.rows[-1]["n_labelled"])

    def reason_to_end(self) -> str | None:
        """Why there is no further round; None where there is one."""
        settings, last = self.settings, self.rows[-1]
        if (
            len(self.rows) > 1
            and self._is_accurate(last)
            and last["whole"]
            and last["picoseconds"] >= settings.stable_ps
        ):
            return "accuracy"
        if self.shares.most - self.n_labelled < 4:
            return "budget"
        if len(self.rows) > settings.rounds:
            return "rounds"
        return None

    def finish(self, why: str) -> dict[str, Any]:
        """A last, longer fit to all labels, an exam of what comes out, the report."""
        out, settings = self.out, self.settings
        before = _round(self.out, len(self.rows) - 1) / "run"
        fitted = once(out / "fitted.json", lambda: self._fit(out, LAST * settings.steps, before, 1.0))
        exam = once(out / "exam" / "exam.json", lambda: verdict.exam(out, len(self.rows), settings, self.work))
        result = verdict.result(out, why, self.rows, fitted, exam, settings, self.shares.most)
        return result | report.report_of(out, result, settings, self.work)

    def _picoseconds(self) -> float:
        """Of the next dynamics: longer from round to round, and as long as must hold once the errors are small."""
        settings, k = self.settings, len(self.rows)
        if k > 1 and self._is_accurate(self.rows[-1]) and self.rows[-1]["whole"]:
            return settings.stable_ps
        return min(settings.stable_ps, SOON_PS * LONGER ** (k - 1))

    def _is_accurate(self, row: Record) -> bool:
        return measure.is_accurate(row, self.settings.force_error, self.settings.force_share)

    def _label(self, folder: Path, extend: bool) -> Record:
        return label_frames(folder / "frames.xyz", self.out / "labels", self.settings, self.work, extend)

    def _errors(self, run: Path, chosen: Record) -> Record:
        device = self.work.device
        at_random = measure.on_policy(run, self.out / "labels", chosen["random_ids"], device)
        return {
            **at_random,
            "chosen_force_mae": measure.on_policy(run, self.out / "labels", chosen["ids"], device)["force_mae"],
        }

    def _fit(self, folder: Path, steps: int, begin_from: Path | None, rate: float) -> Record:
        return fit_student(self.out / "labels", folder / "run", self.settings, self.work, steps, begin_from, rate)

    def _add(self, row: Record) -> None:
        self.rows.append(row)
        table.write_csv(self.rows, self.out / "rounds.csv")
        self.work.say(table.line(self.rows))


def _round(out: Path, k: int) -> Path:
    return out / "rounds" / str(k)


def _validation(fitted: Record) -> Record:
    return {
        "validation_force_mae": fitted["validation"].get("force_mae_mev_per_angstrom"),
        "fit_cpu_seconds": fitted["cpu_seconds"],
    }


def _identity(atoms: Atoms) -> str:
    from hdistill.data.structure import Structure

    info = atoms.info
    return Structure(
        atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, info.get("charge", 0), info.get("spin", 1)
    ).id
