"""manifest.json: what a label set says of itself. Read and checked here; its records are in records.py.

Written by labelsets/writer.py; older versions are read through migrate.py. Nothing in a manifest is ever run, imported or opened
as a model.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ..errors import LabelSetError
from ..support.strict_json import MAX_BYTES, read_object
from ..support.typed import shown, typed
from .migrate import migrated
from .records import PATTERNS, SHARD_NAME, Manifest
from .schema import FORMAT, SPLITS

MANIFEST = "manifest.json"
SHARDS = "shards"
MAX_MANIFEST_BYTES = MAX_BYTES


def read_manifest(folder: Path) -> Manifest:
    """manifest.json of a label set. Raises LabelSetError: none, of another format or version, a field of another type."""
    file = folder / MANIFEST
    status = _status(file)
    if status is None:
        if (folder / "plan.json").exists():
            raise LabelSetError(f"{folder} is not finished; run the `hdistill label` command that began it again.")
        raise LabelSetError(f"{folder} is not a label set: it has no {MANIFEST}. Make one with `hdistill label`.")
    if not stat.S_ISREG(status.st_mode):
        raise LabelSetError(f"{file} is not a regular file; it was refused.")
    if status.st_size > MAX_MANIFEST_BYTES:
        raise LabelSetError(f"{file} is larger than a manifest can be; it was refused.")
    return parse_manifest(file.read_bytes(), str(file))


def parse_manifest(data: bytes, what: str) -> Manifest:
    """A manifest in memory, checked like one on disk; `what` names it in errors. Raises LabelSetError."""
    content = read_object(data, what)
    if content.get("format") != FORMAT:
        raise LabelSetError(f"{what} says its format is {shown(content.get('format'))}; '{FORMAT}' was wanted.")
    content = migrated(content, what)
    _require_shard_names(content.get("shards"), what)
    manifest = typed(content, Manifest, what, PATTERNS)
    if missing := [split for split in SPLITS if split not in manifest.splits.n_structures]:
        raise LabelSetError(f"{what}: splits.n_structures has no number for {', '.join(missing)}; it was refused.")
    return manifest


def _status(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except (OSError, ValueError):
        return None


def _require_shard_names(rows: object, what: str) -> None:
    """Raise LabelSetError for a name that leads elsewhere, and for one that is there twice."""
    names = [row.get("name") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    texts = [name for name in names if isinstance(name, str)]
    for name in texts:
        if not re.match(SHARD_NAME, name):
            raise LabelSetError(
                f"{what} names a shard {shown(name)}, outside its folder or no name of one; it was refused."
            )
    if len(set(texts)) < len(texts):
        twice = next(name for name in texts if texts.count(name) > 1)
        raise LabelSetError(f"{what} is damaged: it names the shard {twice} twice.")
