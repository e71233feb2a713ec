"""sample: structures from structures."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from .arguments import Place, folder_of
from .results import SampledStructures

if TYPE_CHECKING:
    from ase import Atoms

    from hdistill.data.sampling.driver import Driven, Driver
    from hdistill.data.structure import Structure

Starts: TypeAlias = Union[Place, "Atoms", Sequence[Union[Place, "Atoms"]]]


def sample(
    starts: Starts,
    out: Place | None = None,
    *,
    recipe: Place | None = None,
    n: int | None = None,
    temperature: float | Sequence[float] = 300.0,
    pressure: float | Sequence[float] = (),
    driver: Any = None,
    task: str | None = None,
    diverse: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    say: Callable[[str], None] | None = None,
) -> SampledStructures:
    """New structures around `starts` (files, Atoms or a list of them), written to `out` as extended XYZ where it is given.

    recipe: crystal, slab, molecule, liquid or a TOML file; None: by what is periodic. n: about so many; None: the recipe's own
    number for each start. temperature K, pressure GPa: of dynamics and thermal displacements. driver: what gives forces for those
    moves, "student:RUN", the name of a teacher or an ASE calculator; None: moves without forces alone. diverse: keep only so many,
    those that differ most. The same arguments give the same structures. Raises InputError.
    """
    from hdistill.data.errors import InputError
    from hdistill.data.sampling.diverse import most_diverse
    from hdistill.data.sampling.recipe import default_recipe, read_recipe
    from hdistill.data.sampling.sample import sample as run_sample
    from hdistill.data.support.progress import progress
    from hdistill.data.support.publish import publish

    from ..drivers import driver_of

    tell = say or (lambda _: None)
    temperatures = _listed("temperature", temperature, above=0.0)
    pressures = _listed("pressure", pressure)
    if diverse is not None and diverse < 1:
        raise InputError(f"diverse was {diverse}; it must be 1 or more.")
    path = None if out is None else folder_of(out)
    if path is not None and path.suffix not in (".xyz", ".extxyz"):
        raise InputError(f"{path} is to be extended XYZ; give -o a name that ends in .xyz.")
    given = read_starts(starts, tell)
    chosen = read_recipe(default_recipe(given) if recipe is None else os.fspath(recipe))
    with ExitStack() as stack:
        forces: Driver | None = None
        if driver is not None:
            asked = stack.enter_context(driver_of(driver, task, device))
            bar = stack.enter_context(progress(None, "structure", "forces", enabled=say is not None))

            def counted(structures: Sequence[Structure]) -> Sequence[Driven]:
                bar.advance(len(structures))
                return asked(structures)

            forces = counted

        made = run_sample(given, chosen, n, temperatures, pressures, forces, seed)
    structures = made.structures if diverse is None else most_diverse(made.structures, diverse)
    for remark in made.remarks:
        tell(remark)
    if not structures:
        raise InputError(f"The recipe {chosen.name} made no structure of these{_why(made.dropped)}.")
    atoms = [to_atoms(structure) for structure in structures]
    if path is not None:
        from ..frames import extxyz_frame

        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, "".join(map(extxyz_frame, atoms)).encode(), replace=True)
    by_move: dict[str, int] = {}
    for structure in structures:
        by_move[structure.info["move"]] = by_move.get(structure.info["move"], 0) + 1
    return SampledStructures(
        out=path,
        recipe=chosen.name,
        n_starts=len(given),
        n=len(structures),
        by_move=by_move,
        dropped=dict(made.dropped),
        remarks=tuple(made.remarks),
        structures=atoms,
    )


def read_starts(starts: Starts, say: Callable[[str], None]) -> list[Structure]:
    """Start structures of files and Atoms, read as every source is: units, charge, spin. Raises InputError."""
    from ase import Atoms

    from hdistill.data import sources
    from hdistill.data.errors import InputError
    from hdistill.data.sources.make import structure_of
    from hdistill.data.sources.record import Unusable, record_of

    items: list[Any] = [starts] if isinstance(starts, str | os.PathLike | Atoms) else list(starts)
    report = sources.SourceReport()
    given: list[Structure] = []
    for number, item in enumerate(items):
        if isinstance(item, Atoms):
            try:
                given.append(structure_of(record_of(item), sources.Keys(), report, f"structure {number}"))
            except Unusable as error:
                raise InputError(f"Start structure {number} cannot be used: {error}.") from error
            report.add(given[-1])
        else:
            given.extend(sources.read([os.fspath(item)], report=report))
    for line in report.lines():
        say(line)
    return given


def to_atoms(structure: Structure) -> Atoms:
    """For files and notebooks: charge, spin, group and where it comes from are in info."""
    from hdistill.data.sampling.relax import as_atoms

    atoms = as_atoms(structure)
    kept = {key: value for key, value in structure.info.items() if isinstance(value, str | int | float | bool | list)}
    atoms.info.update({**kept, "group": structure.group})
    return atoms


def _listed(name: str, value: float | Sequence[float], above: float | None = None) -> tuple[float, ...]:
    from hdistill.data.errors import InputError

    values = (value,) if isinstance(value, int | float) else tuple(value)
    for each in values:
        if above is not None and not each > above:
            raise InputError(f"{name} was {each}; it must be more than {above:g}.")
    return tuple(float(each) for each in values)


def _why(dropped: Any) -> str:
    if not dropped:
        return ""
    reason, n = dropped.most_common(1)[0]
    return f": {n} dropped, {reason}"
