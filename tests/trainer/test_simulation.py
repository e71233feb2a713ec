"""Ensembles: they have the temperature and the pressure that they should, and go on to the same numbers from a state."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from hdistill.data.errors import InputError
from hdistill.trainer.evaluation.simulation import Conditions, Simulation, pressure_GPa


def copper(repeat: int = 2) -> Atoms:
    return bulk("Cu", cubic=True).repeat(repeat)


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(),
        Conditions("nvt", final_temperature_K=600.0),
        Conditions("nvt", thermostat="bussi", final_temperature_K=100.0),
        Conditions("npt", pressure_GPa=2.0, thermostat_fs=20, barostat_fs=50),
        Conditions("npt", anisotropic=True, final_temperature_K=500.0, thermostat_fs=20, barostat_fs=50),
    ],
    ids=["nve", "langevin", "bussi", "npt", "npt anisotropic"],
)
def test_a_run_goes_on_from_its_state_to_the_same_numbers(conditions: Conditions) -> None:
    whole = Simulation(copper(), EMT(), conditions, 40)
    whole.advance(40)
    first = Simulation(copper(), EMT(), conditions, 40)
    first.advance(17)
    state = first.state()
    kept = {"rng": json.loads(json.dumps(state.pop("rng"))), **{n: np.array(v) for n, v in state.items()}}
    then = Simulation(copper(), EMT(), conditions, 40)
    then.restore(kept)
    then.advance(23)
    assert then.time_fs == whole.time_fs == 20
    for name in ("positions", "momenta", "cell"):
        # EMT's neighbour list depends on what came before, by the last bits; with a student it is bit by bit (test_md.py).
        np.testing.assert_allclose(then.state()[name], whole.state()[name], atol=1e-11, err_msg=name)
    other = Simulation(copper(), EMT(), Conditions(**{**vars(conditions), "seed": 1}), 40)
    other.advance(40)
    assert not np.array_equal(other.atoms.positions, whole.atoms.positions)


@pytest.mark.parametrize("thermostat", ["langevin", "bussi"])
def test_thermostats_hold_the_temperature(thermostat: str) -> None:
    simulation = Simulation(
        copper(), EMT(), Conditions("nvt", 4.0, 400.0, thermostat=thermostat, thermostat_fs=40.0, seed=3), 600
    )
    simulation.advance(100)
    temperatures = []
    for _ in range(100):
        simulation.advance(5)
        temperatures.append(simulation.atoms.get_temperature())
    assert np.mean(temperatures) == pytest.approx(400, rel=0.08)


def test_a_ramp_goes_from_one_temperature_to_the_other() -> None:
    conditions = Conditions("nvt", 2.0, 100.0, final_temperature_K=700.0, thermostat_fs=20.0)
    simulation = Simulation(copper(), EMT(), conditions, 600)
    temperatures = []
    for _ in range(60):
        simulation.advance(10)
        temperatures.append(simulation.atoms.get_temperature())
    assert simulation.wanted_temperature() == 700
    assert np.mean(temperatures[:10]) < 300
    assert np.mean(temperatures[-10:]) == pytest.approx(650, rel=0.2)


@pytest.mark.parametrize("anisotropic", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_barostat_holds_the_pressure_and_the_shape_unless_told(anisotropic: bool) -> None:
    atoms = copper()
    if anisotropic:
        atoms.set_cell(atoms.cell.array @ np.diag([1.03, 1.0, 0.97]), scale_atoms=True)
    conditions = Conditions(
        "npt", 4.0, 300.0, pressure_GPa=5.0, thermostat_fs=50.0, barostat_fs=200.0, anisotropic=anisotropic, seed=1
    )
    simulation = Simulation(atoms, EMT(), conditions, 1000)
    simulation.advance(200)
    pressures, cells = [], []
    for _ in range(60):
        simulation.advance(5)
        pressures.append(pressure_GPa(simulation.atoms))
        cells.append(simulation.atoms.cell.array.copy())
    assert np.mean(pressures) == pytest.approx(5.0, abs=0.7)
    lengths = np.linalg.norm(np.mean(cells, axis=0), axis=1)
    assert lengths.max() < 7.22 * 1.01  # squeezed: 2 x 3.61 A at 0 GPa
    if anisotropic:
        assert np.ptp(lengths) / lengths.mean() < 0.02  # the strain of the start is gone
    else:
        shape = cells[-1] / cells[-1][0, 0]
        np.testing.assert_allclose(shape, np.eye(3), atol=1e-12)


def test_constraints_of_ase_hold() -> None:
    atoms = copper()
    atoms.set_constraint(FixAtoms([0, 3]))
    simulation = Simulation(atoms, EMT(), Conditions("nvt", thermostat_fs=20.0), 50)
    simulation.advance(50)
    moved = np.abs(simulation.atoms.positions - atoms.positions).max(axis=1)
    assert (moved[[0, 3]] == 0).all()
    assert (np.delete(moved, [0, 3]) > 1e-3).all()


def test_the_pressure_is_that_of_the_stress_and_of_an_ideal_gas() -> None:
    atoms = copper()
    atoms.calc = EMT()
    assert pressure_GPa(atoms) == pytest.approx(-np.trace(atoms.get_stress(voigt=False)) / 3 / units.GPa)
    assert pressure_GPa(molecule("CH3OH")) is None


def test_what_cannot_be_is_refused() -> None:
    for wrong, message in (
        ({"ensemble": "nph"}, "ensemble was 'nph'; it is one of nve, nvt, npt"),
        ({"timestep_fs": 0.0}, "timestep_fs was 0.0 fs"),
        ({"temperature_K": -5.0}, "temperature_K was -5.0 K"),
        ({"final_temperature_K": 500.0}, "A temperature ramp needs a thermostat"),
        ({"ensemble": "npt", "thermostat": "bussi"}, "NPT has the Langevin thermostat alone"),
        ({"ensemble": "nvt", "thermostat_fs": 0.5}, "at least 2 and 10 time steps"),
    ):
        with pytest.raises(InputError, match=message):
            Conditions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no atoms"):
        Simulation(Atoms(), EMT(), Conditions(), 1)
    with pytest.raises(InputError, match="not periodic"):
        Simulation(molecule("CH3OH"), EMT(), Conditions("npt"), 1)
    fixed = copper()
    fixed.set_constraint(FixAtoms([0]))
    with pytest.raises(InputError, match="remove the constraints"):
        Simulation(fixed, EMT(), Conditions("npt"), 1)
    with pytest.raises(InputError, match="all are 0"):
        Simulation(copper(), EMT(), Conditions("nvt", temperature_K=0.0, thermostat="bussi"), 1)
