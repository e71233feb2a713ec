"""Label sets elsewhere: a real S3 API (moto's server), http without listings, folders; killed, cut, lied to, and repeated.

What is not run here: gs://, and hf:// against the hub itself. The hub's own client reads a server here that answers as the hub
does to readers; a set laid out as the hub's repositories are is read from disk and over http; writing there is only refused.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hdistill.data.errors import HDistillError, InputError, LabelSetError, LicenceError, RemoteError
from hdistill.data.labelsets import provenance
from hdistill.data.labelsets.label_set import open_label_set, verify
from hdistill.data.publication.documents import state
from hdistill.data.publication.statement import PERMISSION
from hdistill.data.sharing import store as stores
from hdistill.data.sharing.failures import Damaged, MayPass
from hdistill.data.sharing.push_pull import pull, push
from hdistill.data.sharing.store import again, stated_hashes, store
from hdistill.data.support.typed import as_json
from tests.data.manifests import PREFLIGHT
from tests.data.published import OPEN, label_set, web_server

pytestmark = pytest.mark.xdist_group("remote")  # one S3 server for all of them
ASL = OPEN | {"weights": "Academic Software License (non-commercial)", "weights_class": "nc"}
KILLED = -signal.SIGKILL


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "FIRST_WAIT_S", 0.01)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_set(tmp_path_factory.mktemp("remote") / "labels")


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def shard_names(folder: Path) -> list[str]:
    return [f"shards/{shard.path.name}" for shard in open_label_set(folder, check=False).shards]


def in_another_process(line: str, **environment: str) -> subprocess.Popen[str]:
    code = f"from pathlib import Path\nfrom hdistill.data.sharing.push_pull import pull, push\n{line}"
    return subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | environment, stderr=subprocess.PIPE, text=True
    )


# ---- folders


def test_there_and_back_gives_the_same_bytes(labels: Path, tmp_path: Path) -> None:
    pushed = push(labels, str(tmp_path / "there"), progress=False)
    pulled = pull(str(tmp_path / "there"), tmp_path / "back", progress=False)
    assert files(tmp_path / "there") == files(tmp_path / "back") == files(labels)
    assert (pushed.n_moved, pulled.n_moved) == (4, 4)
    assert pushed.label_set == pulled.label_set == open_label_set(labels).digest
    verify(tmp_path / "back")
    assert push(labels, str(tmp_path / "there"), progress=False).n_moved == 0
    assert pull(str(tmp_path / "there"), tmp_path / "back", progress=False).n_moved == 0


def test_a_damaged_set_is_not_pushed(labels: Path, tmp_path: Path) -> None:
    shutil.copytree(labels, tmp_path / "labels")
    shard = tmp_path / "labels" / shard_names(labels)[2]
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    with pytest.raises(LabelSetError, match="has changed"):
        push(tmp_path / "labels", str(tmp_path / "there"), progress=False)
    assert not (tmp_path / "there").exists()


def test_only_missing_and_damaged_shards_move(labels: Path, tmp_path: Path) -> None:
    push(labels, str(tmp_path / "there"), progress=False)
    names = shard_names(labels)
    (tmp_path / "there" / names[0]).unlink()
    damaged = tmp_path / "there" / names[1]
    damaged.write_bytes(b"!" + damaged.read_bytes()[1:])
    again_ = push(labels, str(tmp_path / "there"), progress=False)
    assert (again_.n_moved, files(tmp_path / "there")) == (2, files(labels))


def test_another_set_is_not_overwritten(labels: Path, tmp_path: Path) -> None:
    other = label_set(tmp_path / "other", seed=1)
    there = tmp_path / "there"
    push(other, str(there), progress=False)
    with pytest.raises(LabelSetError, match="holds another label set"):
        push(labels, str(there), progress=False)
    with pytest.raises(LabelSetError, match="holds another label set"):
        pull(str(there), labels, progress=False)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "plan.json").touch()
    with pytest.raises(LabelSetError, match="not finished"):
        pull(str(there), tmp_path / "begun", progress=False)
    assert files(there) == files(other)


def one_more(name: str) -> dict[str, Any]:
    """A later pass, as a manifest records it."""
    same = {"environment": {}, "teacher": {"device": "cpu", "versions": {}}, "quarantine": []}
    return {"name": name, "parent": "ab" * 32, "preflight": PREFLIGHT, **same}


def test_a_later_pass_replaces_an_older_one(labels: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    push(labels, str(there), progress=False)
    pull(str(there), back, progress=False)
    later = label_set(tmp_path / "later", n=60)
    assert push(later, str(there), progress=False).n_moved == 2  # the others are the same shards
    assert pull(str(there), back, progress=False).n_moved == 2
    assert len(open_label_set(back).shards) == 6
    two_passes = label_set(tmp_path / "two", n=60, history={"passes": [one_more("add-4-8"), one_more("add-8-12")]})
    push(two_passes, str(tmp_path / "two-there"), progress=False)
    one_pass = label_set(tmp_path / "one", n=60, history={"passes": [one_more("add-4-8")]})
    with pytest.raises(LabelSetError, match="not a later pass of"):
        push(one_pass, str(tmp_path / "two-there"), progress=False)
    push(one_pass, str(there), progress=False)
    push(two_passes, str(there), progress=False)
    history = {"made_by": "merge", "parents": [as_json(provenance.parent(open_label_set(two_passes)))]}
    merged = label_set(tmp_path / "merged", n=70, plan="another plan", history=history)
    push(merged, str(there), progress=False)
    with pytest.raises(LabelSetError, match="not a later pass of"):
        push(later, str(there), progress=False)
    part = label_set(tmp_path / "part", n=20, plan="a part", history=history | {"made_by": "subset"})
    with pytest.raises(LabelSetError, match="holds another label set"):
        pull(str(part), back, progress=False)


# ---- licences


def test_what_may_not_be_shared_is_refused_unless_somebody_says_so(tmp_path: Path) -> None:
    labels, there = label_set(tmp_path / "labels", licenses=ASL), tmp_path / "there"
    before = files(labels)
    with pytest.raises(LicenceError, match=r"class nc.*commercially.*--i-have-permission"):
        push(labels, str(there), progress=False)
    assert not there.exists()
    push(labels, str(there), permission_by="A. One", progress=False)
    assert files(labels) == before  # the set itself does not know
    recorded = json.loads((there / PERMISSION).read_bytes())
    assert (recorded["by"], recorded["license_class"]) == ("A. One", "nc")
    assert recorded["label_set"] == open_label_set(labels).digest
    assert "A. One stated on" in (there / "README.md").read_text()
    recorded["on"] = "2020-01-01"  # pushed again another day
    (there / PERMISSION).write_text(json.dumps(recorded))
    push(labels, str(there), permission_by="A. One", progress=False)
    assert json.loads((there / PERMISSION).read_bytes())["on"] == "2020-01-01"
    pull(str(there), tmp_path / "back", progress=False)
    assert "A. One stated on 2020-01-01" in (tmp_path / "back" / "README.md").read_text()
    with pytest.raises(LicenceError):
        push(tmp_path / "back", str(tmp_path / "third"), progress=False)  # a permission is not handed on


def test_a_forged_labels_licence_does_not_help(tmp_path: Path) -> None:
    labels = label_set(tmp_path / "labels", licenses=ASL)
    file = labels / "manifest.json"
    manifest = json.loads(file.read_bytes())
    manifest["licenses"] |= {"labels": "MIT", "labels_class": "open"}
    file.write_text(json.dumps(manifest))
    with pytest.raises(LicenceError):
        push(labels, str(tmp_path / "there"), progress=False)


def test_an_unknown_licence_of_structures_can_be_stated(tmp_path: Path) -> None:
    labels = label_set(tmp_path / "labels", licenses=OPEN | {"structures": "unknown"})
    with pytest.raises(LicenceError, match="--structures-license"):
        push(labels, str(tmp_path / "there"), progress=False)
    state(labels, structures_license="CC-BY-4.0")
    assert push(labels, str(tmp_path / "there"), progress=False).license == "CC-BY-4.0"
    assert pull(str(tmp_path / "there"), tmp_path / "back", progress=False).license == "CC-BY-4.0"
    state(label_set(tmp_path / "nc", licenses=ASL), structures_license="MIT", weights_license="MIT")
    with pytest.raises(LicenceError):
        push(tmp_path / "nc", str(tmp_path / "elsewhere"), progress=False)


# ---- http


def test_http_without_listings(labels: Path, tmp_path: Path) -> None:
    with web_server(labels) as web:
        pull(web.address + "/", tmp_path / "back", progress=False)
        assert files(tmp_path / "back") == files(labels)
        assert len(web.asked) == 7  # manifest, 4 shards, and whether anything was stated or permitted
        with pytest.raises(LabelSetError, match=r"not a label set.*manifest\.json"):
            pull(web.address + "/elsewhere", tmp_path / "other", progress=False)
        with pytest.raises(RemoteError, match="can be read and not written"):
            push(labels, web.address, progress=False)


def test_what_passes_is_tried_again(labels: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = shard_names(labels)
    with web_server(labels) as web:
        web.fail = {"manifest.json": 2, names[0]: 3}
        web.cut = {names[1]: 2}
        pull(web.address, tmp_path / "back", progress=False)
        assert files(tmp_path / "back") == files(labels)
        assert "Attempt 2 of 4" in capfd.readouterr().err
        web.fail = {names[0]: 100}
        with pytest.raises(RemoteError, match="503"):
            pull(web.address, tmp_path / "never", progress=False)
        assert web.fail[names[0]] == 100 - stores.ATTEMPTS
    with pytest.raises(RemoteError, match="Cannot connect"):
        pull(web.address, tmp_path / "gone", progress=False)


def flip(data: bytes) -> bytes:
    return data[:500] + bytes([data[500] ^ 1]) + data[501:]


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (flip, "has changed"),
        (lambda data: data[:-7], "bytes"),
        (lambda data: data + b"more", "more than the"),
        (lambda data: data * 4000, "more than the"),  # 54 MB: refused as soon as one byte too many has come
        (lambda data: b"", "has 0 bytes"),
    ],
)
def test_a_remote_that_sends_something_else(
    labels: Path, tmp_path: Path, change: Callable[[bytes], bytes], messages: str
) -> None:
    names = shard_names(labels)
    back = tmp_path / "back"
    with web_server(labels) as web:
        web.bodies[names[1]] = change((labels / names[1]).read_bytes())
        with pytest.raises(LabelSetError, match=messages):
            pull(web.address, back, progress=False)
        assert sorted(files(back)) == names[:1]  # no manifest, nothing of the wrong shard under any name
        web.bodies.clear()
        assert pull(web.address, back, progress=False).n_moved == 3
    assert files(back) == files(labels)


def test_nothing_gets_its_name_before_its_hash_was_found_right(labels: Path, tmp_path: Path) -> None:
    """Of the store alone: what is named wrong bytes for a moment can be read by another process in that moment."""
    name = shard_names(labels)[0]
    data = (labels / name).read_bytes()
    with web_server(labels) as web:
        web.bodies[name] = flip(data)
        entry, target, reported = open_label_set(labels).shards[0], tmp_path / "x.h5", []
        with pytest.raises(Damaged, match="has changed"):
            store(web.address).fetch(name, target, entry.bytes, entry.sha256, reported.append)
        assert os.listdir(tmp_path) == []
        assert sum(reported) == 0  # a progress bar goes back
        assert web.asked == [name, name]
        web.bodies.clear()
        store(web.address).fetch(name, target, entry.bytes, entry.sha256, reported.append)
    assert (target.read_bytes(), sum(reported)) == (data, len(data))


def test_a_shard_that_was_damaged_on_the_way_is_asked_for_again(labels: Path, tmp_path: Path) -> None:
    name = shard_names(labels)[0]
    with web_server(labels) as web:
        web.bodies[name] = flip((labels / name).read_bytes())
        web.once.add(name)
        pull(web.address, tmp_path / "back", progress=False)
    assert files(tmp_path / "back") == files(labels)


def test_the_right_hash_of_no_shard_is_refused_and_removed(labels: Path, tmp_path: Path) -> None:
    """A stranger's manifest may name any bytes; they are read as a shard only through its guards, and not kept."""
    import hashlib

    shutil.copytree(labels, tmp_path / "evil")
    manifest = json.loads((tmp_path / "evil" / "manifest.json").read_bytes())
    data = b"no HDF5 at all"
    manifest["shards"][0] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (tmp_path / "evil" / "shards" / manifest["shards"][0]["name"]).write_bytes(data)
    (tmp_path / "evil" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LabelSetError):
        pull(str(tmp_path / "evil"), tmp_path / "back", progress=False)
    assert files(tmp_path / "back") == {}


@pytest.mark.parametrize("name", ["../../escaped.h5", "/tmp/escaped.h5", ".hidden.h5"])
def test_a_manifest_names_no_file_elsewhere(labels: Path, tmp_path: Path, name: str) -> None:
    manifest = json.loads((labels / "manifest.json").read_bytes())
    manifest["shards"][0]["name"] = name
    with web_server(labels) as web:
        web.bodies["manifest.json"] = json.dumps(manifest).encode()
        with pytest.raises(LabelSetError, match="refused"):
            pull(web.address, tmp_path / "back", progress=False)
        assert web.asked == ["manifest.json"]


def test_killed_in_the_middle_of_a_pull(labels: Path, tmp_path: Path) -> None:
    """kill -9 from outside, with half of a shard on its way; the same command again fetches what is missing."""
    back, names = tmp_path / "back", shard_names(labels)
    with web_server(labels) as web:
        for number, name in ((1, names[1]), (3, names[3])):
            child = in_another_process(f"pull({web.address!r}, Path({str(back)!r}))")
            web.halfway[name] = child.kill
            assert child.wait(60) == KILLED
            assert not (back / "manifest.json").exists()
            assert [n for n in names if (back / n).exists()] == names[:number]
            web.halfway.clear()
        web.asked.clear()
        assert pull(web.address, back, progress=False).n_moved == 1
        assert [name for name in web.asked if name.startswith("shards/")] == names[3:]
        left = list((back / "shards").glob(".*.tmp"))
        assert len(left) == 2  # a pull that is going on has such files, too
        for path in left:
            os.utime(path, (0, 0))
        pull(web.address, back, progress=False)
    assert files(back) == files(labels)
    verify(back)


# ---- S3


@dataclass
class Bucket:
    """A bucket of moto's server. before_put is called with the key before an object is stored."""

    name: str
    before_put: Callable[[str], None]

    @property
    def address(self) -> str:
        return f"s3://{self.name}/sets/labels"

    def objects(self) -> dict[str, bytes]:
        fs = store(self.address).fs
        fs.invalidate_cache()
        prefix = f"{self.name}/sets/labels/"
        return {path.removeprefix(prefix): fs.cat_file(path) for path in fs.find(f"{self.name}/")}

    def put(self, name: str, data: bytes) -> None:
        store(self.address).fs.pipe_file(f"{self.name}/sets/labels/{name}", data)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[tuple[str, dict[str, Any]]]:
    from moto.s3.models import S3Backend
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    hook: dict[str, Any] = {}
    put = S3Backend.put_object

    def hooked(self: Any, bucket_name: str, key_name: str, *args: Any, **kwargs: Any) -> Any:
        if "before_put" in hook:
            hook["before_put"](key_name)
        return put(self, bucket_name, key_name, *args, **kwargs)

    S3Backend.put_object = hooked
    yield "http://{}:{}".format(*server.get_host_and_port()), hook
    S3Backend.put_object = put
    server.stop()


@pytest.fixture
def s3(s3_server: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A new bucket; endpoint and credentials are in the environment, as a user has them."""
    import s3fs

    address, hook = s3_server
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    hook["n"] = hook.get("n", 0) + 1
    bucket = Bucket(f"bucket-{hook['n']}", lambda key: None)
    store("s3://x").fs.mkdir(bucket.name)
    hook["before_put"] = lambda key: bucket.before_put(key)
    yield bucket
    hook.pop("before_put")
    s3fs.S3FileSystem.clear_instance_cache()


def test_s3_there_and_back(s3: Bucket, labels: Path, tmp_path: Path) -> None:
    order: list[str] = []
    s3.before_put = lambda key: order.append(key.removeprefix("sets/labels/"))
    assert push(labels, s3.address, progress=False).n_moved == 4
    assert s3.objects() == files(labels)
    assert order[:4] == shard_names(labels)
    assert order[-1] == "manifest.json"
    order.clear()
    assert push(labels, s3.address, progress=False).n_moved == 0
    assert not [name for name in order if name.startswith("shards/")]
    assert pull(s3.address, tmp_path / "back", progress=False).n_moved == 4
    assert files(tmp_path / "back") == files(labels)


def test_s3_shards_that_are_not_what_they_are_called_are_replaced(s3: Bucket, labels: Path) -> None:
    push(labels, s3.address, progress=False)
    names = shard_names(labels)
    s3.put(names[0], (labels / names[0]).read_bytes()[:-1])  # another size
    s3.put(names[2], flip((labels / names[2]).read_bytes()))  # the same size: the ETag tells, and reading it back
    assert push(labels, s3.address, progress=False).n_moved == 2
    assert s3.objects() == files(labels)


def test_s3_pull_of_a_damaged_shard_is_refused(s3: Bucket, labels: Path, tmp_path: Path) -> None:
    push(labels, s3.address, progress=False)
    name = shard_names(labels)[3]
    s3.put(name, flip((labels / name).read_bytes()))
    with pytest.raises(LabelSetError, match="has changed"):
        pull(s3.address, tmp_path / "back", progress=False)
    assert not (tmp_path / "back" / name).exists()
    assert not (tmp_path / "back" / "manifest.json").exists()


@pytest.mark.parametrize("at", [0, 2, 5, 6])
def test_killed_in_the_middle_of_a_push(s3: Bucket, labels: Path, tmp_path: Path, at: int) -> None:
    """kill -9 from outside while the store takes object number `at`; the same command again sends what is missing."""
    names = shard_names(labels)
    child = in_another_process(f"push(Path({str(labels)!r}), {s3.address!r})")
    seen: list[str] = []

    def kill(key: str) -> None:
        if len(seen) == at:
            child.kill()
            child.wait()
            seen.append(key)
            raise ConnectionAbortedError  # the object is not stored
        seen.append(key)

    s3.before_put = kill
    assert child.wait(60) == KILLED
    s3.before_put = lambda key: None
    there = s3.objects()
    assert "manifest.json" not in there
    assert [name for name in names if name in there] == names[:at]
    with pytest.raises(LabelSetError, match="not a label set, or not yet"):
        pull(s3.address, tmp_path / "back", progress=False)
    assert push(labels, s3.address, progress=False).n_moved == max(0, 4 - at)
    assert s3.objects() == files(labels)


def test_s3_errors_are_sentences(s3: Bucket, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    for action in (lambda a: push(labels, a, progress=False), lambda a: pull(a, tmp_path / "back", progress=False)):
        with pytest.raises(RemoteError, match="no such bucket"):
            action("s3://there-is-no-such-bucket/labels")
    with pytest.raises(LabelSetError, match="not a label set, or not yet"):
        pull(s3.address + "/elsewhere", tmp_path / "back", progress=False)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(RemoteError, match=r"credentials.*AWS_ACCESS_KEY_ID"):
        pull(s3.address, tmp_path / "back", progress=False)


# ---- the hub, and what is not installed


def test_a_set_laid_out_as_a_repository_of_the_hub(labels: Path, tmp_path: Path) -> None:
    """What `git clone` or the hub's download gives: the set's files beside the hub's own."""
    repository = tmp_path / "OWNER" / "NAME"
    shutil.copytree(labels, repository)
    (repository / ".gitattributes").write_text("*.h5 filter=lfs diff=lfs merge=lfs -text\n")
    (repository / ".cache" / "huggingface").mkdir(parents=True)
    (repository / "README.md").write_text("---\nlicense: mit\n---\nedited on the hub\n")
    pull(str(repository), tmp_path / "back", progress=False)
    assert files(tmp_path / "back") == files(labels)
    with web_server(repository) as web:
        pull(web.address, tmp_path / "over-http", progress=False)
    assert files(tmp_path / "over-http") == files(labels)


def test_addresses_of_the_hub() -> None:
    from huggingface_hub import HfFileSystem

    actual = store("hf://datasets/OWNER/NAME")
    assert isinstance(actual.fs, HfFileSystem)
    assert actual.path("shards/x.h5") == "datasets/OWNER/NAME/shards/x.h5"
    assert store("hf://datasets/OWNER/NAME@v1/part").path("manifest.json").endswith("part/manifest.json")
    for address in ("hf://OWNER/NAME", "hf://datasets/NAME", "hf://"):
        with pytest.raises(RemoteError, match="hf://datasets/OWNER/NAME"):
            store(address)


def test_the_hubs_own_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hf:// through huggingface_hub, to a server that has a repository's description and its files where the hub has them."""
    import fsspec.config

    labels = label_set(tmp_path / "web" / "datasets" / "OWNER" / "NAME" / "resolve" / "main")
    with web_server(tmp_path / "web") as web:
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": web.address, "token": False})
        about = {"_id": "1", "id": "OWNER/NAME", "sha": "0" * 40, "private": False, "gated": False, "disabled": False}
        web.bodies["api/datasets/OWNER/NAME"] = json.dumps(about).encode()
        pull("hf://datasets/OWNER/NAME", tmp_path / "back", progress=False)
        assert files(tmp_path / "back") == files(labels)
        assert f"datasets/OWNER/NAME/resolve/main/{shard_names(labels)[0]}" in web.asked
        with pytest.raises(LabelSetError, match="not a label set, or not yet"):
            pull("hf://datasets/OWNER/OTHER", tmp_path / "other", progress=False)
        with pytest.raises(RemoteError, match=r"no such repository.*hf repo create"):
            push(labels, "hf://datasets/OWNER/OTHER", progress=False)


@pytest.mark.parametrize(
    ("module", "address"), [("s3fs", "s3://b/x"), ("gcsfs", "gs://b/x"), ("aiohttp", "https://h/x")]
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, module: str, address: str) -> None:
    import fsspec.registry  # noqa: F401

    monkeypatch.setitem(sys.modules, module, None)
    registry = sys.modules["fsspec.registry"]._registry  # classes that were imported before
    monkeypatch.delitem(registry, address.partition("://")[0], raising=False)
    with pytest.raises(RemoteError, match=rf"{module}.*pip install -c constraints.txt '\.\[remote\]'"):
        store(address)


def test_an_unknown_kind_of_address() -> None:
    with pytest.raises(RemoteError, match="No way is known to reach s4://"):
        store("s4://bucket/labels")


def test_what_stores_tell_of_hashes() -> None:
    assert stated_hashes({"ETag": '"c4ca4238a0b923820dcc509a6f75849b"'}) == {"md5": "c4ca4238a0b923820dcc509a6f75849b"}
    assert stated_hashes({"ETag": '"c4ca4238a0b923820dcc509a6f75849b-3"'}) == {}  # sent in parts: no hash of the whole
    assert stated_hashes({"md5Hash": "xMpCOKC5I4INzFCab3WEmw=="}) == {"md5": "c4ca4238a0b923820dcc509a6f75849b"}
    assert stated_hashes({"lfs": {"sha256": "ab", "size": 1}}) == {"sha256": "ab"}
    assert stated_hashes({"size": 1}) == {}


def test_waits_double_and_end() -> None:
    waits: list[float] = []

    def fail() -> None:
        raise MayPass("busy.")

    with pytest.raises(HDistillError, match="busy"):
        again(fail, waits.append)
    assert waits == [0.01, 0.02, 0.04]


def test_errors_that_stay_are_not_tried_again(labels: Path) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise InputError("no.")

    with pytest.raises(InputError):
        again(fail)
    assert len(calls) == 1
