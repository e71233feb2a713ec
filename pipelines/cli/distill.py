"""hdistill distill: start structures to a verified force field, in rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import JSON, PATH, Sectioned, print_result, say


def _defaults() -> dict[str, Any]:
    """Options have no default of their own, since a recipe may set them: the help shows those of DistillSettings."""
    from ..distill.settings import DistillSettings

    settings = DistillSettings("").as_json()
    return settings | {"temperature": "300", "accuracy": "30meV,5%,20ps", "budget": "5min", "structures": None}


SECTIONS = {
    "What is wanted": (
        "out",
        "teacher",
        "temperature",
        "pressure",
        "accuracy",
        "budget",
        "structures",
        "frames",
        "recipe",
    ),
    "The rounds": ("first", "per_round", "random_share", "rounds", "replicas", "timestep_fs", "relax", "seed"),
    "The student": ("student", "hessian", "steps", "batch_size", "learning_rate", "splits"),
    "The report": ("report",),
    "Where it runs": ("device", "workers", "threads", "scheduler", "cluster", "teacher_python", "memory", "deadline"),
}


@click.command(cls=Sectioned, sections=SECTIONS, defaults=_defaults)
@click.argument("start", nargs=-1)
@click.option("-o", "--out", required=True, type=PATH, metavar="DIR", help="The result; the same command continues it.")
@click.option("--teacher", metavar="NAME", help="A name from `hdistill teachers`, a checkpoint, ase:module.Class.")
@click.option("--temperature", metavar="T,...", help="K, of the dynamics that the student is for.")
@click.option("--pressure", metavar="P,...", help="GPa: dynamics of crystals with a free cell, besides.")
@click.option(
    "--accuracy", metavar="A", help="Force error, or share of the forces' rms, and how long dynamics must hold."
)
@click.option("--budget", metavar="TIME", help="Of the teacher: 90s, 20min, 2h.")
@click.option("--structures", type=int, metavar="N", help="To be labelled in all, in place of a budget.")
@click.option(
    "--frames", multiple=True, metavar="FILE", help="Structures of your own that are labelled first; repeatable."
)
@click.option(
    "--recipe", type=PATH, metavar="FILE", help="The recipe.toml of another run, or organics; options here win."
)
@click.option("--first", type=int, metavar="N", help="Structures of the first round, around the start.")
@click.option("--per-round", type=int, metavar="N", help="Structures of each later round.")
@click.option(
    "--random-share", type=float, metavar="S", help="Of these at random: the sample that errors are measured on."
)
@click.option("--rounds", type=int, metavar="N", help="Of dynamics, at most; 0: one sampling, one fit.")
@click.option("--replicas", type=int, metavar="N", help="Of dynamics at each condition.")
@click.option("--timestep-fs", type=float, metavar="FS", help="Of dynamics; 1 with hydrogen, 2 without.")
@click.option(
    "--relax", type=click.Choice(["auto", "cell", "positions", "none"]), help="What of the start the teacher relaxes."
)
@click.option("--seed", type=int, metavar="N", help="Of all that is random.")
@click.option("--student", metavar="NAME", help="See `hdistill students`.")
@click.option("--hessian", metavar="SPEC", help="Labels of curvature for each structure: none, probes:K, rows:K.")
@click.option(
    "--steps", type=int, metavar="N", help="Of the first fit; a round has half, the last fit four times as many."
)
@click.option("--batch-size", type=int, metavar="N", help="Structures per step.")
@click.option(
    "--learning-rate", type=float, metavar="R", help="Of the first and the last fit; a round's rises to half of it."
)
@click.option("--splits", metavar="A,B,C", help="Train, val, test.")
@click.option("--report", metavar="NAMES", help="Parts of the report, as of `hdistill evaluate`; quick or all.")
@click.option("--task", metavar="TASK", help="Task, modal or head, of a teacher that has several.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="Of the teacher.")
@click.option("--argument", "arguments", multiple=True, metavar="NAME=VALUE", help="For ase:module.Class; repeatable.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ..., of teacher and student.")
@click.option("--workers", default=2, show_default=True, help="Teachers at work at once.")
@click.option("--threads", default=1, show_default=True, help="CPU threads of each teacher.")
@click.option("--scheduler", metavar="ADDRESS", help="A running Dask cluster labels: tcp://host:8786.")
@click.option("--cluster", metavar="FILE", help="Batch jobs label; see `hdistill clusters`.")
@click.option("--teacher-python", type=PATH, metavar="PATH", help="The interpreter that has the teacher.")
@click.option("--memory", metavar="SIZE", help="Of each teacher on a CPU, such as 8GB.")
@click.option("--deadline", default=120.0, show_default=True, help="Seconds a small batch may take.")
@click.option("--quiet", is_flag=True, help="No progress bars; the table of rounds alone.")
@JSON
def distill(start: tuple[str, ...], out: Path, quiet: bool, as_json: bool, **options: Any) -> None:
    """From start structures to a small force field that has been put to the test, in rounds: the teacher labels structures around the
    start, a student learns them and runs dynamics, the teacher is asked about what it visits, and so on.

    START: files (CIF, POSCAR, xyz, ...) or a SMILES. A crystal, a molecule, frames of your own:

    \b
      hdistill distill si.cif --teacher 7net-0 --temperature 300,900 -o si/
      hdistill distill 'CC(=O)NCCc1ccc(O)cc1' --teacher ani-1x --temperature 300,600 --budget 5min -o tyramine/
      hdistill distill slab.xyz --frames my-md.xyz --teacher chgnet --structures 200 --accuracy 50meV,10ps -o slab/

    DIR then holds labels/ (a label set to publish), run/ (the student: `hdistill md DIR/run ...`), report/, rounds.csv and
    recipe.toml, which repeats it. Stopped or killed: the same command goes on.
    """
    from ..api import distilling
    from ..api.arguments import parse_numbers

    given = {name: value for name, value in options.items() if value is not None and value != ()}
    for name in given.keys() & {"temperature", "pressure"}:
        given[name] = parse_numbers(given[name], f"--{name}")
    result = distilling.distill(list(start), out, progress=not quiet, say=say, **given)
    print_result(result, as_json)
