"""Runs in the mace environment: `python mace_student.py RUN MODEL` prints, as JSON, how far MACE students are from what they must be.
RUN: a run of a mace-small; MODEL: the .model file that was exported of it."""

from __future__ import annotations

import io
import json
import sys
import warnings
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ase.build import bulk, molecule
from torch import nn

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import load_student, save_student
from hdistill.trainer.force_field.predict import Prediction, predict
from hdistill.trainer.inputs.batch import batch_of
from hdistill.trainer.students.build import build
from hdistill.trainer.students.registry import size_of

ELEMENTS = (1, 6, 8)
H = 1e-4


def main(run: Path, model_file: Path) -> dict[str, object]:
    warnings.simplefilter("ignore")
    ethanol = molecule("CH3CH2OH")
    s = Structure(ethanol.numbers, ethanol.positions)
    found: dict[str, object] = {}
    for name in ("mace-small", "mace-medium"):
        size = size_of(name)
        model = build(size, ELEMENTS, 1.0, seed=3).double()
        v = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 1.0], (1, s.n_atoms, 3)))

        def at(positions: np.ndarray, model: nn.Module = model, cutoff: float = size.cutoff) -> Prediction:
            return predict(model, batch_of([replace(s, positions=positions)], cutoff))

        here = predict(model, batch_of([s], size.cutoff), v, stress=True)
        step = H * v[0].numpy()
        slope = (at(s.positions + step).energy - at(s.positions - step).energy) / (2 * H)
        curve = -(at(s.positions + step).forces - at(s.positions - step).forces) / (2 * H)
        turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))  # may be a reflection
        reverse = replace(s, numbers=s.numbers[::-1].copy(), positions=s.positions[::-1] @ turn.T)
        turned = predict(model, batch_of([reverse], size.cutoff))
        found[name] = {
            "forces": float((slope + (here.forces * v[0]).sum()).abs().max()),
            "products": float((curve - here.products[0]).abs().max() / here.products.abs().max()),
            "turned": float((turned.forces.flip(0) @ torch.from_numpy(turn) - here.forces).abs().max()),
            "parameters": parameters(model, s, size.cutoff, v),
            "scripted": sum(isinstance(m, torch.jit.ScriptModule) for m in deepcopy(model).modules()),
            "n": sum(p.numel() for p in model.parameters()),
        }
    found["own"] = by_the_package(run, model_file)
    found["refused"] = refusals(run)
    return found


def parameters(model: nn.Module, s: Structure, cutoff: float, v: torch.Tensor) -> float:
    """The gradient of a loss of forces and products by parameters along a direction, relative, beside a difference."""

    def loss() -> torch.Tensor:
        p = predict(model, batch_of([s], cutoff), v, training=True)
        assert p.products is not None
        assert p.forces is not None
        return p.products.square().sum() + p.forces.square().sum()

    weights = list(model.parameters())
    way = [torch.randn(w.shape, dtype=w.dtype, generator=torch.Generator().manual_seed(1)) for w in weights]
    slope = sum((g * x).sum() for g, x in zip(torch.autograd.grad(loss(), weights), way, strict=True))
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for w, x in zip(weights, way, strict=True):
                w += sign * 1e-5 * x
        values.append(float(loss().detach()))
        with torch.no_grad():
            for w, x in zip(weights, way, strict=True):
                w -= sign * 1e-5 * x
    return abs((values[0] - values[1]) / 2e-5 / float(slope) - 1)


def by_the_package(run: Path, model_file: Path) -> dict[str, float]:
    """What MACE's own calculator says with the file, beside ours with the run, on molecules and a crystal."""
    with redirect_stdout(io.StringIO()):
        from mace.calculators import MACECalculator

        theirs = MACECalculator(model_paths=str(model_file), device="cpu", default_dtype="float64")
    ours = HDistillCalculator(run, dtype="float64", warn_beyond=None, compiled=False)
    crystal = bulk("C", "diamond", a=3.7, cubic=True)
    crystal.rattle(0.1, seed=2)
    off = {"energy": 0.0, "forces": 0.0, "stress": 0.0}
    for atoms in (molecule("CH3CH2OH"), crystal):
        answers = []
        for calculator in (theirs, ours):
            atoms.calc = calculator
            stress = atoms.get_stress() if atoms.pbc.any() else np.zeros(6)
            answers.append((atoms.get_potential_energy(), atoms.get_forces(), stress))
        for name, a, b in zip(off, *answers, strict=True):
            off[name] = max(off[name], float(np.abs(a - b).max()))
    return off


def refusals(run: Path) -> list[str]:
    """What is said of files whose cards ask for networks that would take all memory, or that no one knows."""
    trained = load_student(run)
    said = []
    for changes in ({"channels": 4000}, {"max_l": 12}, {"options": {"hidden_l": 0, "more": 1}}):
        folder = run.parent / "odd"
        folder.mkdir(exist_ok=True)
        card = replace(trained.card, size=replace(trained.card.size, **changes))
        save_student(folder, card, trained.model)
        try:
            load_student(folder)
            said.append("nothing")
        except InputError as error:
            said.append(str(error))
    return said


if __name__ == "__main__":
    result = main(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps(result))
