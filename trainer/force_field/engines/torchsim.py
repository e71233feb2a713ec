"""A student in torch-sim: many structures at once, with its integrators and optimizers.

    model = torchsim_model("run/")
    ts.integrate(system=[atoms, atoms, ...], model=model, integrator=ts.Integrator.nve, n_steps=1000, temperature=300, timestep=0.001)

torch-sim's cells have lattice vectors as columns; its stress is eV/A^3 in ASE's sign. Tested with 0.6 (Python 3.12) and with 0.3
(Python 3.11), whose integrators have other names: there it is `integrator=ts.integrators.nve`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure

from ..calculator import Compiled, HDistillCalculator
from .batched import BatchedStudent

MISSING = "torch-sim is not installed here; type `pip install torch-sim-atomistic`."


def torchsim_model(
    path: str | Path, device: str = "cpu", dtype: str | None = None, compiled: Compiled = "auto", skin: float = 0.5
) -> Any:
    """A torch-sim ModelInterface of a run folder, a student file or a .pt2; arguments as HDistillCalculator has them. The state is
    float64 whatever the student's precision is. Raises InputError where torch-sim is missing."""
    try:
        from torch_sim.models.interface import ModelInterface
    except ImportError:
        raise InputError(MISSING) from None

    calculator = HDistillCalculator(path, device, dtype, None, compiled, skin)

    class StudentModel(ModelInterface):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._device, self._dtype = torch.device(device), torch.float64
            self._compute_forces, self._compute_stress = True, calculator.conservative
            self.student = BatchedStudent(calculator)

        def forward(self, state: Any, **_: Any) -> dict[str, torch.Tensor]:
            outputs = self.student(_structures(state))
            owner = state["system_idx"] if isinstance(state, dict) else state.system_idx
            n_systems = int(owner[-1]) + 1
            energy = outputs.energies.new_zeros(n_systems).index_add(0, owner, outputs.energies)
            results = {"energy": energy, "forces": outputs.forces}
            if outputs.stress is not None:
                results["stress"] = outputs.stress
            return {name: tensor.to(self._dtype) for name, tensor in results.items()}

    return StudentModel()


def nve_in(
    model: Any, systems: Sequence[Atoms], timestep_fs: float, temperature_K: float, seed: int = 0
) -> tuple[Any, Callable[[Any], Any]]:
    """torch-sim's state of these systems at its start, with velocities of the temperature, and the function that takes one step of
    velocity Verlet from a state to the next. 0.3 makes both from one call, 0.6 has a function for each."""
    import torch_sim as ts

    state = ts.io.atoms_to_state(list(systems), model.device, torch.float64)
    kT = torch.tensor(temperature_K * units.kB, dtype=torch.float64, device=model.device)
    dt = torch.tensor(timestep_fs * 1e-3 * ts.units.MetalUnits.time, dtype=torch.float64, device=model.device)
    if hasattr(ts, "nve_init"):
        state.rng = seed
        return ts.nve_init(state, model, kT=kT), partial(ts.nve_step, model=model, dt=dt)
    start, step = ts.integrators.nve(model=model, dt=dt, kT=kT, seed=seed)
    return start(state), step


def _structures(state: Any) -> list[Structure]:
    """The systems of a state (or of a dict of its fields)."""
    get = state.__getitem__ if isinstance(state, dict) else lambda name: getattr(state, name)
    owner, positions, numbers = (get(n).detach().cpu().numpy() for n in ("system_idx", "positions", "atomic_numbers"))
    cells = get("cell").detach().cpu().numpy().swapaxes(1, 2).astype(np.float64)
    pbc = np.broadcast_to(torch.as_tensor(get("pbc")).cpu().numpy().astype(bool), (3,))
    stops = np.cumsum(np.bincount(owner))
    return [
        Structure(numbers[a:b], positions[a:b].astype(np.float64), cell, pbc)
        for a, b, cell in zip([0, *stops[:-1]], stops, cells, strict=True)
    ]
