"""What a run leaves in its folder, and what of it says where to go on.

trajectory.xyz|traj|nc   the frames            log.csv        energies, temperature, pressure, domain_distance
restart.npz              from where it goes on  summary.json   when it is over: figures, and what ended it
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .settings import MdSettings

if TYPE_CHECKING:
    from ase import Atoms

LOG, SUMMARY, RESTART = "log.csv", "summary.json", "restart.npz"
COLUMNS = (
    *("fs", "potential_ev_per_atom", "total_ev_per_atom", "temperature_kelvin", "domain_distance"),
    *("pressure_gpa", "volume_angstrom3"),
)


def described_as(atoms: Atoms, settings: MdSettings) -> str:
    """All that a run is, but for its length and for what computes the forces; of a ramp the length, too."""
    import hashlib

    arrays = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_momenta())
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    plain = {name: value for name, value in asdict(settings).items() if name not in ("steps", "compiled")}
    ramp = settings.steps if settings.conditions.final_temperature_K is not None else None
    return json.dumps({**plain, "start": digest, "ramp_steps": ramp}, sort_keys=True)


def begun(out: Path, described: str) -> Any:
    """The state that a folder's run goes on from; None where there is none. Raises InputError where it is another run's."""
    import numpy as np

    from hdistill.data.errors import InputError

    if not (out / RESTART).exists():
        return None
    try:
        with np.load(out / RESTART, allow_pickle=False) as file:
            state = {name: file[name] for name in file.files}
        state |= json.loads(str(state.pop("about")))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{out / RESTART} is damaged ({error}); remove {out}, or give another folder.") from error
    if state["described"] != described:
        old, new = (json.loads(text) for text in (state["described"], described))
        changed = [name for name in new if old.get(name) != new[name]]
        changed += [n for n, v in new["conditions"].items() if old.get("conditions", {}).get(n) != v]
        names = ", ".join(name for name in changed if name != "conditions")
        raise InputError(f"{out} is in use: it holds a run with another {names}; give another -o folder.")
    return state


def over(out: Path, steps: int) -> dict[str, Any] | None:
    """The summary of a run that is over already."""
    try:
        summary: dict[str, Any] = json.loads((out / SUMMARY).read_text())
    except (OSError, ValueError):
        return None
    return summary if summary.get("why") or summary.get("steps", 0) >= steps else None


def figures_of(out: Path, settings: MdSettings, why: str, time_fs: float) -> dict[str, Any]:
    """Of the whole log; the last row of a run that was stopped is what stopped it, and is left out."""
    import numpy as np

    from hdistill.trainer.evaluation.dynamics import Trajectory, drift_and_excursion

    with (out / LOG).open() as file:
        rows = list(csv.DictReader(file))
    rows = rows[:-1] if why else rows
    times, potential, total, temperature = (np.array([float(row[name]) for row in rows]) for name in COLUMNS[:4])
    drift, excursion = drift_and_excursion(times, total)
    until = float(times[-1]) if rows else 0.0
    figures = Trajectory(times, potential, total, temperature, drift, excursion, until, why).summary()
    figures["fs"] = time_fs
    if settings.conditions.ensemble != "nve":  # a thermostat changes the total energy: its drift says nothing
        figures |= {"drift_mev_per_atom": None, "excursion_mev_per_atom": None}
    pressures = [float(row["pressure_gpa"]) for row in rows if row["pressure_gpa"]]
    return figures | {"mean_pressure_gpa": float(np.mean(pressures)) if pressures else None}


def at_start(atoms: Atoms, state: Any) -> Atoms:
    """The atoms where the run began: bonds are those of the start."""
    first = atoms.copy()
    if state is not None:
        first.set_cell(state["start_cell"], scale_atoms=False)
        first.set_positions(state["start_positions"], apply_constraint=False)
    return first
