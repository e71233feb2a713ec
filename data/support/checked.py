"""Types and bounds of a dataclass of settings, checked by what its fields are annotated with: one sentence for what cannot be meant.

@dataclass(frozen=True)
class Settings:
    steps: Annotated[int, AtLeast(1)] = 4000
    clip: Annotated[float, Above(0)] | None = None
    method: Literal["exact", "difference"] = "exact"
"""

from __future__ import annotations

import math
import types
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import InputError


@dataclass(frozen=True)
class AtLeast:
    low: float

    def holds(self, value: float) -> bool:
        return value >= self.low

    def __str__(self) -> str:
        return f"{self.low:g} or more"


@dataclass(frozen=True)
class Above:
    low: float

    def holds(self, value: float) -> bool:
        return value > self.low

    def __str__(self) -> str:
        return f"more than {self.low:g}"


@dataclass(frozen=True)
class Between:
    """Both ends included, or the upper one not."""

    low: float
    high: float
    including_high: bool = True

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high if self.including_high else self.low <= value < self.high

    def __str__(self) -> str:
        if self.including_high:
            return f"between {self.low:g} and {self.high:g}"
        return f"at least {self.low:g} and less than {self.high:g}"


_TYPES: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def check_fields(settings: object) -> None:
    """Check every field of a dataclass instance. Raises InputError: the name, what was given and what was wanted.

    A whole number is a number, true is neither; numbers are finite.
    """
    kind: Any = type(settings)
    for name, hint in _hints(kind).items():
        value = getattr(settings, name)
        if not _fits(value, hint):
            is_text = isinstance(value, str) and get_origin(hint) is not Literal
            given = f"the text '{value}'" if is_text else value
            raise InputError(f"{name} was {given}; it must be {_wanted(hint)}.")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is Annotated:
        return _fits(value, arguments[0]) and all(bound.holds(value) for bound in arguments[1:])
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is tuple:  # of any length, tuple[float, ...]
        return isinstance(value, tuple) and all(_fits(each, arguments[0]) for each in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if hint is type(None) else isinstance(value, hint)


def _wanted(hint: Any) -> str:
    """The sentence's end: 'a whole number, 1 or more'. Bounds alone say that a number is wanted, but for whole ones."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_wanted(each) for each in arguments if each is not type(None))
    if origin is Annotated:
        bounds = " and ".join(map(str, arguments[1:]))
        return f"{bounds}, a whole number" if arguments[0] is int else bounds
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        return f"a list, each {_wanted(arguments[0])}"
    return _TYPES[hint]
