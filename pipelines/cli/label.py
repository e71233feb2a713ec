"""hdistill label: a teacher runs once over a subset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import EXIT_QUARANTINED, JSON, PATH, print_result, say


@click.command()
@click.option(
    "--teacher", required=True, metavar="NAME", help="A name from `hdistill teachers`, a checkpoint, ase:module.Class."
)
@click.option(
    "--subset",
    required=True,
    multiple=True,
    metavar="FILE|NAME",
    help="file.xyz@0:100, or a name from `hdistill subsets`; repeatable.",
)
@click.option(
    "-o", "--out", required=True, type=PATH, metavar="DIR", help="The label set; the same command continues it."
)
@click.option("--data", type=PATH, metavar="PATH", help="Where the files of a named subset are.")
@click.option("--where", metavar="EXPR", help="Select, e.g. \"{'H','C','N','O'} >= elements and n_atoms <= 16\".")
@click.option("--limit", type=int, metavar="N", help="A reproducible sample of N structures.")
@click.option("--diverse", type=int, metavar="N", help="The N structures that differ most, in place of --limit.")
@click.option(
    "--hessian", default="probes:4", show_default=True, metavar="SPEC", help="probes:K, rows:K, full or none."
)
@click.option(
    "--products",
    type=click.Choice(["autograd", "difference", "auto"]),
    help="Of the Hessian: the teacher's second derivatives (if nothing is said), differences of its forces, or the faster of the two "
    "where they agree to 1 %.",
)
@click.option(
    "--codec",
    type=click.Choice(["compact", "exact"]),
    default="compact",
    show_default=True,
    help="Of Hessian products: 0.3 % relative error, or float32 at three times the size.",
)
@click.option("--seed", default=0, show_default=True, help="Of the sample, the probes and the splits.")
@click.option("--splits", default="0.8,0.1,0.1", show_default=True, metavar="A,B,C", help="Train, val, test; by group.")
@click.option("--task", metavar="TASK", help="Task, modal or head, of a teacher that has several.")
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True, help="Of the teacher."
)
@click.option("--argument", "arguments", multiple=True, metavar="NAME=VALUE", help="For ase:module.Class; repeatable.")
@click.option(
    "--atom-energies/--no-atom-energies",
    default=None,
    help="Store the teacher's energy of each atom; as a rule where it has them, of ase: teachers only if asked.",
)
@click.option("--node-features", is_flag=True, help="Store the teacher's invariant features of each atom, too.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option("--batch-edges", type=int, help="Pairs within 5 A that the teacher takes at once; by device.")
@click.option("--energy-key", metavar="KEY", help="Key of reference energies in the source; found by itself as a rule.")
@click.option("--forces-key", metavar="KEY", help="Key of reference forces.")
@click.option("--stress-key", metavar="KEY", help="Key of reference stresses.")
@click.option("--group-key", metavar="KEY", help="Key of the molecule's or material's name, the unit of splits.")
@click.option("--workers", default=2, show_default=True, help="Teachers at work at once, each in a process of its own.")
@click.option("--threads", default=1, show_default=True, help="CPU threads of each teacher.")
@click.option("--scheduler", metavar="ADDRESS", help="A running Dask cluster: tcp://host:8786, tls://host:8786.")
@click.option("--cluster", metavar="FILE", help="Workers as batch jobs; see `hdistill clusters`.")
@click.option("--teacher-python", type=PATH, metavar="PATH", help="The interpreter that has the teacher.")
@click.option(
    "--part", metavar="K/N", help="Label the K-th of N shares without a scheduler: for job arrays; 0/N only plans."
)
@click.option("--memory", metavar="SIZE", help="Of each teacher on a CPU, such as 8GB; a share of the machine.")
@click.option("--deadline", default=120.0, show_default=True, help="Seconds a small batch may take.")
@click.option("--add", metavar="SPEC", help="probes:K or rows:K: so many more of each structure than --hessian says.")
@click.option("--extend", is_flag=True, help="Put the structures that the finished set in DIR lacks into it.")
@click.option("--dry-run", is_flag=True, help="Label a few structures, estimate time and bytes, write nothing.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@JSON
def label(
    subset: tuple[str, ...], out: Path, part: str | None, dry_run: bool, quiet: bool, as_json: bool, **settings: Any
) -> None:
    """Run a teacher once over a subset and write a label set.

    \b
      hdistill label --teacher 7net-0 --subset perovskites -o labels/
      hdistill label --teacher ani-1x --subset spice:monomers --data spice/ \\
          --where "n_atoms <= 16" --limit 1000 -o labels/
      hdistill label --teacher 7net-0 --subset my.xyz -o labels/ --add probes:4
      hdistill label --teacher 7net-0 --subset more.xyz -o labels/ --extend

    Exit code 0: all labelled; 3: some structures are in quarantine (listed in the manifest); 1: stopped, run it again.
    """
    from hdistill.labeler.teachers.light import import_vesin_without_torch

    from ..api import labelling

    import_vesin_without_torch()  # this process is the command line's own, and holds no model
    add, extend = settings["add"], settings["extend"]
    if settings["scheduler"] is not None and settings["cluster"] is not None:
        raise click.UsageError("--scheduler is a cluster that runs, --cluster makes one; give one of them.")
    if sum((add is not None, extend, part is not None, dry_run)) > 1:
        raise click.UsageError("--add, --extend, --part and --dry-run exclude one another.")
    if dry_run:
        print_result(labelling.estimate(list(subset), **_without(settings, RUN_ONLY)), as_json)
        return
    if part is not None:
        if settings["scheduler"] is not None or settings["cluster"] not in (None, "local"):
            raise click.UsageError("--part works without a scheduler; leave --scheduler and --cluster out.")
        more = {"progress": not quiet, "say": say, **_without(settings, NOT_SHARED)}
        print_result(labelling.label_share(list(subset), out, part, **more), as_json)
        return
    done = labelling.label(list(subset), out, progress=not quiet, say=say, **settings)
    print_result(done, as_json)
    if done.n_quarantined:
        say(f"{done.n_quarantined} structures could not be labelled; see `hdistill labels quarantine {out}`.")
        raise click.exceptions.Exit(EXIT_QUARANTINED)


NOT_SHARED = ("scheduler", "cluster", "add", "extend")
RUN_ONLY = (*NOT_SHARED, "memory", "deadline")


def _without(settings: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}
