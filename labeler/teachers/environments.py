"""Which interpreter has which teacher family, and how to make one.

Every family lives in an environment of its own, <teachers>/<family>, where <teachers> is $HDISTILL_TEACHERS or
~/.local/share/hdistill/teachers. A family installed beside hdistill itself is found too; --teacher-python overrides both.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hdistill.data.errors import InputError, TeacherError, TeacherMissing, nearest

from .registry import FAMILIES, Family

INSTALLABLE = [family.name for family in FAMILIES.values() if family.requirements]


def teachers_folder() -> Path:
    """Where the families' environments are kept."""
    configured = os.environ.get("HDISTILL_TEACHERS")
    if configured:
        return Path(configured).expanduser().resolve()
    data_home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data_home).expanduser() / "hdistill" / "teachers"


def find(family: str) -> Path | None:
    """The interpreter that has this family, or None. Imports nothing of the family."""
    python = _python_of(teachers_folder() / family)
    if python.exists() and (python.parent.parent / "installed").exists():
        return python
    if _importable_here(FAMILIES[family].package):
        return Path(sys.executable)
    return None


def interpreter(family: str, teacher_python: Path | None = None) -> Path:
    """The interpreter to start this family with. Raises TeacherMissing with the command that installs it."""
    if teacher_python is not None:
        if not teacher_python.exists():
            raise InputError(
                f"--teacher-python {teacher_python} does not exist; give the path of a Python interpreter."
            )
        return teacher_python
    python = find(family)
    if python is None:
        raise TeacherMissing(
            f"The {family} teachers are not installed; type `hdistill teachers install {family}`, "
            "or name an interpreter that has them with --teacher-python."
        )
    return python


def install(family: str, uv: str | None = None) -> Path:
    """Make the family's own environment, with uv if there is one, else venv and pip; returns its interpreter.

    An interrupted install, or one of another version of hdistill, is started afresh.
    Raises InputError for an unknown family, TeacherError where the install fails.
    """
    if family not in INSTALLABLE:
        raise InputError(
            f"No family is called '{family}'.{nearest(family, INSTALLABLE)} Known: {', '.join(INSTALLABLE)}."
        )
    folder = teachers_folder() / family
    done = folder / "installed"
    python = _python_of(folder)
    wanted = "\n".join(FAMILIES[family].requirements) + "\n"
    if python.exists() and done.exists() and done.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    environment = _uv_environment()
    for command in _commands(FAMILIES[family], folder, python, uv or _find_uv()):
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        if result.returncode:
            tail = " / ".join(result.stdout.strip().splitlines()[-3:])
            raise TeacherError(f"Installing {family} failed at `{' '.join(command)}`: {tail}")
    done.write_text(wanted)
    return python


def _commands(family: Family, folder: Path, python: Path, uv: str | None) -> list[list[str]]:
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *family.requirements],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-compile", *family.requirements],
    ]


def _uv_environment() -> dict[str, str]:
    """uv does not read pip's settings: hand it the index and the folder of wheels that pip would use."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    settings = {}
    for line in listed.splitlines():  # such as: global.find-links='/some/folder', later lines win as they do in pip
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = value.strip("'\"").replace("\\n", " ")
    environment = dict(os.environ)
    for pip_name, uv_name in (("find-links", "UV_FIND_LINKS"), ("index-url", "UV_DEFAULT_INDEX")):
        if settings.get(pip_name):
            environment.setdefault(uv_name, ",".join(settings[pip_name].split()))
    return environment


def _find_uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def _python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _importable_here(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False
