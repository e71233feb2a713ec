"""Published Hessians become label sets: units, signs and layouts right, bad ones named. The truth is a molecule of springs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.io import write as write_ase
from numpy.typing import NDArray

from hdistill.data.convert.importing import ImportSettings, import_file
from hdistill.data.errors import InputError, LabelSetError
from hdistill.data.format.shard import Sample, read_samples
from hdistill.data.labelsets.label_set import verify
from hdistill.data.sources.units import BOHR, HARTREE

SPRING, LENGTH = 30.0, 1.1  # eV/A^2, A
EV = ImportSettings(
    units="eV/A",
    level_of_theory="springs",
    licence="CC-BY-4.0",
    citation="R. Hooke (1678)",
    splits="0.6,0.2,0.2",
    codec="exact",
)
AU = ImportSettings(units="hartree/bohr", length="bohr", codec="exact")


def silent(_: str) -> None: ...


def springs(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Energy, forces (N,3) and +d2E/dR2 (3N,3N) of springs between all pairs."""
    n = len(x)
    energy, forces, hessian = 0.0, np.zeros((n, 3)), np.zeros((n, 3, n, 3))
    for i in range(n):
        for j in range(i):
            d = x[i] - x[j]
            r = float(np.linalg.norm(d))
            u = d / r
            energy += SPRING / 2 * (r - LENGTH) ** 2
            slope = SPRING * (r - LENGTH)
            forces[i] -= slope * u
            forces[j] += slope * u
            block = SPRING * np.outer(u, u) + slope / r * (np.eye(3) - np.outer(u, u))
            for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                hessian[a, :, b, :] += sign * block
    return energy, forces, hessian.reshape(3 * n, 3 * n)


def molecules(n: int = 8, size: int | None = None) -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    corners = np.array([[0, 0, 0], [1.1, 0, 0], [0, 1.1, 0], [0, 0, 1.1], [1.1, 1.1, 0]])
    sizes = [size or 2 + i % 4 for i in range(n)]
    return [corners[:s] + rng.normal(scale=0.05, size=(s, 3)) for s in sizes]


def numbers_of(n: int) -> list[int]:
    return [6, 1, 8, 1, 7][:n]


def write_extxyz(
    path: Path, columns: bool = False, bend: Callable[[int, NDArray[Any]], NDArray[Any]] | None = None
) -> Path:
    frames = []
    for number, x in enumerate(molecules()):
        energy, forces, hessian = springs(x)
        hessian = hessian if bend is None else bend(number, hessian)
        atoms = Atoms(numbers_of(len(x)), x, info={"REF_energy": energy, "group": f"m{number}"})
        atoms.arrays["REF_forces"] = forces
        if columns:
            atoms.arrays["hessian"] = hessian.reshape(len(x), -1)
        else:
            atoms.info["hessian"] = hessian.ravel()
        frames.append(atoms)
    write_ase(path, frames, format="extxyz")
    return path


def samples_of(folder: Path) -> list[Sample]:
    return [sample for shard in verify(folder).shards for sample in read_samples(shard.path)]


def require_right(samples: list[Sample]) -> None:
    """Every label is that of the springs, products to float32."""
    for sample in samples:
        s, labels = sample.structure, sample.labels
        energy, forces, hessian = springs(s.positions)
        assert labels.energy == pytest.approx(energy, abs=1e-6)
        assert np.allclose(labels.forces, forces, atol=1e-5)
        assert labels.hessian is not None
        vectors = labels.hessian.directions.vectors(s.n_atoms)
        truth = (vectors.reshape(len(vectors), -1) @ hessian).reshape(vectors.shape)
        assert np.abs(labels.hessian.values - truth).max() < 1e-6 * np.abs(truth).max()


@pytest.mark.parametrize(("hessian", "columns"), [("probes:3", False), ("rows:4", True), ("full", False)])
def test_extxyz(tmp_path: Path, hessian: str, columns: bool) -> None:
    file = write_extxyz(tmp_path / "in.xyz", columns)
    settings = ImportSettings(**{**vars(EV), "hessian": hessian})
    manifest = import_file(file, tmp_path / "labels", settings, say=silent)
    samples = samples_of(tmp_path / "labels")
    assert len(samples) == 8
    require_right(samples)
    assert {s.structure.group for s in samples} == {f"m{i}" for i in range(8)}
    assert {s.split for s in samples} == {"train", "val", "test"}
    teacher = manifest.teacher
    assert teacher.family == "reference"
    assert teacher.level_of_theory == "springs"
    assert manifest.licenses.structures == "CC-BY-4.0"
    assert manifest.licenses.weights_class == "open"
    assert manifest.subset.citation == ("R. Hooke (1678)",)
    assert manifest.subset.inputs[0].name == "in.xyz"
    again = import_file(file, tmp_path / "again", settings, say=silent)
    assert again == manifest
    with pytest.raises(LabelSetError, match="holds a label set already"):
        import_file(file, tmp_path / "labels", settings, say=silent)


def test_hdf5_in_atomic_units_single_and_stacked(tmp_path: Path) -> None:
    file = tmp_path / "in.h5"
    with h5py.File(file, "w") as root:
        stack = molecules(6, size=3)
        actual = [springs(x) for x in stack]
        group = root.create_group("set/water")
        group["atomic_numbers"] = numbers_of(3)
        group["positions"] = np.array(stack) / BOHR
        group["energy"] = np.array([e for e, _, _ in actual]) / HARTREE
        group["gradient"] = -np.array([f for _, f, _ in actual]) / HARTREE * BOHR
        group["hessian"] = np.array([h.reshape(3, 3, 3, 3) for _, _, h in actual]) / HARTREE * BOHR**2
        for number, x in enumerate(molecules(4)):
            energy, forces, hessian = springs(x)
            one = root.create_group(f"single/{number}")
            one["z"] = numbers_of(len(x))
            one["coordinates"] = x / BOHR
            one.attrs["energy"] = energy / HARTREE
            one["forces"] = forces / HARTREE * BOHR
            one["hessian"] = hessian.ravel() / HARTREE * BOHR**2
    import_file(file, tmp_path / "labels", AU, say=silent)
    samples = samples_of(tmp_path / "labels")
    assert len(samples) == 10
    require_right(samples)
    assert sum(s.structure.group == "set/water" for s in samples) == 6


def test_npz_and_units_that_the_file_states(tmp_path: Path) -> None:
    actual = [springs(x) for x in molecules(5, size=4)]
    fields = {
        "R": np.array(molecules(5, size=4)),
        "z": np.array(numbers_of(4)),
        "E": np.array([e for e, _, _ in actual]),
        "F": np.array([f for _, f, _ in actual]),
        "hessian": np.array([h for _, _, h in actual]),
    }
    np.savez(tmp_path / "in.npz", **fields)
    import_file(tmp_path / "in.npz", tmp_path / "labels", EV, say=silent)
    require_right(samples_of(tmp_path / "labels"))
    with pytest.raises(InputError, match="does not say in which units"):
        import_file(tmp_path / "in.npz", tmp_path / "no", ImportSettings(), say=silent)
    with h5py.File(tmp_path / "in.h5", "w") as root:
        for name, array in fields.items():
            root[name] = array
        root["hessian"].attrs["units"] = "eV/A^2"
    import_file(tmp_path / "in.h5", tmp_path / "stated", ImportSettings(codec="exact"), say=silent)
    require_right(samples_of(tmp_path / "stated"))
    with pytest.raises(InputError, match="one of them is wrong"):
        import_file(tmp_path / "in.h5", tmp_path / "no", AU, say=silent)


def test_the_wrong_sign_is_refused_and_can_be_stated(tmp_path: Path) -> None:
    file = write_extxyz(tmp_path / "in.xyz", bend=lambda _, h: -h)
    with pytest.raises(InputError, match=r"negative trace.*--negate"):
        import_file(file, tmp_path / "labels", EV, say=silent)
    assert not (tmp_path / "labels").exists()
    import_file(file, tmp_path / "labels", ImportSettings(**{**vars(EV), "negate": True}), say=silent)
    require_right(samples_of(tmp_path / "labels"))


def test_bad_hessians_are_named_in_quarantine(tmp_path: Path) -> None:
    def bend(number: int, hessian: NDArray[Any]) -> NDArray[Any]:
        changed = hessian.copy()
        if number == 1:
            changed[0, 4] += 5.0
        elif number == 2:
            changed += 3.0 * np.eye(len(changed))  # symmetric, but a spring to nowhere: it feels a translation
        elif number == 3:
            changed[0, 0] = np.nan
        elif number == 4:
            changed = -changed
        elif number == 5:
            changed = changed[:-1]
        return changed

    messages: list[str] = []
    manifest = import_file(write_extxyz(tmp_path / "in.xyz", bend=bend), tmp_path / "labels", EV, say=messages.append)
    require_right(samples_of(tmp_path / "labels"))
    assert manifest.counts.n_structures == 3
    texts = [row.text for row in manifest.quarantine]
    for text, words in zip(texts, ("not symmetric", "translation", "not finite", "below zero", "numbers"), strict=True):
        assert words in text
    assert any("quarantine" in line for line in messages)


def test_units_that_cannot_be_right_are_remarked(tmp_path: Path) -> None:
    messages: list[str] = []
    file = write_extxyz(tmp_path / "in.xyz", bend=lambda _, h: h / HARTREE * BOHR**2)
    import_file(file, tmp_path / "labels", EV, say=messages.append)
    assert any("are the units right" in line for line in messages)


def test_what_cannot_be_imported_is_said(tmp_path: Path) -> None:
    good = write_extxyz(tmp_path / "in.xyz")
    pickled = tmp_path / "horm.lmdb"
    pickled.write_bytes(b"x")
    np.savez(tmp_path / "code.npz", hessian=np.array([print], dtype=object))
    with h5py.File(tmp_path / "half.h5", "w") as root:
        root["hessian"] = np.eye(3)
    for file, settings, words in (
        (tmp_path / "absent.xyz", EV, "no file"),
        (pickled, EV, "run code"),
        (tmp_path / "code.npz", EV, "without running code"),
        (tmp_path / "half.h5", EV, "must have atomic_numbers"),
        (good, ImportSettings(units="parsec"), "not a known unit"),
        (good, ImportSettings(**{**vars(EV), "hessian": "none"}), "an import takes"),
        (good, ImportSettings(**{**vars(EV), "licence": "CC-BY-5"}), "not a licence known"),
    ):
        with pytest.raises(InputError, match=words):
            import_file(file, tmp_path / "labels", settings, say=silent)
    assert not (tmp_path / "labels").exists()


def test_an_external_link_is_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as root:
        root["hessian"] = np.eye(3)
    with h5py.File(tmp_path / "in.h5", "w") as root:
        root["hessian"] = h5py.ExternalLink("secret.h5", "hessian")
        root["more"] = h5py.ExternalLink("secret.h5", "/")
    with pytest.raises(InputError, match="no structure"):
        import_file(tmp_path / "in.h5", tmp_path / "labels", EV, say=silent)


def test_a_student_learns_from_it(tmp_path: Path) -> None:
    from hdistill.trainer.fitting.fit import fit
    from hdistill.trainer.fitting.settings import FitSettings

    import_file(write_extxyz(tmp_path / "in.xyz"), tmp_path / "labels", EV, say=silent)
    result = fit(
        tmp_path / "labels", tmp_path / "run", FitSettings(student="painn-small", steps=2, batch_size=2), progress=False
    )
    assert result.steps == 2
