"""hdistill md: molecular dynamics with a student, or with a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import EXIT_PHYSICS, JSON, PATH, Sectioned, print_result

SECTIONS = {
    "The run": ("out", "teacher", "task", "steps", "timestep", "replicas", "seed"),
    "Ensemble": ("ensemble", "temperature", "to_temperature", "thermostat", "thermostat_time", "friction"),
    "Pressure": ("pressure", "barostat_time", "anisotropic"),
    "What is written": ("every", "trajectory"),
    "When it ends": ("stop_beyond",),
}


@click.command(cls=Sectioned, sections=SECTIONS)
@click.argument("places", nargs=-1, metavar="[RUN] START")
@click.option("-o", "--out", required=True, type=PATH, metavar="DIR", help="The same command goes on with it.")
@click.option("--teacher", metavar="NAME", help="A teacher in place of RUN, in a process of its own: slow.")
@click.option("--task", help="Of a teacher that has several levels of theory.")
@click.option("--steps", default=10_000, show_default=True, metavar="N", help="Time steps in all.")
@click.option("--timestep", default=0.5, show_default=True, metavar="FS", help="Length of a step in fs.")
@click.option("--ensemble", type=click.Choice(["nve", "nvt", "npt"]), help="nve; nvt where there is a --friction.")
@click.option(
    "--temperature", default=300.0, show_default=True, metavar="K", help="At the start, and of the thermostat."
)
@click.option("--to-temperature", type=float, metavar="K", help="A ramp: of the thermostat at the last step.")
@click.option("--thermostat", type=click.Choice(["langevin", "bussi"]), default="langevin", show_default=True)
@click.option("--thermostat-time", type=float, metavar="FS", help="Time constant of the thermostat [default: 100].")
@click.option("--friction", type=float, metavar="PER_FS", help="1 / the time constant, such as 0.01.")
@click.option("--pressure", default=0.0, show_default=True, metavar="GPA", help="NPT: + squeezes.")
@click.option("--barostat-time", default=1000.0, show_default=True, metavar="FS", help="NPT: of the cell.")
@click.option("--anisotropic", is_flag=True, help="NPT: lengths and angles of the cell change, not its volume alone.")
@click.option(
    "--every", default=10, show_default=True, metavar="N", help="Steps between two frames and rows of the log."
)
@click.option(
    "--trajectory",
    type=click.Choice(["xyz", "traj", "nc"]),
    default="xyz",
    show_default=True,
    help="Extended XYZ, ASE's own, or AMBER's NetCDF (compact).",
)
@click.option(
    "--stop-beyond", default=10.0, show_default=True, metavar="D", help="End at this domain_distance; 0: never."
)
@click.option("--replicas", default=1, show_default=True, metavar="N", help="Runs with seeds of their own.")
@click.option("--seed", default=0, show_default=True, help="Of the velocities and the thermostat.")
@click.option("--compile/--eager", "compiled", default=None, help="Build machine code first, or use none.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@JSON
def md(
    places: tuple[str, ...],
    teacher: str | None,
    out: Path,
    compiled: bool | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Move the atoms of a file with a student, and say whether the energy stayed and the atoms held together.

    RUN is a run folder, a student file, a .pt2 or a bundle: a folder, a name or an address (hf://OWNER/NAME). START is any file
    ASE reads (its last structure, or FILE@INDEX); velocities in it are kept, so that a trajectory goes on. Killed: type the same
    command again; more --steps lengthen a run.

    \b
      hdistill md run/ start.xyz -o md/ --steps 20000 --temperature 300
      hdistill md run/ start.xyz -o warm/ --ensemble nvt --temperature 300 --to-temperature 900 --thermostat bussi
      hdistill md run/ crystal.cif -o npt/ --ensemble npt --pressure 1 --trajectory nc
      hdistill md --teacher 7net-0 crystal.cif -o truth/ --steps 200

    Exit code 4: atoms collided, bonds broke, the temperature ran away or the structure left what the student learned from.
    """
    from ..api.simulation import md as run_md

    wanted = 1 if teacher is not None else 2
    if len(places) != wanted:
        what = "START alone beside --teacher" if wanted == 1 else "RUN and START, or --teacher NAME and START"
        raise click.UsageError(f"{len(places)} places were given; wanted are {what}.")
    run = None if teacher is not None else places[0]
    code: Any = "auto" if compiled is None else compiled
    done = run_md(run, places[-1], out, teacher=teacher, compiled=code, progress=not quiet, **options)
    print_result(done, as_json)
    if not done.stable:
        raise click.exceptions.Exit(EXIT_PHYSICS)
