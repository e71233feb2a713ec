"""A Lennard-Jones calculator that does what broken teachers do; the charge of a structure says which of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ase.calculators.calculator import all_changes
from ase.calculators.lj import LennardJones


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text of mine")


def raises(error: BaseException) -> Callable[[Any, Any], None]:
    def act(calculator: Any, atoms: Any) -> None:
        raise error

    return act


def gives(**results: Any) -> Callable[[Any, Any], None]:
    def act(calculator: Any, atoms: Any) -> None:
        calculator.results |= {key: value(len(atoms)) for key, value in results.items()}

    return act


def mutates(calculator: Any, atoms: Any) -> None:
    """Results of what it was given; then it changes that, as a relaxation in place would."""
    atoms.positions *= 1.1
    atoms.numbers[:] = 1


def mutates_its_results(calculator: Any, atoms: Any) -> None:
    calculator.shared = getattr(calculator, "shared", np.zeros((len(atoms), 3)))
    calculator.shared[:] = calculator.results["forces"]
    calculator.results["forces"] = calculator.shared


def forks_and_both_return(calculator: Any, atoms: Any) -> None:
    os.fork()


def leaves_children(calculator: Any, atoms: Any) -> None:
    """One that was forked, one that was started, one in a session of its own."""
    if os.fork() == 0:
        time.sleep(3600)
    sleep = [sys.executable, "-c", "import time; time.sleep(3600)"]
    subprocess.Popen(sleep)
    subprocess.Popen(sleep, start_new_session=True)


def leaves_a_child_and_segfaults(calculator: Any, atoms: Any) -> None:
    leaves_children(calculator, atoms)
    os.kill(os.getpid(), signal.SIGSEGV)


def floods(calculator: Any, atoms: Any) -> None:
    for _ in range(64):
        print("x" * (1 << 20))
        os.write(2, b"y" * (1 << 20) + b"\n")


def reads(calculator: Any, atoms: Any) -> None:
    assert sys.stdin.read() == ""


def answers_by_itself(calculator: Any, atoms: Any) -> None:
    for descriptor in range(3, 32):
        try:
            os.write(descriptor, b"an answer of my own")
        except OSError:
            continue


def sends_itself(number: signal.Signals) -> Callable[[Any, Any], None]:
    return lambda calculator, atoms: os.kill(os.getpid(), number)


ACTS: dict[str, Callable[[Any, Any], Any]] = {
    "nothing": lambda calculator, atoms: None,
    "KeyboardInterrupt": raises(KeyboardInterrupt()),
    "GeneratorExit": raises(GeneratorExit()),
    "SystemExit": raises(SystemExit(5)),
    "CancelledError": raises(asyncio.CancelledError()),
    "EOFError": raises(EOFError("the file has ended")),
    "an error without a text": raises(Unspeakable()),
    "an error with a wild text": raises(ValueError("\x1b[31mred\ud800\n" + "x" * 100_000)),
    "no forces": gives(forces=lambda n: None),
    "forces of None": gives(forces=lambda n: np.full((n, 3), None)),
    "complex forces": gives(forces=lambda n: np.ones((n, 3)) * 1j),
    "true forces": gives(forces=lambda n: np.ones((n, 3), bool)),
    "forces of text": gives(forces=lambda n: np.full((n, 3), "1.0")),
    "forces on too many atoms": gives(forces=lambda n: np.ones((n + 1, 3))),
    "flat forces": gives(forces=lambda n: np.ones(3 * n)),
    "no energy": gives(energy=lambda n: None, free_energy=lambda n: None),
    "a complex energy": gives(energy=lambda n: 1 + 1j, free_energy=lambda n: np.complex128(1 + 1j)),
    "an energy of text": gives(energy=lambda n: "-1.0", free_energy=lambda n: "-1.0"),
    "two energies": gives(energy=lambda n: np.zeros(2), free_energy=lambda n: np.zeros(2)),
    "changes what it was given": mutates,
    "changes what it gave": mutates_its_results,
    "forks and both return": forks_and_both_return,
    "leaves children": leaves_children,
    "floods": floods,
    "reads": reads,
    "_exit": lambda calculator, atoms: os._exit(3),
    "abort": lambda calculator, atoms: os.abort(),
    "segfault": sends_itself(signal.SIGSEGV),
    "leaves children and segfaults": leaves_a_child_and_segfaults,
    "stops": sends_itself(signal.SIGSTOP),
    "sleeps": lambda calculator, atoms: time.sleep(3600),
    "answers by itself": answers_by_itself,
}


class Misbehaving(LennardJones):
    def __init__(self) -> None:
        super().__init__(sigma=2.5, epsilon=0.05, rc=8.0, smooth=True)

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        list(ACTS.values())[int(atoms.info["charge"])](self, atoms)
