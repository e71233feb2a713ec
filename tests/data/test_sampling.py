"""Moves against what they must be: temperatures, strains, angles, distances; the same seed, the same structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.data import atomic_masses, covalent_radii
from hypothesis import given, settings, strategies as st

from hdistill.data.errors import InputError
from hdistill.data.format.plausible import structure_problem
from hdistill.data.sampling.child import nearest_ratios
from hdistill.data.sampling.descriptor import surroundings
from hdistill.data.sampling.diverse import most_diverse
from hdistill.data.sampling.driver import Driven, hessian_by_forces
from hdistill.data.sampling.dynamics import Replica, Stop, Visit, explore, seed_of
from hdistill.data.sampling.modes import HBAR, normal_modes, thermal
from hdistill.data.sampling.moves import MOVES, amounts_of, move_named
from hdistill.data.sampling.recipe import default_recipe, names, read_recipe, recipe_of
from hdistill.data.sampling.relax import Relax, relax
from hdistill.data.sampling.sample import sample
from hdistill.data.sampling.strain import Strain, strain
from hdistill.data.sampling.supercell import Supercell, best_repeats, supercell
from hdistill.data.sampling.torsions import rotatable_bonds, turn
from hdistill.data.sampling.world import World
from hdistill.data.structure import Structure

SPRING = 5.0  # eV/A^2


def structure(atoms: Atoms, **facts: object) -> Structure:
    return Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, **facts)  # type: ignore[arg-type]


SILICON = structure(bulk("Si", "diamond", a=5.43, cubic=True), group="silicon")
ETHANOL = structure(molecule("CH3CH2OH"), group="ethanol")
WATER = structure(molecule("H2O"), charge=1, spin=2, group="water")


def world(seed: int = 0, **facts: object) -> World:
    return World(np.random.default_rng(seed), **facts)  # type: ignore[arg-type]


class Springs:
    """Each atom is tied to where it was in `home` by a spring: an Einstein crystal. Stress is that of an empty box."""

    def __init__(self, home: Structure):
        self.home = home
        self.n_calls = 0

    def __call__(self, structures: Sequence[Structure]) -> list[Driven]:
        self.n_calls += len(structures)
        driven = []
        for s in structures:
            away = s.positions - self.home.positions
            stress = np.zeros((3, 3)) if s.pbc.all() else None
            driven.append(
                Driven(0.5 * SPRING * float((away**2).sum()), -SPRING * away, stress, np.abs(away).max(axis=1))
            )
        return driven


def test_the_hessian_by_differences_is_that_of_the_springs() -> None:
    assert np.allclose(hessian_by_forces(SILICON, Springs(SILICON)), SPRING * np.eye(24), atol=1e-9)


@pytest.mark.parametrize("quantum", [False, True])
def test_modes_have_the_width_of_their_temperature(quantum: bool) -> None:
    """Of springs on atoms of one mass: every coordinate has kT/k, or hbar w coth(hbar w / 2kT) / 2k, less the motion of the whole."""
    squares, vectors = normal_modes(SILICON, SPRING * np.eye(24))
    assert len(squares) == 21
    assert np.allclose(squares, SPRING / atomic_masses[14])
    rng, kt = np.random.default_rng(0), units.kB * 300
    shifts = np.array([thermal(squares, vectors, 300, rng, softest=1.0, quantum=quantum) for _ in range(3000)])
    hw = HBAR * (SPRING / atomic_masses[14]) ** 0.5
    wanted = kt / SPRING if not quantum else hw / (2 * SPRING) / np.tanh(hw / (2 * kt))
    assert (shifts**2).mean() == pytest.approx(wanted * 21 / 24, rel=0.03)
    assert np.abs(shifts.reshape(-1, 8, 3).sum(axis=1)).max() < 1e-9


def test_modes_of_a_molecule_leave_out_its_turns_and_soft_modes_are_held() -> None:
    squares, vectors = normal_modes(WATER, np.zeros((9, 9)))
    assert len(squares) == 3
    shift = thermal(squares, vectors, 300, np.random.default_rng(0), softest=200.0)
    assert np.isfinite(shift).all()
    assert 0 < np.abs(shift).max() < 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_strains_stay_within_their_amounts_and_atoms_move_along(seed: int, is_slab: bool) -> None:
    pbc = np.array([True, True, not is_slab])
    start = replace(SILICON, pbc=pbc)
    amounts = Strain(n=3, volume=0.05, shape=0.02, sigma=0.0)
    for moved in strain(start, amounts, world(seed)):
        change = np.linalg.solve(start.cell, moved.cell)
        assert np.allclose(change, change.T)
        assert np.allclose(moved.positions, start.positions @ change)
        assert np.allclose(change[2], [0, 0, 1]) or not is_slab
        assert np.abs(change - np.eye(3)).max() < 0.06
        assert abs(np.linalg.det(change) - 1) < 0.055


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(2.0, 12.0), min_size=3, max_size=3), st.floats(-1.5, 1.5), st.floats(4.0, 12.0))
def test_supercells_are_the_same_matter_as_long_as_wanted(edges: list[float], shear: float, edge: float) -> None:
    cell = np.diag(edges)
    cell[1, 0] = shear
    start = Structure(np.array([14]), np.zeros((1, 3)), cell, np.ones(3, bool), group="x")
    amounts = Supercell(edge=edge, max_atoms=60)
    repeats = best_repeats(start, amounts)
    larger = next(supercell(start, amounts, world()), start)
    assert larger.n_atoms == np.prod(repeats) <= 60
    assert np.linalg.det(larger.cell) == pytest.approx(np.prod(repeats) * np.linalg.det(cell))
    heights = 1 / np.linalg.norm(np.linalg.inv(larger.cell), axis=0)
    assert heights.min() >= edge - 1e-6 or larger.n_atoms * 2 > 60 or larger.n_atoms == np.prod(repeats)
    assert structure_problem(larger) is None


def test_charge_and_unpaired_electrons_of_a_supercell_add_up() -> None:
    cell = Structure(np.array([26]), np.zeros((1, 3)), 2.5 * np.eye(3), np.ones(3, bool), charge=1, spin=3)
    (larger,) = supercell(cell, Supercell(edge=5.0, max_atoms=8), world())
    assert (larger.n_atoms, larger.charge, larger.spin) == (8, 8, 17)


def test_torsions_turn_one_side_and_leave_bonds_alone() -> None:
    bonds = rotatable_bonds(ETHANOL)
    heavy = {tuple(sorted((i, j))) for i, j, _ in bonds}
    assert {tuple(sorted(ETHANOL.numbers[[i, j]])) for i, j in heavy} == {(6, 6), (6, 8)}
    i, j, side = bonds[0]
    for degrees in (30.0, 180.0, 275.0):
        turned = turn(ETHANOL, i, j, side, degrees)
        before = np.linalg.norm(ETHANOL.positions[:, None] - ETHANOL.positions, axis=2)
        after = np.linalg.norm(turned[:, None] - turned, axis=2)
        for part in (side, ~side):
            assert np.allclose(before[np.ix_(part, part)], after[np.ix_(part, part)])
        assert np.allclose(before[i, j], after[i, j])
        a = int(next(a for a in np.flatnonzero(~side) if a not in (i, j) and before[a, i] < 1.7))
        b = int(next(b for b in np.flatnonzero(side) if b not in (i, j) and before[b, j] < 1.7))
        old = Atoms("H9", ETHANOL.positions).get_dihedral(a, i, j, b)
        new = Atoms("H9", turned).get_dihedral(a, i, j, b)
        assert (new - old - degrees + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)


def test_rings_double_bonds_and_crystals_have_nothing_to_turn() -> None:
    assert rotatable_bonds(structure(molecule("C6H6"))) == []
    assert rotatable_bonds(structure(molecule("C2H4"))) == []
    assert rotatable_bonds(SILICON) == []


def test_relaxation_finds_the_minimum_and_keeps_its_path() -> None:
    start = replace(SILICON, positions=SILICON.positions + np.random.default_rng(0).normal(scale=0.05, size=(8, 3)))
    path = list(relax(start, Relax(fmax=1e-4, every=2, cell=False), world(driver=Springs(SILICON))))
    assert path[-1].info["last"]
    assert np.allclose(path[-1].positions, SILICON.positions, atol=1e-4)
    assert len(path) > 3
    assert all(s.info["move"] == "relax" and s.group == "silicon" for s in path)


def test_dynamics_have_the_temperature_of_the_bath() -> None:
    replicas = [Replica(SILICON, 300.0, None, seed_of(k)) for k in range(4)]
    events = list(explore(replicas, Springs(SILICON), steps=2000, timestep=2.0, every=5, first=400))
    temperatures = [event.temperature for event in events if isinstance(event, Visit)]
    away = [event.structure.positions - SILICON.positions for event in events if isinstance(event, Visit)]
    assert np.mean(temperatures) == pytest.approx(300, rel=0.03)
    assert np.mean(np.square(away)) == pytest.approx(units.kB * 300 / SPRING, rel=0.05)
    assert [event.why for event in events if isinstance(event, Stop)] == [""] * 4


@pytest.mark.long
def test_a_pressure_makes_an_ideal_gas_as_large_as_it_should_be() -> None:
    """N atoms without forces: <V> = (N + 1) kT / P."""
    gas = Structure(np.full(8, 18), np.random.default_rng(0).uniform(0, 20, (8, 3)), 20 * np.eye(3), np.ones(3, bool))

    def free(structures: Sequence[Structure]) -> list[Driven]:
        return [Driven(0.0, np.zeros((8, 3)), np.zeros((3, 3))) for _ in structures]

    pressure = 9 * units.kB * 300 / 8000 / units.GPa
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hdistill.data.sampling.dynamics.TOO_NEAR", 0.0)  # they pass through each other
        patch.setattr("hdistill.data.sampling.dynamics.COMPRESSIBILITY", 1 / pressure)
        events = list(explore([Replica(gas, 300.0, pressure, k) for k in range(4)], free, 10000, 2.0, 10, first=1000))
    volumes = [abs(np.linalg.det(event.structure.cell)) for event in events if isinstance(event, Visit)]
    assert np.mean(volumes) == pytest.approx(8000, rel=0.12)


@pytest.mark.parametrize("kind", ["unfamiliar", "together", "broken", "hot", "not a number"])
def test_a_replica_stops_alone_and_says_why(kind: str) -> None:
    """Of two, the second goes wrong; the first comes to its end."""
    start = ETHANOL if kind == "broken" else SILICON
    good = Springs(start)

    def driver(structures: Sequence[Structure]) -> list[Driven]:
        driven = good(structures)
        if len(structures) < 2:
            return driven
        bad = driven[1]
        if kind == "unfamiliar":
            return [driven[0], replace(bad, unfamiliar=np.full(8, 7.0))]
        forces = {
            "together": 2
            * (structures[1].positions[[1, 0, *range(2, structures[1].n_atoms)]] - structures[1].positions),
            "broken": np.zeros_like(bad.forces)
            + 0.4 * (start.numbers == 1)[:, None] * (start.positions - start.positions.mean(axis=0)),
            "hot": np.random.default_rng(0).normal(scale=3000, size=bad.forces.shape),
            "not a number": np.full(bad.forces.shape, np.nan),
        }
        return [driven[0], replace(bad, forces=forces[kind])]

    replicas = [Replica(start, 300.0, None, k) for k in range(2)]
    stops = {
        event.replica: event
        for event in explore(replicas, driver, 800, 1.0, 50, friction=80.0, unfamiliar=5.0)
        if isinstance(event, Stop)
    }
    words = {
        "unfamiliar": "unlike the training set",
        "together": "fell together",
        "broken": "a bond ",
        "hot": "temperature ran away",
        "not a number": "not finite",
    }
    assert words[kind] in stops[1].why
    assert stops[1].time < 800
    assert stops[1].atoms or kind == "not a number"
    assert (stops[0].why, stops[0].time) == ("", 800)


RECIPE = recipe_of(
    {
        "moves": [
            {"move": "strain", "n": 3},
            {"move": "supercell", "edge": 5.0},
            {"move": "rattle", "n": 5, "sigma": 0.2},
            {"move": "md", "n": 4, "ps": 0.1, "warmup": 0.02},
            {"move": "vacancy", "n": 2},
        ]
    },
    "test",
)


def test_the_same_seed_gives_the_same_structures_and_each_says_where_it_is_from() -> None:
    def once(seed: int) -> list[Structure]:
        return sample([SILICON], RECIPE, temperatures=(300, 900), driver=Springs(SILICON), seed=seed).structures

    one, two, other = once(0), once(0), once(1)
    assert [s.id for s in one] == [s.id for s in two]
    assert not {s.id for s in one} & {s.id for s in other}
    assert [s.info for s in one] == [s.info for s in two]
    for s in one:
        assert s.group == "silicon"
        assert s.info["parent"] == SILICON.id
        assert s.info["move"] in MOVES
        assert isinstance(s.info["seed"], int)
        assert structure_problem(s) is None
    assert {s.info["temperature"] for s in one if s.info["move"] == "md"} == {300, 900}


def test_charge_and_spin_travel_and_what_needs_forces_is_left_out_and_said() -> None:
    made = sample([WATER], read_recipe("molecule"), n=12)
    assert len(made.structures) == 12
    assert {(s.charge, s.spin) for s in made.structures} == {(1, 2)}
    assert made.remarks == ["Left out, since there is no --driver to give forces: modes, md."]
    assert made.by_move["rattle"] == 12


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("start", [SILICON, ETHANOL, replace(SILICON, pbc=np.array([True, True, False]))], ids=str)
def test_every_recipe_makes_matter_of_everything(name: str, start: Structure) -> None:
    made = sample([start], read_recipe(name), n=20)
    for s in made.structures:
        assert structure_problem(s) is None
        assert nearest_ratios(s).min() >= 0.55


def test_a_rattle_keeps_atoms_apart() -> None:
    made = sample([ETHANOL], recipe_of({"moves": [{"move": "rattle", "n": 40, "sigma": 0.3}]}, "wild"))
    assert len(made.structures) > 30
    assert min(nearest_ratios(s).min() for s in made.structures) > 0.55
    centre = ETHANOL.positions.mean(axis=0)
    assert max(np.abs(s.positions.mean(axis=0) - centre).max() for s in made.structures) < 1e-9


def test_dimers_are_neutral_pairs_of_the_lowest_spin() -> None:
    made = sample([WATER], recipe_of({"moves": [{"move": "dimers", "n": 6}]}, "pairs"))
    assert len(made.structures) == 18
    for s in made.structures:
        assert (s.n_atoms, s.charge, s.pbc.any()) == (2, 0, False)
        assert s.spin == 1 + int(s.numbers.sum()) % 2
        assert np.linalg.norm(s.positions[1]) >= 0.69 * covalent_radii[s.numbers].sum()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "list of tables"),
        ({"moves": [{"move": "rattel"}]}, "Did you mean 'rattle'"),
        ({"moves": [{"move": "rattle", "sigm": 1}]}, "Did you mean 'sigma'"),
        ({"moves": [{"move": "rattle", "n": 2.5}]}, "whole number"),
        ({"moves": [{"move": "rattle", "sigma": -1}]}, "more than 0"),
        ({"moves": [{"n": 3}]}, "no `move`"),
        ({"moves": [], "seed": 1}, "list of tables"),
    ],
)
def test_a_bad_recipe_is_one_sentence(table: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        recipe_of(table, "bad")


def test_recipes_are_found_and_chosen_by_what_is_periodic(tmp_path: Path) -> None:
    assert default_recipe([SILICON]) == "crystal"
    assert default_recipe([ETHANOL, WATER]) == "molecule"
    with pytest.raises(InputError, match="crystal and molecule"):
        default_recipe([SILICON, ETHANOL])
    with pytest.raises(InputError, match="Did you mean 'crystal'"):
        read_recipe("crystl")
    (tmp_path / "bad.toml").write_text("moves = [")
    with pytest.raises(InputError, match="is not TOML"):
        read_recipe(tmp_path / "bad.toml")
    assert amounts_of(move_named("md"), {"ps": 1}).ps == 1


def test_the_descriptor_is_of_the_surroundings_alone() -> None:
    elements = (1, 6, 8)
    features = surroundings(ETHANOL, elements)
    turn_, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    order = np.random.default_rng(1).permutation(9)
    moved = Structure(ETHANOL.numbers[order], ETHANOL.positions[order] @ turn_.T + 3.0)
    assert np.allclose(surroundings(moved, elements), features[order], atol=1e-5)
    doubled = structure(bulk("Si", "diamond", a=5.43, cubic=True) * (2, 1, 1))
    assert np.allclose(surroundings(doubled, (14,)), surroundings(SILICON, (14,))[0], atol=1e-5)


def test_the_diverse_ones_are_those_that_differ() -> None:
    """200 copies that hardly differ and ten that do: the ten are among the twelve that are taken."""
    rng = np.random.default_rng(0)
    crowd = [replace(ETHANOL, positions=ETHANOL.positions + rng.normal(scale=0.002, size=(9, 3))) for _ in range(200)]
    strange = [replace(ETHANOL, positions=ETHANOL.positions + rng.normal(scale=0.15, size=(9, 3))) for _ in range(10)]
    mixed = [*crowd[:100], *strange, *crowd[100:]]
    chosen = most_diverse(mixed, 12)
    assert len(chosen) == 12
    assert {s.id for s in strange} <= {s.id for s in chosen}
    assert [s.id for s in chosen] == [s.id for s in mixed if s.id in {c.id for c in chosen}]  # in order
    assert [s.id for s in most_diverse(iter(mixed), 12)] == [s.id for s in chosen]
    assert len(most_diverse(crowd[:5], 12)) == 5
