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
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import molecule, surface
from ase.eos import EquationOfState
from ase.geometry import get_distances
from ase.md.langevin import Langevin
from ase.spacegroup import crystal

import hdistill
from hdistill.data.sampling.torsions import rotatable_bonds, turn
from hdistill.data.structure import Structure
from hdistill.labeler.teacher_calculator import TeacherCalculator
from hdistill.pipelines.distill.around import rattled
from hdistill.pipelines.distill.folder import once, read_frames, write_frames
from hdistill.pipelines.judging.trajectories import beside

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


def mgo() -> Atoms:
    return crystal(["Mg", "O"], [(0, 0, 0), (0.5, 0.5, 0.5)], spacegroup=225, cellpar=[4.212] * 3 + [90] * 3)


def mgo_slab() -> Atoms:
    """MgO(100), four layers of four atoms, 12 A of vacuum."""
    return surface(mgo(), (1, 0, 0), 2, vacuum=6.0, periodic=True)


def water(n: int = 32, density: float = 0.997) -> Atoms:
    """A box of so many molecules on a grid, each turned by chance, at a density in g/cm^3."""
    rng = np.random.default_rng(5)
    edge = (n * 18.015 / units.mol / density * 1e24) ** (1 / 3)
    per_edge = int(np.ceil(n ** (1 / 3)))
    places = np.stack(np.meshgrid(*[np.arange(per_edge)] * 3, indexing="ij"), -1).reshape(-1, 3)
    box = Atoms(cell=[edge] * 3, pbc=True)
    for place in places[rng.permutation(len(places))[:n]]:
        for _ in range(1000):
            one = molecule("H2O")
            one.euler_rotate(*rng.uniform(0, 360, 3), center="COM")
            one.translate((place + 0.5) * edge / per_edge - one.get_center_of_mass())
            if not len(box) or get_distances(one.positions, box.positions, box.cell, True)[1].min() > 1.5:
                break
        box += one
    return box


CASES: dict[str, dict[str, Any]] = {
    "srtio3": {"start": srtio3, "teacher": "7net-0", "temperature": [600.0], "repeat": (2, 2, 2)},
    "silicon": {"start": silicon, "teacher": "7net-0", "temperature": [300.0, 900.0], "repeat": (2, 2, 2)},
    "tyramine": {"start": lambda: TYRAMINE, "teacher": "ani-1x", "temperature": [300.0, 600.0]},
    "mgo": {"start": mgo, "teacher": "7net-0", "temperature": [300.0, 900.0], "repeat": (2, 2, 2)},
    "mgo-slab": {"start": mgo_slab, "teacher": "7net-0", "temperature": [300.0, 600.0]},
    "dipeptide": {"start": lambda: "CC(=O)N[C@@H](C)C(=O)NC", "teacher": "ani-1x", "temperature": [300.0, 600.0]},
    "water": {"start": water, "teacher": "ani-1x", "temperature": [300.0]},
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
    measure = {"crystal": crystal_figures, "molecule": molecule_figures}.get(kind_of(case), other_figures)
    with TeacherCalculator(case["teacher"]) as teacher:
        figures = once(out / "figures.json", lambda: measure(out, case, teacher, student))
        figures["speed"] = once(out / "speed.json", lambda: speed(out, teacher, Path(done.run)))
    figures["dynamics"] = once(out / "dynamics.json", lambda: long_dynamics(out, case, Path(done.run)))
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


def long_dynamics(out: Path, case: dict[str, Any], run: Path) -> dict[str, Any]:
    """100 ps with a thermostat at the highest temperature and 10 ps at constant energy, of the first start of dynamics."""
    start = read_frames(out / "result" / "start" / "dynamics.xyz")[0]
    timestep, T = (1.0 if 1 in start.numbers else 2.0), max(case["temperature"])
    common: dict[str, Any] = {"temperature": T, "every": 100, "trajectory": "traj", "progress": False}
    nvt = hdistill.md(run, start, out / "nvt", steps=round(1e5 / timestep), timestep=timestep, ensemble="nvt", **common)
    nve = hdistill.md(run, start, out / "nve", steps=round(2e4 / timestep), timestep=timestep / 2, **common)
    return {
        "temperature": T,
        "nvt_ps": nvt.stable_until_fs / 1000,
        "why": nvt.why,
        "nve_ps": nve.stable_until_fs / 1000,
        "nve_drift_mev_per_atom": nve.drift_mev_per_atom,
    }


def speed(out: Path, teacher: Any, run: Path, calls: int = 7) -> dict[str, float]:
    """Medians, ms a call at moved positions through ASE: the student (machine code where the exam has built it) and the teacher, which
    answers from a process of its own, in turn."""
    start = read_frames(out / "result" / "start" / "dynamics.xyz")[0]
    rng = np.random.default_rng(0)
    taken: dict[str, list[float]] = {"teacher": [], "student": []}
    calculators = {"teacher": teacher, "student": hdistill.HDistillCalculator(run, warn_beyond=None)}
    for _ in range(calls):
        for name, calculator in calculators.items():
            for repeat in range(20 if name == "student" else 1):
                frame = start.copy()
                frame.positions += rng.normal(scale=0.02, size=frame.positions.shape)
                frame.calc = calculator
                began = time.perf_counter()
                frame.get_forces()
                if repeat or name == "teacher":
                    taken[name].append(1e3 * (time.perf_counter() - began))
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    return {"n_atoms": len(start), **medians, "times_faster": medians["teacher"] / medians["student"]}


def kind_of(case: dict[str, Any]) -> str:
    if "repeat" in case:
        return "crystal"
    return "molecule" if isinstance(case["start"](), str) else "other"


def other_figures(out: Path, case: dict[str, Any], teacher: Any, student: Any) -> dict[str, Any]:
    """Of slabs and liquids, which have neither a lattice constant nor conformers: errors on the teacher's dynamics."""
    start = read_frames(out / "result" / "start" / "relaxed.xyz")[0]
    timestep = 1.0 if 1 in start.numbers else 2.0
    return {
        "teacher_dynamics": on_teachers_dynamics(out, start, teacher, student, max(case["temperature"]), timestep, 480)
    }


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
    """Force errors (meV/A) on 12 frames of the second half of the teacher's own dynamics, which are kept, and how far the distances of
    the student's same run overlap with theirs (1: the same; of the halves of the teacher's run, what chance leaves)."""
    file = out.parent / f"teacher-{out.name.split('-')[0]}-{temperature:g}K.xyz"
    if not file.exists():
        write_frames(file, second_half(start, teacher, temperature, timestep, steps))
    errors, forces = [], []
    for frame in read_frames(file):
        forces.append(of(frame, teacher, "forces").ravel())
        errors.append(of(frame, student, "forces").ravel() - forces[-1])
    mae, rms = np.abs(np.concatenate(errors)).mean(), np.sqrt((np.concatenate(forces) ** 2).mean())
    here, there = second_half(start, student, temperature, timestep, steps), read_frames(file)
    return {
        "temperature": temperature,
        "force_mae": 1e3 * float(mae),
        "force_rms": 1e3 * float(rms),
        "distances": {
            pair: {name: found[name] for name in ("overlap", "overlap_of_halves")}
            for pair, found in beside(here, there, start)["pairs"].items()
        },
    }


def second_half(start: Atoms, calculator: Any, temperature: float, timestep: float, steps: int) -> list[Atoms]:
    """12 frames of the second half of a Langevin run from the structure, rattled; same noise for every calculator."""
    moving = rattled(start, 0.02, np.random.default_rng(0))
    moving.calc = calculator
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
    return frames[-12:]


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
