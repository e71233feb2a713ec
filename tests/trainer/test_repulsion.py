"""The short-range repulsion: its formula, its end, its derivatives, and what it is for: atoms that meet at high energy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.data import covalent_radii
from ase.md.verlet import VelocityVerlet
from scipy.spatial.distance import pdist

from hdistill.data.errors import InputError
from hdistill.data.labelsets.label_set import open_label_set
from hdistill.data.labelsets.stream import in_order
from hdistill.data.structure import Structure
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.settings import FitSettings
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import load_student
from hdistill.trainer.force_field.predict import predict
from hdistill.trainer.inputs.batch import batch_of
from hdistill.trainer.inputs.neighbours import EdgeCache, nearest_pairs
from hdistill.trainer.students.build import build
from hdistill.trainer.students.radial import envelope
from hdistill.trainer.students.registry import size_of
from hdistill.trainer.students.repulsion import REACH, WithRepulsion, screened_coulomb
from tests.trainer.structures import saved_student

ELEMENTS = (1, 6, 8, 22, 38)
# Shortest distances (A) that a healthy simulation sees: stretches at 1000 K of the shortest bonds of these pairs.
BONDED = {
    (1, 1): 0.62,
    (1, 6): 0.90,
    (1, 8): 0.80,
    (6, 6): 1.07,
    (6, 8): 1.03,
    (8, 8): 1.07,
    (7, 7): 1.00,
    (8, 22): 1.5,
}


def pair(left: int, right: int, r: float) -> Structure:
    return Structure(np.array([left, right], np.uint8), np.array([[0.0, 0, 0], [r, 0, 0]]))


def repulsion_of(structure: Structure) -> torch.Tensor:
    """Energies of a student with the repulsion, less those of the same student without it."""
    batch = batch_of([structure], 4.5)
    energies = []
    for repulsion in (True, False):
        model = build(size_of("painn-small", repulsion), ELEMENTS, 1.0).to(torch.float64)
        energies.append(predict(model, batch, forces=False).energy)
    return energies[0] - energies[1]


def at(left: int, right: int, r: torch.Tensor) -> torch.Tensor:
    charges = (torch.full_like(r, float(z)) for z in (left, right))
    return screened_coulomb(r, *charges)


@pytest.mark.parametrize(
    ("left", "right", "r", "wanted"),
    [(1, 1, 0.3, 16.54014), (6, 8, 0.5, 151.51654), (38, 22, 1.0, 133.73221), (6, 6, 1e-3, 514467.80731)],
)
def test_tabulated_energies(left: int, right: int, r: float, wanted: float) -> None:
    """Computed by hand from the published constants, a0 = 0.529177 A and e^2 = 14.39964 eV A."""
    assert at(left, right, torch.tensor([r], dtype=torch.float64)).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("left", "right"), [(1, 1), (6, 8), (38, 22)])
def test_a_pair_has_its_faded_energy_once(left: int, right: int) -> None:
    reach = REACH * (covalent_radii[left] + covalent_radii[right])
    for r in (0.3 * reach, 0.6 * reach, 0.95 * reach):
        wanted = at(left, right, torch.tensor([r])) * envelope(torch.tensor([r / reach]))
        assert repulsion_of(pair(left, right, r)).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert repulsion_of(pair(left, right, 1.0001 * reach)).item() == 0


def test_bonded_distances_are_not_touched() -> None:
    for (left, right), shortest in BONDED.items():
        assert REACH * (covalent_radii[left] + covalent_radii[right]) < shortest, (left, right)


def test_derivatives_are_continuous_where_it_ends() -> None:
    """Value and three derivatives of a pair of carbon atoms fall to 0 at the end of its reach."""
    reach = REACH * 2 * covalent_radii[6]

    def derivatives(r: float) -> np.ndarray:
        x = torch.tensor([r], dtype=torch.float64, requires_grad=True)
        value = at(6, 6, x) * envelope(x / reach)
        actual = [value.item()]
        for _ in range(3):
            (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
            actual.append(value.item())
        return np.abs(actual)

    wide, narrow = derivatives(reach - 1e-2), derivatives(reach - 1e-3)
    assert (narrow < 0.2 * wide).all(), (wide, narrow)
    assert wide[3] > 1
    assert (derivatives(reach + 1e-6) == 0).all()


def test_forces_and_products_are_differences() -> None:
    model = build(size_of("painn-small", repulsion=True), ELEMENTS, 1.0).to(torch.float64)
    rng = np.random.default_rng(0)
    positions = 0.55 * np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) + rng.normal(scale=0.05, size=(4, 3))
    v = rng.normal(size=(1, 4, 3))

    def say(step: float) -> tuple[float, torch.Tensor, torch.Tensor]:
        structure = Structure(np.array([6, 1, 8, 6], np.uint8), positions + step * v[0])
        messages = predict(model, batch_of([structure], 4.5), torch.from_numpy(v))
        assert messages.forces is not None
        assert messages.products is not None
        return messages.energy.item(), messages.forces.detach(), messages.products[0]

    (ahead, forces_ahead, _), (_, forces, products), (behind, forces_behind, _) = say(1e-5), say(0.0), say(-1e-5)
    assert (forces.numpy() * v).sum() == pytest.approx(-(ahead - behind) / 2e-5, rel=1e-6)
    torch.testing.assert_close(products, -(forces_ahead - forces_behind) / 2e-5, rtol=1e-5, atol=1e-4)
    assert forces.abs().max() > 10  # the repulsion is most of it


@pytest.mark.parametrize("r", [1e-1, 1e-3, 1e-6])
def test_it_is_finite_however_near_atoms_are(r: float) -> None:
    model = build(size_of("moment", repulsion=True), ELEMENTS, 1.0)
    messages = predict(model, batch_of([pair(6, 8, r)], 4.5), torch.ones(1, 2, 3, dtype=torch.float64))
    assert messages.forces is not None
    assert messages.products is not None
    assert messages.energy.isfinite().all()
    assert messages.forces.isfinite().all()
    assert messages.products.isfinite().all()
    assert messages.forces[1, 0] > 100  # apart


def test_it_begins_where_the_training_set_ends(argon: Path, tmp_path: Path) -> None:
    """At the shortest distance of two elements there, so that it takes part in no label; and it is kept with the student."""
    settings = FitSettings(student="moment", repulsion=True, steps=2, warmup=0, validate_every=2)
    model = load_student(fit(argon, tmp_path / "run", settings, progress=False).run).model
    assert isinstance(model, WithRepulsion)
    structures = [sample.structure for sample in in_order(open_label_set(argon), "train")]
    shortest = min(float(pdist(s.positions).min()) for s in structures)
    assert model.reach.tolist() == [[pytest.approx(shortest, rel=1e-6)]]
    for structure in structures:
        batch = batch_of([structure], model.cutoff)
        both = [predict(student, batch, forces=False).energy for student in (model, model.student)]
        assert torch.equal(*both)
    for nearer in (0.9, 0.5):
        batch = batch_of([pair(18, 18, nearer * shortest)], model.cutoff)
        both = [predict(student, batch, forces=False).energy for student in (model, model.student)]
        wanted = at(18, 18, torch.tensor([nearer * shortest])) * envelope(torch.tensor([nearer]))
        assert (both[0] - both[1]).item() == pytest.approx(wanted.item(), rel=1e-3)


def test_elements_that_never_meet_keep_their_radii() -> None:
    model = build(size_of("moment", repulsion=True), (1, 6, 8), 1.0)
    assert isinstance(model, WithRepulsion)
    before = model.reach.clone()
    edges, s = EdgeCache(), Structure(np.array([1, 1, 8], np.uint8), np.array([[0.0, 0, 0], [1.5, 0, 0], [2, 2, 0]]))
    model.begin_below(torch.from_numpy(nearest_pairs([s], 2.2, edges)))
    assert model.reach[0].tolist() == pytest.approx([1.5, before[0, 1].item(), 2.0615528], rel=1e-6)
    assert torch.equal(model.reach, model.reach.T)
    assert torch.equal(model.reach[1], before[1])
    assert model.reach[2, 2] == before[2, 2]


def test_direct_forces_are_refused() -> None:
    with pytest.raises(InputError, match=r"'painn-direct' says forces itself"):
        FitSettings(student="painn-direct", repulsion=True)


def test_no_weights_and_the_students_own_parts() -> None:
    with_it, without = (build(size_of("painn-small", repulsion), ELEMENTS, 1.0) for repulsion in (True, False))
    assert [p.shape for p in with_it.parameters()] == [p.shape for p in without.parameters()]
    assert with_it.embedding is with_it.student.embedding  # type: ignore[union-attr]
    assert with_it.readout is with_it.student.readout  # type: ignore[union-attr]


def test_a_fitted_student_keeps_its_repulsion(argon: Path, tmp_path: Path) -> None:
    settings = FitSettings(student="moment", repulsion=True, steps=2, warmup=0, validate_every=2)
    loaded = load_student(fit(argon, tmp_path / "run", settings, progress=False).run)
    assert loaded.card.size == size_of("moment", repulsion=True)
    batch = batch_of([pair(18, 18, 0.2)], loaded.cutoff)
    assert predict(loaded.model, batch, forces=False).energy > 1000


@pytest.mark.parametrize("student", ["painn-small", "moment"])
def test_atoms_that_collide_do_not_collapse(student: str, tmp_path: Path) -> None:
    """Two carbon atoms meet at 100 eV. With the repulsion they turn where it is 100 eV; without it the student's own energy,
    which is finite at r = 0, lets one through the other."""
    nearest, drift = {}, {}
    for repulsion in (True, False):
        run = saved_student(tmp_path / str(repulsion), size_of(student, repulsion), student, ELEMENTS)
        calculator = HDistillCalculator(run, dtype="float64")
        atoms = Atoms("C2", positions=[[0, 0, 0], [1.6, 1e-3, 0]], calculator=calculator)
        speed = np.sqrt(100.0 / atoms.get_masses()[0])  # 50 eV for each
        atoms.set_velocities([[speed, 0, 0], [-speed, 0, 0]])
        moving = VelocityVerlet(atoms, timestep=0.02 * units.fs)
        before = atoms.get_total_energy()
        seen = []
        for _ in range(200):
            moving.run(1)
            seen.append(atoms.positions[1, 0] - atoms.positions[0, 0])
        nearest[repulsion], drift[repulsion] = min(seen), abs(atoms.get_total_energy() - before)
        if repulsion:
            assert seen[-1] > 1  # they have parted again
    r = torch.linspace(0.1, 1.0, 1000, dtype=torch.float64)
    barrier = at(6, 6, r) * envelope(r / (REACH * 2 * covalent_radii[6]))
    turning = r[(barrier - 100).abs().argmin()].item()
    assert nearest[True] == pytest.approx(turning, rel=0.05)
    assert drift[True] < 0.1
    assert nearest[False] < -0.5
