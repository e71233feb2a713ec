"""hdistill fit: a student learns from a label set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import JSON, PATH, Sectioned, print_result
from .sharing import cache_options

RESUMABLE = ("steps", "max_seconds", "max_edges", "device")


def _defaults() -> dict[str, Any]:
    """Options have no default of their own, since a recipe may set them: the help shows those of FitSettings."""
    from dataclasses import asdict

    from hdistill.trainer.fitting.settings import FitSettings

    return asdict(FitSettings())


FIT_SECTIONS = {
    "The run": ("out", "resume", "finish_in", "recipe", "begin_from", "steps", "max_seconds", "seed", "log"),
    "The student": ("student", "repulsion"),
    "The loss": (
        *("energy_weight", "energy_weight_end", "difference_weight", "atom_energy_weight"),
        *("force_weight", "stress_weight", "targets", "reference_share"),
        *("hessian_weight", "hessian_norm", "max_hessian", "halve_hessian_within", "node_weight", "embedding_weight"),
    ),
    "The steps": ("batch_size", "learning_rate", "max_edges", "device", "compile"),
}


@click.command(cls=Sectioned, sections=FIT_SECTIONS, defaults=_defaults)
@click.argument("labels", required=False)
@click.option("-o", "--out", type=PATH, metavar="DIR", help="The run; the same command continues it.")
@click.option("--resume", type=PATH, metavar="RUN", help="Go on with a run, with its own settings and label set.")
@click.option(
    "--finish-in",
    metavar="N|TIME",
    help="With --resume: end in N more steps, or in 60s, 10min of CPU time, the learning rate brought down.",
)
@click.option(
    "--begin-from", type=PATH, metavar="RUN", help="First weights from a run of the same student and elements."
)
@click.option("--student", metavar="NAME", help="painn, painn-small, ...; see `hdistill students`.")
@click.option("--steps", type=int, metavar="N", help="Gradient steps.")
@click.option("--hessian-weight", type=float, metavar="W", help="Of the Hessian term; 0 is plain training.")
@click.option("--force-weight", type=float, metavar="W", help="Of the force term.")
@click.option("--energy-weight", type=float, metavar="W", help="Of the energy term.")
@click.option(
    "--energy-weight-end", type=float, metavar="W", help="Of the energy term at the end; it moves there late."
)
@click.option("--difference-weight", type=float, metavar="W", help="Of energy differences within a composition.")
@click.option("--atom-energy-weight", type=float, metavar="W", help="Of the teacher's energy of each atom.")
@click.option("--stress-weight", type=float, metavar="W", help="Of the stress term, of crystals.")
@click.option("--batch-size", type=int, metavar="N", help="Structures per step.")
@click.option(
    "--max-edges", type=int, metavar="N", help="Pairs at once; a step with more is cut, with the same result."
)
@click.option("--learning-rate", type=float, metavar="R", help="At its highest, after the warm-up.")
@click.option("--max-seconds", type=float, metavar="S", help="Stop after this much CPU time of training steps.")
@click.option(
    "--targets",
    type=click.Choice(["teacher", "reference", "mix"]),
    help="Whose energies and forces: the teacher's, the source's own, or both.",
)
@click.option(
    "--reference-share", type=float, metavar="S", help="Targets mix: weight of the source's own labels, 0 to 1."
)
@click.option(
    "--hessian-norm",
    type=click.Choice(["atoms", "product"]),
    help="Lengths per atom, or per row as in the paper.",
)
@click.option("--max-hessian", type=float, metavar="X", help="Leave out Hessians with a larger element, eV/A^2.")
@click.option(
    "--halve-hessian-within",
    type=float,
    metavar="S",
    help="Halve the Hessian's weight within this share of the teacher's force error.",
)
@click.option("--node-weight", type=float, metavar="W", help="Of the teacher's node features (the baseline n2n).")
@click.option("--embedding-weight", type=float, metavar="W", help="Of their means per element (the baseline a2a).")
@click.option(
    "--compile/--eager", default=None, help="The training step as machine code: minutes to build, then faster."
)
@click.option("--repulsion/--no-repulsion", default=None, help="A fixed ZBL repulsion at short range.")
@click.option("--seed", type=int, metavar="N", help="Of the initial weights and the order of samples.")
@click.option("--device", metavar="NAME", help="cpu, cuda, ...")
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="paper, paper-mptrj, or a TOML file with any of these settings; options here win.",
)
@click.option(
    "--log",
    multiple=True,
    type=click.Choice(["tensorboard", "wandb"]),
    help="Where log.csv goes, too; repeatable.",
)
@cache_options
@click.option("--quiet", is_flag=True, help="No progress bar.")
@JSON
def fit(
    labels: str | None,
    out: Path | None,
    resume: Path | None,
    recipe: str | None,
    log: tuple[str, ...],
    finish_in: str | None,
    begin_from: Path | None,
    cache: Path | None,
    cache_size: str,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Fit a student to a label set. No teacher is loaded.

    \b
      hdistill fit labels/ -o run/
      hdistill fit labels/ -o run/ --student painn-small --steps 5000 --hessian-weight 0.3
      hdistill fit labels/ -o run/ --recipe paper --targets mix --log tensorboard
      hdistill fit s3://bucket/labels -o run/ --cache-size 20GB
      hdistill fit --resume run/ --steps 20000
      hdistill fit --resume run/ --finish-in 500
      torchrun --nproc-per-node 4 -m hdistill.pipelines fit labels/ -o run/ --device cuda
    """
    from ..api import fitting

    given = {name: value for name, value in options.items() if value is not None}
    shared: dict[str, Any] = {"log": log, "cache": cache, "cache_size": cache_size, "progress": not quiet, **given}
    if resume is not None:
        if out is not None or recipe is not None or begin_from is not None or not given.keys() <= set(RESUMABLE):
            allowed = ", ".join(f"--{name.replace('_', '-')}" for name in RESUMABLE)
            raise click.UsageError(
                f"--resume keeps the run's own settings; only LABELS, --finish-in, {allowed} go with it."
            )
        print_result(fitting.resume(resume, labels, finish_in=finish_in, **shared), as_json)
    elif labels is None or out is None or finish_in is not None:
        raise click.UsageError("Give LABELS and -o DIR, or --resume RUN, with which --finish-in goes.")
    else:
        print_result(fitting.fit(labels, out, recipe=recipe, begin_from=begin_from, **shared), as_json)
