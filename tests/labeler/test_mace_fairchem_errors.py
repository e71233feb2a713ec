"""What MACE and fairchem say of models that are missing, out of reach, damaged, gated or asked for wrongly; and lone atoms.

Every error goes through the teacher's own process, as in a run, and names the thing and the next step. Wrong heads and tasks are
in test_teacher_contract.py.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from hdistill.data.errors import InputError, TeacherError
from hdistill.data.structure import Directions, Structure
from hdistill.labeler.process.parent import TeacherProcess
from hdistill.labeler.teachers import registry
from hdistill.labeler.teachers.contract import TeacherRequest
from tests.conftest import NOWHERE, python_of

CHECKPOINTS = Path(__file__).parent / "checkpoints"


Folder = Callable[[str], Path]
Refusal = Callable[[TeacherRequest], str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm: Callable[[str], Path]) -> Folder:
    """The folder with a family's small checkpoints, made when first asked for."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            python, script, made[family] = warm(family), CHECKPOINTS / f"{family}.py", tmp_path_factory.mktemp(family)
            subprocess.run([str(python), str(script), str(made[family])], check=True, stdout=sys.stderr)
        return made[family]

    return make


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, caches: Path) -> Iterator[None]:
    """Empty caches, no credentials, and a proxy that refuses: what a teacher finds is what the test put there."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, NOWHERE)
        monkeypatch.setenv(name.upper(), NOWHERE)
    for name in ("XDG_CACHE_HOME", "FAIRCHEM_CACHE_DIR", "HF_HOME"):
        monkeypatch.setenv(name, str(caches))
    for name in ("no_proxy", "NO_PROXY", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield
    for path in caches.iterdir():
        shutil.rmtree(path)


@pytest.fixture
def refusal(warm: Callable[[str], Path]) -> Refusal:
    return lambda request: refused_by(warm(request.family), request)


def refused_by(python: Path, request: TeacherRequest) -> str:
    """What the teacher says when it does not load: one line, not a traceback."""
    with pytest.raises(TeacherError) as refused:
        TeacherProcess(python, request, deadline_s=300).close()
    text = str(refused.value)
    assert "Traceback" not in text
    assert "\n" not in text
    assert text.startswith(f"Teacher {request.name} does not load: ")
    return text


def damaged(path: Path, source: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.read_bytes()[:100_000])
    return path


@pytest.mark.parametrize("name", ["/nowhere/at.model", "/nowhere/at.pt"])
def test_a_file_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} was not found; give the path of an existing file"):
        registry.request(name)


# MACE


@pytest.mark.xdist_group("mace")
def test_a_size_that_mace_does_not_have(refusal: Refusal) -> None:
    text = refusal(registry.request("mace-mp:smal"))
    assert "no size 'smal'. Did you mean 'small'? Known: small, medium, large" in text


@pytest.mark.xdist_group("mace")
def test_mace_weights_out_of_reach(refusal: Refusal, caches: Path) -> None:
    text = refusal(registry.request("mace-mp:small"))
    kept = caches / "mace" / "20231210mace128L0_energy_epoch249model"
    assert "could not be downloaded" in text
    assert (
        f"put the file 2023-12-10-mace-128-L0_energy_epoch-249.model that the MACE project publishes at {kept}" in text
    )


@pytest.mark.xdist_group("mace")
def test_mace_weights_that_are_damaged_in_the_cache(folder: Folder, refusal: Refusal, caches: Path) -> None:
    path = damaged(caches / "mace" / "MACE-OFF23_small.model", folder("mace") / "small.model")
    text = refusal(registry.request("mace-off:small"))
    assert f"{path} could not be read" in text
    assert "it is damaged or no MACE model; delete it and fetch it again" in text


@pytest.mark.xdist_group("mace")
def test_a_file_that_is_no_mace_model(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "state.model"
    torch.save({"weights": torch.zeros(3)}, path)
    assert f"{path} holds a dict; wanted is the .model file of a MACE energy model" in refusal(
        registry.request(str(path))
    )


class Moved:
    """Pickles as a reference to a module of e3nn that no version has."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return importlib.import_module, ("e3nn.o3._of_another_version",)


@pytest.mark.xdist_group("mace")
def test_a_mace_file_that_the_installed_versions_cannot_read(tmp_path: Path, refusal: Refusal) -> None:
    """The archive is whole, but what is in it is not where this e3nn keeps it."""
    path = tmp_path / "other.model"
    torch.save(Moved(), path)
    text = refusal(registry.request(str(path)))
    assert "it was made by other versions than are installed here (e3nn" in text
    assert "e3nn 0.4.4, which `hdistill teachers install mace` brings" in text


@pytest.mark.xdist_group("mace")
def test_a_mace_head_must_be_chosen(folder: Folder, refusal: Refusal) -> None:
    path = str(folder("mace") / "two_heads.model")
    assert "has several heads, each a level of theory: pbe, r2scan; choose one with --task" in refusal(
        registry.request(path)
    )


@pytest.mark.xdist_group("mace")
def test_atoms_beyond_the_reach_of_mace_have_no_forces_and_no_curvature(
    folder: Folder, warm: Callable[[str], Path]
) -> None:
    lone = Structure(np.array([8]), np.zeros((1, 3)))
    apart = Structure(np.array([1, 1]), np.array([(0.0, 0, 0), (0, 0, 30)]))
    rows = Directions("rows", coordinate=np.array([0, 2], np.int32))
    request = registry.request(str(folder("mace") / "small.model"), dtype="float64")
    with TeacherProcess(warm("mace"), request) as teacher:
        answers = teacher.label([lone], [rows]) + teacher.label([apart], [rows])
    for labels in answers:
        assert np.isfinite(labels.energy)
        assert not labels.forces.any()
        assert labels.hessian is not None
        assert not labels.hessian.values.any()


# fairchem


@pytest.mark.xdist_group("fairchem")
def test_a_name_that_fairchem_does_not_have(refusal: Refusal) -> None:
    text = refusal(registry.request("uma-s-1p9"))
    assert "fairchem has no model 'uma-s-1p9'. Did you mean 'uma-s-1p" in text
    assert "Known: uma-s-1p" in text


@pytest.mark.long
@pytest.mark.xdist_group("fairchem")
def test_fairchem_weights_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # else it asks five times, with pauses
    text = refused_by(python_of("fairchem"), registry.request("uma-s-1p1", "omol"))
    assert "uma-s-1p1 are not on this machine and could not be fetched from facebook/UMA on Hugging Face" in text
    assert "give the file uma-s-1p1.pt as --teacher /path/to/uma-s-1p1.pt" in text


class Gate(BaseHTTPRequestHandler):
    """Answers as the weights' host does to who has not been let in."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("X-Error-Message", "Access to model facebook/UMA is restricted.")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gate() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.xdist_group("fairchem")
def test_fairchem_weights_that_are_gated(monkeypatch: pytest.MonkeyPatch, gate: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", gate)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    text = refused_by(python_of("fairchem"), registry.request("uma-s-1p1", "omol"))
    assert "gated: accept their licence at facebook/UMA on Hugging Face, then type `hf auth login`" in text
    assert "or give the file uma-s-1p1.pt as --teacher" in text


@pytest.mark.xdist_group("fairchem")
def test_a_fairchem_checkpoint_that_is_damaged(folder: Folder, tmp_path: Path, refusal: Refusal) -> None:
    path = damaged(tmp_path / "half.pt", folder("fairchem") / "conserving.pt")
    assert f"{path} could not be read as a fairchem inference checkpoint" in refusal(registry.request(str(path)))


@pytest.mark.xdist_group("fairchem")
def test_a_fairchem_task_must_be_chosen(folder: Folder, refusal: Refusal) -> None:
    path = str(folder("fairchem") / "conserving.pt")
    assert "has several tasks: omat, omol; choose one with --task" in refusal(registry.request(path))


@pytest.mark.xdist_group("fairchem")
def test_a_free_atom_is_refused_where_the_checkpoint_has_no_energy_of_it(
    folder: Folder, warm: Callable[[str], Path]
) -> None:
    free = Structure(np.array([8]), np.zeros((1, 3)))
    pair = Structure(np.array([8, 8]), np.array([(0.0, 0, 0), (0, 0, 1.2)]))
    path = str(folder("fairchem") / "direct.pt")  # with one task, which need not be named
    with TeacherProcess(warm("fairchem"), registry.request(path)) as teacher:
        assert teacher.info.task == "omat"
        assert not teacher.info.conservative
        with pytest.raises(
            TeacherError, match=f"Structure {free.id} is a free atom, for which .*direct.pt has no energy"
        ):
            teacher.label([pair, free], [None, None])
        (labels,) = teacher.label([pair], [None])  # and the process lives on
        assert np.isfinite(labels.energy)
