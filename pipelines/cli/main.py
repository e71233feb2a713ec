"""The command line. Only click is imported here; each command imports what it needs when it runs, so --help is instant."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from .clusters import clusters
from .command import EXIT_QUARANTINED, JSON, PATH, Commands, Sectioned, parse_size, print_result, say
from .export import export
from .labels import labels
from .md import md
from .share import LABELS, cache_options, shard_cache


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hdistill")
def main() -> None:
    """Distil a foundation model for atoms into a small, fast force field.

    \b
      hdistill label --teacher 7net-0 --subset my.xyz -o labels/
      hdistill fit labels/ -o run/
      hdistill evaluate run/ labels/
    """


main.add_command(labels)
main.add_command(clusters)
main.add_command(md)
main.add_command(export)


@main.command()
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
@click.option(
    "--hessian", default="probes:4", show_default=True, metavar="SPEC", help="probes:K, rows:K, full or none."
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
@click.option("--atom-energies", is_flag=True, help="Store the teacher's energy of each atom, too.")
@click.option("--node-features", is_flag=True, help="Store the teacher's invariant features of each atom, too.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option("--batch-edges", type=int, help="Pairs within 5 A that the teacher takes at once; by device.")
@click.option("--energy-key", metavar="KEY", help="Key of reference energies in the source; found by itself as a rule.")
@click.option("--forces-key", metavar="KEY", help="Key of reference forces.")
@click.option("--stress-key", metavar="KEY", help="Key of reference stresses.")
@click.option("--group-key", metavar="KEY", help="Key of the molecule's or material's name, the unit of splits.")
@click.option("--workers", default=2, show_default=True, help="Local Dask workers, each with its own teacher.")
@click.option("--threads", default=1, show_default=True, help="CPU threads of each teacher.")
@click.option("--scheduler", metavar="ADDRESS", help="A running Dask cluster instead of local workers.")
@click.option("--cluster", metavar="FILE", help="Workers as batch jobs; see `hdistill clusters`.")
@click.option("--teacher-python", type=PATH, metavar="PATH", help="The interpreter that has the teacher.")
@click.option(
    "--part", metavar="K/N", help="Label the K-th of N shares without a scheduler: for job arrays; 0/N only plans."
)
@click.option("--memory", metavar="SIZE", help="Of each teacher on a CPU, such as 8GB; a share of the machine.")
@click.option("--deadline", "deadline_s", default=120.0, show_default=True, help="Seconds a small batch may take.")
@click.option("--add", metavar="SPEC", help="probes:K or rows:K: so many more of each structure than --hessian says.")
@click.option(
    "--extend", "extending", is_flag=True, help="Put the structures that the finished set in DIR lacks into it."
)
@click.option("--dry-run", is_flag=True, help="Label a few structures, predict time and bytes, write nothing.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@JSON
def label(
    subset: tuple[str, ...],
    out: Path,
    data: Path | None,
    workers: int,
    threads: int,
    scheduler: str | None,
    cluster: str | None,
    teacher_python: Path | None,
    part: str | None,
    memory: str | None,
    deadline_s: float,
    add: str | None,
    extending: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
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
    from hdistill.labeler.executors.jobs import read as read_cluster
    from hdistill.labeler.executors.share import parse as parse_part
    from hdistill.labeler.planning.plan import LabelSettings
    from hdistill.labeler.run import RunSettings, label as run_label, label_part

    from ..report.tables import label_summary, part_summary

    if scheduler is not None and cluster is not None:
        raise click.UsageError("--scheduler is a cluster that runs, --cluster makes one; give one of them.")
    wanted = LabelSettings(subset=subset, **settings)
    run = RunSettings(
        workers=workers,
        threads=threads,
        scheduler=scheduler,
        teacher_python=teacher_python,
        deadline_s=deadline_s,
        memory_bytes=None if memory is None else parse_size(memory, "--memory"),
        progress=not quiet,
        jobs=None if cluster in (None, "local") else read_cluster(Path(cluster)),
    )
    if sum((add is not None, extending, part is not None, dry_run)) > 1:
        raise click.UsageError("--add, --extend, --part and --dry-run exclude one another.")
    if dry_run:
        from hdistill.labeler.estimate import predict

        from ..report.tables import prediction

        print_result(predict(wanted, data, run), as_json, prediction)
        return
    if part is not None:
        if scheduler is not None or run.jobs is not None:
            raise click.UsageError("--part works without a scheduler; leave --scheduler and --cluster out.")
        done = label_part(wanted, out, parse_part(part), data, run, say)
        print_result(asdict(done) | {"path": str(done.path)}, as_json, part_summary)
        return
    if add is not None:
        from hdistill.labeler.extend import add as run_add

        result = run_add(wanted, add, out, data, run, say)
    elif extending:
        from hdistill.labeler.extend import extend as run_extend

        result = run_extend(wanted, out, data, run, say)
    else:
        result = run_label(wanted, out, data, run, say)
    from hdistill.data.support.typed import fields_of

    print_result(
        {"path": str(result.path), "seconds": result.seconds, **fields_of(result.manifest.counts)},
        as_json,
        label_summary,
    )
    if result.n_quarantined:
        say(f"{result.n_quarantined} structures could not be labelled; see `hdistill labels quarantine {out}`.")
        raise click.exceptions.Exit(EXIT_QUARANTINED)


@main.group(cls=Commands, invoke_without_command=True)
@JSON
@click.pass_context
def teachers(ctx: click.Context, as_json: bool) -> None:
    """List the teachers: where each is installed, or the command that installs it."""
    if ctx.invoked_subcommand is None:
        from ..report.tables import teacher_rows, teacher_table

        print_result(teacher_rows(), as_json, teacher_table)


@teachers.command()
@click.argument("family")
def install(family: str) -> None:
    """Make the environment of a teacher family: mace, fairchem, sevennet, chgnet or torchani."""
    from hdistill.labeler.teachers.environments import install as make

    say(f"Installing {family} into an environment of its own; this can take minutes.")
    click.echo(f"{family} is installed: {make(family)}")


@main.command()
@JSON
def subsets(as_json: bool) -> None:
    """List the named subsets with their sources and licences."""
    from hdistill.data.sources import catalogue

    from ..report.tables import subset_table

    print_result([asdict(row) for row in catalogue()], as_json, subset_table)


@main.command()
@JSON
def students(as_json: bool) -> None:
    """List the students that `hdistill fit` can make, those of installed packages included."""
    from hdistill.trainer.students.registry import catalogue

    from ..report.tables import student_table

    print_result(catalogue(), as_json, student_table)


FIT_SECTIONS = {
    "The run": ("out", "begun", "recipe", "steps", "max_seconds", "seed", "loggers"),
    "The student": ("student", "repulsion"),
    "The loss": (
        *("energy_weight", "force_weight", "stress_weight", "targets", "reference_share"),
        *("hessian_weight", "hessian_norm", "max_hessian", "halve_hessian_within", "node_weight", "embedding_weight"),
    ),
    "The steps": ("batch_size", "learning_rate", "max_edges", "device", "compile"),
}


@main.command(cls=Sectioned, sections=FIT_SECTIONS)
@click.argument("labels_place", metavar="LABELS", type=LABELS, required=False)
@click.option("-o", "--out", type=PATH, metavar="DIR", help="The run; the same command continues it.")
@click.option(
    "--resume", "begun", type=PATH, metavar="RUN", help="Go on with a run, with its own settings and label set."
)
@click.option("--student", metavar="NAME", help="painn (default), painn-small, ...; see `hdistill students`.")
@click.option("--steps", type=int, metavar="N", help="Gradient steps.")
@click.option("--hessian-weight", type=float, metavar="W", help="Of the Hessian term; 0 is plain training.")
@click.option("--force-weight", type=float, metavar="W", help="Of the force term.")
@click.option("--energy-weight", type=float, metavar="W", help="Of the energy term.")
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
    help="Whose energies and forces: the teacher's (default), the source's own, or both.",
)
@click.option(
    "--reference-share", type=float, metavar="S", help="Targets mix: weight of the source's own labels, 0 to 1."
)
@click.option(
    "--hessian-norm",
    type=click.Choice(["atoms", "product"]),
    help="Lengths per atom (default), or per row as in the paper.",
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
    "loggers",
    multiple=True,
    type=click.Choice(["tensorboard", "wandb"]),
    help="Where log.csv goes, too; repeatable.",
)
@cache_options
@click.option("--quiet", is_flag=True, help="No progress bar.")
@JSON
def fit(
    labels_place: Path | str | None,
    out: Path | None,
    begun: Path | None,
    recipe: str | None,
    loggers: tuple[str, ...],
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
      torchrun --nproc-per-node 4 -m hdistill.pipelines fit labels/ -o run/ --device cuda
    """
    from hdistill.trainer.fitting.fit import fit as run_fit, resume as run_resume

    from ..recipe import fit_settings
    from ..report.tables import fit_summary

    given = {name: value for name, value in options.items() if value is not None}
    if begun is not None:
        fixed = [name for name in given if name not in ("steps", "max_seconds", "max_edges", "device")]
        if out is not None or recipe is not None or fixed:
            raise click.UsageError(
                "--resume goes on with a run's own settings; only LABELS, --steps, --max-seconds and --device go with it."
            )
        at_hand = None if labels_place is None else shard_cache(labels_place, cache, cache_size)
        result = run_resume(begun, labels_place, not quiet, at_hand, loggers, **given)
    elif labels_place is None or out is None:
        raise click.UsageError("Give LABELS and -o DIR, or --resume RUN.")
    else:
        at_hand = shard_cache(labels_place, cache, cache_size)
        result = run_fit(labels_place, out, fit_settings(recipe, given), not quiet, at_hand, loggers)
    print_result(asdict(result) | {"run": str(result.run)}, as_json, fit_summary)


@main.command()
@click.argument("run", type=PATH)
@click.argument("labels_place", metavar="LABELS", type=LABELS)
@click.option("--split", default="test", show_default=True, metavar="NAME", help="train, val or test.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@cache_options
@JSON
def evaluate(
    run: Path,
    labels_place: Path | str,
    split: str,
    device: str,
    cache: Path | None,
    cache_size: str,
    as_json: bool,
) -> None:
    """Errors of a student on held-out structures of a label set.

    \b
      hdistill evaluate run/ labels/ --split test --json
    """
    from hdistill.trainer.evaluation.errors import evaluate_student

    from ..report.tables import evaluation_table

    at_hand = shard_cache(labels_place, cache, cache_size)
    found = evaluate_student(run, labels_place, split, device, progress=not as_json, cache=at_hand)
    print_result(found, as_json, evaluation_table)


@main.command()
@click.option("-o", "--out", default="demo", show_default=True, type=PATH, metavar="DIR", help="Where everything goes.")
@click.option("--workers", default=2, show_default=True, help="Labelling processes.")
@JSON
def demo(out: Path, workers: int, as_json: bool) -> None:
    """Label, distil and compare on a real teacher (SevenNet-0) in minutes; the same command continues.

    Three students learn from the same labels: with the Hessian term, without it for as many steps, and without it for as much
    CPU time. The last line of the table is the comparison that could embarrass us.
    """
    from ..demo import run_demo, summary

    print_result(run_demo(out, workers, say), as_json, summary)
