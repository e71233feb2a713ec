"""Dynamics: a known oscillator, a force that is not a gradient, what breaks and when, and the same seed twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.io import read, write

from hdistill.data.errors import InputError
from hdistill.trainer.evaluation.dynamics import Limits, Motion, drift_and_excursion, nve, run, take_velocities


class Springs(Calculator):  # type: ignore[misc]
    """Every atom bound to its first position (k, eV/A^2), and a swirl around z that is the gradient of nothing."""

    implemented_properties = ("energy", "forces")

    def __init__(self, home: np.ndarray, k: float = 5.0, swirl: float = 0.0, push: float = 0.0):
        super().__init__()
        self.home, self.k, self.swirl, self.push = home, k, swirl, push

    def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = ()) -> None:
        super().calculate(atoms, properties, system_changes)
        away = self.atoms.positions - self.home
        forces = -self.k * away + self.swirl * np.cross([0, 0, 1.0], away)
        forces[0, 0] += self.push
        energy = 0.5 * self.k * float((away**2).sum()) - self.push * away[0, 0]
        self.results = {"energy": energy, "forces": forces}


def two(distance: float = 3.0) -> Atoms:
    return Atoms("Ar2", [(0, 0, 0), (distance, 0, 0)])


def test_a_smooth_energy_is_conserved_and_a_swirl_is_not() -> None:
    atoms = two()
    good = nve(atoms, Springs(atoms.positions), steps=2000, timestep_fs=1.0, temperature_K=50)
    bad = nve(atoms, Springs(atoms.positions, swirl=0.05), steps=2000, timestep_fs=1.0, temperature_K=50)
    assert good.stable
    assert good.stable_until == good.times[-1] == 2000
    assert abs(good.drift) < 1e-3
    assert good.excursion < 0.1
    assert bad.drift > 1.0  # meV/atom: the swirl turns atoms round and round, and speeds them up
    assert np.all(good.temperature >= 0)
    # An oscillator's energy is half potential on average.
    kinetic = good.total - good.potential
    assert kinetic.mean() == pytest.approx(good.potential.mean(), rel=0.2)


def test_the_error_of_the_integrator_falls_with_the_square_of_the_step() -> None:
    atoms = two()
    excursions = [
        nve(atoms, Springs(atoms.positions), steps=n, timestep_fs=h, temperature_K=300, sample_every=1).excursion
        for n, h in ((100, 4.0), (200, 2.0))
    ]
    assert excursions[0] / excursions[1] == pytest.approx(4, rel=0.15)


def test_drift_is_a_slope_and_excursion_a_distance() -> None:
    times = np.linspace(0, 10_000, 101)
    drift, excursion = drift_and_excursion(times, -3.0 + 2e-6 * times)
    assert drift == pytest.approx(20.0)
    assert excursion == pytest.approx(20.0)
    drift, excursion = drift_and_excursion(times, np.where(np.arange(101) == 50, 0.005, 0.0))
    assert abs(drift) < 1e-9
    assert excursion == pytest.approx(5.0)
    assert np.isnan(drift_and_excursion(times[:1], times[:1])).all()


def test_the_atoms_given_stay_and_the_same_seed_gives_the_same_run() -> None:
    atoms = molecule("CH3OH")
    before = atoms.positions.copy()
    one, two_, other = (nve(atoms, EMT(), steps=30, timestep_fs=0.2, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(atoms.positions, before)
    assert not atoms.has("momenta")
    assert np.array_equal(one.total, two_.total)
    assert not np.array_equal(one.total, other.total)


def test_velocities_start_at_the_temperature_without_drift_or_rotation() -> None:
    seen: list[Atoms] = []
    run(molecule("CH3OH"), EMT(), Motion(steps=1, temperature_K=300), lambda atoms, fs: seen.append(atoms.copy()))
    assert len(seen) == 2
    assert np.abs(seen[0].get_momenta().sum(axis=0)).max() < 1e-10
    assert np.abs(seen[0].get_angular_momentum()).max() < 1e-10
    assert seen[0].get_temperature() == pytest.approx(300)
    # Velocities that are there are kept.
    again: list[Atoms] = []
    run(seen[0], EMT(), Motion(steps=1, temperature_K=900), lambda atoms, fs: again.append(atoms.copy()))
    assert np.array_equal(again[0].get_momenta(), seen[0].get_momenta())


def test_a_bond_that_breaks_ends_the_run() -> None:
    atoms = molecule("CH3OH")
    atoms.set_momenta(np.zeros((len(atoms), 3)))
    torn = nve(atoms, Springs(atoms.positions, k=0.1, push=5.0), steps=500, sample_every=5)
    assert not torn.stable
    assert torn.why.startswith("the bond C0-")
    assert torn.stable_until == torn.times[-1] < 250
    assert torn.summary()["why"] == torn.why


def test_a_bond_across_the_border_of_a_cell_is_watched_too() -> None:
    crystal = bulk("Cu", cubic=True)
    assert nve(crystal, EMT(), steps=100, timestep_fs=2.0).stable
    torn = nve(crystal, Springs(crystal.positions, k=0.01, push=1.0), steps=2000, timestep_fs=2.0, temperature_K=1)
    assert "Cu0" in torn.why


def test_atoms_that_collapse_end_the_run() -> None:
    atoms = two(3.9)
    atoms.set_momenta(np.zeros((2, 3)))
    met = nve(atoms, Springs(atoms.positions[::-1], k=0.02), steps=5000, timestep_fs=1.0)
    assert "apart" in met.why
    assert nve(atoms, Springs(atoms.positions, k=1.0), steps=10).stable


def test_numbers_that_are_none_end_the_run() -> None:
    class Broken(Springs):
        def calculate(self, *args: Any, **kwargs: Any) -> None:
            super().calculate(*args, **kwargs)
            if np.abs(self.atoms.positions - self.home).max() > 0.02:
                self.results["forces"][:] = np.nan

    atoms = two()
    actual = nve(atoms, Broken(atoms.positions), steps=500, temperature_K=300)
    assert "not finite" in actual.why
    assert np.isfinite(actual.total).all()
    assert actual.summary()["stable"] is False


def test_nve_has_no_friction() -> None:
    with pytest.raises(TypeError, match="friction"):
        nve(two(), Springs(two().positions), friction=0.02)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "unit", "factor"), [("vel", None, 1.0), ("velocities", "m/s", 1e-5), ("velo", "A/ps", 1e-3)]
)
def test_velocities_of_a_file_are_kept(name: str, unit: str | None, factor: float, tmp_path: Path) -> None:
    """In A/fs, or the unit it states; the motion of the whole is taken out; what was done is said."""
    atoms = molecule("CH3OH")
    velocities = np.random.default_rng(0).normal(scale=0.01, size=(len(atoms), 3))
    velocities -= atoms.get_masses() @ velocities / atoms.get_masses().sum()
    atoms.arrays[name] = (velocities + np.array([0.01, 0, 0])) / factor
    if unit is not None:
        atoms.info["velocities_unit"] = unit
    write(tmp_path / "start.xyz", atoms, format="extxyz")
    stored = read(tmp_path / "start.xyz")
    messages = take_velocities(stored)
    assert messages.startswith(f"Velocities '{name}' of the file are kept, in {unit or 'A/fs'} ")
    assert messages.endswith("without the motion of the whole (0.01 A/fs).")
    assert ("no unit is stated" in messages) == (unit is None)
    assert stored.get_velocities() * units.fs == pytest.approx(velocities, rel=1e-3, abs=1e-7)
    seen: list[Atoms] = []
    run(stored, EMT(), Motion(steps=1, temperature_K=900), lambda moving, fs: seen.append(moving.copy()))
    assert seen[0].get_momenta() == pytest.approx(stored.get_momenta())
    assert take_velocities(stored).startswith("Momenta of the file are kept (")
    assert take_velocities(two()) == ""


def test_velocities_that_cannot_be_used() -> None:
    atoms = two()
    atoms.arrays["vel"] = np.full((2, 3), np.nan)
    with pytest.raises(InputError, match="'vel' of the file is not three finite numbers for each atom"):
        take_velocities(atoms.copy())
    atoms.info["velocities_unit"] = "furlong/fortnight"
    with pytest.raises(InputError, match="are in 'furlong/fortnight'; A/fs, A/ps"):
        take_velocities(atoms)


def test_langevin_holds_the_temperature() -> None:
    atoms = bulk("Cu", cubic=True)
    hot = run(atoms, Springs(atoms.positions), Motion(4000, 2.0, 300.0, friction=0.02, seed=3))
    assert hot.temperature[50:].mean() == pytest.approx(300, rel=0.15)


def test_the_last_step_is_sampled() -> None:
    atoms = two()
    assert nve(atoms, Springs(atoms.positions), steps=25, timestep_fs=1.0).times.tolist() == [0, 10, 20, 25]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="steps was 0"):
        Motion(steps=0)
    with pytest.raises(InputError, match="temperature was -5 K"):
        Motion(temperature_K=-5)
    with pytest.raises(InputError, match="friction was 0"):
        Motion(friction=0)
    with pytest.raises(InputError, match="no atoms"):
        nve(Atoms(), EMT())


def test_limits_can_be_moved() -> None:
    atoms = two(3.9)
    atoms.set_momenta([[0.5, 0, 0], [-0.5, 0, 0]])
    free = Springs(atoms.positions, k=1e-6)
    strict = run(atoms, free, Motion(steps=2000, timestep_fs=1.0, limits=Limits(nearest=3.5)))
    assert 3.0 < float(strict.why.split(" are ")[1].split()[0]) < 3.5
    assert strict.times[-1] < 2000 * units.fs / units.fs
