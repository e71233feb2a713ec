"""A student as machine code: one .pt2 file for all numbers of atoms, edges and structures, loaded without its Python.

The way is torch's: make_fx traces energies and their gradients into one graph of plain operations, torch.export gives its sizes
names, the ahead-of-time compiler makes C++ and a shared library of it. Two things are ours:

- `allow_buffer_reuse` is off, always: with it torch 2.13 compiles PaiNN to other energies, silently.
- No build is kept that was not compared with the eager float64 student (parity.py).

The file is machine code for the kind of machine that built it: whoever loads one runs it. Beside the code it holds the student
itself (safetensors), so that card, domain and Hessians are at hand and it can be built anew elsewhere. Inputs are
outputs.INPUTS in that order; outputs are energies, forces, then stress of a conservative student, then features where the
student has a readout, then of a strictly local one the pull of each edge: who divides space among processes then needs no
rows for the atoms of others.
"""

from __future__ import annotations

import json
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure

from ..checkpoint import STUDENT, TrainedStudent, load_student
from ..compiler import ONE_THREAD
from ..domain import DOMAIN, hook_readout
from ..predict import is_direct
from .exported import Exported, dtype_name, require_suffix, unfinished
from .outputs import INPUTS, Arguments, Outputs, arguments_of, outputs_of
from .parity import NotExported, check_export, made_structures

SUFFIX = ".pt2"
INSIDE, ABOUT = "hdistill", "about.json"  # the folder of a .pt2 that holds the student, and what is said of the code
# Of torch's compiler: see above for the first. Wrong indices would read memory that is not ours: they are checked.
OPTIONS = {"allow_buffer_reuse": False, "assert_indirect_indexing": True, **ONE_THREAD}
SIZES = (149, 2003, 13)  # atoms, edges, structures as tracing sees them: three different numbers
NO_COMPILER = (
    "No C++ compiler is here, which building machine code needs; install one (`apt install g++`, or "
    "`conda install -c conda-forge gxx`) and try again."
)


class OtherMachine(InputError):
    """Machine code of another kind of machine, or of another torch."""


class CompiledStudent:
    """A .pt2 that was loaded; called like outputs_of. Raises InputError for tensors of another dtype, shape or device than INPUTS:
    machine code would read them as if they were right; OtherMachine for a file that was built elsewhere."""

    def __init__(self, path: Path):
        about = _read_about(path)
        self.device = torch.device(about["device"])
        here = machine(about["device"])
        if about["machine"] != here:
            raise OtherMachine(
                f"{path} was built for {' '.join(about['machine'])}, and this is {' '.join(here)}; export it here."
            )
        self.dtype: str = about["dtype"]
        self.outputs: list[str] = about["outputs"]
        try:
            # Its __call__ takes nested arguments apart, for a tenth of a small student's time.
            self._loader = torch._inductor.aoti_load_package(str(path)).loader
        except RuntimeError as error:
            raise InputError(f"{path} could not be loaded ({_first_line(error)}); export it again.") from error

    def __call__(
        self,
        numbers: torch.Tensor,
        edge_index: torch.Tensor,
        vectors: torch.Tensor,
        structure_index: torch.Tensor,
        volume: torch.Tensor,
    ) -> Outputs:
        arguments = (numbers, edge_index, vectors, structure_index, volume)
        self._check(arguments)
        with torch.no_grad():
            flat = self._loader.boxed_run([a.contiguous() for a in arguments])
        values = dict(zip(self.outputs, flat, strict=True))
        return Outputs(
            values["energies"], values["forces"], values.get("stress"), values.get("features"), values.get("pull")
        )

    def _check(self, arguments: Arguments) -> None:
        sizes: dict[str, int] = {}
        for (name, (dtype, dimensions)), tensor in zip(INPUTS.items(), arguments, strict=True):
            wanted = dimensions.split()
            fits = tensor.ndim == len(wanted) and all(
                n == (int(d) if d.isdigit() else sizes.setdefault(d, n))
                for d, n in zip(wanted, tensor.shape, strict=True)
            )
            if tensor.dtype != dtype or not fits or tensor.device.type != self.device.type:
                raise InputError(
                    f"{name} was {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}; this student takes {dtype} "
                    f"({dimensions.replace(' ', ', ')}) on {self.device}."
                )


def build_pt2(
    run: Path | str,
    path: Path | str,
    dtype: str | None = None,
    device: str = "cpu",
    structures: Sequence[Structure] = (),
) -> Exported:
    """Build the student of a run folder or file as machine code and publish it as `path`.

    It is compared with the eager float64 student on `structures` and on made ones; dtype None: as it was trained. Takes 20 to 30 s
    of an idle core. Raises NotExported where there is no compiler, the student cannot be traced for all sizes, or the numbers differ.
    """
    began = time.monotonic()
    run, path = Path(run), Path(path)
    require_suffix(path, SUFFIX)
    trained = load_student(run, device, dtype)
    _require_compiler(device)
    with unfinished(path) as temporary:
        names = _build(trained, temporary, device)
        about = {"device": device, "dtype": dtype_name(trained), "outputs": names, "machine": machine(device)}
        _put_student(temporary, run, about)
        if device != "cpu":
            require_loads(temporary)
        elements, code = trained.card.references.elements, CompiledStudent(temporary)
        largest = check_export(code, trained.model, elements, structures, trained.cutoff, device)
    return Exported(path, dtype_name(trained), largest, time.monotonic() - began)


def require_loads(path: Path) -> None:
    """Load a .pt2 in a process of its own first: what torch 2.11 builds for an H100 ends the process that loads it, even of one linear
    layer. Raises NotExported."""
    code = f"import sys; from pathlib import Path; from {__name__} import CompiledStudent; CompiledStudent(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    if done.returncode < 0:
        raise NotExported(
            f"What torch {torch.__version__} has built for this machine ends the process that loads it "
            f"({signal.Signals(-done.returncode).name}); the student runs here without machine code (compiled=False)."
        )


@contextmanager
def unpacked_student(path: Path) -> Iterator[Path]:
    """The student that a .pt2 holds, as a run folder for as long as the context lasts. Raises InputError where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in (STUDENT, DOMAIN):
                    for inside in _members(archive, name):
                        with archive.open(inside) as source, (Path(folder) / name).open("wb") as target:
                            shutil.copyfileobj(source, target)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is no .pt2 that can be read ({error}).") from error
        if not (Path(folder) / STUDENT).exists():
            raise InputError(f"{path} holds no student; it was not made by `hdistill export`.")
        yield Path(folder)


def machine(device: str) -> list[str]:
    """What machine code depends on."""
    cards = [torch.cuda.get_device_name(device)] if device != "cpu" else []
    return [platform.machine(), torch.backends.cpu.get_cpu_capability(), *cards, f"torch {torch.__version__}"]


def _read_about(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            about: dict[str, Any] = json.loads(archive.read(_members(archive, ABOUT)[0]))
    except (OSError, zipfile.BadZipFile, LookupError, ValueError) as error:
        raise InputError(f"{path} is not a student's {SUFFIX} ({error}); make one with `hdistill export`.") from error
    return about


def _members(archive: zipfile.ZipFile, name: str) -> list[str]:
    """One of our files in a .pt2, under the folder that all names in it begin with: its full name; none where it is not there."""
    return [member for member in archive.namelist() if member.endswith(f"/{INSIDE}/{name}")][:1]


def _put_student(package: Path, run: Path, about: Mapping[str, Any]) -> None:
    """The student's own files into the archive, where torch's loader leaves them alone."""
    student = run / STUDENT if run.is_dir() else run
    with zipfile.ZipFile(package, "a", zipfile.ZIP_STORED) as archive:
        folder = f"{archive.namelist()[0].split('/')[0]}/{INSIDE}"
        archive.writestr(f"{folder}/{ABOUT}", json.dumps(about))
        archive.write(student, f"{folder}/{STUDENT}")
        if (domain := student.with_name(DOMAIN)).exists():
            archive.write(domain, f"{folder}/{DOMAIN}")


def _build(trained: TrainedStudent, package: Path, device: str) -> list[str]:
    """Trace, export and compile; the names of what the code returns. Raises NotExported."""
    local = _is_strictly_local(trained, device)
    graph, arguments, names = _traced(trained, device, local)
    # For programs in C++, which have no Python to read the student's card with.
    references = zip(trained.card.references.elements, trained.card.references.energies, strict=True)
    metadata = {
        "hdistill_cutoff": repr(trained.cutoff),
        "hdistill_references": " ".join(f"{element} {energy!r}" for element, energy in references),
        "hdistill_strictly_local": str(int(local)),
        "hdistill_outputs": " ".join(names),
        "hdistill_conservative": str(int(not is_direct(trained.model))),
    }
    options = {**OPTIONS, "aot_inductor.metadata": metadata}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, of torch's own code
            program = torch.export.export(graph, arguments, dynamic_shapes=_shapes(), strict=False)
            torch._inductor.aoti_compile_and_package(program, package_path=str(package), inductor_configs=options)
    except Exception as error:  # whatever torch's compilers may raise
        raise NotExported(f"torch could not compile this student ({_first_line(error)}).") from error
    return names


def _shapes() -> tuple[dict[int, Any], ...]:
    """Which dimensions of INPUTS are of any size, and which of the same."""
    atoms, edges, structures = (torch.export.Dim(name) for name in ("atoms", "edges", "structures"))
    return {0: atoms}, {1: edges}, {0: edges}, {0: atoms}, {0: structures}


def _is_strictly_local(trained: TrainedStudent, device: str) -> bool:
    """Whether an atom's energy depends on its own edges alone, tried on dense matter: then atoms can be divided among processes."""
    dense = made_structures(trained.card.references.elements)[2]
    numbers, index, vectors, owner, volume = arguments_of([dense], trained.cutoff, device)
    whole = outputs_of(trained.model, None, numbers, index, vectors, owner, volume)
    centre = int(index[0].bincount().argmax())
    own = index[0] == centre
    alone = outputs_of(trained.model, None, numbers, index[:, own], vectors[own], owner, volume)
    error = float((whole.energies[centre] - alone.energies[centre]).abs())
    return error <= 1e-5 * (1 + float(whole.energies[centre].abs())) and not is_direct(trained.model)


def _traced(trained: TrainedStudent, device: str, pull: bool) -> tuple[torch.fx.GraphModule, Arguments, list[str]]:
    """The graph of outputs_of, with the pull of edges or without, the arguments it was traced with, and the names of what it returns."""
    from torch.fx.experimental.proxy_tensor import make_fx

    hook = hook_readout(trained)
    conservative = not is_direct(trained.model)
    names = ["energies", "forces", *(["stress"] if conservative else []), *(["features"] if hook else [])]
    names += ["pull"] if pull else []

    def flat(*arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = outputs_of(trained.model, hook, *arguments)
        return tuple(getattr(outputs, name) for name in names)

    n_atoms, n_edges, n_structures = SIZES
    draw = torch.Generator().manual_seed(0)
    arguments = (
        torch.full((n_atoms,), trained.card.references.elements[0], device=device),
        torch.randint(0, n_atoms, (2, n_edges), generator=draw).to(device),
        torch.randn(n_edges, 3, generator=draw, dtype=torch.float64).to(device),
        (torch.arange(n_atoms) % n_structures).to(device),
        torch.ones(n_structures, dtype=torch.float64, device=device),
    )
    try:
        graph = make_fx(flat, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*arguments)
    except Exception as error:  # a student of another package may do anything
        raise NotExported(f"This student's operations cannot be traced ({_first_line(error)}).") from error
    finally:
        if hook is not None:
            hook.handle.remove()
    return graph, arguments, names


def _require_compiler(device: str) -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise NotExported(NO_COMPILER) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
