"""Settings that cannot be meant are refused with one sentence, by what their fields are annotated with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import pytest

from hdistill.data.errors import InputError
from hdistill.data.support.checked import Above, AtLeast, Between, check_fields
from hdistill.trainer.fitting.settings import FitSettings


@dataclass(frozen=True)
class Settings:
    steps: Annotated[int, AtLeast(1)] = 10
    rate: Annotated[float, Above(0)] = 1.0
    share: Annotated[float, Between(0, 1, including_high=False)] = 0.5
    limit: Annotated[float, Above(0)] | None = None
    method: Literal["exact", "difference"] = "exact"
    name: str = "x"
    wanted: bool = False


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 8.5}, "steps was 8.5; it must be 1 or more, a whole number."),
        ({"steps": "4000"}, "steps was the text '4000'; it must be 1 or more, a whole number."),
        ({"steps": True}, "steps was True; it must be 1 or more, a whole number."),
        ({"steps": 0}, "steps was 0; it must be 1 or more, a whole number."),
        ({"rate": float("nan")}, "rate was nan; it must be more than 0."),
        ({"rate": float("inf")}, "rate was inf; it must be more than 0."),
        ({"share": 1.0}, "share was 1.0; it must be at least 0 and less than 1."),
        ({"limit": "60s"}, "limit was the text '60s'; it must be more than 0."),
        ({"method": "fast"}, "method was fast; it must be exact or difference."),
        ({"name": 3}, "name was 3; it must be text."),
        ({"wanted": "no"}, "wanted was the text 'no'; it must be true or false."),
    ],
)
def test_what_cannot_be_meant(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        check_fields(Settings(**values))
    assert str(caught.value) == sentence


def test_what_can_be_meant() -> None:
    check_fields(Settings(steps=1, rate=2, share=0, limit=1e-9, method="difference"))


@pytest.mark.parametrize("values", [{"batch_size": 8.5}, {"repulsion": "no"}, {"steps": "4000"}, {"seed": None}])
def test_settings_of_a_fit_are_checked(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(InputError, match=rf"^{name} was .*; it must be "):
        replace(FitSettings(), **values)
