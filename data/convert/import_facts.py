"""What the manifest of an imported label set says: who made the data stands where a teacher would."""

from __future__ import annotations

from pathlib import Path

from ..format.records import (
    HessianSettings,
    History,
    InputFile,
    LicenseSettings,
    Preflight,
    SplitSettings,
    Subset,
    TeacherRecord,
)
from ..labelsets.facts import Facts
from ..labelsets.provenance import digest_of
from ..labelsets.split import Unit
from ..probes import HessianSpec
from ..publication import licences
from ..support.publish import sha256_of
from ..support.typed import as_json
from .hessians.contract import reader_of
from .survey import ImportSettings, Survey


def facts_of(file: Path, settings: ImportSettings, survey: Survey, spec: HessianSpec, unit: Unit) -> Facts:
    """What is known of reference data: who made them stands where a teacher would."""
    stated = {
        "hessian": settings.hessian,
        **{key: getattr(settings, key) for key in ("units", "length", "negate", "seed", "splits", "group_key")},
    }
    # Said of some formats alone; left out elsewhere, so that a plan of before is the same plan.
    beside = {"energy": settings.energy, "at_minimum": settings.at_minimum or None, "delta": settings.delta}
    stated |= {key: value for key, value in beside.items() if value is not None}
    licence_class = licences.KNOWN[settings.licence].license_class if settings.licence in licences.KNOWN else "unknown"
    whole = reader_of(file).files
    paths = (file,) if whole is None else whole(file)
    name = file.name if whole is None else paths[0].resolve().parent.name
    inputs = (InputFile(name=name, bytes=sum(path.stat().st_size for path in paths), sha256=sha256_of(*paths)),)
    return Facts(
        plan=digest_of({"import": stated, "inputs": as_json(inputs)}),
        teacher=TeacherRecord(
            name="reference data",
            family="reference",
            task=None,
            dtype="float64",
            device="",
            elements=tuple(sorted(survey.elements)),
            conservative=True,
            has_stress=False,
            hessian_method="as published",
            weights_sha256=None,
            weights_license=settings.licence,
            license_class=licence_class,
            level_of_theory=settings.level_of_theory or "unknown",
            citation=settings.citation or "unknown",
            versions={},
            arguments={},
        ),
        hessian=HessianSettings(
            kind=spec.kind, per_structure=spec.count or None, seed=settings.seed, codec=settings.codec
        ),
        preflight=Preflight(
            dtype="float64",
            product_difference_error=None,
            force_difference_error=None,
            largest_asymmetry=survey.asymmetry,
            largest_change_under_translation=survey.drift,
        ),
        subset=Subset(
            names=(name,),
            where=None,
            limit=None,
            seed=settings.seed,
            inputs=inputs,
            n_read=survey.n_read,
            n_duplicates=survey.n_duplicates,
            skipped={},
            taken={},
            report=survey.report.summary(),
            license=settings.licence,
            citation=(settings.citation,) if settings.citation else (),
        ),
        splits=SplitSettings(fractions=settings.splits, seed=settings.seed, by=unit),
        licenses=LicenseSettings(
            structures=settings.licence, weights=settings.licence, weights_class=licence_class, code="MIT"
        ),
        quarantine=survey.quarantine,
        history=History(made_by="import", settings=stated),
    )
