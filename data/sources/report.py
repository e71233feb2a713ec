"""What was asked of a source (Keys), and what was read from it, guessed, missed and dropped (SourceReport)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ..format.records import SourceSummary, StatedUnit
from ..structure import Structure
from .formula import symbols
from .geometry import is_looked_at, is_noble, nearest_pair
from .units import Unit, Units, describe

QUANTITIES = ("energy", "forces", "stress", "charge", "spin", "group")
LABELS = ("energy", "forces", "stress")
ABSENT = ""  # the key under which a structure without the quantity is counted
SHORT, LONG = (
    0.65,
    1.5,
)  # of the sum of covalent radii: a typical nearest pair outside of these is in another unit of length
MAX_SHOWN = 3  # reasons and remarks that are printed
MAX_KEPT = 50  # of each kind, in a summary
_MISSES = {
    "energy": re.compile(r"energ|^(e|e_?tot|etot|toten)$"),
    "forces": re.compile(r"force|^f$"),
    "stress": re.compile(r"stress"),
}
_OTHER_SIGN = re.compile(r"grad|virial")  # minus the forces; of a sign that differs between codes
_NOT_MISSES = re.compile(
    r"unit|max|min|norm|rms|free_energy|gap|fermi|kinetic|formation|constraint|converged|hull|step"
)


@dataclass(frozen=True)
class Keys:
    """Where a source keeps its reference labels and its groups, if the user says so; None: the usual places are tried.

    Usual places, in this order: REF_energy, the results of the calculation, dft_energy; the same for forces and stress.
    units: those of the file's numbers, where it states none (see units.py). velocities: keep them, for dynamics to begin with.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    group: str | None = None
    units: Units = field(default_factory=dict)
    velocities: bool = False

    def of(self, quantity: str) -> str | None:
        """The key that the user gave for energy, forces, stress or group."""
        return {"energy": self.energy, "forces": self.forces, "stress": self.stress, "group": self.group}.get(quantity)


@dataclass
class SourceReport:
    """Counts of one reading of structures, in structures; every stage of the stream adds its own."""

    files: list[str] = field(default_factory=list)
    n_read: int = 0
    taken: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in QUANTITIES})
    n_mixed: int = 0  # energy and forces from different places
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> structures that could not be made
    first_skipped: dict[str, str] = field(default_factory=dict)  # reason -> where and why, of the first
    seen_keys: set[str] = field(default_factory=set)
    n_duplicates: int = 0
    n_matching: int | None = None  # None: nothing was selected with --where
    n_not_matching: int = 0
    n_charged: int = 0  # of those that matched
    lacking: Counter[str] = field(default_factory=Counter)  # name in --where -> structures without it
    elements: set[int] = field(default_factory=set)
    n_atoms: tuple[int, int] | None = None
    n_periodic: int = 0
    n_partly_periodic: int = 0
    charges: Counter[int] = field(default_factory=Counter)
    spins: Counter[int] = field(default_factory=Counter)
    units: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # quantity, text, who states it
    remarks: Counter[str] = field(default_factory=Counter)
    first_remarked: dict[str, str] = field(default_factory=dict)  # remark -> where, the first time
    shortest: tuple[float, str, str] | None = None  # A, pair, group
    ratios: list[float] = field(default_factory=list)  # of nearest pairs to the sum of their covalent radii
    n_looked_at: int = 0

    def add(self, structure: Structure) -> None:
        """Count a structure that was read: elements, size, cell, charge, spin, now and then distances."""
        numbers, pbc = structure.numbers.tolist(), structure.pbc.tolist()
        self.elements.update(numbers)
        n = len(numbers)
        low, high = self.n_atoms or (n, n)
        self.n_atoms = (min(low, n), max(high, n))
        self.n_periodic += all(pbc)
        self.n_partly_periodic += any(pbc) and not all(pbc)
        self.charges[structure.charge] += 1
        self.spins[structure.spin] += 1
        if is_looked_at(self.n_read):
            self._look_at(structure)
        self.n_read += 1

    def skip(self, reason: str, example: str, n: int = 1) -> None:
        """Count structures that could not be made."""
        self.skipped[reason] += n
        self.first_skipped.setdefault(reason, example)

    def take(self, quantity: str, key: str | None) -> None:
        """Count where one structure's quantity came from; None where it had none."""
        self.taken[quantity][key or ABSENT] += 1

    def remark(self, text: str, place: str, n: int = 1) -> None:
        """Count something that was guessed or left out."""
        self.remarks[text] += n
        self.first_remarked.setdefault(text, place)

    def see(self, *keys: Iterable[Any]) -> None:
        """Remember the keys of a structure, for hints."""
        for some in keys:
            self.seen_keys.update(some)

    def has(self, quantity: str, key: str) -> bool:
        """Whether any structure had the key, usable or not (a remark may follow the key)."""
        return any(name == key or name.startswith(f"{key} (") for name in self.taken[quantity])

    def near_misses(self) -> dict[str, list[str]]:
        """Keys that look like a label which some structures lack, and that were not taken."""
        misses = {}
        for quantity, pattern in _MISSES.items():
            counts = self.taken[quantity]
            used = {name.split(" (")[0] for name in counts}
            names = [key for key in self.seen_keys if isinstance(key, str) and key not in used]
            near = sorted(key for key in names if pattern.search(key.lower()) and not _NOT_MISSES.search(key.lower()))
            if counts[ABSENT] and near:
                misses[quantity] = near
        return misses

    def summary(self) -> SourceSummary:
        """The report as a manifest keeps it."""
        units = (StatedUnit(quantity=name, unit=text, stated_by=where) for name, text, where in sorted(self.units))
        return SourceSummary(
            elements=tuple(symbols()[number] for number in sorted(self.elements)),
            n_atoms=self.n_atoms,
            n_periodic=self.n_periodic,
            n_partly_periodic=self.n_partly_periodic,
            shortest_distance=round(self.shortest[0], 4) if self.shortest else None,
            shortest_pair=self.shortest[1] if self.shortest else None,
            n_looked_at=self.n_looked_at,
            charges={str(charge): n for charge, n in self.charges.most_common(MAX_KEPT)},
            spins={str(spin): n for spin, n in self.spins.most_common(MAX_KEPT)},
            n_spin_guessed=self.taken["spin"][ABSENT],
            units=tuple(units),
            keys={name: dict(counts.most_common(MAX_KEPT)) for name, counts in self.taken.items() if counts},
            near_misses={name: tuple(keys[:MAX_KEPT]) for name, keys in self.near_misses().items()},
            skipped=dict(self.skipped.most_common(MAX_KEPT)),
            remarks=dict(self.remarks.most_common(MAX_KEPT)),
        )

    def lines(self) -> list[str]:
        """The report as sentences to print: about six, warnings and what was skipped last."""
        source = f" from {_n(len(self.files), 'file')}" if self.files else ""
        lines = [f"{_n(self.n_read, 'structure')} read{source}."]
        if self.n_read:
            lines += [self._what_line(), self._charge_line()]
        lines += [*self._unit_lines(), *self._label_lines()]
        if self.taken["group"]:
            lines.append(f"group: {self._counts('group')} of {_n(self.n_read, 'structure')}.")
        lines += [*self._warnings(), *_most(self.remarks, self._remark_line, "more remark")]
        lines += _most(self.skipped, self._skipped_line, "more reason")
        if self.n_duplicates:
            lines.append(f"{_n(self.n_duplicates, 'duplicate')} dropped.")
        if self.n_matching is not None:
            lines.append(f"--where matched {self.n_matching} of {self.n_matching + self.n_not_matching} structures.")
        lines += [f"{_n(n, 'structure')} had no '{name}' and did not match." for name, n in self.lacking.items()]
        return lines

    def _look_at(self, structure: Structure) -> None:
        pair = nearest_pair(structure)
        self.n_looked_at += 1
        if pair is None:
            return
        distance, ratio, names = pair
        if ratio < LONG or not is_noble(names):
            self.ratios.append(ratio)
        if self.shortest is None or distance < self.shortest[0]:
            self.shortest = (distance, names, str(structure.info.get("source", structure.group)))

    def _what_line(self) -> str:
        low, high = self.n_atoms or (0, 0)
        atoms = _n(low, "atom") if low == high else f"{low} to {high} atoms"
        partly = f" and {self.n_partly_periodic} in one or two directions" if self.n_partly_periodic else ""
        distance = "no two atoms within 4 A"
        if self.shortest is not None:
            looked = "" if self.n_looked_at == self.n_read else f", of {self.n_looked_at} looked at"
            distance = f"shortest distance {self.shortest[0]:.2f} A ({self.shortest[1]}{looked})"
        return (
            f"elements {' '.join(self.summary().elements)}; {atoms}; periodic {self.n_periodic} of {self.n_read}{partly}; "
            f"{distance}."
        )

    def _charge_line(self) -> str:
        charge = f"charge {_values(self.charges)}{self._stated('charge', 'taken as 0')}"
        return f"{charge}; spin (2S+1) {_values(self.spins)}{self._stated('spin', 'the lowest that fits')}."

    def _stated(self, quantity: str, otherwise: str) -> str:
        counts = self.taken[quantity]
        if not counts:
            return ""
        absent = f"not stated in {counts[ABSENT]}: {otherwise}" if counts[ABSENT] else ""
        stated = [f"{key} in {n}" for key, n in counts.most_common() if key != ABSENT]
        return f" ({', '.join([*stated, *([absent] if absent else [])])})"

    def _unit_lines(self) -> list[str]:
        if not self.units:
            return []
        stated = sorted(self.units, key=lambda row: (row[2], _ORDER[row[0]]))
        return [f"units: {describe((name, Unit(text, 1.0, where=where)) for name, text, where in stated)}; converted."]

    def _label_lines(self) -> list[str]:
        near = self.near_misses()
        hints = [
            f"{_quoted(names)} {'looks' if len(names) == 1 else 'look'} like {quantity} (--{quantity}-key {names[0]})"
            for quantity, names in near.items()
        ]
        signed = sorted(key for key in self.seen_keys if isinstance(key, str) and _OTHER_SIGN.search(key.lower()))
        if signed and any(self.taken[quantity][ABSENT] for quantity in ("forces", "stress")):
            hints.append(
                f"{_quoted(signed)} (gradients are minus the forces, the sign of virials differs between codes)"
            )
        if any(set(self.taken[quantity]) - {ABSENT} for quantity in LABELS):
            shown = [q for q in LABELS if set(self.taken[q]) - {ABSENT} or (q == "forces" and self.taken[q])]
            lines = [f"reference labels: {'; '.join(f'{q}: {self._counts(q)}' for q in shown)}."]
        else:
            lines = ["reference labels: none, and none are needed."] if any(self.taken[q] for q in LABELS) else []
        return [*lines, f"Not taken: {'; '.join(hints)}."] if hints else lines

    def _counts(self, quantity: str) -> str:
        return ", ".join(f"{key or 'none'} in {n}" for key, n in self.taken[quantity].most_common())

    def _warnings(self) -> list[str]:
        lines = []
        if self.ratios and not SHORT <= (typical := median(self.ratios)) <= LONG:
            lines.append(
                f"Warning: the nearest atoms are typically {typical:.2f} times the sum of their covalent radii apart; "
                "is the unit of length right?"
            )
        if self.n_mixed:
            lines.append(
                f"Warning: energy and forces come from different keys in {_n(self.n_mixed, 'structure')}; "
                "are they of one level of theory? If not, name both keys."
            )
        return lines

    def _remark_line(self, text: str, n: int) -> str:
        return f"Note: {text} in {_n(n, 'structure')} (the first: {self.first_remarked[text]})."

    def _skipped_line(self, reason: str, n: int) -> str:
        return f"Skipped {_n(n, 'structure')}: {reason} (the first: {self.first_skipped[reason].rstrip('.')})."


_ORDER: Mapping[str, int] = {
    name: i for i, name in enumerate(("length", "cell", "energy", "forces", "hessian", "stress", "velocities"))
}


def _most(counts: Counter[str], line: Any, noun: str) -> list[str]:
    """A line for each of the most frequent, and one for how many more there are."""
    lines = [line(text, n) for text, n in counts.most_common(MAX_SHOWN)]
    more = len(counts) - MAX_SHOWN
    return [*lines, f"... and {_n(more, noun)}."] if more > 0 else lines


def _quoted(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:MAX_SHOWN])
    return shown + (f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else "")


def _values(counts: Counter[int]) -> str:
    """'0' where all are; '0 in 5, 1 in 2' where not."""
    if len(counts) == 1:
        return str(next(iter(counts)))
    shown = ", ".join(f"{value} in {n}" for value, n in counts.most_common(MAX_SHOWN))
    return shown + (f" and {len(counts) - MAX_SHOWN} more" if len(counts) > MAX_SHOWN else "")


def _n(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
