"""From one structure to a force field: `distill` with everything at its defaults, and what came out against the teacher.

    python benchmarks/distill_cases.py -o OUT --case srtio3
    python benchmarks/distill_cases.py -o OUT --case tyramine --variant no-rounds

Resumable: distill goes on where it stopped, and each figure is kept in OUT/CASE-VARIANT/figures.json once it is known. Teachers must be
installed (`hdistill teachers install sevennet`, `... torchani`). CPU seconds are of this process and its children.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.eos import EquationOfState
from ase.md.langevin import Langevin
from ase.spacegroup import crystal

import hdistill
from hdistill.data.sampling.torsions import rotatable_bonds, turn
from hdistill.data.structure import Structure
from hdistill.labeler.teacher_calculator import TeacherCalculator
from hdistill.pipelines.distill.around import rattled
from hdistill.pipelines.distill.folder import once, read_frames, write_frames

KCAL = 1 / (units.kcal / units.mol)  # kcal/mol per eV
TYRAMINE = "CC(=O)NCCc1ccc(O)cc1"
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no-rounds": {"rounds": 0},
    "no-hessian": {"hessian": "none"},
    "longer": {"steps": 1800},
}


def srtio3() -> Atoms:
    return crystal(
        ["Sr", "Ti", "O"], [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], spacegroup=221, cellpar=[3.905] * 3 + [90] * 3
    )


def silicon() -> Atoms:
    return crystal(["Si"], [(0, 0, 0)], spacegroup=227, cellpar=[5.431] * 3 + [90] * 3)


CASES: dict[str, dict[str, Any]] = {
    "srtio3": {"start": srtio3, "teacher": "7net-0", "temperature": [600.0], "repeat": (2, 2, 2)},
    "silicon": {"start": silicon, "teacher": "7net-0", "temperature": [300.0, 900.0], "repeat": (2, 2, 2)},
    "tyramine": {"start": lambda: TYRAMINE, "teacher": "ani-1x", "temperature": [300.0, 600.0]},
    "ethanol": {"start": lambda: "CCO", "teacher": "ani-1x", "temperature": [300.0, 600.0]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--variant", choices=VARIANTS, default="default")
    parser.add_argument("--structures", type=int)
    parser.add_argument("--student")
    given = parser.parse_args()
    case = CASES[given.case]
    out = given.out / "-".join(filter(None, (given.case, given.variant, given.student)))
    more = VARIANTS[given.variant] | ({"structures": given.structures} if given.structures else {})
    more |= {"student": given.student} if given.student else {}
    before = cpu()
    done = hdistill.distill(
        case["start"](),
        out / "result",
        teacher=case["teacher"],
        temperature=case["temperature"],
        progress=False,
        **more,
    )
    spent = once(out / "distill-cpu.json", lambda: {"cpu_seconds": cpu() - before})
    student = hdistill.HDistillCalculator(done.run, warn_beyond=None)
    measure = crystal_figures if "repeat" in case else molecule_figures
    with TeacherCalculator(case["teacher"]) as teacher:
        figures = once(out / "figures.json", lambda: measure(out, case, teacher, student))
    summary = {
        "case": given.case,
        "variant": given.variant,
        **spent,
        "teacher_seconds": done.teacher_seconds,
        "fit_cpu_seconds": done.fit_cpu_seconds,
        "n_structures": done.n_structures,
        "why": done.why,
        "on_policy": done.on_policy,
        "exam": {k: done.exam[k] for k in ("force_mae", "force_rms", "n_whole", "n_replicas", "drift_mev_per_atom")},
        **figures,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1))
    print(done)
    print(json.dumps(summary, indent=1))


def crystal_figures(out: Path, case: dict[str, Any], teacher: Any, student: Any) -> dict[str, Any]:
    """Lattice constant and bulk modulus, phonons at all wave vectors that the supercell holds, errors on the teacher's dynamics."""
    cell = read_frames(out / "result" / "start" / "relaxed.xyz")[0]
    states = {
        name: equation_of_state(cell, calculator) for name, calculator in (("teacher", teacher), ("student", student))
    }
    phonons = {}
    for name, calculator in (("teacher", teacher), ("student", student)):
        at_minimum = cell.copy()
        at_minimum.set_cell(cell.cell.array * states[name]["scale"], scale_atoms=True)
        phonons[name] = frequencies(at_minimum, case["repeat"], calculator)
    differences = [
        abs(a - b)
        for q in phonons["teacher"]
        for a, b in zip(phonons["teacher"][q], phonons["student"][q], strict=True)
    ]
    larger = cell.repeat(case["repeat"])
    return {
        "lattice_scale": {name: state["scale"] for name, state in states.items()},
        "bulk_modulus_gpa": {name: state["bulk_modulus"] for name, state in states.items()},
        "phonon_mae_thz": float(np.mean(differences)),
        "lowest_thz": {q: {name: phonons[name][q][0] for name in phonons} for q in phonons["teacher"]},
        "teacher_dynamics": on_teachers_dynamics(out, larger, teacher, student, max(case["temperature"]), 2.0, 240),
    }


def molecule_figures(out: Path, case: dict[str, Any], teacher: Any, student: Any) -> dict[str, Any]:
    """Conformers' energies, rigid scans of all torsions, harmonic frequencies, errors on the teacher's dynamics."""
    relaxed = read_frames(out / "result" / "start" / "relaxed.xyz")[0]
    some = conformers(case["start"]())
    a, b = (np.array([energy(atoms, c) for atoms in some]) * KCAL for c in (teacher, student))
    waves = {
        name: hdistill.frequencies(relaxed, c.get_hessian(relaxed))
        for name, c in (("teacher", teacher), ("student", student))
    }
    return {
        "conformers": {
            "n": len(some),
            "spread_kcal": float(a.std()),
            "spearman": spearman(a, b),
            "pearson": float(np.corrcoef(a, b)[0, 1]),
            "mae_kcal": float(np.abs((a - a.mean()) - (b - b.mean())).mean()),
        },
        "scans": scans(relaxed, teacher, student),
        "frequency_mae_cm": float(np.abs(waves["teacher"] - waves["student"]).mean()),
        "teacher_dynamics": on_teachers_dynamics(out, relaxed, teacher, student, max(case["temperature"]), 1.0, 3000),
    }


def equation_of_state(cell: Atoms, calculator: Any) -> dict[str, float]:
    """scale: of the cell at the minimum of the energy; bulk modulus in GPa; atoms at the same fractions."""
    scales = np.linspace(0.98, 1.02, 7)
    volumes, energies = [], []
    for scale in scales:
        atoms = cell.copy()
        atoms.set_cell(cell.cell.array * scale, scale_atoms=True)
        volumes.append(atoms.get_volume())
        energies.append(energy(atoms, calculator))
    volume, _, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit(warn=False)
    return {"scale": float((volume / cell.get_volume()) ** (1 / 3)), "bulk_modulus": float(modulus / units.GPa)}


def frequencies(
    cell: Atoms, repeat: tuple[int, int, int], calculator: Any, step: float = 0.01
) -> dict[str, list[float]]:
    """THz, ascending, imaginary ones negative, at the wave vectors (in units of reciprocal vectors) that the supercell holds, each kind
    once: central differences of the forces when the atoms of one cell move."""
    larger = cell.repeat(repeat)
    n = len(cell)
    constants = np.zeros((3 * n, len(larger), 3))
    for row in range(3 * n):
        atom, axis = divmod(row, 3)
        for sign in (1, -1):
            moved = larger.copy()
            moved.positions[atom, axis] += sign * step
            moved.calc = calculator
            constants[row] -= sign * moved.get_forces() / (2 * step)
    offsets = np.array([(i, j, k) for i in range(repeat[0]) for j in range(repeat[1]) for k in range(repeat[2])])
    masses = np.repeat(cell.get_masses(), 3)
    blocks = constants.reshape(3 * n, len(offsets), 3 * n)
    found = {}
    for name, q in (("G", (0, 0, 0)), ("X", (0, 0, 0.5)), ("M", (0.5, 0.5, 0)), ("R", (0.5, 0.5, 0.5))):
        phases = np.exp(2j * np.pi * offsets @ np.array(q))
        matrix = np.einsum("rcs,c->rs", blocks, phases) / np.sqrt(np.outer(masses, masses))
        squares = np.linalg.eigvalsh((matrix + matrix.conj().T) / 2)
        waves = (
            np.sign(squares) * np.sqrt(np.abs(squares)) * units._e**0.5 * 1e10 / units._amu**0.5 / (2 * np.pi) / 1e12
        )
        found[name] = sorted(waves.tolist())[3:] if name == "G" else sorted(waves.tolist())
    return found


def on_teachers_dynamics(
    out: Path, start: Atoms, teacher: Any, student: Any, temperature: float, timestep: float, steps: int
) -> dict[str, Any]:
    """Force errors (meV/A) on 12 frames of the second half of the teacher's own dynamics; the frames are kept."""
    file = out.parent / f"teacher-{out.name.split('-')[0]}-{temperature:g}K.xyz"
    if not file.exists():
        moving = rattled(start, 0.02, np.random.default_rng(0))
        moving.calc = teacher
        rng = np.random.default_rng(1)
        moving.set_momenta(
            np.sqrt(units.kB * temperature * moving.get_masses())[:, None] * rng.normal(size=(len(moving), 3))
        )
        dynamics = Langevin(moving, timestep * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng)
        frames: list[Atoms] = []
        dynamics.attach(lambda: frames.append(moving.copy()), interval=steps // 24)
        dynamics.run(steps)
        for frame in frames:
            frame.arrays.pop("momenta", None)
        write_frames(file, frames[-12:])
    errors, forces = [], []
    for frame in read_frames(file):
        forces.append(of(frame, teacher, "forces").ravel())
        errors.append(of(frame, student, "forces").ravel() - forces[-1])
    mae, rms = np.abs(np.concatenate(errors)).mean(), np.sqrt((np.concatenate(forces) ** 2).mean())
    return {"temperature": temperature, "force_mae": 1e3 * float(mae), "force_rms": 1e3 * float(rms)}


def conformers(smiles: str, n: int = 40) -> list[Atoms]:
    """By RDKit, relaxed with MMFF94."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    ids = rdDistGeom.EmbedMultipleConfs(molecule, n, randomSeed=11)
    rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(molecule, maxIters=2000)
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    return [Atoms(numbers, molecule.GetConformer(i).GetPositions()) for i in ids]


def scans(relaxed: Atoms, teacher: Any, student: Any) -> dict[str, dict[str, float]]:
    """Rigid turns of each torsion in steps of 30 degrees, without those where atoms clash: kcal/mol above the minimum."""
    errors = {}
    minimum = Structure(relaxed.numbers, relaxed.positions)
    for i, j, side in rotatable_bonds(minimum):
        curves: dict[str, list[float]] = {"teacher": [], "student": []}
        for angle in range(0, 360, 30):
            moved = relaxed.copy()
            moved.positions = turn(minimum, i, j, side, float(angle))
            distances = moved.get_all_distances()[np.triu_indices(len(moved), 1)]
            if distances.min() < 0.9:
                continue
            for name, calculator in (("teacher", teacher), ("student", student)):
                curves[name].append(KCAL * energy(moved, calculator))
        a, b = (np.array(curves[name]) - curves[name][0] for name in ("teacher", "student"))
        errors[f"{relaxed.symbols[i]}{i}-{relaxed.symbols[j]}{j}"] = {
            "highest": float(a.max()),
            "highest_student": float(b[a.argmax()]),
            "mae": float(np.abs(a - b).mean()),
            "max": float(np.abs(a - b).max()),
        }
    return errors


def of(atoms: Atoms, calculator: Any, name: str) -> Any:
    frame = atoms.copy()
    frame.calc = calculator
    return frame.get_forces() if name == "forces" else frame.get_potential_energy()


def energy(atoms: Atoms, calculator: Any) -> float:
    return float(of(atoms, calculator, "energy"))


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    first, second = (np.argsort(np.argsort(values)).astype(float) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def cpu() -> float:
    return sum(sum(resource.getrusage(kind)[:2]) for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    main()
