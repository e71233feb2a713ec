"""hdistill teachers, students, subsets, doctor and demo: what there is, what is installed, and how it all works."""

from __future__ import annotations

from pathlib import Path

import click

from .bundles import COMMANDS as BUNDLES
from .command import JSON, PATH, Commands, print_result, say


@click.group(cls=Commands, invoke_without_command=True)
@JSON
@click.pass_context
def teachers(ctx: click.Context, as_json: bool) -> None:
    """List the teachers: where each is installed, or the command that installs it.

    \b
      hdistill teachers
      hdistill teachers install sevennet
    """
    if ctx.invoked_subcommand is None:
        from ..api.listings import teachers as listed

        print_result(listed(), as_json)


@teachers.command()
@click.argument("family")
def install(family: str) -> None:
    """Make the environment of a teacher family: mace, fairchem, sevennet, chgnet or torchani."""
    from ..api.listings import install_teacher

    say(f"Installing {family} into an environment of its own; this can take minutes.")
    click.echo(f"{family} is installed: {install_teacher(family)}")


@click.group(cls=Commands, invoke_without_command=True)
@click.option("--bundles", is_flag=True, help="Those that come fitted, ready to run.")
@JSON
@click.pass_context
def students(ctx: click.Context, bundles: bool, as_json: bool) -> None:
    """List the students that `hdistill fit` can make, those of installed packages included; push and pull fitted ones.

    \b
      hdistill students --bundles
      hdistill md organics molecule.xyz -o md/ --temperature 300
      hdistill students push bundle/ hf://OWNER/NAME
    """
    if ctx.invoked_subcommand is None:
        from ..api.listings import students as listed

        print_result(listed(bundles), as_json)


for _command in BUNDLES:
    students.add_command(_command)


@click.command()
@JSON
def subsets(as_json: bool) -> None:
    """List the named subsets with their sources and licences."""
    from ..api.listings import subsets as listed

    print_result(listed(), as_json)


@click.command()
@JSON
def doctor(as_json: bool) -> None:
    """Show what is installed here, what is missing, and the command that brings it."""
    from ..api.doctor import doctor as examined

    print_result(examined(), as_json)


@click.command()
@click.option("-o", "--out", default="demo", show_default=True, type=PATH, metavar="DIR", help="Where everything goes.")
@click.option("--workers", default=2, show_default=True, help="Labelling processes.")
@JSON
def demo(out: Path, workers: int, as_json: bool) -> None:
    """Label, distil and compare on a real teacher (SevenNet-0) in minutes; the same command continues.

    Three students learn from the same labels: with the Hessian term, without it for as many steps, and without it for as much
    CPU time. The last row of the table is the fairest comparison.
    """
    from ..api.simulation import demo as run_demo

    print_result(run_demo(out, workers=workers, say=say), as_json)
