"""What is installed here, what is missing, and the command that brings it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..report import listing_tables
from .printed import Rows

# Import name, distribution, what needs it, the extra that brings it ("" : comes with hdistill).
PACKAGES = (
    ("torch", "torch", "fit, evaluate, md", ""),
    ("h5py", "h5py", "label sets", ""),
    ("ase", "ase", "structure files, calculators", ""),
    ("distributed", "distributed", "label", "label"),
    ("spglib", "spglib", "label --hessian rows or full", "label"),
    ("dask_jobqueue", "dask-jobqueue", "label --cluster", "cluster"),
    ("matplotlib", "matplotlib", "demo, pictures", "plot"),
    ("pyarrow", "pyarrow", "labels export --to parquet", "export"),
    ("s3fs", "s3fs", "label sets at s3://", "remote"),
    ("huggingface_hub", "huggingface_hub", "label sets at hf://", "remote"),
)


def doctor() -> Rows:
    """One row for each thing that hdistill can use: what, for what, whether it is there (`ok`), its version or place, and the
    command that brings it. Imports none of the packages."""
    rows = [_python(), *map(_package_row, PACKAGES), _compiler(), *_gpu(), *_teachers(), _cache()]
    return Rows(rows, listing_tables.doctor_table)


def _row(what: str, used_by: str, ok: bool, version_text: str, bring: str = "") -> dict[str, Any]:
    return {"what": what, "used_by": used_by, "ok": ok, "found": version_text, "bring": "" if ok else bring}


def _python() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return _row("python", "everything", True, f"{platform.python_version()}, {platform.machine()}, {cores} cores")


def _package_row(package: tuple[str, str, str, str]) -> dict[str, Any]:
    name, distribution, used_by, extra = package
    there = importlib.util.find_spec(name) is not None
    try:
        version_text = version(distribution) if there else ""
    except PackageNotFoundError:
        version_text = "of unknown version"
    target = f".[{extra}]" if extra else "."
    return _row(
        distribution, used_by, there, version_text, f'pip install -c constraints.txt "{target}" (in the checkout)'
    )


def _compiler() -> dict[str, Any]:
    path = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), "")
    return _row("C++ compiler", "fit --compile", bool(path), path, "apt install g++ (or your system's)")


def _gpu() -> list[dict[str, Any]]:
    path = shutil.which("nvidia-smi")
    return [_row("NVIDIA driver", "--device cuda", True, path)] if path else []


def _teachers() -> list[dict[str, Any]]:
    from hdistill.labeler.teachers import environments

    rows = []
    for family in environments.INSTALLABLE:
        python = environments.find(family)
        version_text = "" if python is None else str(python)
        rows.append(
            _row(f"{family} teachers", "label", python is not None, version_text, f"hdistill teachers install {family}")
        )
    return rows


def _cache() -> dict[str, Any]:
    from hdistill.data.sharing.cache import default_folder

    folder = default_folder()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    ok = os.access(nearest, os.W_OK)
    return _row("cache folder", "remote label sets", ok, str(folder), "set HDISTILL_CACHE to a folder of yours")
