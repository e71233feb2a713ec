"""Dynamics at constant energy in each engine that is installed here, as a function that goes on by so many steps: to see how fast it is."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from ..calculator import Compiled, HDistillCalculator
from .openmm import openmm_force
from .torchsim import nve_in, torchsim_model

Steps = Callable[[int], None]
TIMESTEP_FS = 1.0
BATCH = 32  # structures at once


def engines(
    run: Path, atoms: Atoms, compiled: Compiled = "auto", device: str = "cpu", batch: int = BATCH
) -> tuple[dict[str, tuple[Steps, int]], dict[str, str]]:
    """By name, how to go on by steps of 1 fs, and how many structures move in one; and of what is installed but does not begin, why.
    Atoms have velocities; batch: copies that torch-sim moves at once, besides one."""
    makers: dict[str, tuple[Callable[[], Steps], int]] = {"ASE": (lambda: in_ase(run, atoms, compiled, device), 1)}
    if find_spec("openmm") is not None and _is_upright(atoms):
        makers["OpenMM"] = (lambda: in_openmm(run, atoms, compiled, device), 1)
    if find_spec("torch_sim") is not None:
        makers["torch-sim"] = (lambda: in_torchsim(run, atoms, 1, compiled, device), 1)
        if batch > 1:
            makers[f"torch-sim, {batch} at once"] = (lambda: in_torchsim(run, atoms, batch, compiled, device), batch)
    rows, failed = {}, {}
    for name, (make, n) in makers.items():
        try:
            steps = make()
            steps(1)
        except Exception as error:  # of another version of a package: whatever it may raise
            failed[name] = f"{type(error).__name__}: {error}"[:200]
            continue
        rows[name] = steps, n
    return rows, failed


def in_ase(run: Path, atoms: Atoms, compiled: Compiled = "auto", device: str = "cpu") -> Steps:
    moving = atoms.copy()
    moving.calc = HDistillCalculator(run, device, warn_beyond=None, compiled=compiled)
    dynamics = VelocityVerlet(moving, TIMESTEP_FS * units.fs)
    return lambda steps: dynamics.run(steps)


def in_openmm(run: Path, atoms: Atoms, compiled: Compiled = "auto", device: str = "cpu") -> Steps:
    from openmm import Context, Platform, System, VerletIntegrator, unit

    atoms = _turned(atoms)
    system = System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    periodic = bool(atoms.pbc.all())
    if periodic:
        system.setDefaultPeriodicBoxVectors(*(atoms.cell.array / 10))
    system.addForce(openmm_force(run, atoms.numbers, periodic=periodic, device=device, compiled=compiled))
    integrator = VerletIntegrator(TIMESTEP_FS * unit.femtosecond)
    context = Context(system, integrator, Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / 10)
    context.setVelocities(atoms.get_velocities() * units.fs * 1e3 / 10)  # nm/ps
    kept = [context]  # a Context that is collected takes its integrator with it
    return lambda steps: kept[0].getIntegrator().step(steps)


def in_torchsim(run: Path, atoms: Atoms, copies: int, compiled: Compiled = "auto", device: str = "cpu") -> Steps:
    model = torchsim_model(run, device, compiled=compiled)
    state, step = nve_in(model, [atoms] * copies, TIMESTEP_FS, 300)
    kept = [state]

    def run_steps(steps: int) -> None:
        for _ in range(steps):
            kept[0] = step(kept[0])

    return run_steps


def _turned(atoms: Atoms) -> Atoms:
    """With its cell in the lower triangle, as OpenMM wants it; velocities turn with the positions."""
    if not atoms.pbc.any():
        return atoms
    cell, turn = atoms.cell.standard_form()
    turned = atoms.copy()
    turned.set_cell(cell, scale_atoms=True)
    turned.set_velocities(atoms.get_velocities() @ turn.T)
    return turned


def _is_upright(atoms: Atoms) -> bool:
    """Whether OpenMM takes the cell: none, or one that is not too skewed once it is turned."""
    if not atoms.pbc.any():
        return True
    if not atoms.pbc.all():
        return False
    a, b, c = atoms.cell.standard_form()[0].array
    return bool(max(2 * abs(b[0]), 2 * abs(c[0])) <= a[0] + 1e-9 and 2 * abs(c[1]) <= b[1] + 1e-9)
