"""Compiled steps on disk: built once, kept in the user's own folder under a digest of all they depend on, loaded by later fits."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import nn

from ..force_field.compiler import ONE_THREAD
from .tracing import SIZES, Trial, arrays_of, check_sizes, tensors_of, traced

Compiled = Callable[..., Sequence[torch.Tensor]]
# What is compiled, beside the students.
SOURCES = ("inputs/batch", "fitting/tracing", "fitting/loss", "force_field/predict", "fitting/step")


def build(trial: Trial, file: Path) -> Compiled:
    """Trace and compile the step, and keep the code. Raises what torch's compiler raises, and NotCompiled."""
    import torch._inductor as inductor
    from torch._inductor.cpp_builder import get_cpp_compiler

    if trial.batch.positions.device.type == "cpu":
        get_cpp_compiler()  # raises where there is none, before minutes are spent on tracing
    graph, inputs, shapes = traced(trial)
    artifact = inductor.standalone_compile(
        graph, inputs, dynamic_shapes="from_graph", options={"config_patches": ONE_THREAD}
    )
    check_sizes(shapes)
    temporary = file.with_suffix(f".{os.getpid()}")
    artifact.save(path=str(temporary), format="binary")
    temporary.chmod(0o600)
    temporary.replace(file)
    return artifact


def load(file: Path) -> Compiled | None:
    """What was kept; None where nothing was, or another version's."""
    from torch._inductor.standalone_compile import CompiledArtifact

    if not file.exists():
        return None
    try:
        return CompiledArtifact.load(path=str(file), format="binary")
    except Exception:  # a damaged file is made anew
        return None


def key_of(trial: Trial) -> str:
    """A digest of what the code depends on: versions, machine, source, and the student but for its weights.

    What it might miss of a student from outside, the trial finds out.
    """
    model, settings, device = trial.model, trial.settings, trial.batch.positions.device
    modules = [(name, type(m).__qualname__, _constants(m)) for name, m in model.named_modules()]
    tensors = [(name, tuple(t.shape), str(t.dtype)) for name, t in tensors_of(model).items()]
    fixed = [
        [n for d, n in zip(dims, t.shape, strict=True) if d not in SIZES]
        for x in (trial.batch, trial.targets)
        for _, dims, t in arrays_of(x)
    ]
    machine = platform.machine(), torch.backends.cpu.get_cpu_capability(), device.type
    if device.type == "cuda":
        machine += (torch.cuda.get_device_name(device),)  # type: ignore[assignment]
    setup = (
        ONE_THREAD,
        trial.names,
        settings.product_method,
        settings.hessian_norm,
        torch.__version__,
        platform.python_version(),
    )
    sources = {Path(p) for m in model.modules() if (p := getattr(sys.modules[type(m).__module__], "__file__", None))}
    here = Path(__file__).parents[1]
    sources |= {*(here / f"{name}.py" for name in SOURCES), *(here / "students").glob("*.py")}
    all_of_it = modules, tensors, fixed, machine, setup, [_source(path) for path in sorted(sources)]
    return hashlib.sha256(repr(all_of_it).encode()).hexdigest()[:32]


@cache
def _source(path: Path) -> str:
    """Hash of a file as it was when it was first asked for: what runs does not change with it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _constants(module: nn.Module) -> list[tuple[str, str]]:
    plain = (bool, int, float, str, tuple, list, type(None))
    return [(k, repr(v)) for k, v in sorted(vars(module).items()) if isinstance(v, plain) and k != "training"]
