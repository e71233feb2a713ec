"""What results have in common: they print as the command line prints them, and give what `--json` prints."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar


class Printed:
    """Prints as text() says, in a notebook with the columns kept."""

    def text(self) -> str:
        raise NotImplementedError

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text())}</pre>"


@dataclass(frozen=True, repr=False)
class Result(Printed):
    def as_json(self) -> dict[str, Any]:
        """What `--json` prints. Figures that are in `more` stand beside the others."""
        values: dict[str, Any] = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        more: dict[str, Any] = values.pop("more", {})
        return values | more


R = TypeVar("R", bound=Result)


def result_of(kind: type[R], values: Mapping[str, Any]) -> R:
    """A result from the figures that a package returned; those that `kind` has no field for go into its `more`."""
    known = {field.name for field in fields(kind)} - {"more"}
    more = {name: value for name, value in values.items() if name not in known}
    return kind(**{name: values[name] for name in known if name in values}, **({"more": more} if more else {}))


class Figures(dict[str, Any], Printed):
    """Nested figures by name, as `--json` prints them; they print as a table."""

    def __init__(self, figures: Mapping[str, Any], show: Callable[[Any], str]):
        super().__init__(figures)
        self._show = show

    def as_json(self) -> dict[str, Any]:
        return dict(self)

    def text(self) -> str:
        return self._show(self)

    __repr__ = Printed.__repr__


class Rows(list[dict[str, Any]], Printed):
    """Rows with the same keys; they print as a table."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], show: Callable[[Any], str]):
        super().__init__(dict(row) for row in rows)
        self._show = show

    def as_json(self) -> list[dict[str, Any]]:
        return list(self)

    def text(self) -> str:
        return self._show(self)

    __repr__ = Printed.__repr__
