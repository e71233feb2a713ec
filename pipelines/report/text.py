"""Columns, sizes and durations as people read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hdistill.data.errors import LabelSetError


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, as wide as they need to be."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def size(n_bytes: float) -> str:
    """Bytes for people: 1.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def duration(seconds: float) -> str:
    """Seconds for people: 3 min, 2.5 h."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"


def untrusted(show: Callable[[Any], str]) -> Callable[[Any], str]:
    """A table of what strangers may have written, such as a manifest: no control characters reach the terminal, and what is missing
    or of another type than the table wants is one sentence. Raises LabelSetError."""

    def shown(result: Any) -> str:
        try:
            text = show(result)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise LabelSetError(f"The manifest lacks something to be shown here ({error!r}); use --json.") from error
        return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)

    return shown
