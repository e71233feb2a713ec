"""Settings of a fit from a TOML recipe and from options; options win. The recipes that have a name are in recipes/; those of
distillations in recipes/bundles."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import InputError, nearest

RECIPES = Path(__file__).parent / "recipes"  # of fits
BUNDLES = RECIPES / "bundles"  # of distillations: what comes with the package is made by these

if TYPE_CHECKING:
    from hdistill.trainer.fitting.settings import FitSettings


def fit_settings(recipe: Path | str | None, options: Mapping[str, Any]) -> FitSettings:
    """FitSettings from a recipe's table (names as the options, with - or _) and options; recipe is a name or a file. Raises
    InputError."""
    from hdistill.trainer.fitting.settings import settings_from

    values: dict[str, Any] = {}
    if recipe is not None:
        file = recipe_file(recipe)
        try:
            values = tomllib.loads(file.read_text())
        except OSError as error:
            raise InputError(f"The recipe {file} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"The recipe {file} is not TOML: {error}.") from error
    return settings_from({name.replace("-", "_"): value for name, value in values.items()} | dict(options))


def named_recipes(folder: Path = RECIPES) -> dict[str, Path]:
    return {file.stem: file for file in sorted(folder.glob("*.toml"), key=lambda file: file.stem)}


def recipe_file(recipe: Path | str, folder: Path = RECIPES) -> Path:
    """The file of a recipe that has a name in the folder, or else the file itself. A bare word that is neither is taken for a mistyped
    name. Raises InputError."""
    named, path = named_recipes(folder), Path(recipe)
    if str(recipe) in named and not path.is_file():
        return named[str(recipe)]
    if path.suffix == "" and len(path.parts) == 1 and not path.exists():
        raise InputError(
            f"There is no recipe '{recipe}', and no such file; there are {', '.join(named)}.{nearest(str(recipe), named)}"
        )
    return path
