"""For scripts that run a part of themselves in a teacher's interpreter, where hdistill is not installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

PROCESS = Path(__file__).resolve().parents[1] / "labeler" / "process"


def loaded_teacher(name: str, family: str, model: str, task: str | None) -> Any:
    """The adapter with its model loaded, on one thread; hdistill can be imported from then on."""
    sys.path.insert(0, str(PROCESS))
    from child import make_hdistill_importable

    sys.path.pop(0)
    make_hdistill_importable()
    import torch

    from hdistill.labeler.teachers.contract import TeacherRequest

    torch.set_num_threads(1)
    adapter = importlib.import_module(f"hdistill.labeler.teachers.{family}")
    return adapter.load(TeacherRequest(name, family, model, task))
