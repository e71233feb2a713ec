"""Where torch's compiler works: in a folder of the user's own, and who may build there at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hdistill.data.sharing.cache import default_folder
from hdistill.data.support.private import private_folder

NAME = "TORCHINDUCTOR_CACHE_DIR"
# Of torch's compiler. With more threads sums over edges are atomic additions, in any order, so that no two fits are the same, and slower:
# two threads took 2.3 times as long as one.
ONE_THREAD = {"cpp.threads": 1}


def folder_of_code() -> Path:
    """Where machine code is kept. Loading it runs what is in it: raises InputError where others may write to the folder."""
    shards = default_folder()
    return private_folder(shards / "compiled" if "HDISTILL_CACHE" in os.environ else shards.with_name("compiled"))


@contextmanager
def kernels_in(folder: Path) -> Iterator[None]:
    """torch's compiler keeps what it makes in `folder` for as long as this lasts, not in /tmp, where others may write.

    $TORCHINDUCTOR_CACHE_DIR, where the user has set it, names another place. torch sets it too, to its default in /tmp, once it has
    compiled anything in this process: that is nobody's wish.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    before = os.environ.get(NAME)
    if before not in (None, os.path.abspath(default_cache_dir())):
        yield
        return
    os.environ[NAME] = str(private_folder(folder))
    try:
        yield
    finally:
        os.environ.pop(NAME, None)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; let go when its holder dies."""
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
