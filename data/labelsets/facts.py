"""What is known of a label set besides its arrays: what whoever labelled, merged, cut or imported it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..format.records import (
    HessianSettings,
    History,
    IdSum,
    LicenseSettings,
    Manifest,
    Preflight,
    QuarantineRow,
    SplitSettings,
    Subset,
    TeacherRecord,
)
from .balance import NONE, id_sum, minus


@dataclass(frozen=True)
class Facts:
    """The facts of a set, as its manifest states them.

    plan identifies what was wanted; quarantine has a row for each structure without labels; history is where the set came from
    when it was made of others or in several passes. planned: all ids that were to be labelled (balance.py); None where nobody
    planned, and what there is is what was wanted. n_unlisted, unlisted: structures in quarantine whose rows are not at hand, since
    manifests list so many, and the ids among them.
    """

    plan: str
    teacher: TeacherRecord
    hessian: HessianSettings
    preflight: Preflight
    subset: Subset
    splits: SplitSettings
    licenses: LicenseSettings
    quarantine: Sequence[QuarantineRow] = ()
    history: History | None = None
    planned: IdSum | None = None
    n_unlisted: int = 0
    unlisted: IdSum = NONE


def facts_of(manifest: Manifest) -> Facts:
    """The facts that a manifest was made of: what a set that is made of this one keeps."""
    return Facts(
        plan=manifest.plan,
        teacher=manifest.teacher,
        hessian=manifest.hessian,
        preflight=manifest.preflight,
        subset=manifest.subset,
        splits=manifest.splits,
        licenses=manifest.licenses,
        quarantine=manifest.quarantine,
        history=manifest.history,
        planned=manifest.balance.planned if manifest.balance is not None else None,
        n_unlisted=manifest.counts.n_quarantined - len(manifest.quarantine),
        unlisted=unlisted_of(manifest),
    )


def unlisted_of(manifest: Manifest) -> IdSum:
    """The quarantined ids that a manifest counts and does not list; none of a manifest of version 1, which does not say."""
    if manifest.balance is None:
        return NONE
    return minus(manifest.balance.quarantined, id_sum(row.id for row in manifest.quarantine))
