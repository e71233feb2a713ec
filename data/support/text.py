"""Text that others wrote, fit to be stored and shown: a terminal obeys control characters, and half a surrogate pair cannot be written."""

from __future__ import annotations

MAX_LENGTH = 2000


def plain_text(text: str, max_length: int = MAX_LENGTH) -> str:
    """The text with a space for each run of white space and control characters, and at most max_length characters of it."""
    encodable = text[: 4 * max_length].encode("utf-8", "replace").decode()
    printable = "".join(c if c.isprintable() else " " for c in encodable)
    words = " ".join(printable.split())
    return words if len(words) <= max_length else words[: max_length - 4] + " ..."
