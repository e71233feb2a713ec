"""Sources under made-up input: every structure equals an independent reading, or is refused, or remarked on.

The second opinion is ASE's own parser for extended XYZ, and for units, cells, charges and names the values from which the file
was written. The short runs are 6 to 80 cases each; `-m long` makes 10^5 of them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.db import connect
from ase.io.extxyz import read_xyz
from hypothesis import HealthCheck, example, given, settings, strategies as st

from hdistill.data import sources
from hdistill.data.convert.hessians.hdf5 import read as read_hessians
from hdistill.data.errors import InputError
from hdistill.data.sources import Keys, SourceReport
from hdistill.data.sources.make import structure_of
from hdistill.data.sources.readers.extxyz import frames, record_of_frame
from hdistill.data.sources.record import Unusable
from hdistill.data.sources.units import BOHR, GPA, HARTREE
from hdistill.data.structure import Structure

KCAL = 0.04336410390059322
LENGTHS = {
    "A": 1.0,
    "Angstrom": 1.0,
    "bohr": BOHR,
    "Bohrs": BOHR,
    "a0": BOHR,
    "au": BOHR,
    "nm": 10.0,
    "nanometers": 10.0,
}
ENERGIES = {"eV": 1.0, "Ha": HARTREE, "hartree": HARTREE, "Hartree": HARTREE, "kcal/mol": KCAL, "kJ/mol": KCAL / 4.184}
STRESSES = {"GPa": GPA, "kbar": GPA / 10, "eV/A^3": 1.0, "eV/Ang**3": 1.0}
NONSENSE = ("cubit", "furlong", "eV/A/A/A/A", "lj", "hartree*parsec", "?")
FORMS = (
    str,
    lambda text: text.encode(),
    np.bytes_,
    lambda text: np.array([text.encode()]),
    lambda text: np.array(text.encode()),
)

number = st.floats(-50, 50, width=32).map(float)
symbol = st.sampled_from(["H", "C", "O", "Fe", "Ar", "U"])
anything = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\x00"), max_size=60
)


def cases(n: int) -> Any:
    return settings(
        max_examples=n, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=n < 1000
    )


@st.composite
def cells(draw: Any) -> np.ndarray:
    """Left-handed, permuted, singular, sheared, tiny, huge."""
    scale = draw(st.sampled_from([1e-3, 1.0, 5.0, 1e6]))
    cell = np.diag([draw(st.floats(0.5, 3)) for _ in range(3)]) * scale
    for i, j in ((1, 0), (2, 0), (2, 1)):
        cell[i, j] = draw(st.sampled_from([0.0, 0.3, -2.0])) * scale
    cell = cell[draw(st.permutations([0, 1, 2]))][:, draw(st.permutations([0, 1, 2]))]
    cell[draw(st.integers(0, 2))] *= draw(st.sampled_from([1.0, -1.0, 0.0]))
    return cell


@st.composite
def geometries(draw: Any) -> tuple[list[str], np.ndarray]:
    species = draw(st.lists(symbol, min_size=1, max_size=4))
    return species, np.array([[draw(number) for _ in range(3)] for _ in species])


def write(path: Path, comment: str, species: list[str], columns: np.ndarray) -> None:
    rows = [f"{s} {' '.join(repr(float(x)) for x in row)}" for s, row in zip(species, columns, strict=True)]
    path.write_text("\n".join([str(len(species)), comment, *rows]) + "\n", encoding="utf-8")


def ours(path: Path, report: SourceReport | None = None, keys: Keys = Keys()) -> Structure | None:  # noqa: B008 (frozen)
    """The one structure of an extended XYZ file, or None where it is refused."""
    try:
        (frame,) = frames(path)
        return structure_of(record_of_frame(frame), keys, SourceReport() if report is None else report, "a.xyz@0")
    except Unusable:
        return None


def by_ase(path: Path) -> Atoms | None:
    try:
        return next(iter(read_xyz(io.StringIO(path.read_text(encoding="utf-8")), index=0)))
    except Exception:
        return None


def joined(values: Any) -> str:
    return " ".join(repr(float(x)) for x in np.ravel(values))


# Extended XYZ against ASE


def check_against_ase(tmp_path: Path, n: int) -> None:
    path = tmp_path / "a.xyz"
    extra = st.sampled_from(["forces:R:3", "REF_forces:R:3", "tags:I:1", "move_mask:L:1", "magmoms:R:1", "label:S:1"])
    value = st.one_of(
        st.integers(-9, 9), number, st.booleans(), st.sampled_from(['"1 2 3"', '"T F"', "x7", '"two words"'])
    )

    @cases(n)
    @given(
        geometries(),
        st.none() | cells(),
        st.none() | st.tuples(*[st.booleans()] * 3),
        st.lists(extra, unique=True),
        st.data(),
    )
    def run(geometry: Any, cell: Any, pbc: Any, extras: list[str], data: Any) -> None:
        species, positions = geometry
        columns = positions.astype(object)
        for name in extras:
            _, kind, width = name.split(":")
            made = {
                "R": number,
                "I": st.integers(-5, 5),
                "L": st.sampled_from(["T", "F"]),
                "S": st.sampled_from(["a", "b7"]),
            }
            block = [[data.draw(made[kind]) for _ in range(int(width))] for _ in species]
            columns = np.hstack([columns, np.array(block, dtype=object)])
        words = [f"Properties={':'.join(['species:S:1:pos:R:3', *extras])}"]
        words += [f'Lattice="{joined(cell)}"'] if cell is not None else []
        words += [f'pbc="{" ".join("FT"[flag] for flag in pbc)}"'] if pbc is not None else []
        words += [f"key{i}={data.draw(value)}" for i in range(data.draw(st.integers(0, 3)))]
        energy = data.draw(st.none() | number)
        words += [f"energy={energy!r}"] if energy is not None else []
        rows = [f"{s} {' '.join(str(x) for x in row)}" for s, row in zip(species, columns, strict=True)]
        comment = " ".join(data.draw(st.permutations(words)))
        path.write_text("\n".join([str(len(species)), comment, *rows]) + "\n")
        structure, atoms = ours(path), by_ase(path)
        assert structure is not None
        if atoms is None:
            return
        assert structure.numbers.tolist() == atoms.numbers.tolist()
        np.testing.assert_array_equal(structure.positions, atoms.positions)
        np.testing.assert_array_equal(structure.cell, atoms.cell.array)
        if cell is None or cell.any():  # a cell of zeros is none, and periodic only where that is said
            assert structure.pbc.tolist() == atoms.pbc.tolist()
        if energy is not None:
            assert structure.ref_energy == energy
        wanted = atoms.arrays.get("REF_forces", (atoms.calc.results if atoms.calc else {}).get("forces"))
        assert (structure.ref_forces is None) == (wanted is None)
        if wanted is not None:
            np.testing.assert_array_equal(structure.ref_forces, wanted)
        for key, ase_value in atoms.info.items():
            np.testing.assert_array_equal(structure.info[key], ase_value)

    run()


def check_any_comment(tmp_path: Path, n: int) -> None:
    """Whatever stands in a comment line: no exception but a refusal, and what both read is the same."""
    path = tmp_path / "a.xyz"
    keys = st.sampled_from(
        ["Lattice", "cell", "pbc", "energy", "charge", "spin", "uhf", "name", "units", "length_unit", "stress"]
    )
    item = st.one_of(
        anything, st.tuples(keys, anything).map("=".join), st.tuples(keys, anything).map('{0[0]}="{0[1]}"'.format)
    )

    @cases(n)
    @given(geometries(), st.lists(item, max_size=4).map(" ".join))
    @example((["H"], np.zeros((1, 3))), 'a="\\"')
    @example((["H"], np.zeros((1, 3))), "=")
    @example((["H"], np.zeros((1, 3))), 'Lattice="1e999 0 0 0 1 0 0 0 1"')
    def run(geometry: Any, comment: str) -> None:
        species, positions = geometry
        write(path, comment, species, positions)
        report = SourceReport()
        structure, atoms = ours(path, report), by_ase(path)
        if structure is None or atoms is None:
            return
        if not report.units and "cell" not in comment.lower() and "box" not in comment.lower():
            assert structure.numbers.tolist() == atoms.numbers.tolist()
            np.testing.assert_array_equal(structure.positions, atoms.positions)
            if "lattice" not in comment or "Lattice" in comment:
                np.testing.assert_array_equal(structure.cell, atoms.cell.array)

    run()


# Against the values that a file was written from


def check_units_cells_and_names(tmp_path: Path, n: int) -> None:
    path = tmp_path / "a.xyz"
    cell_key = st.sampled_from(["Lattice", "lattice", "cell", "Cell", "unit_cell", "box"])
    length_key = st.sampled_from(["length_unit", "units_of_length", "distance_unit", "positions_units", "LENGTH_UNIT"])
    energy_key = st.sampled_from(["energy_unit", "units_energy", "REF_energy_units"])
    name = st.from_regex(r"[0-9]{1,3}[_e]?[0-9]{1,4}", fullmatch=True)
    word = st.sampled_from([*LENGTHS, *NONSENSE])

    @cases(n)
    @given(
        *(geometries(), cells(), cell_key, word, length_key, st.sampled_from([*ENERGIES, *NONSENSE]), energy_key),
        *(st.sampled_from([*STRESSES]), name, st.data()),
    )
    def run(
        g: Any, cell: Any, ckey: str, lw: str, lkey: str, ew: str, ekey: str, sw: str, text: str, data: Any
    ) -> None:
        species, positions = g
        forces = np.array([[data.draw(number) for _ in range(3)] for _ in species])
        comment = (
            f'Properties=species:S:1:pos:R:3:forces:R:3 {ckey}="{joined(cell)}" {lkey}={lw} {ekey}={ew} name={text} '
            f'energy=-3.5 stress="{joined(np.eye(3) * 0.01)}" stress_unit={sw}'
        )
        write(path, comment, species, np.hstack([positions, forces]))
        report = SourceReport()
        structure = ours(path, report)
        if lw in NONSENSE or ew in NONSENSE:
            assert structure is None
            return
        assert structure is not None
        np.testing.assert_allclose(structure.positions, positions * LENGTHS[lw], rtol=1e-12)
        np.testing.assert_allclose(structure.cell, cell * LENGTHS[lw], rtol=1e-12)
        assert structure.group == text
        assert structure.ref_energy == pytest.approx(-3.5 * ENERGIES[ew], rel=1e-12)
        wanted = forces * ENERGIES[ew] / LENGTHS[lw]
        if np.abs(wanted).max() < 9e3:
            np.testing.assert_allclose(structure.ref_forces, wanted, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(structure.ref_stress, np.eye(3) * 0.01 * STRESSES[sw], rtol=1e-12)

    run()


def check_charge_and_spin(tmp_path: Path, n: int) -> None:
    path = tmp_path / "a.xyz"
    charge_key = st.sampled_from([None, "charge", "total_charge", "Charge", "net_charge", "totalCharge"])
    spin_key = st.sampled_from(
        [None, "spin", "multiplicity", "spin_multiplicity", "mult", "total_spin", "uhf", "n_unpaired"]
    )

    @cases(n)
    @given(geometries(), charge_key, st.integers(-3, 3), spin_key, st.integers(1, 6))
    def run(g: Any, ckey: str | None, charge: int, skey: str | None, spin: int) -> None:
        species, positions = g
        unpaired = skey in ("uhf", "n_unpaired")
        words = [f"{ckey}={charge}"] if ckey else []
        words += [f"{skey}={spin - 1 if unpaired else spin}"] if skey else []
        write(path, " ".join([*words, "energy=1"]), species, positions)
        report = SourceReport()
        structure = ours(path, report)
        charge = charge if ckey else 0
        electrons = int(Atoms("".join(species)).numbers.sum()) - charge
        possible = [s for s in range(1, electrons + 2) if (electrons - s + 1) % 2 == 0]
        if (skey and spin not in possible) or not possible:
            assert structure is None
            return
        assert structure is not None
        assert (structure.charge, structure.spin) == (charge, spin if skey else possible[0])
        assert report.taken["spin"] == {skey or "": 1}

    run()


# Databases and HDF5


def check_database_metadata(tmp_path: Path, n: int) -> None:
    path = tmp_path / "a.db"

    @cases(n)
    @given(geometries(), st.sampled_from([*LENGTHS, *NONSENSE]), st.sampled_from([*ENERGIES, *NONSENSE]), st.booleans())
    def run(g: Any, lw: str, ew: str, nested: bool) -> None:
        species, positions = g
        path.unlink(missing_ok=True)
        with connect(path) as database:
            database.metadata = (
                {"_distance_unit": lw, "_property_unit_dict": {"energy": ew, "dipole": "debye"}}
                if nested
                else {"length_units": lw, "unit_of_energy": ew}
            )
            data = {"energy": np.array([-2.0]), "forces": np.ones((len(species), 3))}
            database.write(Atoms("".join(species), positions), data=data)
        if lw in NONSENSE or ew in NONSENSE:
            with pytest.raises(InputError, match="not a"):
                list(sources.read(str(path)))
            return
        (structure,) = sources.read(str(path))
        np.testing.assert_allclose(structure.positions, positions * LENGTHS[lw], rtol=1e-12)
        assert structure.ref_energy == pytest.approx(-2 * ENERGIES[ew])
        np.testing.assert_allclose(structure.ref_forces, ENERGIES[ew] / LENGTHS[lw], rtol=1e-9)

    run()


def check_hdf5_attributes(tmp_path: Path, n: int) -> None:
    path = tmp_path / "a.h5"

    @cases(n)
    @given(
        st.sampled_from([*LENGTHS, *NONSENSE]),
        st.sampled_from([*ENERGIES, *NONSENSE]),
        st.sampled_from(FORMS),
        st.booleans(),
    )
    def run(lw: str, ew: str, form: Any, on_group: bool) -> None:
        with h5py.File(path, "w") as root:
            root["z"], root["R"], root["E"], root["F"] = [8, 8], np.eye(3)[:2] * 2, -1.0, np.ones((2, 3))
            root["hessian"] = np.zeros((6, 6))
            if on_group:
                root.attrs["length_unit"], root.attrs["energy_unit"] = form(lw), form(ew)
            else:
                root["R"].attrs["units"], root["E"].attrs["unit"] = form(lw), form(ew)
        if lw in NONSENSE or ew in NONSENSE:
            with pytest.raises(InputError, match="not a"):
                list(read_hessians(path))
            return
        (item,) = read_hessians(path)
        structure = structure_of(item.record, Keys(), SourceReport(), "x")
        np.testing.assert_allclose(structure.positions, np.eye(3)[:2] * 2 * LENGTHS[lw], rtol=1e-12)
        assert structure.ref_energy == pytest.approx(-ENERGIES[ew])
        np.testing.assert_allclose(structure.ref_forces, ENERGIES[ew] / LENGTHS[lw], rtol=1e-9)

    run()


CHECKS = {
    check_against_ase: (60, 25_000),
    check_any_comment: (80, 30_000),
    check_units_cells_and_names: (60, 20_000),
    check_charge_and_spin: (80, 20_000),
    check_database_metadata: (6, 2_000),
    check_hdf5_attributes: (25, 3_000),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_is_read_is_what_was_written(tmp_path, check):
    check(tmp_path, CHECKS[check][0])


@pytest.mark.long
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_is_read_is_what_was_written_long(tmp_path, check):
    check(tmp_path, CHECKS[check][1])
