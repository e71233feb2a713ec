"""A student as a metatomic model, run by metatomic's own ASE calculator: the same numbers, of atoms and of batches, and dynamics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

import hdistill
from hdistill.data.errors import InputError
from hdistill.trainer.evaluation.dynamics import nve
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import load_student
from hdistill.trainer.force_field.engines import metatomic
from hdistill.trainer.force_field.engines.metatomic import export_metatomic, interaction_range
from hdistill.trainer.force_field.engines.outputs import arguments_of, outputs_of
from hdistill.trainer.force_field.engines.parity import TOLERANCE, NotExported
from hdistill.trainer.students.registry import size_of
from hdistill.trainer.students.sizes import SIZES
from tests.trainer.structures import crystal, molecule, saved_student

pytest.importorskip("metatomic_ase")
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning", "ignore:.torch.jit.:FutureWarning")
EVERY = [name for name, size in SIZES.items() if not size.direct]
QUICK = ("painn-small", "ace-local-small")


@pytest.mark.parametrize(
    ("name", "repulsion"),
    [
        *(pytest.param(n, False, marks=() if n in QUICK else pytest.mark.long) for n in EVERY),
        *(pytest.param(n, True, marks=() if n == "moment" else pytest.mark.long) for n in EVERY),
    ],
)
def test_every_student_has_the_same_numbers(name: str, repulsion: bool, tmp_path: Path) -> None:
    run = saved_student(tmp_path / "run", size_of(name, repulsion), name)
    export = export_metatomic(run, tmp_path / "student.pt", "float64", structures=[molecule(8), crystal()])
    assert export.difference.within(TOLERANCE)
    assert export.difference.energy < 1e-10
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".pt"] == ["student.pt"]


@pytest.fixture(scope="module")
def organics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted student in float32, with reference energies, through the command's own function."""
    path = tmp_path_factory.mktemp("metatomic") / "organics.pt"
    figures = hdistill.export("organics", path, to="metatomic")
    assert figures["dtype"] == "float32"
    assert figures["forces_ev_per_angstrom"] < 1e-2
    return path


def test_energies_have_the_references_and_atoms_their_own(organics: Path) -> None:
    from ase.build import molecule as named
    from metatomic_ase import MetatomicCalculator

    calculator = MetatomicCalculator(organics)
    for atoms in (named("CH3CONH2"), bulk("C", cubic=True)):
        atoms.rattle(0.05, seed=0)
        atoms.calc = HDistillCalculator("organics", dtype="float64", warn_beyond=None, compiled=False)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        found = calculator.compute_energy(atoms, compute_forces_and_stresses=True, per_atom=True)
        assert found["energy"] == pytest.approx(energy, abs=1e-4)
        assert found["energies"].sum() == pytest.approx(energy, abs=1e-4)
        assert np.allclose(found["forces"], forces, atol=1e-4)
    with pytest.raises(Exception, match=r"type 14|not trained on|atomic type"):
        calculator.compute_energy(bulk("Si"))


def test_selected_atoms_are_those_that_were_selected(organics: Path) -> None:
    """What engines that divide space among processes ask for: the energies of their own atoms, with all atoms as neighbours."""
    import torch
    from ase.build import molecule as named
    from metatensor.torch import Labels
    from metatomic.torch import ModelOutput
    from metatomic_ase import MetatomicCalculator

    calculator, atoms = MetatomicCalculator(organics), [named("CH3OH"), named("H2O")]
    own = torch.tensor([[0, 1], [0, 3], [1, 0]], dtype=torch.int32)
    selected = Labels(["system", "atom"], own)
    whole = calculator.compute_energy(atoms, per_atom=True)["energies"]
    for kind, wanted in (
        ("atom", [whole[0][1], whole[0][3], whole[1][0]]),
        ("system", [whole[0][[1, 3]].sum(), whole[1][0]]),
    ):
        outputs = {"energy": ModelOutput(unit="eV", sample_kind=kind)}
        found = calculator.run_model(atoms, outputs, selected)["energy"].block().values.flatten()
        assert np.allclose(found.numpy(), wanted, atol=1e-9)


def test_dynamics_conserve_energy(organics: Path) -> None:
    from ase.build import molecule as named
    from metatomic_ase import MetatomicCalculator

    done = nve(named("CH3OH"), MetatomicCalculator(organics), steps=100, timestep_fs=0.5, temperature_K=300)
    own = nve(
        named("CH3OH"), HDistillCalculator("organics", compiled=False), steps=100, timestep_fs=0.5, temperature_K=300
    )
    assert done.stable
    assert done.total[0] == pytest.approx(own.total[0], abs=1e-5)
    assert done.excursion == pytest.approx(own.excursion, abs=0.2)


@pytest.mark.parametrize(("name", "hops"), [("moment", 1), ("ace-local-small", 1), ("painn-small", 2), ("painn", 3)])
def test_how_far_atoms_reach(name: str, hops: int, tmp_path: Path) -> None:
    trained = load_student(saved_student(tmp_path / "run", size_of(name), name))
    assert interaction_range(trained) == hops * trained.cutoff


def test_what_cannot_be_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = saved_student(tmp_path / "direct", size_of("painn-small-direct"), "painn-small-direct")
    with pytest.raises(NotExported, match=r"gradient of the energy.*direct forces"):
        export_metatomic(direct, tmp_path / "a.pt")
    run = saved_student(tmp_path / "run", size_of("moment"), "moment")
    with pytest.raises(InputError, match=r"does not end in \.pt;"):
        export_metatomic(run, tmp_path / "a.pth")

    def other(path: Path, trained: object, device: str) -> object:
        def evaluate(structures: list) -> object:  # type: ignore[type-arg]
            model = load_student(run, dtype="float64")
            outputs = outputs_of(model.model, None, *arguments_of(structures, model.cutoff))
            return type(outputs)(outputs.energies + 1e-3, outputs.forces, outputs.stress, None)

        return evaluate

    monkeypatch.setattr(metatomic, "through_ase", other)
    with pytest.raises(NotExported, match=r"It is off by energy 1\.0e-03"):
        export_metatomic(run, tmp_path / "a.pt")
    assert not list(tmp_path.glob("*.pt"))
    monkeypatch.setitem(__import__("sys").modules, "metatomic.torch", None)
    with pytest.raises(InputError, match=r"pip install -c constraints\.txt metatomic-torch"):
        export_metatomic(run, tmp_path / "a.pt")
