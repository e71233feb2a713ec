"""What a file of Hessians states of its units is used or refused; orders of Hessians are recognised; checkpoints give their frequencies.

The truth is the molecule of springs of test_importing.py. Files of ../shared are read as they came where they are there.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase.data import atomic_masses
from ase.io import read as read_ase
from click.testing import CliRunner

from hdistill.data.convert.importing import ImportSettings, import_file
from hdistill.data.errors import InputError
from hdistill.data.sources.units import BOHR, HARTREE
from hdistill.pipelines.cli.main import main
from tests.data.test_importing import EV, molecules, numbers_of, require_right, samples_of, springs, write_extxyz

SHARED = Path(__file__).parents[3] / "shared" / "data"
NO_UNITS = replace(EV, units=None)
KCAL = 1 / 23.060547830619  # eV a molecule: CODATA 2018


def one_by_one(path: Path, units: dict[str, Any], factors: dict[str, float], order: str = "(3N,3N)") -> Path:
    """A group a structure, each array divided by its factor; units: each array's attribute `units`, none where it is None."""
    with h5py.File(path, "w") as root:
        for number, x in enumerate(molecules()):
            energy, forces, hessian = springs(x)
            n = len(x)
            if order == "(N,N,3,3)":
                hessian = hessian.reshape(n, 3, n, 3).transpose(0, 2, 1, 3)
            group = root.create_group(f"{number:03}")
            group["atomic_numbers"] = numbers_of(n)
            for name, value in (("positions", x), ("energy", energy), ("forces", forces), ("hessian", hessian)):
                group[name] = np.asarray(value) / factors.get(name, 1.0)
                if name in units:
                    group[name].attrs["units"] = units[name]
    return path


def imported(file: Path, out: Path, settings: ImportSettings = NO_UNITS) -> list[str]:
    messages: list[str] = []
    import_file(file, out, settings, say=messages.append)
    return messages


EACH_ITS_OWN = {
    "positions": ("bohr", BOHR),
    "energy": ("kJ/mol", KCAL / 4.184),
    "forces": ("kcal/mol/A", KCAL),
    "hessian": ("hartree/bohr^2", HARTREE / BOHR**2),
}


def test_each_array_has_its_own_unit(tmp_path: Path) -> None:
    units = {name: unit for name, (unit, _) in EACH_ITS_OWN.items()}
    factors = {name: factor for name, (_, factor) in EACH_ITS_OWN.items()}
    messages = imported(one_by_one(tmp_path / "in.h5", units, factors), tmp_path / "labels")
    require_right(samples_of(tmp_path / "labels"))
    said = " ".join(messages)
    assert all(f"{unit} (attribute of its {name})" in said for name, (unit, _) in EACH_ITS_OWN.items()), said


@pytest.mark.parametrize(
    "unit",
    [
        "bohr",
        "Bohr",
        "Bohrs",
        "bohrs",
        "BOHR",
        "a0",
        "au",
        "a.u.",
        "atomic units",
        b"bohr",
        np.bytes_(b"bohr"),
        ["bohr"],
    ],
    ids=str,
)
def test_every_spelling_of_bohr(tmp_path: Path, unit: Any) -> None:
    file = one_by_one(tmp_path / "in.h5", {"positions": unit}, {"positions": BOHR})
    imported(file, tmp_path / "labels", EV)
    require_right(samples_of(tmp_path / "labels"))


@pytest.mark.parametrize(("unit", "factor"), [("nm", 10.0), ("nanometers", 10.0), ("pm", 0.01), ("angstrom", 1.0)])
def test_other_lengths(tmp_path: Path, unit: str, factor: float) -> None:
    imported(one_by_one(tmp_path / "in.h5", {"positions": unit}, {"positions": factor}), tmp_path / "labels", EV)
    require_right(samples_of(tmp_path / "labels"))


@pytest.mark.parametrize("name", ["positions", "energy", "forces", "hessian"])
@pytest.mark.parametrize("unit", ["furlong", "eV*s", 3, [1, 2], ["bohr", "A"]], ids=str)
def test_a_unit_that_is_not_understood_is_never_passed_over(tmp_path: Path, name: str, unit: Any) -> None:
    file = one_by_one(tmp_path / "in.h5", {name: unit}, {})
    with pytest.raises(InputError, match=r"is not a (known )?unit"):
        imported(file, tmp_path / "labels", EV)
    assert not (tmp_path / "labels" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("units", "options", "both"),
    [
        ({"positions": "bohr"}, {"length": "A"}, ("bohr", "--length")),
        ({"positions": "angstrom"}, {"length": "bohr"}, ("angstrom", "--length")),
        ({"energy": "hartree"}, {}, ("hartree", "--units")),
        ({"hessian": "hartree/bohr^2"}, {}, ("hartree/bohr", "--units")),
        ({"forces": "hartree/bohr"}, {}, ("hartree/bohr", "--units")),
    ],
)
def test_an_option_that_contradicts_the_file_is_refused(
    tmp_path: Path, units: dict[str, str], options: dict[str, Any], both: tuple[str, str]
) -> None:
    file = one_by_one(tmp_path / "in.h5", units, {})
    with pytest.raises(InputError) as refused:
        imported(file, tmp_path / "labels", replace(EV, **options))
    assert all(word in str(refused.value) for word in both), refused.value
    assert "wrong" in str(refused.value)


@pytest.mark.parametrize("columns", [True, False])
def test_the_length_that_is_stated_of_an_xyz_file_is_used(tmp_path: Path, columns: bool) -> None:
    """Positions in bohr, labels in eV and A."""
    text = write_extxyz(tmp_path / "in.xyz", columns).read_text().splitlines()
    lines = []
    for line in text:
        words = line.split()
        if len(words) > 4 and words[0] in ("C", "H", "O", "N"):
            words[1:4] = [repr(float(word) / BOHR) for word in words[1:4]]
            line = " ".join(words)
        lines.append(line)
    (tmp_path / "bohr.xyz").write_text("\n".join(lines) + "\n")
    imported(tmp_path / "bohr.xyz", tmp_path / "labels", replace(EV, length="bohr"))
    samples = samples_of(tmp_path / "labels")
    truth = np.concatenate(molecules())
    for sample in samples:
        nearest = np.abs(sample.structure.positions[:, None] - truth).sum(2).min(1)
        assert nearest.max() < 1e-6  # the file has some eight decimals


@pytest.mark.parametrize("order", ["(3N,3N)", "(N,N,3,3)"])
def test_orders_of_hessians_are_recognised_and_said(tmp_path: Path, order: str) -> None:
    messages = imported(one_by_one(tmp_path / "in.h5", {}, {}, order), tmp_path / "labels", EV)
    require_right(samples_of(tmp_path / "labels"))
    assert any("PySCF's order (N,N,3,3) in 8 structures" in message for message in messages) == (order == "(N,N,3,3)")


@pytest.mark.parametrize("suffix", [".fchk", ".FChk", ".fch"])
def test_a_formatted_checkpoint(tmp_path: Path, suffix: str) -> None:
    """Written as Gaussian writes them: lower triangle, five numbers a line, atomic units."""
    x = molecules(1, size=4)[0]
    energy, forces, hessian = springs(x)
    au = {"energy": HARTREE, "gradient": HARTREE / BOHR, "hessian": HARTREE / BOHR**2}

    def array(name: str, values: Any, kind: str = "R") -> str:
        values = np.ravel(values)
        per_line, form = (5, "{:16.8E}") if kind == "R" else (6, "{:12d}")
        rows = ["".join(form.format(v) for v in values[i : i + per_line]) for i in range(0, len(values), per_line)]
        return f"{name:40}   {kind}   N={len(values):12d}\n" + "\n".join(rows) + "\n"

    text = "springs\nFreq      RHF                                                         STO-3G\n"
    text += f"{'Charge':40}   I     {1:12d}\n{'Multiplicity':40}   I     {2:12d}\n"
    text += array("Atomic numbers", numbers_of(4), "I") + array("Current cartesian coordinates", x / BOHR)
    text += f"{'Total Energy':40}   R     {energy / au['energy']:22.15E}\n"
    text += array("Cartesian Gradient", -forces / au["gradient"])
    text += array("Cartesian Force Constants", (hessian / au["hessian"])[np.tril_indices(12)])
    file = tmp_path / f"springs{suffix}"
    file.write_text(text)
    imported(file, tmp_path / "labels", replace(NO_UNITS, splits="1,0,0", hessian="full"))
    (sample,) = samples_of(tmp_path / "labels")
    assert sample.labels.energy == pytest.approx(energy, abs=1e-6)
    assert np.allclose(sample.labels.forces, forces, atol=1e-5)
    assert sample.labels.hessian is not None
    assert np.allclose(sample.labels.hessian.values.reshape(12, 12), hessian, atol=1e-5)
    assert (sample.structure.charge, sample.structure.spin) == (1, 2)
    for end in (len(text) // 2, len(text) - 30):
        cut = tmp_path / f"cut{suffix}"
        cut.write_text(text[:end])
        with pytest.raises(InputError, match=r"has no|complete|were wanted"):
            imported(cut, tmp_path / f"never-{end}", NO_UNITS)


def frequencies(numbers: Any, hessian: np.ndarray) -> np.ndarray:
    """Wavenumbers in cm^-1 of +d2E/dR2 in eV/A^2, without projecting anything out."""
    weights = np.repeat(atomic_masses[numbers] ** -0.5, 3)
    squares = np.linalg.eigvalsh(hessian * np.outer(weights, weights))
    return np.sign(squares) * np.sqrt(np.abs(squares)) * 521.4708983725064


@pytest.mark.skipif(not SHARED.is_dir(), reason="the files of ../shared/data are not here")
def test_the_checkpoints_as_they_came(tmp_path: Path) -> None:
    """divinylbenzene by Gaussian has the frequencies of a molecule; one of Q-Chem states no energy."""
    file = SHARED / "formats" / "gaussian" / "dvb_ir.fchk"
    imported(file, tmp_path / "labels", replace(NO_UNITS, splits="1,0,0", hessian="full", codec="exact"))
    (sample,) = samples_of(tmp_path / "labels")
    assert sample.labels.hessian is not None
    s, n = sample.structure, 3 * sample.structure.n_atoms
    waves = frequencies(s.numbers, sample.labels.hessian.values.reshape(n, n))
    assert np.sort(np.abs(waves))[:6].max() < 40  # rigid motions
    assert 3000 < waves.max() < 4000  # C-H in STO-3G
    with pytest.raises(InputError, match="it has no energy"):
        imported(SHARED / "formats" / "qchem" / "water_ir.fchk", tmp_path / "never")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("orca.txt", "$orca_hessian_file\n\n$hessian\n3\n", "error:"),
        ("FORCE_CONSTANTS", "2 2\n1 1\n1.0 0.0 0.0\n", "FORCE_CONSTANTS"),
        ("water.log", "Entering Gaussian System\n", "water.log"),
        ("vasprun.xml", "<modeling></modeling>\n", "is not a vasprun.xml"),
        ("cut.vasprun.xml", "<modeling><calculation>\n", "cut short"),
        ("OUTCAR", " vasp.6.4.2\n", "vasprun.xml is read"),
        ("weights.pt", "\x80\x04.", "run code"),
    ],
)
def test_other_files_get_one_sentence_that_fits_them(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    done = CliRunner().invoke(main, ["labels", "import", str(tmp_path / name), "-o", str(tmp_path / "labels")])
    assert done.exit_code == 1
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "labels").exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the files of ../shared/data are not here")
@pytest.mark.parametrize("name", ["len_bytes", "len_au", "len_a0", "len_Bohrs", "len_good", "len_nanometer"])
def test_the_lengths_as_they_came(tmp_path: Path, name: str) -> None:
    imported(SHARED / "cases" / "hessians" / f"{name}.h5", tmp_path / "labels", EV)
    for sample in samples_of(tmp_path / "labels"):
        d = np.linalg.norm(sample.structure.positions[1:] - sample.structure.positions[0], axis=1)
        assert (np.abs(d - 0.97) < 0.25).all()  # O-H, rattled


@pytest.mark.skipif(not SHARED.is_dir(), reason="the files of ../shared/data are not here")
def test_pyscfs_order_as_it_came_is_the_other_file(tmp_path: Path) -> None:
    settings = replace(EV, units="hartree/bohr")
    both = []
    for name in ("H2O_ok", "H2O_pyscf", "CH4_ok", "CH4_pyscf"):
        imported(SHARED / "cases" / "hessians" / f"{name}.h5", tmp_path / name, settings)
        both.append({s.structure.id: s.labels.hessian.values for s in samples_of(tmp_path / name) if s.labels.hessian})
    for plain, pyscf in (both[:2], both[2:]):
        assert plain.keys() == pyscf.keys()
        assert all(np.allclose(plain[key], pyscf[key], atol=1e-4) for key in plain)


def vasprun(path: Path, x: np.ndarray, unit: str, factor: float) -> Path:
    """Two springs of C and H in a box, as VASP writes them: mass-weighted, negative."""
    energy, forces, truth = springs(x)
    roots = np.repeat(np.sqrt([12.011, 1.008]), 3)
    stored = -truth / np.outer(roots, roots) / factor

    def varray(name: str, rows: Any) -> str:
        lines = "".join(f"<v> {' '.join(f'{value:.10f}' for value in row)} </v>" for row in np.atleast_2d(rows))
        return f'<varray name="{name}">{lines}</varray>'

    crystal = f"<crystal>{varray('basis', 10 * np.eye(3))}</crystal>"
    geometry = f"{crystal}{varray('positions', x / 10)}"
    kinds = "".join(
        f"<rc><c>1</c><c>{s} </c><c>{m}</c><c>1</c><c>PAW</c></rc>" for s, m in (("C", 12.011), ("H", 1.008))
    )
    stated = f'<i name="unit" type="string">{unit}</i>' if unit else ""
    path.write_text(
        f"""<?xml version="1.0" encoding="ISO-8859-1"?><modeling>
<atominfo><array name="atomtypes"><set>{kinds}</set></array></atominfo><structure name="initialpos">{geometry}</structure>
<calculation><scstep><energy><i name="e_fr_energy">99.0</i></energy></scstep><structure>{geometry}</structure>
{varray("forces", forces)}<energy><i name="e_fr_energy"> {energy:.10f} </i><i name="e_0_energy">7.0</i></energy>
</calculation><dynmat>{stated}{varray("hessian", stored)}</dynmat></modeling>"""
    )
    return path


@pytest.mark.parametrize(("unit", "factor"), [("", 1.0), ("THz^2", 1 / 15.633304**2)])
def test_a_vasprun(tmp_path: Path, unit: str, factor: float) -> None:
    x = molecules(1, size=2)[0] + 3.0
    file = vasprun(tmp_path / "vasprun.xml", x, unit, factor)
    imported(file, tmp_path / "labels", replace(NO_UNITS, splits="1,0,0", hessian="full"))
    (sample,) = samples_of(tmp_path / "labels")
    energy, forces, hessian = springs(x)
    assert sample.labels.energy == pytest.approx(energy, abs=1e-6)  # the last step's, not that of the electronic steps
    assert np.allclose(sample.labels.forces, forces, atol=1e-5)
    assert sample.labels.hessian is not None
    assert np.allclose(sample.labels.hessian.values.reshape(6, 6), hessian, atol=1e-4)
    assert sample.structure.pbc.all()


def test_a_vasprun_that_is_not_what_it_should_be(tmp_path: Path) -> None:
    x = molecules(1, size=2)[0] + 3.0
    with pytest.raises(InputError, match="states its Hessian in 'Ry'"):
        imported(vasprun(tmp_path / "vasprun.xml", x, "Ry", 1.0), tmp_path / "labels")
    whole = (tmp_path / "vasprun.xml").read_text()
    (tmp_path / "vasprun.xml").write_text(whole[: whole.index("<dynmat>")] + "</modeling>")
    with pytest.raises(InputError, match="has no Hessian; VASP writes it with IBRION"):
        imported(tmp_path / "vasprun.xml", tmp_path / "labels")
    rows = re.findall(r"<v>[^<]*</v>", whole[whole.index("<dynmat>") :])
    (tmp_path / "vasprun.xml").write_text(whole.replace("Ry", "").replace(rows[-1], ""))
    with pytest.raises(InputError, match="all atoms must be free to move"):
        imported(tmp_path / "vasprun.xml", tmp_path / "labels")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the files of ../shared/data are not here")
def test_the_vasprun_as_it_came(tmp_path: Path) -> None:
    """NaCl by DFPT: energy, forces and geometry as ASE reads them, and the frequencies of rock salt."""
    file = SHARED / "formats" / "vasp" / "NaCl-dfpt.vasprun.xml"
    imported(file, tmp_path / "labels", replace(NO_UNITS, splits="1,0,0", hessian="full", codec="exact"))
    (sample,) = samples_of(tmp_path / "labels")
    atoms = read_ase(file, format="vasp-xml")
    assert sample.labels.energy == pytest.approx(atoms.get_potential_energy(force_consistent=True), abs=1e-6)
    assert np.allclose(sample.labels.forces, atoms.get_forces(), atol=1e-6)
    assert np.allclose(sample.structure.positions, atoms.positions, atol=1e-6)
    assert sample.structure.numbers.tolist() == atoms.numbers.tolist()
    assert sample.labels.hessian is not None
    waves = frequencies(sample.structure.numbers, sample.labels.hessian.values.reshape(192, 192))
    assert np.sort(np.abs(waves))[:3].max() < 5  # translations
    assert 200 < waves.max() < 270  # cm^-1; the longitudinal optical mode of NaCl is at 260
