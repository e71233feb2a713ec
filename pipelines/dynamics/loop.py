"""Atoms that move, step by step: watched, sampled, kept so that a kill loses seconds."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import COLUMNS, LOG, RESTART, at_start
from .settings import MdSettings
from .trajectory import open_trajectory, trajectory_path

if TYPE_CHECKING:
    from hdistill.trainer.evaluation.simulation import Simulation

LOOK_EVERY = 10  # steps between two looks at whether the atoms hold together
RESTART_EVERY_S = 10.0


class MovingRun:
    """A simulation and the files it writes."""

    def __init__(self, simulation: Simulation, settings: MdSettings, out: Path, described: str, state: Any):
        from hdistill.trainer.evaluation.dynamics import Motion, Watch

        self.simulation, self.settings, self.out, self.described = simulation, settings, out, described
        conditions = settings.conditions
        hottest = max(conditions.temperature_K, conditions.final_temperature_K or 0.0)
        self.motion = Motion(temperature_K=hottest)
        self.watch = Watch(at_start(simulation.atoms, state), settings.limits)
        self.n_frames = 0 if state is None else int(state["n_frames"])
        trajectory_bytes = 0 if state is None else int(state["trajectory_bytes"])
        self.start = simulation.atoms.positions.copy() if state is None else state["start_positions"]
        self.start_cell = simulation.atoms.cell.array.copy() if state is None else state["start_cell"]
        self.trajectory = open_trajectory(out, settings.form, self.n_frames, trajectory_bytes)
        self.log = (out / LOG).open("w" if state is None else "r+")
        self.log.truncate(0 if state is None else int(state["log_bytes"]))
        self.log.seek(0, io.SEEK_END)
        if state is None:
            self.log.write(",".join(COLUMNS) + "\n")

    def finish(self, progress: bool) -> str:
        """Run to the end, or to what ends it: why, empty where nothing did."""
        from hdistill.data.errors import InputError
        from hdistill.data.support.progress import progress as progress_bar

        simulation, settings = self.simulation, self.settings
        kept = began = time.monotonic()
        first = simulation.step
        with progress_bar(settings.steps, "steps", "md", progress, first) as bar:
            why = ""
            if not self.n_frames:
                why = self._problem()
                self._sample()
                self._keep()
            while not why and simulation.step < settings.steps:
                before = simulation.step
                until = min(_next(before, LOOK_EVERY), _next(before, settings.every), settings.steps)
                try:
                    simulation.advance(until - before)
                    why = self._problem()
                except InputError as error:  # of positions that are not finite there is no neighbour list
                    why = f"the forces could not be computed between steps {before} and {until} ({error})"
                    break
                if why or simulation.step % settings.every == 0 or simulation.step == settings.steps:
                    shown = self._sample()
                    rate = (simulation.step - first) * settings.conditions.timestep_fs / (time.monotonic() - began)
                    bar.advance(0, **shown, **{"ns/day": rate * 0.0864})
                    if time.monotonic() - kept > RESTART_EVERY_S or simulation.step == settings.steps:
                        self._keep()
                        kept = time.monotonic()
                bar.advance(simulation.step - before)
        self.trajectory.close()
        self.log.close()
        return why

    def _problem(self) -> str:
        atoms = self.simulation.atoms
        total = atoms.get_potential_energy() + atoms.get_kinetic_energy()
        why = self.watch.problem(atoms, float(total), float(atoms.get_temperature()), self.motion)
        limit = self.settings.stop_beyond
        distances = None if limit is None else getattr(atoms.calc, "domain_distance", None)
        if not why and distances is not None and distances.max() > limit:
            atom = int(distances.argmax())
            why = f"{atoms.symbols[atom]}{atom} is at a domain_distance of {distances[atom]:.1f}, beyond {limit:g}"
        return f"{why} at step {self.simulation.step} ({self.simulation.time_fs:g} fs)" if why else ""

    def _sample(self) -> dict[str, Any]:
        """One frame and one row; what of it is shown."""
        from hdistill.trainer.evaluation.simulation import pressure_GPa

        atoms, fs = self.simulation.atoms, self.simulation.time_fs
        n = len(atoms)
        potential, kinetic = atoms.get_potential_energy() / n, atoms.get_kinetic_energy() / n
        temperature = float(atoms.get_temperature())
        distances, pressure = getattr(atoms.calc, "domain_distance", None), pressure_GPa(atoms)
        furthest = None if distances is None else float(distances.max())
        volume = atoms.get_volume() if atoms.pbc.all() else None
        row = (
            *(f"{fs:g}", f"{potential:.8f}", f"{potential + kinetic:.8f}", f"{temperature:.2f}"),
            *("" if x is None else f"{x:.{digits}f}" for x, digits in ((furthest, 3), (pressure, 4), (volume, 3))),
        )
        self.trajectory.write(atoms, fs)
        self.n_frames += 1
        self.log.write(",".join(row) + "\n")
        self.log.flush()
        shown = {"K": temperature, "eV/atom": float(potential + kinetic), "GPa": pressure, "domain": furthest}
        return {name: value for name, value in shown.items() if value is not None}

    def _keep(self) -> None:
        """A restart file: from here the run goes on, whenever it is killed."""
        import numpy as np

        from hdistill.data.support.publish import publish

        state = self.simulation.state()
        about = {
            "described": self.described,
            "rng": state.pop("rng"),
            "n_frames": self.n_frames,
            "log_bytes": (self.out / LOG).stat().st_size,
            "trajectory_bytes": trajectory_path(self.out, self.settings.form).stat().st_size,
        }
        buffer = io.BytesIO()
        np.savez(buffer, about=json.dumps(about), start_positions=self.start, start_cell=self.start_cell, **state)
        publish(self.out / RESTART, buffer.getvalue(), replace=True)


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every
