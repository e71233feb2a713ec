"""CP2K's vibrational analysis: as CP2K printed it, against its own frequencies and against ASE's Hessian of the same potential."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.lj import LennardJones
from ase.vibrations import Vibrations

from hdistill.data.errors import InputError
from hdistill.data.format.shard import Sample
from tests.data.cp2k_outputs import ARGON, WATER
from tests.data.test_import_hessians_alone import frequencies, imported, matrix


def read(text: str, folder: Path, **stated: Any) -> tuple[Sample, str]:
    folder.mkdir()
    (folder / "run.out").write_text(text)
    return imported(folder / "run.out", folder / "labels", **stated)


def test_water_has_the_frequencies_that_cp2k_states(tmp_path: Path) -> None:
    sample, said = read(WATER, tmp_path / "water")
    found = frequencies(sample.structure.numbers, matrix(sample))[-3:]
    assert found == pytest.approx(
        [1520.873598, 3389.844535, 3585.503758], rel=2e-3
    )  # turns are in these, 10 cm^-1 of the first
    assert sample.structure.numbers.tolist() == [8, 1, 1]
    np.testing.assert_allclose(sample.structure.positions[2], (5.03, 4.23, 4.47), atol=1e-9)
    assert not sample.structure.pbc.any()
    assert sample.labels.energy == pytest.approx(-5.767995102083 * units.Hartree, rel=1e-6)
    assert sample.labels.forces[0, 2] == pytest.approx(-0.022063525 * units.Hartree / units.Bohr, rel=1e-5)
    assert "charge or multiplicity is not printed: taken as 0 and 1" in said
    with pytest.raises(InputError, match="has energy and forces: --at-minimum is not needed"):
        read(WATER, tmp_path / "needless", at_minimum=True)


def test_argon_has_the_hessian_of_its_potential(tmp_path: Path) -> None:
    """Sign, units, weights, order and cell at once: ASE's finite differences of the same Lennard-Jones potential."""
    sample, _ = read(ARGON, tmp_path / "argon")
    s = sample.structure
    atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc)
    assert s.pbc.all()
    atoms.calc = LennardJones(sigma=3.405, epsilon=119.8 * units.kB, rc=8.0)
    run = Vibrations(atoms, name=str(tmp_path / "vib"), delta=1e-3)
    run.run()
    np.testing.assert_allclose(matrix(sample), run.get_vibrations().get_hessian_2d(), atol=1e-5)
    assert np.abs(matrix(sample)).max() > 0.3
    np.testing.assert_allclose(sample.labels.forces, atoms.get_forces(), atol=1e-6)


def test_the_unit_by_an_eigenvalue_and_its_frequency() -> None:
    """Of a run that TAMkin has for its tests (cp2k/dan/freq.out): the highest eigenvalue, and what CP2K makes of it."""
    from hdistill.data.convert.hessians.cp2k import SCALE

    per_u = 79.617 * SCALE * units.Hartree / units.Bohr**2  # eV/A^2/u
    frequency = np.sqrt(per_u * units._e / units._amu) * 1e10 / (2 * np.pi * 100 * units._c)
    assert frequency == pytest.approx(1958.331396, rel=1e-5)


def test_charge_and_the_layouts_of_other_versions(tmp_path: Path) -> None:
    stated = WATER.replace(
        " CELL| Periodicity",
        " DFT| Multiplicity                2\n DFT| Charge                     -1\n CELL| Periodicity",
    )
    sample, said = read(stated, tmp_path / "ion")
    assert (sample.structure.charge, sample.structure.spin) == (-1, 2)
    assert "is not printed" not in said
    older = (
        ARGON.replace("IN ANGSTROM", "IN angstrom")
        .replace("Mass\n", "Mass\n\n")
        .replace("Total energy", "Total Energy")
    )
    older = "\n".join(line for line in older.splitlines() if "CELL| Periodicity" not in line)
    sample, said = read(older, tmp_path / "older")
    assert sample.structure.pbc.all()
    assert "no periodicity is printed: taken as XYZ" in said
    start, end = (WATER.index(mark) for mark in (" VIB|\n", " VIB| Hessian"))
    without = WATER[:start] + WATER[end:]
    with pytest.raises(InputError, match="say --at-minimum"):
        read(without, tmp_path / "without")
    with pytest.raises(InputError, match="not of a minimum of its geometry"):  # nor is it
        read(without, tmp_path / "vouched", at_minimum=True)


def test_outputs_that_cannot_be_used(tmp_path: Path) -> None:
    def refused(text: str, match: str, name: str) -> None:
        with pytest.raises(InputError, match=match):
            read(text, tmp_path / name)

    refused(WATER[: WATER.index("     7  H")], r"its Hessian has 30 of 36 numbers", "cut")
    refused(WATER[: WATER.index(" VIB| Hessian")], r"no 'VIB\| Hessian in cartesian coordinates'", "none")
    refused(WATER.replace("172.476750", "*" * 10), r"its Hessian has 77 of 81 numbers", "stars")
    refused(WATER.replace("107.176117", "117.176117"), r"its Hessian is not symmetric, by [\d.]+ eV/A\^2", "asymmetric")
    refused(
        WATER.replace("3389.844535", "3589.844535"),
        r"a frequency of 3389\.\d cm\^-1 where the file says 3585\.5",
        "other",
    )
    refused(
        WATER.replace("4.460000", "5.460000"), r"turning its geometry and forces leaves forces of [\d.]+ eV/A", "moved"
    )
    more = WATER.replace(
        "\n\n VIB|\n", "\n      4    2 H     1      8.0      4.23      4.47     1.0   1.0079\n\n VIB|\n"
    )
    refused(more, "a Hessian of 3 of its 4 atoms, where all must be free to move", "frozen")
    refused(WATER.replace("COORDINATES IN ANGSTROM", "COORDINATES"), "no 'ATOMIC COORDINATES IN'", "bare")
