"""Label sets as they are published, small, of made-up samples; and an http server that can be told to misbehave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

from hdistill.data.format.shard import to_arrays
from hdistill.data.labelsets import writer
from tests.data.manifests import SUBSET, facts_of_json
from tests.data.samples import random_samples

TEACHER = {
    "name": "lennard-jones",
    "family": "lennard_jones",
    "task": None,
    "dtype": "float64",
    "device": "cpu",
    "elements": list(range(1, 10)),
    "conservative": True,
    "has_stress": True,
    "hessian_method": "analytic",
    "weights_sha256": None,
    "weights_license": "MIT",
    "license_class": "open",
    "level_of_theory": "a formula | with a bar",
    "citation": "J. E. Lennard-Jones (1924)",
    "versions": {"numpy": "2.0"},
    "arguments": {},
}
PREFLIGHT = {
    "structure": "00" * 16,
    "n_atoms": 3,
    "dtype": "float64",
    "step_angstrom": 1e-5,
    "force_difference_error": 1.25e-9,
    "product_difference_error": 2.5e-8,
    "product_run_precision_error": 3.75e-7,
    "tolerance": 1e-3,
}
OPEN = {"structures": "CC0-1.0", "weights": "MIT", "weights_class": "open", "code": "MIT"}


def label_set(
    folder: Path,
    n: int = 40,
    per_shard: int = 10,
    seed: int = 0,
    licenses: Mapping[str, Any] = OPEN,
    plan: str = "a plan",
    **facts: Any,
) -> Path:
    """A finished label set of n structures, written as `hdistill label` writes it; each part becomes a shard."""
    made = random_samples(sizes=[2 + i % 5 for i in range(n)], seed=seed)
    made = [replace(s, split=("val", "test", "train", "train", "train")[i % 5]) for i, s in enumerate(made)]
    blocks = [writer.Block(to_arrays(made[i : i + per_shard], "compact"), 1e-4, 2e-4) for i in range(0, n, per_shard)]
    stated: dict[str, Any] = {
        "plan": f"{plan} {seed}",
        "teacher": TEACHER,
        "hessian": {"kind": "probes", "per_structure": 4, "seed": 0, "codec": "compact"},
        "preflight": PREFLIGHT,
        "subset": SUBSET | {"names": ["some.xyz"], "where": "n_atoms < 9", "citation": ["A. Source (2020)"]},
        "splits": {"fractions": "0.6,0.2,0.2", "seed": 0, "by": "group"},
        "licenses": licenses,
        "quarantine": [{"id": "ab" * 16, "reason": "nan", "text": "forces are NaN", "attempts": 2}],
    }
    with mock.patch.object(writer, "SHARD_BYTES", 1):
        writer.write(folder, blocks, facts_of_json(**(stated | facts)))
    return folder


class Web(ThreadingHTTPServer):
    """Serves the folder `root` without listings, and misbehaves where it is told to, by path.

    fail: how many requests get a 503; cut: how many bodies end in the middle; bodies: what is sent instead of the file (once,
    where the path is in `once`); halfway: called in the middle of a body. asked: the paths of all requests.
    """

    daemon_threads = True

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.fail: dict[str, int] = {}
        self.bodies: dict[str, bytes] = {}
        self.once: set[str] = set()
        self.cut: dict[str, int] = {}
        self.halfway: dict[str, Callable[[], None]] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(SimpleHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        name, web = self.path.lstrip("/"), self.server
        web.asked.append(name)
        if web.fail.get(name, 0) > 0:
            web.fail[name] -= 1
            self.send_error(503)
            return
        file = web.root / name
        if name not in web.bodies and not file.is_file():
            self.send_error(404)
            return
        body = web.bodies[name] if name in web.bodies else file.read_bytes()
        if name in web.once:
            web.bodies.pop(name, None)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if web.cut.get(name, 0) > 0:
            web.cut[name] -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        with suppress(ConnectionError):
            self.wfile.write(body[: len(body) // 2])
            web.halfway.get(name, lambda: None)()
            self.wfile.write(body[len(body) // 2 :])

    def do_HEAD(self) -> None:
        self.send_error(405)  # a server that only knows GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def web_server(root: Path) -> Iterator[Web]:
    web = Web(root)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.shutdown()
        web.server_close()
