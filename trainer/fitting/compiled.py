"""The gradients of a step as machine code: what step.py's eager_gradients does, traced once and compiled for all sizes.

The code holds for any number of atoms, edges and structures from 2 on, is kept in the user's cache folder, and is used only where it
agrees with the eager step; else training goes on eagerly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy

import torch
from torch import nn

from hdistill.data.errors import HDistillError

from ..force_field.compiler import folder_of_code, kernels_in, locked
from ..inputs.batch import Batch, Targets
from .loss import Terms
from .settings import FitSettings
from .step import Gradients
from .step_cache import Compiled, build, key_of, load
from .tracing import NotCompiled, Trial, inputs_of, padded

TOLERANCE = 1e-5  # of sums and gradients, relative, beside a float64 step from the same weights
TOLERANCE_64 = 1e-9  # of a float64 step


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
    inputs = inputs_of(model, *padded(batch, targets, n_products), weights.to(batch.positions.device))
    with torch.no_grad():
        outputs = list(run(*inputs))
    return {name: outputs[names.index(name)] for name in factors}, outputs[len(names) :]


def _checked(trial: Trial) -> tuple[Compiled, float, str]:
    """The compiled step, how far it is off, and what was done to have it. One from the cache that disagrees is made anew. Raises
    NotCompiled."""
    model, inputs = trial.model, (trial.batch, trial.targets, trial.factors)
    folder = folder_of_code()
    file = folder / f"{key_of(trial)}.step"
    exact = trial.eager(deepcopy(model).to(torch.float64), *inputs)
    own = _difference(trial.eager(model, *inputs), exact, trial.factors)
    allowed = max(TOLERANCE, 3 * own) if next(model.parameters()).dtype == torch.float32 else TOLERANCE_64
    # Of several processes one compiles, the others load it.
    with locked(file.with_suffix(".lock")), kernels_in(folder / "kernels"):
        run = load(file)
        for verb in ("Loaded", "Compiled"):
            if verb == "Compiled":
                trial.say(
                    f"Compiling the training step of {trial.settings.student} ({', '.join(trial.names)}): one to three minutes, "
                    "once; the next fit loads it. Ctrl-C stops."
                )
                run = build(trial, file)
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
