"""An ASE calculator of this session as a teacher: pickled into a folder that is the user's alone, loaded by the teacher's process.

The teacher is then `ase:hdistill.pipelines.live_calculator.load` with the digest of the pickle as its argument: a calculator made in
the same way continues what was begun, another one is another teacher, and so may be one that was used since (it may keep neighbour
lists). Only a digest that the caller gives is loaded, from this folder alone.
"""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import re
from pathlib import Path
from typing import Any

TEACHER = "ase:hdistill.pipelines.live_calculator.load"


def stored(calculator: Any) -> tuple[str, ...]:
    """The arguments of TEACHER for this calculator, once it is stored. Raises InputError where it cannot be pickled."""
    import cloudpickle

    from hdistill.data.errors import InputError
    from hdistill.data.support.publish import publish

    name = f"{type(calculator).__module__}.{type(calculator).__qualname__}"
    try:
        fresh = copy.copy(calculator)
        if hasattr(fresh, "reset"):
            fresh.reset()  # what it was last asked is not part of what it is
        data = cloudpickle.dumps(fresh, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # whatever the calculator's attributes raise
        raise InputError(
            f"The calculator {name} cannot be sent to a process of its own ({type(error).__name__}: {error}); "
            'name its class instead: teacher="ase:module.Class", with its arguments as "NAME=VALUE".'
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    path = _folder() / f"{digest}.pickle"
    if not path.exists():
        publish(path, data)
    return (f"digest={digest}", f"calculator={name}")


def load(digest: str, calculator: str) -> Any:
    """In the teacher's process: the calculator with this digest, called `calculator` for people. Raises InputError."""
    from hdistill.data.errors import InputError

    path = _folder() / f"{digest}.pickle"
    if not re.fullmatch("[0-9a-f]{64}", digest) or not path.is_file():
        raise InputError(f"The calculator {calculator} is not stored here; call label() with it again.")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError(f"{path} has changed; remove it and call label() with the calculator again.")
    return pickle.loads(data)


def _folder() -> Path:
    """<cache>/calculators, of mode 700: pickles are code."""
    from hdistill.data.support.private import private_folder

    own, base = os.environ.get("HDISTILL_CACHE"), os.environ.get("XDG_CACHE_HOME")
    cache = Path(own).expanduser() if own else (Path(base) if base else Path.home() / ".cache") / "hdistill"
    return private_folder(cache / "calculators")
