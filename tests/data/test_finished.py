"""What is published can be read by its own reader, tells nothing of somebody's disk, and is found complete by the same command."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hdistill.data.convert.cut import cut
from hdistill.data.convert.exporting import export
from hdistill.data.convert.merge import merge
from hdistill.data.errors import InputError, LabelSetError
from hdistill.data.format.manifest import MAX_MANIFEST_BYTES
from hdistill.data.format.records import Manifest
from hdistill.data.format.schema import MAX_QUARANTINE_ROWS
from hdistill.data.labelsets import provenance, writer
from hdistill.data.labelsets.label_set import open_label_set, verify
from hdistill.data.publication.documents import documents
from hdistill.data.support.publish import publish
from hdistill.data.support.text import published, published_json
from hdistill.data.support.typed import as_json
from tests.data.made import make_label_set, samples_of
from tests.data.manifests import PREFLIGHT, SUBSET, TEACHER
from tests.files import files_of


def silent(_: str) -> None: ...


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/home/me/my.model", "my.model"),
        ("student:/home/me/run/", "student:run"),
        ("ase:/opt/x/calc.py", "ase:calc.py"),
        ("../../up/x.pt", "x.pt"),
        ("~/x/y.model was read", "y.model was read"),
        ('File "/usr/lib/python3/site-packages/x/y.py", line 3', 'File "y.py", line 3'),
        ("C:\\Users\\me\\x.model", "x.model"),
        ("it died. Its last words: Traceback /home/me/x.py", "it died."),
        ("a\x1b[2Jb\u202ec\nd", "a [2Jb c d"),
        *(
            (kept, kept)
            for kept in ("hf://datasets/a/b", "https://doi.org/10.1/x", "eV/A^3", "n_atoms / 2 / 3", "CC-BY-4.0 + MIT")
        ),
    ],
)
def test_published_texts(text: str, wanted: str) -> None:
    assert published(text) == wanted
    assert published_json({"a": [text]}) == {"a": [wanted]}


def test_keys_that_become_the_same_stay_apart() -> None:
    assert published_json({"/a/b/c": 1, "/x/y/c": 2}) == {"c": 1, "c (2)": 2}


HOME = "/home/somebody/secret"
ODD = f"\udcff \ud800 \x1b[2J\x00 \u202e {HOME}/x.py"


def test_nothing_odd_and_no_path_is_published(tmp_path: Path) -> None:
    """Lone surrogates (a file name that is not UTF-8, a teacher's message), control characters, homes, and lines of a log."""
    teacher = TEACHER | {"name": f"{HOME}/my.model", "citation": ODD, "arguments": {"path": f"{HOME}/x.pt", ODD: [ODD]}}
    subset = SUBSET | {"names": [ODD, "b\udcffd.xyz"], "skipped": {ODD: 3}, "where": ODD}
    lost = {"id": "ab" * 16, "reason": ODD, "text": f"{ODD} Its last words: {HOME}", "attempts": 1}
    folder = make_label_set(
        tmp_path / "labels", samples_of("probes:1"), teacher=teacher, subset=subset, quarantine=[lost]
    )
    manifest = verify(folder).manifest
    assert manifest.teacher.name == "my.model"
    assert manifest.teacher.arguments["path"] == "x.pt"
    for name in ("manifest.json", "README.md", "croissant.json"):
        text = (folder / name).read_text()
        assert "secret" not in text
        assert "last words" not in text
        for c in "\x1b\x00\u202e\ud800\udcff":
            assert c not in text
            assert json.dumps(c).strip('"') not in text


def test_a_card_is_clean_whatever_its_manifest_says(tmp_path: Path) -> None:
    folder = make_label_set(tmp_path / "labels", samples_of("probes:1"))
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["teacher"] |= {"level_of_theory": f"\x1b[2J {HOME}/x", "citation": f"{HOME}/y \u202e"}
    for data in documents(json.dumps(manifest).encode()).values():
        assert b"secret" not in data
        assert b"\x1b" not in data
        assert b"\\u001b" not in data


def one_pass(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    same = {"environment": {}, "teacher": {"device": "cpu", "versions": {}}}
    return {"add": "probes:1", "name": name, "parent": "ab" * 32, "preflight": PREFLIGHT, "quarantine": rows, **same}


@pytest.mark.parametrize("text", ["so " * 400, "\U0001f600" * 400, '"\\' * 300])
def test_long_quarantines_and_lists_stay_within_what_a_reader_takes(tmp_path: Path, text: str) -> None:
    rows = [{"id": f"{i:032x}", "reason": text, "text": text, "attempts": 1} for i in range(1, MAX_QUARANTINE_ROWS + 9)]
    inputs = [{"name": f"{text[:200]}{i}", "bytes": 3, "sha256": f"{i:064x}"} for i in range(9000)]
    history = {"passes": [one_pass(f"add-{i}", rows[:3000]) for i in range(6)]}
    subset = SUBSET | {"inputs": inputs, "names": [text[:200]] * 9000}
    samples = samples_of("probes:1")
    folder = make_label_set(tmp_path / "labels", samples, quarantine=rows, subset=subset, history=history)
    assert (folder / "manifest.json").stat().st_size < MAX_MANIFEST_BYTES
    manifest = verify(folder).manifest
    assert manifest.counts.n_quarantined == len(rows)
    assert manifest.subset.inputs[-1].bytes == 3 * 5000
    assert manifest.subset.inputs[-1].name == "and 5000 more"
    assert len(manifest.passes) == 6


def test_generations_of_merges_can_be_read(tmp_path: Path) -> None:
    sets = [make_label_set(tmp_path / f"s{i}", samples_of("probes:1", sizes=[3], seed=i)) for i in range(14)]
    whole = sets[0]
    for i, other in enumerate(sets[1:]):
        merge([whole, other], tmp_path / f"merged{i}", say=silent)
        whole = tmp_path / f"merged{i}"
    manifest = verify(whole).manifest
    assert manifest.counts.n_structures == 14
    generations, history = 0, manifest.history
    while history is not None:
        generations, history = generations + 1, history.parents[0].history
    assert generations == 8


def test_a_manifest_that_its_reader_refuses_is_not_published(tmp_path: Path) -> None:
    folder = make_label_set(tmp_path / "labels", samples_of("probes:1"))
    before = files_of(folder)
    with pytest.raises(LabelSetError, match="larger than it can be"):
        make_label_set(
            folder, samples_of("probes:1"), teacher=TEACHER | {"versions": dict.fromkeys(map(str, range(600_000)), "1")}
        )
    assert files_of(folder) == before


class Killed(BaseException):
    pass


def stop(*_: object, **__: object) -> Manifest:
    raise Killed


@pytest.mark.parametrize("make", [merge, cut])
def test_killed_at_the_very_end_it_is_found_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Manifest]
) -> None:
    a = make_label_set(tmp_path / "a", samples_of("probes:1"))
    b = make_label_set(tmp_path / "b", samples_of("probes:1", seed=1))
    given: Any = [a, b] if make is merge else a
    wanted = make(given, tmp_path / "wanted", say=silent)
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(f"hdistill.data.convert.{make.__name__}.sweep", stop)
        with pytest.raises(Killed):
            make(given, out, say=silent)
    (out / "shards" / "00099-left.h5").write_bytes(b"of a killed writer")
    (out / "shards" / ".00000-x.h5.ab.tmp").write_bytes(b"half")
    (out / ".manifest.json.cd.tmp").write_bytes(b"half")
    lines: list[str] = []
    assert make(given, out, say=lines.append) == wanted
    assert lines == [f"{out} is complete already."]
    assert files_of(out) == files_of(tmp_path / "wanted")
    with pytest.raises(LabelSetError, match="holds a label set already"):
        make([b, a] if make is merge else b, out, say=silent)
    assert files_of(out) == files_of(tmp_path / "wanted")
    assert not list(out.glob(".*.tmp"))


@pytest.mark.parametrize("to", ["extxyz", "ase-db", "parquet"])
def test_an_export_that_is_there_already_is_known_again(tmp_path: Path, to: str) -> None:
    labels = make_label_set(tmp_path / "labels", samples_of("probes:1"))
    other = make_label_set(tmp_path / "other", samples_of("probes:1", seed=1))
    file = tmp_path / "out.file"
    made = export(labels, to, file)
    (tmp_path / ".out.file.ab.tmp").write_bytes(b"half")
    os.utime(tmp_path / ".out.file.ab.tmp", (0, 0))
    data = file.read_bytes()
    assert export(labels, to, file) == made
    assert file.read_bytes() == data
    assert not list(tmp_path.glob(".*.tmp"))
    for path, split in ((other, None), (labels, "train")):
        with pytest.raises(InputError, match="exists; remove it first"):
            export(path, to, file, split)
    file.write_bytes(b"something else")
    with pytest.raises(InputError, match="exists; remove it first"):
        export(labels, to, file)


def test_a_finished_set_can_be_used_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = make_label_set(tmp_path / "a", samples_of("probes:1"))
    wanted = cut(a, tmp_path / "out", say=silent)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "out" / ".x.tmp").write_bytes(b"")
    (tmp_path / "out" / "shards" / "left.h5").write_bytes(b"")
    monkeypatch.setattr(Path, "unlink", refuse)
    assert cut(a, tmp_path / "out", say=silent) == wanted


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*wanted\.json'") as caught:
        publish(tmp_path / "wanted.json", b"x")
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_parents_are_those_that_were_given(tmp_path: Path) -> None:
    a = make_label_set(tmp_path / "a", samples_of("probes:1"))
    shutil.copytree(a, tmp_path / "same")
    assert provenance.parent(open_label_set(a)) == provenance.parent(open_label_set(tmp_path / "same"))
    assert as_json(provenance.parent(open_label_set(a)))["plan"] == "ab" * 32
    assert writer.finished(tmp_path / "none", "a plan") is None
