"""Text that others wrote, fit to be stored, shown and passed on.

A terminal obeys control characters, half a surrogate pair cannot be written, and where a file lies on somebody's disk is nobody
else's business.
"""

from __future__ import annotations

import re
from typing import Any

MAX_LENGTH = 2000
_NAME = r"[^\s'\"<>|:;,()\[\]{}/\\]+"
# Two names or more after a root: /home/me/x.model, ~/x/y, C:\me\x. What follows :// is an address and stays.
_PATH = re.compile(rf"(?<![\w/.~\\])(?:(?:~|\.\.?)?/(?!/)|[A-Za-z]:\\)(?:{_NAME}[/\\])+(?:{_NAME})?[/\\]?")
_LOG = re.compile(
    r"\s*Its last words: .*", re.DOTALL
)  # what a teacher's process wrote before it died (labeler/process)


def plain_text(text: str, max_length: int = MAX_LENGTH) -> str:
    """The text with a space for each run of white space and control characters, and at most max_length characters of it."""
    encodable = text[: 4 * max_length].encode("utf-8", "replace").decode()
    printable = "".join(c if c.isprintable() else " " for c in encodable)
    words = " ".join(printable.split())
    return words if len(words) <= max_length else words[: max_length - 4] + " ..."


def published(text: str, max_length: int = 1 << 20) -> str:
    """A text for a file that others get: as plain_text, with paths by their last name alone and no lines of a log."""
    is_plain = text.isascii() and text.isprintable() and "  " not in text and "Its last words" not in text
    line = text[:max_length].strip() if is_plain else plain_text(_LOG.sub("", text), max_length)
    return _PATH.sub(_last_name, line) if "/" in line or "\\" in line else line


def published_json(value: Any) -> Any:
    """A JSON value with `published` texts and keys; keys that would become the same are numbered: "x", "x (2)"."""
    if isinstance(value, str):
        return published(value)
    if isinstance(value, dict):
        cleaned: dict[str, Any] = {}
        for key, item in value.items():
            name, number = published(key), 1
            while name in cleaned:
                number += 1
                name = f"{published(key)} ({number})"
            cleaned[name] = published_json(item)
        return cleaned
    if isinstance(value, list | tuple):
        return [published_json(item) for item in value]
    return value


def _last_name(path: re.Match[str]) -> str:
    return re.split(r"[/\\]", path[0].rstrip("/\\"))[-1]
