"""An ASE calculator by its path module.Class."""

from __future__ import annotations

import importlib
from typing import Any


def calculator(model: str, task: str | None, dtype: str, device: str) -> Any:
    module, _, name = model.rpartition(".")
    return getattr(importlib.import_module(module), name)()
