"""Everything that decides what `distill` does, resolved, and the recipe.toml that repeats it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from hdistill.data.errors import InputError, nearest
from hdistill.data.support.checked import Above, AtLeast, Between, check_fields
from hdistill.data.support.publish import publish

RECIPE = "recipe.toml"
DEFAULT_BUDGET_S = 300.0
MOST, FEWEST = (
    400,
    20,
)  # structures that a budget is spent on: more wants more training than there is by default (--structures)
Count = Annotated[int, AtLeast(1)]
Positive = Annotated[float, Above(0)]
Share = Annotated[float, Between(0, 1)]
Relaxed = Literal["auto", "cell", "positions", "none"]


@dataclass(frozen=True)
class DistillSettings:
    """Names as on the command line. A run ends once the accuracy is reached, `structures` are labelled, the teacher has worked for
    `budget_s`, or after `rounds`. Raises InputError for a value that cannot be meant."""

    teacher: str
    temperatures: tuple[float, ...] = (300.0,)  # K
    pressures: tuple[
        float, ...
    ] = ()  # GPa: dynamics of crystals under these, cells free, beside those at constant volume
    task: str | None = None
    dtype: Literal["float32", "float64"] = "float32"
    arguments: tuple[str, ...] = ()
    hessian: str = "probes:1"  # of each structure
    student: str = "ace-small"
    relax: Relaxed = "auto"  # auto: cell and positions of crystals, positions of all else
    force_error: Positive = 30.0  # meV/A, mean absolute error of components that is good enough ...
    force_share: Share = 0.05  # ... as is this share of the root mean square of the forces
    stable_ps: Positive = 20.0  # that every replica must stay whole
    budget_s: Positive | None = None  # wall seconds of labelling
    structures: Count | None = None  # labelled in all
    first: Annotated[int, AtLeast(10)] | None = None  # structures of the first round; None: two fifths of all
    per_round: Annotated[int, AtLeast(4)] | None = None  # None: three twentieths of all
    random_share: Share = 1 / 3  # of a round's structures: the unbiased sample on which the student is measured
    rounds: Annotated[int, AtLeast(0)] = 6  # of dynamics, at most; 0: one sampling and one fit
    replicas: Count = 2  # of dynamics at each condition
    timestep_fs: Positive | None = None  # None: 1 with hydrogen, 2 without
    steps: Count = 600  # of the first fit; of a round's the half, of the last one four times as many
    batch_size: Count = 4
    learning_rate: Positive = 5e-3  # of the first and the last fit; a round's rises to half of it
    splits: str = "0.8,0.1,0.1"
    report: str = "accuracy,smoothness,cost,speed,curvature,relaxation"  # parts of it, as of `hdistill evaluate`
    seed: Annotated[int, AtLeast(0)] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.temperatures or not all(0 < t < 1e5 for t in self.temperatures):
            raise InputError(f"--temperature was {list(self.temperatures)}; it takes kelvins above 0, such as 300,900.")
        if not all(abs(p) < 1e4 for p in self.pressures):
            raise InputError(f"--pressure was {list(self.pressures)}; it takes GPa, such as 0,5.")

    def as_json(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


@dataclass(frozen=True)
class Shares:
    """Structures that may be labelled in all, of the first round and of each later one."""

    most: int
    first: int
    per_round: int


def shares(settings: DistillSettings, seconds_per_structure: float) -> Shares:
    """How many structures the budget buys, and how rounds share them. With `structures` the time plays no part."""
    most = settings.structures
    if most is None:
        budget = DEFAULT_BUDGET_S if settings.budget_s is None else settings.budget_s
        most = min(MOST, max(FEWEST, int(budget / max(seconds_per_structure, 1e-6))))
    first = settings.first or max(10, round(0.4 * most))
    return Shares(most, min(first, most), settings.per_round or max(4, round(0.15 * most)))


def settings_from(values: Mapping[str, Any]) -> DistillSettings:
    """Settings from names and values. Raises InputError for names that are not settings, and without a teacher."""
    known = {field.name for field in fields(DistillSettings)}
    for name in values:
        if name not in known:
            raise InputError(f"'{name}' is not a setting of distill.{nearest(name, known)}")
    if "teacher" not in values:
        raise InputError("No teacher was named; `hdistill teachers` lists them.")
    lists: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    for name in ("temperatures", "pressures"):
        if name in lists:
            lists[name] = tuple(map(float, lists[name]))
    settings = DistillSettings(**lists)
    from ..judging.parts import parts_of  # numpy and more, which nothing else here needs

    parts_of(settings.report)
    return settings


def parse_accuracy(text: str) -> dict[str, float]:
    """'30meV,5%,20ps', or some of these, as settings. Raises InputError."""
    units = {"mev": ("force_error", 1.0), "%": ("force_share", 0.01), "ps": ("stable_ps", 1.0)}
    found: dict[str, float] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(meV|%|ps)(?:/(?:A|Å|angstrom))?\s*", part, re.IGNORECASE)
        if match is None:
            raise InputError(
                f"--accuracy was '{text}'; it takes a force error and how long dynamics must hold: 30meV,5%,20ps."
            )
        name, factor = units[match[2].lower()]
        found[name] = float(match[1]) * factor
    return found


def read_recipe(file: Path) -> tuple[list[str], list[str], dict[str, Any]]:
    """Start files, files of own frames, both relative to the recipe's folder, and settings of a recipe.toml. Raises InputError."""
    try:
        values = tomllib.loads(file.read_text())
    except OSError as error:
        raise InputError(f"The recipe {file} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {file} is not TOML: {error}.") from error
    values = {name.replace("-", "_"): value for name, value in values.items()}
    paths = []
    for name in ("start", "frames"):
        given = values.pop(name, [])
        if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
            raise InputError(f"{file}: '{name}' takes a list of files.")
        paths.append([str(file.parent / text) if (file.parent / text).exists() else text for text in given])
    return paths[0], paths[1], values


def write_recipe(folder: Path, settings: DistillSettings, start: list[str], frames: list[str]) -> Path:
    """The recipe that repeats this run: files relative to the folder, every setting with its value."""
    lines = ["# Repeats this run:  hdistill distill --recipe recipe.toml -o again/"]
    lines += [f"start = {json.dumps(start)}", f"frames = {json.dumps(frames)}"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in settings.as_json().items() if value is not None]
    publish(folder / RECIPE, ("\n".join(lines) + "\n").encode(), replace=True)
    return folder / RECIPE
