"""A teacher's interpreter that has imported its package already: a start of it is a fork, 0.1 s in place of 4 to 13.

What `interpreter` gives is used as a Python interpreter is. It is a small script that hands its arguments, environment, folder and
standard streams to a server; the server forks, the fork runs the file that was named, and its exit status comes back. The fork
ends with who started it. Only what is read from the environment while a package is imported is as it was when the server began.
Tests of a start itself use the interpreter without this.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

PROCESS = Path(__file__).resolve().parents[1] / "labeler" / "process"
POLL_MS = 20

ASK = """#!{python} -S
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
wanted = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
socket.send_fds(server, [len(wanted).to_bytes(8, "big")], [0, 1, 2])
server.sendall(wanted)
answer = server.recv(8)
status = int.from_bytes(answer, "big", signed=True) if answer else 1
if status < 0:
    os.kill(os.getpid(), -status)
os._exit(status)
"""


class Warm:
    """A server of one family, in a folder of its own. Use as a context manager."""

    def __init__(self, python: Path, family: str, folder: Path, environment: Mapping[str, str]):
        address = str(folder / "socket")
        command = [str(python), __file__, address, family]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.interpreter = folder / "python"
        self.interpreter.write_text(ASK.format(python=sys.executable, address=address))
        self.interpreter.chmod(0o700)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", f"{family} could not be imported"

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()


def _serve(address: str, family: str) -> None:
    """Fork for each that asks, until standard input ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # packages print while they are imported
    sys.path.insert(0, str(PROCESS))
    before = dict(os.environ)
    importlib.import_module("child").make_hdistill_importable()
    importlib.import_module(f"hdistill.labeler.teachers.{family}")
    set_by_imports = {name: value for name, value in os.environ.items() if before.get(name) != value}
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    os.write(answers, b"ready\n")
    running: dict[int, tuple[int, socket.socket]] = {}  # by the socket's number
    while True:
        waiting = select.poll()
        for descriptor in (0, listening.fileno(), *running):
            waiting.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in waiting.poll(POLL_MS if running else None)}
        if 0 in ready:
            break
        if listening.fileno() in ready:
            asker, _ = listening.accept()
            running[asker.fileno()] = _fork(asker, set_by_imports), asker
        for descriptor, (pid, asker) in list(running.items()):
            if descriptor in ready:  # it never writes again: who asked is gone
                os.killpg(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del running[descriptor]
                if descriptor not in ready:
                    asker.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
                asker.close()
    for pid, _ in running.values():
        os.killpg(pid, signal.SIGKILL)
    os._exit(0)  # what was imported takes seconds to take itself down


def _fork(asker: socket.socket, set_by_imports: Mapping[str, str]) -> int:
    length, descriptors, _, _ = socket.recv_fds(asker, 8, 3)
    size = int.from_bytes(length, "big")
    wanted = bytearray()
    while len(wanted) < size:
        wanted += asker.recv(size - len(wanted))
    started, starts = os.pipe()
    pid = os.fork()
    if pid:
        for descriptor in (*descriptors, starts):
            os.close(descriptor)
        os.read(started, 1)  # it leads its group now
        os.close(started)
        return pid
    status = 1
    try:
        os.setsid()
        os.close(starts)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        asker.close()
        arguments, environment, folder = json.loads(wanted)
        status = _run(arguments, {**environment, **set_by_imports}, folder)
    finally:
        os._exit(status)


def _run(arguments: list[str], environment: dict[str, str], folder: str) -> int:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = arguments
    sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
    status: object = 0
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status if isinstance(status, int) else int(status is not None)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
