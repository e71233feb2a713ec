"""The records that a manifest is made of: every field, with its type and limits, stated once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .schema import SplitName

MAX_SHARD_FILE_BYTES = 4 << 30
SHARD_NAME = r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.h5\Z"
_SHA256 = r"\A[0-9a-f]{64}\Z"
_ID = r"\A([0-9a-f]{32})?\Z"
_SUM = r"\A[0-9a-f]{32}\Z"
_ATOMIC_NUMBER = r"\A([1-9]|[1-9][0-9]|10[0-9]|11[0-8])\Z"
PATTERNS = {
    SHARD_NAME: "a file name that ends in .h5",
    _SHA256: "64 hexadecimal digits",
    _ID: "32 hexadecimal digits, or nothing where there is no id,",
    _SUM: "32 hexadecimal digits",
    _ATOMIC_NUMBER: "an atomic number from 1 to 118",
}

Count = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
Sha256 = Annotated[str, Meta(pattern=_SHA256)]
Element = Annotated[int, Meta(ge=1, le=118)]
LicenseClass = Literal["open", "copyleft", "nc", "gated", "unknown"]


class TeacherRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who labelled; of reference data, who made them."""

    name: str  # as the user typed it; of a file, its name without the folder
    family: str
    task: str | None
    dtype: Literal["float32", "float64"]
    device: str
    elements: tuple[Element, ...]  # that it knows
    conservative: bool  # False: forces are predicted directly, Hessian rows are of -dF/dR
    has_stress: bool
    hessian_method: str
    weights_sha256: str | None
    weights_license: str
    license_class: LicenseClass
    level_of_theory: str
    citation: str
    versions: dict[str, str]  # of packages that decide the numbers
    arguments: dict[str, Any]  # for ase:module.Class


class HessianSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which products were wanted. per_structure: None where that differs, or where it is all rows or none."""

    kind: Literal["none", "full", "rows", "probes"]
    per_structure: Count | None
    seed: int
    codec: Literal["exact", "compact"]


class HessianRecord(HessianSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which products there are. codec_error_*: relative (L2) errors of products; n_elements: numbers in all products."""

    n_products: Count
    n_elements: Count
    n_computed: Count | None  # by the teacher, the others by symmetry; None: not known
    codec_error_mean: float
    codec_error_max: float
    bytes: Count
    bytes_per_element: float | None


class Preflight(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The check of derivatives before a run, on one structure; errors are relative. Of an import: of the Hessians themselves."""

    structure: str | None = None
    n_atoms: Count | None = None
    dtype: str
    step_angstrom: float | None = None
    force_difference_error: float | None
    product_difference_error: float | None
    product_run_precision_error: float | None = None
    roughness: float | None = None  # relative change of a product where atoms move by 0.001 A
    tolerance: float | None = None
    largest_asymmetry: float | None = None
    largest_change_under_translation: float | None = None
    atom_energies: bool | None = None  # whether the teacher's are stored; sets from before this was written do not say


class InputFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    bytes: Count
    sha256: Sha256


class StatedUnit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A unit that was converted from: of which quantity, its word, and who stated it."""

    quantity: str
    unit: str
    stated_by: str


class SourceSummary(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was read from the sources, before any selection. Counts are structures, by value where there are several.

    n_atoms: smallest and largest. shortest_distance: A, of the n_looked_at structures whose distances were measured.
    n_spin_guessed: those that state no spin and have the lowest that fits. keys: how many have each quantity, by the key it was
    found under, "" for none. near_misses: keys that look like a label that was not found.
    """

    elements: tuple[str, ...]
    n_atoms: tuple[Count, Count] | None
    n_periodic: Count
    n_partly_periodic: Count
    shortest_distance: float | None
    shortest_pair: str | None
    n_looked_at: Count
    charges: dict[str, Count]
    spins: dict[str, Count]
    n_spin_guessed: Count
    units: tuple[StatedUnit, ...]
    keys: dict[str, dict[str, Count]]
    near_misses: dict[str, tuple[str, ...]]
    skipped: dict[str, Count]
    remarks: dict[str, Count]


class Subset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the structures came from. taken: how many have each reference label, by the key it was found under."""

    names: tuple[str, ...]
    where: str | None
    limit: int | None
    seed: int | None
    inputs: tuple[InputFile, ...]
    n_read: Count
    n_duplicates: Count
    skipped: dict[str, Count]
    taken: dict[str, dict[str, Count]]
    license: str
    citation: tuple[str, ...]
    diverse: Annotated[int, Meta(ge=1)] | None = None  # so many that differ most, in place of a limit
    report: SourceSummary | None = None  # of one reading; a set made of several has theirs in its parents


class Counts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """elements: structures that have each, by atomic number."""

    n_structures: Count
    n_atoms: Count
    n_groups: Count
    n_quarantined: Count
    elements: dict[Annotated[str, Meta(pattern=_ATOMIC_NUMBER)], Count]


class IdSum(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A set of ids: how many, and their sum modulo 2^128 (labelsets/balance.py)."""

    n: Count
    sum: Annotated[str, Meta(pattern=_SUM)]


class Balance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """planned: every structure that was to be labelled. It is the labelled ones and the quarantined ones that have an id."""

    planned: IdSum
    quarantined: IdSum


class SplitSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How structures were split; None where sets that were put together differ."""

    fractions: str | None
    seed: int | None
    by: Literal["group", "structure"]


class Splits(SplitSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    n_structures: dict[SplitName, Count]


class QuarantineRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure without labels, and why. id: empty where it was never a structure."""

    id: Annotated[str, Meta(pattern=_ID)]
    reason: str
    text: str
    attempts: Count


class LicenseSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Licences of what the labels were made from; weights_class: see publication/licences.py."""

    structures: str
    weights: str
    weights_class: LicenseClass
    code: str


class Licenses(LicenseSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    labels: str
    labels_class: LicenseClass
    labels_why: str


class TeacherOfPass(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may differ between sets that were put together."""

    device: str
    versions: dict[str, str]


class CountsOfParent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    n_structures: Count
    n_quarantined: Count


class Parent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A set that another was made of. digest: as LabelSet.digest."""

    digest: Sha256
    plan: str
    subset: Subset
    splits: Splits
    preflight: Preflight
    environment: dict[str, str]
    teacher: TeacherOfPass
    counts: CountsOfParent
    history: History | None = None


class Pass(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A later pass over a set. `add`: products from..to of each structure; `extend`: what was asked, and how many came."""

    add: str | None = None
    products: tuple[Count, Count] | None = None
    drift: dict[str, float] | None = None  # of energy and forces against the earlier pass, eV and eV/A
    extend: dict[str, Any] | None = None
    n_structures: Count | None = None
    name: str
    parent: Sha256
    preflight: Preflight
    environment: dict[str, str]
    teacher: TeacherOfPass
    quarantine: tuple[QuarantineRow, ...]


class History(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a set came from that was not made by one labelling run. made_by: merge, subset or import, with its settings."""

    made_by: str | None = None
    settings: dict[str, Any] | None = None
    parents: tuple[Parent, ...] = ()
    n_duplicates: Count | None = None
    n_groups_in_different_splits: Count | None = None
    noted: tuple[str, ...] = ()
    passes: tuple[Pass, ...] = ()


class ShardRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=SHARD_NAME)]
    bytes: Annotated[int, Meta(ge=0, le=MAX_SHARD_FILE_BYTES)]
    sha256: Sha256
    n_structures: Count
    n_atoms: Count
    n_products: Count


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """manifest.json, in the order in which it is written."""

    format: Literal["hdistill label set"]
    version: Literal[2]
    plan: str  # digest of what was wanted
    units: dict[str, str]
    sign: str
    teacher: TeacherRecord
    hessian: HessianRecord
    preflight: Preflight
    subset: Subset
    counts: Counts
    balance: Balance | None = None  # None: made when manifests did not say
    splits: Splits
    quarantine: tuple[QuarantineRow, ...]
    licenses: Licenses
    environment: dict[str, str]  # versions that wrote it
    history: History | None = None
    shards: tuple[ShardRow, ...]

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The passes after the first, in order."""
        return self.history.passes if self.history is not None else ()
