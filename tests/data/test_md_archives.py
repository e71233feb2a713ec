"""MD17, revised MD17 and MD22 as they are published: units, frames one by one, and archives that are something else."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import write

from hdistill.data import sources
from hdistill.data.errors import InputError

KCAL = units.kcal / units.mol
Z = np.array([8, 1, 1], np.uint8)
R = np.array([[0.0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]) + 0.01 * np.arange(5)[:, None, None]
E = -47000.0 - np.arange(5.0)
F = np.random.default_rng(0).normal(size=(5, 3, 3)) * 20


def of_sgdml(path: Path, **more: object) -> Path:
    """Energies are a column there."""
    np.savez(path, z=Z, R=R, E=E[:, None], F=F, name=b"water", theory="pbe", **more)  # type: ignore[arg-type]
    return path


def check(structures: list) -> None:  # type: ignore[type-arg]
    assert len(structures) == 5
    for k, s in enumerate(structures):
        np.testing.assert_allclose(s.positions, R[k], atol=1e-7)
        assert s.ref_energy == pytest.approx(E[k] * KCAL, rel=1e-9)
        np.testing.assert_allclose(s.ref_forces, F[k] * KCAL, atol=1e-7)


def test_what_is_published_is_in_kcal_per_mol(tmp_path: Path) -> None:
    report = sources.SourceReport()
    check(list(sources.read(str(of_sgdml(tmp_path / "md17_water.npz")), report=report)))
    assert any("states no units" in remark for remark in report.remarks)
    np.savez(tmp_path / "rmd17_water.npz", nuclear_charges=Z, coords=R, energies=E, forces=F, old_indices=np.arange(5))
    check(list(sources.read(str(tmp_path / "rmd17_water.npz"))))


def test_units_that_the_file_states_are_used(tmp_path: Path) -> None:
    path = of_sgdml(tmp_path / "water.npz", r_unit="Ang", e_unit="eV")
    report = sources.SourceReport()
    (first, *_) = sources.read(str(path), report=report)
    assert first.ref_energy == E[0]
    assert not report.remarks
    with pytest.raises(InputError, match="not a known unit"):
        list(sources.read(str(of_sgdml(tmp_path / "odd.npz", r_unit="Ang", e_unit="furlong"))))


def test_a_subset_by_name_is_found_in_a_folder(tmp_path: Path) -> None:
    of_sgdml(tmp_path / "md22_double-walled_nanotube.npz")
    (s, *_) = sources.read("md22:double-walled-nanotube", tmp_path)
    assert s.ref_energy == pytest.approx(E[0] * KCAL)
    frames = []
    for k in range(5):
        atoms = Atoms(Z, R[k])
        atoms.info["energy"] = E[k]
        atoms.arrays["forces"] = F[k]
        frames.append(atoms)
    write(tmp_path / "md22_DHA.xyz", frames, format="extxyz")
    check(list(sources.read("md22:DHA", tmp_path)))
    for name, data, message in (
        ("nanotube", tmp_path, "there are Ac-Ala3-NHMe"),
        ("stachyose", tmp_path, "no file of md22:stachyose"),
        ("stachyose", None, "needs --data"),
        ("stachyose", tmp_path / "none", "found no"),
    ):
        with pytest.raises(InputError, match=message):
            sources.read(f"md22:{name}", data)


def test_frames_are_read_one_after_the_other(tmp_path: Path) -> None:
    path = of_sgdml(tmp_path / "water.npz")
    assert next(iter(sources.read(f"{path}@3"))).ref_energy == pytest.approx(E[3] * KCAL)


def test_other_archives_are_one_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    np.savez(tmp_path / "objects.npz", z=Z, R=np.array([{}, {}], object), E=E, F=F)
    np.savez(tmp_path / "sizes.npz", z=Z, R=R[:, :2], E=E, F=F)
    whole = of_sgdml(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(whole[:-300])
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as made, zipfile.ZipFile(tmp_path / "whole.npz") as archive:
        for name in archive.namelist():
            made.writestr(name, archive.read(name)[: -100 if name == "F.npy" else None])
    for name, message in (
        ("other.npz", "holds weights; an archive of structures has z, R, E, F or"),
        ("objects.npz", "R is not a plain array of numbers"),
        ("sizes.npz", "a frame has"),
        ("short.npz", "cannot be read as an archive of plain numbers"),
        ("rows.npz", "F is cut short in row 3 of 5; fetch"),
    ):
        with pytest.raises(InputError, match=message):
            list(sources.read(str(tmp_path / name)))
