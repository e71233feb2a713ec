"""vasprun.xml as a source: a real run, and one of several ionic steps made of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.io import read

from hdistill.data import sources
from hdistill.data.errors import InputError

FORMATS = Path(__file__).resolve().parents[3] / "shared" / "data" / "formats"
REAL = FORMATS / "phonopy" / "NaCl" / "vasprun.xml-001"
pytestmark = pytest.mark.skipif(not REAL.exists(), reason="the real files are not here")


def several(energies: tuple[float, ...], n_loops: tuple[int, ...], nelect: float = 448.0) -> str:
    """The real run with so many ionic steps, each with an energy and a length of its electronic loop (of at most 60)."""
    text = REAL.read_text()
    start, _, rest = text.partition("<calculation>")
    inner, _, end = rest.partition("</calculation>")
    loop = re.findall(r"<scstep>.*?</scstep>", inner, re.DOTALL)[1]
    bare = re.sub(r"<scstep>.*</scstep>", "", inner, flags=re.DOTALL)
    start = start.replace('name="NELECT">    448.00000000', f'name="NELECT">    {nelect}')
    steps = ""
    for energy, n in zip(energies, n_loops, strict=True):
        loops = "".join(loop.replace("273.19219493", f"{273.0 + 1.0 / (k + 1):.8f}") for k in range(n))
        steps += f"<calculation>{loops}{bare.replace('-216.82820693', f'{energy:.8f}')}</calculation>"
    return start + steps + end


def run(text: str, path: Path) -> tuple[list, sources.SourceReport]:  # type: ignore[type-arg]
    path.write_text(text)
    report = sources.SourceReport()
    return list(sources.read(str(path), report=report)), report


def test_a_real_run_is_what_ase_reads() -> None:
    """Free energy, raw forces, and a stress that counts tension as positive; the cell is squeezed at -1.66 kbar of VASP's."""
    for path in (REAL, FORMATS / "vasp" / "NaCl-dfpt.vasprun.xml"):
        report = sources.SourceReport()
        (structure,) = sources.read(str(path), report=report)
        atoms = read(path, format="vasp-xml")
        assert structure.ref_energy == atoms.get_potential_energy(force_consistent=True)
        np.testing.assert_array_equal(structure.ref_forces, atoms.calc.results["forces"])
        np.testing.assert_allclose(structure.ref_stress, atoms.get_stress(voigt=False), rtol=1e-6)
        np.testing.assert_allclose(structure.positions, atoms.positions, atol=1e-12)
        assert (structure.charge, structure.pbc.all()) == (0, True)
        assert any("free energies (TOTEN)" in remark for remark in report.remarks)
    assert structure.ref_stress[0, 0] == pytest.approx(1.6568 * 0.1 * units.GPa, rel=1e-3)


def test_every_ionic_step_whose_loop_converged(tmp_path: Path) -> None:
    """The second needed all of NELM and still changed by more than EDIFF; it is left out, and counted."""
    structures, report = run(several((-1.0, -2.0, -3.0), (12, 60, 20)), tmp_path / "vasprun.xml")
    assert [s.ref_energy for s in structures] == [-1.0, -3.0]
    assert [s.info["ionic_step"] for s in structures] == [0, 2]
    assert report.skipped == {"electronic loop did not converge": 1}
    assert "60 steps of the electronic loop (NELM)" in report.first_skipped["electronic loop did not converge"]
    (last,) = sources.read(f"{tmp_path}/vasprun.xml@-1")
    assert last.ref_energy == -3.0


def test_a_run_that_is_cut_short_gives_what_it_has(tmp_path: Path) -> None:
    text = several((-1.0, -2.0), (5, 5))
    structures, report = run(text[: text.rindex("</calculation>") - 400], tmp_path / "vasprun.xml")
    assert [s.ref_energy for s in structures] == [-1.0]
    assert "in the middle of ionic step 1" in report.first_skipped["cut short"]
    with pytest.raises(InputError, match="no structure that can be used: 1 skipped, cut short"):
        run(text[: text.index("<calculation>")], tmp_path / "vasprun.xml")


def test_electrons_that_are_missing_are_a_charge(tmp_path: Path) -> None:
    structures, _ = run(several((-1.0,), (5,), nelect=447.0), tmp_path / "vasprun.xml")
    assert structures[0].charge == 1
