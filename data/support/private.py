"""Folders that this user alone can write: machine code and pickles are loaded from nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import InputError


def private_folder(path: Path) -> Path:
    """The folder, made with mode 0700 where it is not there. Raises InputError where another user owns it, or may write to it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise InputError(
            f"{path} belongs to another user, and code is loaded from it; set $HDISTILL_CACHE to your own."
        )
    if status.st_mode & 0o022:
        raise InputError(f"Other users can write to {path}, and code is loaded from it; type `chmod 700 {path}`.")
    return path
