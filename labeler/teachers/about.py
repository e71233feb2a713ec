"""What a loaded teacher says of itself: what its adapter knows, and what the registry says of its weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

from hdistill.data.support.publish import sha256_of

from .contract import TeacherInfo, TeacherRequest
from .registry import entry


def describe(
    request: TeacherRequest,
    elements: Iterable[int],
    packages: Sequence[str],
    weights: Sequence[Path] = (),
    task: str | None = None,
    conservative: bool = True,
    has_stress: bool = True,
    hessian_method: Literal["autograd", "analytic", "central differences"] = "autograd",
) -> TeacherInfo:
    """The TeacherInfo of a request.

    elements: atomic numbers in any order; packages: distributions that decide the numbers; weights: the files of the weights in
    a fixed order, none for a formula; task: what serves as level of theory where the registry has several.
    """
    about = entry(request.name)
    return TeacherInfo(
        name=request.name,
        family=request.family,
        task=task,
        dtype=request.dtype,
        device=request.device,
        elements=tuple(sorted(elements)),
        conservative=conservative,
        has_stress=has_stress,
        hessian_method=hessian_method,
        weights_sha256=sha256_of(*weights) if weights else None,
        weights_license=about.weights_license,
        license_class=about.license_class,
        level_of_theory=about.level_of_theory,
        citation=about.citation,
        versions=versions_of(*packages),
    )


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions of the named distributions; those that are not installed are left out."""
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
