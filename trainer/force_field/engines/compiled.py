"""Machine code of a run's student, built once on each machine and kept in the user's cache folder.

CACHE/compiled/students/<key>.pt2    the key is a digest of all that the code depends on: weights, source, versions, machine, threads

The folder is the user's alone (0700): who could write to it could run code. Files are used only after they were built there.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

import torch

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure
from hdistill.data.support.private import private_folder
from hdistill.data.support.publish import publish, sha256_of

from ..checkpoint import STUDENT, load_student
from ..compiler import folder_of_code, kernels_in, locked
from .exported import Exported, dtype_name, require_suffix
from .parity import check_export
from .pt2 import SUFFIX, CompiledStudent, build_pt2


def load_compiled(run: Path, dtype: str, device: str = "cpu", build: bool = False) -> CompiledStudent | None:
    """The machine code of a run's student; None where it was not built yet and `build` is off.

    Raises NotExported where it cannot be built, InputError where the cache folder is not the user's alone.
    """
    file = compiled_file(run, dtype, device)
    if not file.exists():
        if not build:
            return None
        # One build at a time: torch writes in place, under names that students of one architecture share, and packs what it finds.
        with locked(file.parent / "build.lock"), kernels_in(file.parent / "kernels"):
            if not file.exists():  # another process may have built it meanwhile
                build_pt2(run, file, dtype, device)
    return load_pt2(file)


def export_pt2(
    run: Path | str,
    path: Path | str,
    dtype: str | None = None,
    device: str = "cpu",
    structures: Sequence[Structure] = (),
) -> Exported:
    """The student of a run folder or file as machine code in a file of its own, built as build_pt2 does or taken from the cache; it
    is compared with the eager float64 student in either case, on `structures` too. Raises as build_pt2 does."""
    began = time.monotonic()
    run, path = Path(run), Path(path)
    require_suffix(path, SUFFIX)
    trained = load_student(run, device, dtype)
    name = dtype_name(trained)
    code = load_compiled(run, name, device, build=True)
    assert code is not None
    difference = check_export(code, trained.model, trained.card.references.elements, structures, trained.cutoff, device)
    publish(path, compiled_file(run, name, device).read_bytes(), replace=True)
    return Exported(path, name, difference, time.monotonic() - began)


def load_pt2(path: Path) -> CompiledStudent:
    """A .pt2 file; in each process it is loaded once, however many calculators ask for it."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}).") from error
    return _loaded(path.resolve(), status.st_ino, status.st_mtime_ns)


def build_in_background(run: Path, dtype: str, device: str = "cpu") -> subprocess.Popen[bytes]:
    """Start a process that builds what load_compiled then finds; it outlives nobody who waits for it and says nothing."""
    code = (
        "import sys; from pathlib import Path; from hdistill.trainer.force_field.engines.compiled import load_compiled; "
        "load_compiled(Path(sys.argv[1]), sys.argv[2], sys.argv[3], build=True)"
    )
    words = [sys.executable, "-c", code, str(run), dtype, device]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def compiled_file(run: Path, dtype: str, device: str = "cpu") -> Path:
    """Where the machine code of a student is kept. Raises InputError where the folder is not the user's alone."""
    folder = private_folder(folder_of_code() / "students")
    student = run / STUDENT if run.is_dir() else run
    if not student.exists():
        raise InputError(f"{run} holds no student ({STUDENT}); make one with `hdistill fit`.")
    return folder / f"{_key(sha256_of(student), dtype, device)}{SUFFIX}"


def _key(student: str, dtype: str, device: str) -> str:
    machine = platform.machine(), torch.backends.cpu.get_cpu_capability(), device
    if device != "cpu":
        machine += (torch.cuda.get_device_name(device),)  # type: ignore[assignment]
    versions = torch.__version__, platform.python_version()
    return hashlib.sha256(repr((student, dtype, machine, versions, _sources())).encode()).hexdigest()[:32]


@cache
def _sources() -> str:
    """Hash of the files that the code is made of, as they were when it was first asked for."""
    trainer = Path(__file__).parents[2]
    ours = [
        trainer / "force_field" / name for name in ("predict.py", "compiler.py", "engines/outputs.py", "engines/pt2.py")
    ]
    return sha256_of(*sorted((trainer / "students").glob("*.py")), *ours)


@lru_cache(maxsize=16)
def _loaded(path: Path, inode: int, modified: int) -> CompiledStudent:
    return CompiledStudent(path)
