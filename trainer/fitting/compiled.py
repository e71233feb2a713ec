"""The gradients of a step as machine code: what step.py's eager_gradients does, traced once and compiled for all sizes.

Energy, forces, products, loss and the gradients of all parameters are one graph (torch's make_fx): a graph without the last would
be cut from the parameters at every `detach` that tracing leaves. The code holds for any number of atoms, edges and structures
from 2 on, is kept in the user's cache folder, and is used only where it agrees with the eager step; else training goes on eagerly.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hdistill.data.errors import HDistillError
from hdistill.data.sharing.cache import default_folder
from hdistill.data.support.private import private_folder

from ..inputs.batch import Batch, Targets
from .loss import Terms
from .settings import FitSettings
from .step import Gradients

Compiled = Callable[..., Sequence[torch.Tensor]]
TOLERANCE = 1e-5  # of sums and gradients, relative, beside a float64 step from the same weights
TOLERANCE_64 = 1e-9  # of a float64 step
# What is compiled, beside the students.
SOURCES = ("inputs/batch", "fitting/compiled", "fitting/loss", "force_field/predict", "fitting/step")
# A atoms, B structures, E edges as tracing sees them: three different numbers. K products and D features are the same in all batches.
SIZES = {"A": 149, "B": 13, "E": 2003}
DIMENSIONS: dict[str, tuple[str | int, ...]] = {
    "numbers": ("A",),
    "positions": ("A", 3),
    "structure_index": ("A",),
    "n_atoms": ("B",),
    "volume": ("B",),
    "edge_index": (2, "E"),
    "edge_shift": ("E", 3),
    "energy": ("B",),
    "forces": ("A", 3),
    "stress": ("B", 3, 3),
    "stress_scale": ("B",),
    "directions": ("K", "A", 3),
    "products": ("K", "A", 3),
    "product_scale": ("K", "A"),
    "share": (2, "B"),
    "stress_share": (2, "B"),
    "other_energy": ("B",),
    "other_forces": ("A", 3),
    "other_stress": ("B", 3, 3),
    "node_features": ("A", "D"),
    "node_means": ("A", "D"),
    "node_scale": ("A",),
    "atom_energy": ("A",),
    "atom_energy_scale": ("A",),
    "pair_weight": ("B", "B"),
    "slope": ("B",),
}


class NotCompiled(HDistillError):
    """Why a step cannot be had as machine code."""


class CompiledGradients:
    """The gradients of step.py, compiled when the first batch comes and tried on it; has the signature of the eager ones.

    Where the student cannot be compiled, or not to the same numbers, that is said once and all goes on eagerly. A batch of a single
    atom or less than two edges is computed eagerly: code for all sizes begins at 2. A term of the loss that no batch had before is
    compiled in when it comes. aside: what compiling happens in, a context that for example stops a clock; it may be left by an
    exception at any time. difference: what the trial found.
    """

    def __init__(
        self,
        settings: FitSettings,
        eager: Gradients,
        say: Callable[[str], None] = print,
        aside: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.settings, self.eager, self.say, self.aside = settings, eager, say, aside
        self.difference, self.eager_batches = 0.0, 0
        self._names: list[str] = []
        self._run: Compiled | None = None
        self._refused = False

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Targets, factors: Mapping[str, float]
    ) -> tuple[Terms, list[torch.Tensor]]:
        fits = batch.numbers.shape[0] > 1 and batch.edge_index.shape[1] > 1
        if fits and not self._refused and not set(factors) <= set(self._names):
            with self.aside():
                self._prepare(model, batch, targets, factors)
        if not fits or self._run is None:
            self.eager_batches += 1
            return self.eager(model, batch, targets, factors)
        return _call(self._run, self._names, self.settings.n_products, model, batch, targets, factors)

    def _prepare(self, model: nn.Module, batch: Batch, targets: Targets, factors: Mapping[str, float]) -> None:
        """Compile, or say why not."""
        began = time.monotonic()
        names = [*self._names, *(name for name in factors if name not in self._names)]
        try:
            trial = Trial(self.settings, self.eager, names, model, batch, targets, factors, self.say)
            self._run, self.difference, verb = _checked(trial)
            self._names = names
            self.say(
                f"{verb} the training step in {time.monotonic() - began:.0f} s; "
                f"it agrees with the eager one to {self.difference:.0e}."
            )
        except Exception as error:  # whatever a compiler may raise: the eager step is there
            reason = str(error) if isinstance(error, HDistillError) else f"{type(error).__name__}: {error}"
            self.say(
                f"The training step could not be compiled ({' '.join(reason.split())[:300]}); training goes on without."
            )
            self._run, self._names, self._refused = None, [], True


@dataclass(frozen=True, eq=False)
class Trial:
    """What is compiled, the step of a model with these terms of the loss, and the batch it is tried on."""

    settings: FitSettings
    eager: Gradients
    names: Sequence[str]
    model: nn.Module
    batch: Batch
    targets: Targets
    factors: Mapping[str, float]
    say: Callable[[str], None]


def _call(
    run: Compiled,
    names: Sequence[str],
    n_products: int,
    model: nn.Module,
    batch: Batch,
    targets: Targets,
    factors: Mapping[str, float],
) -> tuple[Terms, list[torch.Tensor]]:
    """Compiled code for `names`, called like the eager gradients; terms without a factor have the factor 0."""
    weights = torch.tensor([factors.get(name, 0.0) for name in names], dtype=torch.float64)
    inputs = _inputs(model, *padded(batch, targets, n_products), weights.to(batch.positions.device))
    with torch.no_grad():
        outputs = list(run(*inputs))
    return {name: outputs[names.index(name)] for name in factors}, outputs[len(names) :]


def padded(batch: Batch, targets: Targets, n_products: int) -> tuple[Batch, Targets]:
    """With slots for n_products products, and for two structures at least: the second has no atoms and adds nothing to any sum."""
    if batch.n_atoms.shape[0] == 1:
        batch = replace(batch, **_longer(batch, "B", 1))
        batch.n_atoms[1] = 1  # a divisor
        targets = replace(targets, **_longer(targets, "B", 1))
    return batch, replace(targets, **_longer(targets, "K", n_products - targets.directions.shape[0]))


def _longer(plain: Batch | Targets, dimension: str, by: int) -> dict[str, torch.Tensor]:
    """All of its tensors that have a dimension, with zeros at its end, or ends."""
    longer = {}
    for name, dimensions, tensor in _arrays(plain):
        if by > 0 and dimension in dimensions:
            zeros = tensor.new_zeros(
                [n + by if d == dimension else n for d, n in zip(dimensions, tensor.shape, strict=True)]
            )
            zeros[tuple(slice(n) for n in tensor.shape)] = tensor
            longer[name] = zeros
    return longer


def _arrays(plain: Batch | Targets) -> list[tuple[str, tuple[str | int, ...], torch.Tensor]]:
    """Name, dimensions and tensor of each field; one that is not in use, without elements, has none that varies."""
    tensors = [(f.name, getattr(plain, f.name)) for f in fields(plain)]
    return [(name, (0,) if t.shape == (0,) else DIMENSIONS[name], t) for name, t in tensors]


def _checked(trial: Trial) -> tuple[Compiled, float, str]:
    """The compiled step, how far it is off, and what was done to have it. One from the cache that disagrees is made anew. Raises
    NotCompiled."""
    model, inputs = trial.model, (trial.batch, trial.targets, trial.factors)
    folder = _folder()
    file = folder / f"{_key(trial)}.step"
    exact = trial.eager(deepcopy(model).to(torch.float64), *inputs)
    own = _difference(trial.eager(model, *inputs), exact, trial.factors)
    allowed = max(TOLERANCE, 3 * own) if next(model.parameters()).dtype == torch.float32 else TOLERANCE_64
    # Of several processes one compiles, the others load it.
    with _kernels_in(folder / "kernels"), _locked(file.with_suffix(".lock")):
        run = _load(file)
        for verb in ("Loaded", "Compiled"):
            if verb == "Compiled":
                trial.say(
                    f"Compiling the training step of {trial.settings.student} ({', '.join(trial.names)}): one to three minutes, "
                    "once; the next fit loads it. Ctrl-C stops."
                )
                run = _build(trial, file)
            if run is not None:
                difference = _difference(
                    _call(run, trial.names, trial.settings.n_products, model, *inputs), exact, trial.factors
                )
                if difference <= allowed:
                    return run, difference, verb
        file.unlink(missing_ok=True)
    raise NotCompiled(f"its sums and gradients are off by {difference:.0e}, the eager ones by {own:.0e}")


def _difference(
    computed: tuple[Terms, list[torch.Tensor]], exact: tuple[Terms, list[torch.Tensor]], factors: Mapping[str, float]
) -> float:
    """The largest relative difference: of the loss, of the gradient of all parameters, and of a thousandth of that of each one
    (single ones may be small differences of large numbers). No number is infinitely far off."""
    (terms, grads), (true_terms, true_grads) = computed, exact
    off = torch.stack([torch.linalg.vector_norm(a - b) for a, b in zip(grads, true_grads, strict=True)])
    sizes = torch.stack([torch.linalg.vector_norm(b) for b in true_grads])
    size = torch.linalg.vector_norm(sizes)
    loss = sum(factor * abs(float(true_terms[name])) for name, factor in factors.items())
    off_loss = sum(factor * abs(float(terms[name]) - float(true_terms[name])) for name, factor in factors.items())
    ratios = (off_loss / loss if loss else off_loss, off.norm() / size, (off / (sizes + 1e-6 * size)).max() / 1000)
    return max(x if x == x else float("inf") for x in map(float, ratios))


def _build(trial: Trial, file: Path) -> Compiled:
    """Trace and compile the step, and keep the code. Raises what torch's compiler raises, and NotCompiled."""
    import torch._inductor as inductor
    from torch._inductor.cpp_builder import get_cpp_compiler

    if trial.batch.positions.device.type == "cpu":
        get_cpp_compiler()  # raises where there is none, before minutes are spent on tracing
    graph, inputs, shapes = _traced(trial)
    artifact = inductor.standalone_compile(graph, inputs, dynamic_shapes="from_graph", options={})
    _check_sizes(shapes)
    temporary = file.with_suffix(f".{os.getpid()}")
    artifact.save(path=str(temporary), format="binary")
    temporary.chmod(0o600)
    temporary.replace(file)
    return artifact


def _load(file: Path) -> Compiled | None:
    """What was kept; None where nothing was, or another version's."""
    from torch._inductor.standalone_compile import CompiledArtifact

    if not file.exists():
        return None
    try:
        return CompiledArtifact.load(path=str(file), format="binary")
    except Exception:  # a damaged file is made anew
        return None


def _traced(trial: Trial) -> tuple[torch.fx.GraphModule, list[Any], Any]:
    """The graph of the whole step, its inputs without data, and the record of what was assumed of sizes: nothing, or NotCompiled."""
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    step = _Step(trial.model, trial.eager, trial.names)
    tensors = _tensors(trial.model)
    shapes = ShapeEnv()
    mode = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=False)
    sizes = SIZES | {"K": trial.settings.n_products}

    def fake(like: torch.Tensor, dimensions: Sequence[str | int]) -> Any:
        named = zip(dimensions, like.shape, strict=True)
        shape = [sizes.get(str(size), own) for size, own in named]
        free = [DimDynamic.DUCK if size in SIZES else DimDynamic.STATIC for size in dimensions]
        strides = [DimDynamic.INFER_STRIDE] * len(shape)
        empty = torch.empty(shape, dtype=like.dtype, device=like.device)
        return mode.from_tensor(
            empty, symbolic_context=StatelessSymbolicContext(dynamic_sizes=free, dynamic_strides=strides)
        )

    flat = [(tensor, dimensions) for x in (trial.batch, trial.targets) for _, dimensions, tensor in _arrays(x)]
    weights = torch.empty(len(trial.names), dtype=torch.float64, device=trial.batch.positions.device)
    inputs = [fake(t, t.shape) for t in (*tensors.values(), weights)] + [fake(t, d) for t, d in flat]

    def whole(*given: torch.Tensor) -> list[torch.Tensor]:
        values, weights, rest = given[: len(tensors)], given[len(tensors)], iter(given[len(tensors) + 1 :])
        state = {
            f"student.{name}": t.detach().requires_grad_() if isinstance(real, nn.Parameter) else t
            for (name, real), t in zip(tensors.items(), values, strict=True)
        }
        pieces = [kind(**{f.name: next(rest) for f in fields(kind)}) for kind in (Batch, Targets)]
        outputs: list[torch.Tensor] = torch.func.functional_call(step, state, (*pieces, weights), tie_weights=True)
        return outputs

    with mode:
        graph = make_fx(whole, tracing_mode="symbolic")(*inputs)
    _check_sizes(shapes)
    return _simplified(graph), inputs, shapes


class _Step(nn.Module):
    """The eager step as a module, so that its student can be called with other tensors for weights."""

    def __init__(self, student: nn.Module, gradients: Gradients, names: Sequence[str]):
        super().__init__()
        self.student, self.gradients, self.names = student, gradients, names

    def forward(self, batch: Batch, targets: Targets, weights: torch.Tensor) -> list[torch.Tensor]:
        factors: dict[str, Any] = dict(zip(self.names, weights.unbind(), strict=True))
        terms, grads = self.gradients(self.student, batch, targets, factors)
        return [terms[name] for name in self.names] + grads


def _simplified(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Without detached copies, and with what is computed twice computed once (a third of a double backward is)."""
    from torch._functorch.compile_utils import fx_graph_cse

    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target == torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    return torch.fx.GraphModule(graph, fx_graph_cse(graph.graph))


def _check_sizes(shapes: Any) -> None:
    if shapes.guards:
        guards = ", ".join(str(guard.expr) for guard in shapes.guards[:3])
        raise NotCompiled(f"the student's operations depend on the sizes of the batch: {guards}")


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _inputs(model: nn.Module, batch: Batch, targets: Targets, weights: torch.Tensor) -> list[torch.Tensor]:
    return [*_tensors(model).values(), weights, *(getattr(x, f.name) for x in (batch, targets) for f in fields(x))]


def _folder() -> Path:
    """Where compiled steps are kept. They are pickles, and loading one runs what is in it. Raises InputError where others may
    write to it."""
    shards = default_folder()
    return private_folder(shards / "compiled" if "HDISTILL_CACHE" in os.environ else shards.with_name("compiled"))


@contextmanager
def _kernels_in(folder: Path) -> Iterator[None]:
    """Where torch's compiler keeps its kernels meanwhile, unless $TORCHINDUCTOR_CACHE_DIR names a place."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    if name in os.environ:
        yield
        return
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(name, None)


def _key(trial: Trial) -> str:
    """A digest of what the code depends on: versions, machine, threads, source, and the student but for its weights.

    What it might miss of a student from outside, the trial finds out.
    """
    model, settings, device = trial.model, trial.settings, trial.batch.positions.device
    modules = [(name, type(m).__qualname__, _constants(m)) for name, m in model.named_modules()]
    tensors = [(name, tuple(t.shape), str(t.dtype)) for name, t in _tensors(model).items()]
    fixed = [
        [n for d, n in zip(dims, t.shape, strict=True) if d not in SIZES]
        for x in (trial.batch, trial.targets)
        for _, dims, t in _arrays(x)
    ]
    machine = platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), device.type
    if device.type == "cuda":
        machine += (torch.cuda.get_device_name(device),)  # type: ignore[assignment]
    setup = trial.names, settings.product_method, settings.hessian_norm, torch.__version__, platform.python_version()
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


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold it, one process at a time; it is let go when its holder dies."""
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
