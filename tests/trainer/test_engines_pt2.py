"""Students as machine code: the same numbers as the eager ones, built once, from a folder of one's own, or one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure
from hdistill.trainer.fitting.fit import FitResult
from hdistill.trainer.force_field.calculator import HDistillCalculator
from hdistill.trainer.force_field.checkpoint import load_student
from hdistill.trainer.force_field.engines import compiled
from hdistill.trainer.force_field.engines.compiled import compiled_file, export_pt2, load_compiled, load_pt2
from hdistill.trainer.force_field.engines.outputs import arguments_of, outputs_of
from hdistill.trainer.force_field.engines.parity import (
    TOLERANCE,
    NotExported,
    check_parity,
    made_structures,
    repelled_pair,
)
from hdistill.trainer.force_field.engines.pt2 import INSIDE, _shapes, _traced, build_pt2, require_loads
from hdistill.trainer.students.registry import size_of
from hdistill.trainer.students.sizes import SIZES
from tests.pipelines.test_cli import result, run as typed
from tests.trainer.structures import ELEMENTS, argon_samples, crystal, molecule, saved_student

pytestmark = pytest.mark.xdist_group("machine-code")  # one worker, one build


@pytest.fixture(scope="module")
def pt2(fitted: FitResult, compiled_cache: Path) -> Path:
    """painn-small in float32, built once for the module; it is in the cache then, too."""
    path = compiled_cache / "student.pt2"
    export = export_pt2(fitted.run, path)
    assert export.path == path
    assert export.dtype == "float32"
    assert export.difference.within(TOLERANCE) or export.difference.forces < 1e-3
    return path


def argon_crystal(repeat: int = 1) -> Atoms:
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True).repeat(repeat)
    atoms.rattle(0.1, seed=0)
    return atoms


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("Ar"),
        Atoms("Ar2", [(0, 0, 0), (0, 0, 3.8)]),
        Atoms("Ar", cell=3.9 * np.eye(3), pbc=True),
        argon_crystal(3),
    ],
    ids=["atom", "pair", "cell below the cutoff", "108 atoms"],
)
def test_the_calculator_of_a_pt2_says_what_the_eager_one_says(pt2: Path, fitted: FitResult, atoms: Atoms) -> None:
    eager, compiled = HDistillCalculator(fitted.run, compiled=False), HDistillCalculator(pt2)
    assert (eager.compiled, compiled.compiled) == (False, True)
    for calculator in (eager, compiled):
        calculator.warn_beyond = None
        calculator.calculate(atoms)
    assert compiled.results["energy"] == pytest.approx(eager.results["energy"], abs=1e-6 * len(atoms))
    assert np.allclose(compiled.results["forces"], eager.results["forces"], atol=1e-5)
    assert compiled.results.keys() == eager.results.keys()
    if atoms.pbc.all():
        assert np.allclose(compiled.results["stress"], eager.results["stress"], atol=1e-6)
    assert np.allclose(compiled.domain_distance, eager.domain_distance, rtol=1e-3)
    if len(atoms) < 10:
        assert np.allclose(compiled.get_hessian(atoms), eager.get_hessian(atoms), atol=1e-4)


def test_several_structures_keep_their_energies_and_stresses(pt2: Path, fitted: FitResult) -> None:
    samples = [s.structure for s in argon_samples(5)]
    cell = Structure(np.array([18]), np.zeros((1, 3)), 4.0 * np.eye(3), np.ones(3, bool))
    code, trained = load_pt2(pt2), load_student(fitted.run)
    arguments = arguments_of([*samples, cell], trained.cutoff)
    one, other = code(*arguments), outputs_of(trained.model, None, *arguments)
    assert one.stress is not None
    assert other.stress is not None
    assert one.stress.shape == (6, 3, 3)
    assert (one.stress[:5] == 0).all()
    assert one.stress[5].abs().max() > 1e-4
    assert torch.allclose(one.energies, other.energies, atol=1e-6)
    assert torch.allclose(one.stress, other.stress, atol=1e-7)


def test_torchs_own_loader_reads_it(pt2: Path, fitted: FitResult, caplog: pytest.LogCaptureFixture) -> None:
    run = torch._inductor.aoti_load_package(str(pt2))
    arguments = arguments_of([argon_samples(4)[3].structure], load_student(fitted.run).cutoff)
    energies, forces, stress, features = run(*arguments)
    assert torch.allclose(forces, load_pt2(pt2)(*arguments).forces)
    assert energies.shape == features.shape[:1] == (6,)
    assert stress.shape == (1, 3, 3)
    assert "outdated" not in caplog.text


def test_other_dtypes_and_shapes_are_refused(pt2: Path) -> None:
    code = load_pt2(pt2)
    numbers, edges, vectors, owner, volume = arguments_of([argon_samples(1)[0].structure], 4.5)
    with pytest.raises(
        InputError, match=r"numbers was torch.int32 \(3,\) on cpu; this student takes torch.int64 \(A\)"
    ):
        code(numbers.int(), edges, vectors, owner, volume)
    with pytest.raises(InputError, match=r"vectors was torch.float32"):
        code(numbers, edges, vectors.float(), owner, volume)
    with pytest.raises(InputError, match=r"vectors was torch.float64"):
        code(numbers, edges, vectors[:-1], owner, volume)
    with pytest.raises(InputError, match="edge_index"):
        code(numbers, edges.T, vectors, owner, volume)
    strided = torch.stack((edges[0], edges[1]), dim=1).T  # not contiguous: the same numbers all the same
    assert torch.equal(
        code(numbers, strided, vectors, owner, volume).forces, code(numbers, edges, vectors, owner, volume).forces
    )


def test_auto_takes_what_was_built_and_builds_nothing(pt2: Path, fitted: FitResult) -> None:
    assert HDistillCalculator(fitted.run).compiled
    assert not HDistillCalculator(fitted.run, dtype="float64").compiled
    assert not HDistillCalculator(fitted.run, compiled=False).compiled
    assert HDistillCalculator(pt2, compiled=False).compiled is False
    with pytest.raises(InputError, match="compiled was 'yes'"):
        HDistillCalculator(fitted.run, compiled="yes")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is float32 on cpu, not float64 on cpu"):
        HDistillCalculator(pt2, dtype="float64")


def test_many_calculators_load_the_code_once_and_threads_may_use_it(pt2: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    calculators = [HDistillCalculator(pt2, warn_beyond=None) for _ in range(5)]
    assert len({id(c._compiled) for c in calculators}) == 1
    images = [argon_crystal() for _ in calculators]
    for n, (image, calculator) in enumerate(zip(images, calculators, strict=True)):
        image.rattle(0.1, seed=n)
        image.calc = calculator
    wanted = [image.get_forces() for image in images]

    def again(image: Atoms) -> np.ndarray:
        forces = []
        for _ in range(10):
            image.calc.reset()
            forces.append(image.get_forces())
        return np.stack(forces)

    with ThreadPoolExecutor(3) as pool:
        for forces, right in zip(pool.map(again, images), wanted, strict=True):
            assert np.allclose(forces, right, atol=1e-7)


def test_a_nudged_elastic_band_runs_with_one_calculator_and_with_many(pt2: Path) -> None:
    from ase.mep import NEB
    from ase.optimize import FIRE

    energies = []
    for shared in (True, False):
        first = argon_crystal(2)
        last = first.copy()
        last.positions[0] += (0.4, 0.0, 0.0)
        images = [first, *(first.copy() for _ in range(3)), last]
        calculator = HDistillCalculator(pt2, warn_beyond=None)
        for image in images:
            image.calc = calculator if shared else HDistillCalculator(pt2, warn_beyond=None)
        band = NEB(images, allow_shared_calculator=shared, parallel=not shared)
        band.interpolate()
        FIRE(band, logfile=None).run(fmax=0.05, steps=5)
        energies.append([image.get_potential_energy() for image in images])
    assert np.allclose(*energies, atol=1e-5)


def test_a_pt2_of_another_machine_runs_eagerly_and_says_so(pt2: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.pt2"
    with zipfile.ZipFile(pt2) as old, zipfile.ZipFile(foreign, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data.replace(b'"x86_64"', b'"riscv64"') if name.endswith("about.json") else data)
    with pytest.warns(UserWarning, match=r"was built for riscv64 .*, and this is .*export it here. Until then"):
        calculator = HDistillCalculator(foreign)
    assert not calculator.compiled
    assert np.isfinite(Atoms("Ar", calculator=calculator).get_potential_energy())


def test_the_command_exports_what_the_cache_has_and_compares_with_the_label_set(
    pt2: Path, fitted: FitResult, argon: Path, tmp_path: Path
) -> None:
    messages = result("export", fitted.run, "--to", "pt2", "-o", tmp_path / "s.pt2", "--labels", argon)
    assert messages["n_structures_compared"] == 20
    assert 0 < messages["energy_ev_per_atom"] < 1e-5
    assert messages["path"] == str(tmp_path / "s.pt2")
    assert HDistillCalculator(messages["path"]).compiled
    typing = typed("export", fitted.run, "--to", "pt3", "-o", tmp_path / "s.pt3")
    assert typing.returncode == 1
    assert typing.stderr.startswith("error: There is no export to 'pt3'; there are pt2")


def test_what_is_no_pt2_is_one_sentence(fitted: FitResult, pt2: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pt2"
    bad.write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"bad.pt2"):
        HDistillCalculator(bad)
    shutil.copy(pt2, bad)
    bad.write_bytes(bad.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"bad.pt2"):
        HDistillCalculator(bad)
    with pytest.raises(InputError, match=r"none.pt2"):
        HDistillCalculator(tmp_path / "none.pt2")
    with pytest.raises(InputError, match=r"does not end in .pt2"):
        export_pt2(fitted.run, tmp_path / "student.so")
    with pytest.raises(InputError, match="holds no student"):
        export_pt2(tmp_path, tmp_path / "a.pt2")


def test_without_a_compiler_one_sentence_says_what_to_install(
    fitted: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config as config
    from torch._inductor import cpp_builder

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    getattr(cpp_builder.get_cpp_compiler, "cache_clear", lambda: None)()
    with pytest.raises(NotExported, match=r"No C\+\+ compiler is here.*apt install g\+\+"):
        build_pt2(fitted.run, tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


def test_what_ends_the_process_that_loads_it_is_no_export(pt2: Path, tmp_path: Path) -> None:
    require_loads(pt2)
    source, library, bad = tmp_path / "bad.cpp", tmp_path / "bad.so", tmp_path / "bad.pt2"
    source.write_text("#include <csignal>\n__attribute__((constructor)) void at_once() { std::raise(SIGSEGV); }\n")
    subprocess.run(["g++", "-shared", "-fPIC", "-o", library, source], check=True)
    with zipfile.ZipFile(pt2) as whole, zipfile.ZipFile(bad, "w", zipfile.ZIP_STORED) as target:
        for name in whole.namelist():
            target.writestr(name, library.read_bytes() if name.endswith(".so") else whole.read(name))
    with pytest.raises(NotExported, match=r"ends the process that loads it \(SIGSEGV\).*without machine code"):
        require_loads(bad)


def test_one_build_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Students of one architecture have kernels of one name, and torch writes them in place."""
    monkeypatch.setenv("HDISTILL_CACHE", str(tmp_path))
    runs = [saved_student(tmp_path / name, size_of("painn-small"), name) for name in "abc"]
    inside = threading.Lock()

    def build(run: Path, file: Path, *_: object) -> None:
        assert inside.acquire(blocking=False)
        time.sleep(0.2)
        inside.release()
        raise NotExported(str(run))

    monkeypatch.setattr(compiled, "build_pt2", build)
    with ThreadPoolExecutor() as pool:
        builds = [pool.submit(load_compiled, run, "float32", build=True) for run in runs]
    assert [str(done.exception()) for done in builds] == [str(run) for run in runs]


def test_other_numbers_are_refused_with_the_number(fitted: FitResult) -> None:
    trained = load_student(fitted.run, dtype="float64")
    structures = made_structures((18,))
    eager = partial(outputs_of, trained.model, None)
    assert check_parity(eager, trained.model, structures, trained.cutoff).energy == 0
    for change, name in (
        (lambda messages: replace(messages, energies=messages.energies + 2e-3), "energy 2.0e-03"),
        (lambda messages: replace(messages, forces=-messages.forces), "forces"),
        (lambda messages: replace(messages, stress=2 * messages.stress), "stress"),
        (lambda messages: replace(messages, energies=messages.energies * float("nan")), "energy inf"),
    ):
        with pytest.raises(NotExported, match=name):
            check_parity(lambda *a, c=change: c(eager(*a)), trained.model, structures, trained.cutoff)


def test_a_cache_that_others_may_write_to_is_not_used(
    pt2: Path, fitted: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDISTILL_CACHE", str(tmp_path))
    folder = compiled_file(fitted.run, "float32").parent
    assert folder.stat().st_mode & 0o777 == 0o700
    shutil.copy(pt2, compiled_file(fitted.run, "float32"))
    folder.chmod(0o777)
    with pytest.warns(UserWarning, match=r"Other users can write to .*chmod 700"):
        assert not HDistillCalculator(fitted.run).compiled
    with pytest.raises(InputError, match="chmod 700"):
        HDistillCalculator(fitted.run, compiled=True)
    folder.chmod(0o700)
    assert HDistillCalculator(fitted.run).compiled
    if os.getuid() == 0:
        os.chown(folder, 12345, 12345)
        with pytest.warns(UserWarning, match="belongs to another user"):
            assert not HDistillCalculator(fitted.run).compiled


@pytest.mark.parametrize(
    ("name", "repulsion"),
    [
        ("ace-local", True),
        ("gemnet-dt", False),
        *(pytest.param(*more, marks=pytest.mark.long) for more in (("painn-direct", False), ("moment", True))),
    ],
)
def test_every_architecture_is_traced_for_all_sizes(name: str, repulsion: bool, tmp_path: Path) -> None:
    """What comes before the compiler, of one layer; the whole way, of every student, is a test that takes long."""
    size = replace(size_of(name, repulsion), layers=1, channels=8)
    trained = load_student(saved_student(tmp_path / "run", size, name), dtype="float64")
    graph, arguments, names = _traced(trained, "cpu", pull=not size.direct)
    program = torch.export.export(graph, arguments, dynamic_shapes=_shapes(), strict=False)
    for structures in ([molecule(8), crystal(), repelled_pair(ELEMENTS)], [crystal(seed=3, size=2.6)]):
        given = arguments_of(structures, trained.cutoff)
        right = outputs_of(trained.model, None, *given)
        for output, value in zip(names, program.module()(*given), strict=True):
            if output != "features":
                assert torch.allclose(value, getattr(right, output), rtol=1e-9, atol=1e-9), output


@pytest.mark.long
def test_it_is_built_in_the_background(compiled_cache: Path, tmp_path: Path) -> None:
    run = saved_student(tmp_path / "run", size_of("moment"), "moment")
    calculator = HDistillCalculator(run, compiled="background")
    atoms = Atoms("OH2", [(0, 0, 0), (0.76, 0.59, 0), (-0.76, 0.59, 0)], calculator=calculator)
    energy = atoms.get_potential_energy()
    assert not calculator.compiled
    assert calculator._builder is not None
    assert calculator._builder.wait(600) == 0
    calculator.reset()
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-5)
    assert calculator.compiled


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "repulsion"), [*((n, False) for n in SIZES), *((n, True) for n, s in SIZES.items() if not s.direct)]
)
def test_every_student_compiles_to_the_same_numbers(
    compiled_cache: Path, tmp_path: Path, name: str, repulsion: bool, dtype: str
) -> None:
    run = saved_student(tmp_path / "run", size_of(name, repulsion), name)
    began = time.monotonic()
    export = build_pt2(run, tmp_path / "s.pt2", dtype, structures=[molecule(8), crystal(), crystal(seed=3, size=2.6)])
    print(f"{name} {repulsion} {dtype}: {export.difference}, {time.monotonic() - began:.0f} s")
    assert export.dtype == dtype
    if dtype == "float64":
        assert export.difference.within(TOLERANCE)
    with zipfile.ZipFile(export.path) as archive:
        assert any(name.endswith(f"/{INSIDE}/student.safetensors") for name in archive.namelist())
    assert load_compiled(run, dtype) is None
