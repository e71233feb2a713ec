"""What was asked of a source (Keys) and what was taken from it, missed and dropped (SourceReport)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

QUANTITIES = ("energy", "forces", "stress", "charge", "group")
ABSENT = ""  # the key under which a structure without the quantity is counted


@dataclass(frozen=True)
class Keys:
    """Where a source keeps its reference labels and its groups, if the user says so; None: the usual places are tried.

    Usual places, in this order: REF_energy, ASE's calculator results, dft_energy; the same for forces and stress.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    group: str | None = None

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
    lacking: Counter[str] = field(default_factory=Counter)  # name in --where -> structures without it

    def skip(self, reason: str, example: str, n: int = 1) -> None:
        """Count structures that could not be made."""
        self.skipped[reason] += n
        self.first_skipped.setdefault(reason, example)

    def take(self, quantity: str, key: str | None) -> None:
        """Count where one structure's quantity came from; None where it had none."""
        self.taken[quantity][key or ABSENT] += 1

    def has(self, quantity: str, key: str) -> bool:
        """Whether any structure had the key, usable or not (a remark may follow the key)."""
        return any(name.split(" ")[0] == key for name in self.taken[quantity])

    def lines(self) -> list[str]:
        """The report as sentences to print."""
        source = f" from {_n(len(self.files), 'file')}" if self.files else ""
        lines = [f"{_n(self.n_read, 'structure')} read{source}."]
        lines += [self._taken_line(quantity) for quantity in QUANTITIES if self._worth_a_line(quantity)]
        if self.n_mixed:
            lines.append(
                f"Warning: energy and forces come from different keys in {_n(self.n_mixed, 'structure')}; "
                "are they of one level of theory? If not, name both keys."
            )
        lines += [
            f"Skipped {_n(n, 'structure')}: {reason} (the first: {self.first_skipped[reason]})."
            for reason, n in self.skipped.most_common()
        ]
        if self.n_duplicates:
            lines.append(f"{_n(self.n_duplicates, 'duplicate')} dropped.")
        if self.n_matching is not None:
            lines.append(f"--where matched {self.n_matching} of {self.n_matching + self.n_not_matching} structures.")
        lines += [f"{_n(n, 'structure')} had no '{name}' and did not match." for name, n in self.lacking.items()]
        return lines

    def _worth_a_line(self, quantity: str) -> bool:
        counts = self.taken[quantity]
        return bool(counts) and (quantity != "charge" or set(counts) != {ABSENT})

    def _taken_line(self, quantity: str) -> str:
        absent = "none, taken as 0," if quantity == "charge" else "none"
        parts = [f"{key or absent} in {n}" for key, n in self.taken[quantity].most_common()]
        return f"{quantity}: {', '.join(parts)} of {_n(self.n_read, 'structure')}."


def _n(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
