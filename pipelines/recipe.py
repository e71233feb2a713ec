"""Settings of a fit from a TOML recipe and from options; options win."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import InputError

if TYPE_CHECKING:
    from hdistill.trainer.settings import FitSettings


def fit_settings(recipe: Path | None, options: Mapping[str, Any]) -> FitSettings:
    """FitSettings from a recipe's table (names as the options, with - or _) and options. Raises InputError."""
    from hdistill.trainer.settings import settings_from

    values: dict[str, Any] = {}
    if recipe is not None:
        try:
            values = tomllib.loads(recipe.read_text())
        except OSError as error:
            raise InputError(f"The recipe {recipe} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"The recipe {recipe} is no TOML: {error}.") from error
    return settings_from({name.replace("-", "_"): value for name, value in values.items()} | dict(options))
