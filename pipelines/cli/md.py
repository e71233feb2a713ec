"""hdistill md: molecular dynamics with a student."""

from __future__ import annotations

from pathlib import Path

import click

from .command import JSON, PATH, print_result


@click.command()
@click.argument("run", type=PATH)
@click.argument("start", metavar="START")
@click.option("-o", "--out", required=True, type=PATH, metavar="DIR", help="A new folder for what is written.")
@click.option("--steps", default=10_000, show_default=True, metavar="N", help="Time steps.")
@click.option("--timestep", default=0.5, show_default=True, metavar="FS", help="Length of a step in fs.")
@click.option(
    "--temperature", default=300.0, show_default=True, metavar="K", help="At the start, or of the thermostat."
)
@click.option(
    "--friction", type=float, metavar="PER_FS", help="Langevin thermostat (NVT), such as 0.01; left out: NVE."
)
@click.option(
    "--every", default=10, show_default=True, metavar="N", help="Steps between two frames and rows of the log."
)
@click.option("--seed", default=0, show_default=True, help="Of the velocities and the thermostat.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@JSON
def md(
    run: Path,
    start: str,
    out: Path,
    steps: int,
    timestep: float,
    temperature: float,
    friction: float | None,
    every: int,
    seed: int,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Move the atoms of a file with a student, and say whether the energy stayed and the atoms held together.

    START is any file ASE reads (its last structure, or FILE@INDEX); velocities in it are kept, so that a trajectory goes on.

    \b
      hdistill md run/ start.xyz -o md/ --steps 20000 --temperature 300
      hdistill md run/ start.xyz -o warm/ --friction 0.01 --temperature 500
      hdistill md run/ md/trajectory.xyz -o more/
    """
    from hdistill.trainer.evaluation.dynamics import Motion

    from ..md import run_md, summary_text

    motion = Motion(steps, timestep, temperature, friction, every, seed)
    print_result(run_md(run, start, out, motion, device, progress=not quiet), as_json, summary_text)
