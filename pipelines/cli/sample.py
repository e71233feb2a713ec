"""hdistill sample: structures from structures."""

from __future__ import annotations

from pathlib import Path

import click

from .command import JSON, PATH, print_result, say


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES...")
@click.option("-o", "--out", required=True, type=PATH, metavar="FILE.xyz", help="Where the new structures go.")
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="crystal, slab, molecule, liquid or a TOML file.  [default: by what is periodic]",
)
@click.option("--n", type=int, metavar="N", help="About so many structures.  [default: the recipe's]")
@click.option("--temperature", default="300", show_default=True, metavar="K,...", help="Of dynamics and thermal moves.")
@click.option(
    "--pressure", default="", metavar="GPA,...", help="Dynamics of crystals at these pressures.  [default: fixed cells]"
)
@click.option("--driver", metavar="WHAT", help="What gives forces: student:RUN, or the name of a teacher.")
@click.option("--task", help="Level of theory of a teacher that has several.")
@click.option("--diverse", type=int, metavar="N", help="Keep the N that differ most.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ... of the driver.")
@JSON
def sample(
    files: tuple[str, ...],
    out: Path,
    recipe: str | None,
    n: int | None,
    temperature: str,
    pressure: str,
    driver: str | None,
    task: str | None,
    diverse: int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Make structures to label around those of FILES: rattled, strained, turned, displaced, heated.

    \b
      hdistill sample crystal.cif -o new.xyz --driver 7net-0 --temperature 300,900
      hdistill sample molecule.xyz -o new.xyz --n 200 --driver student:run/
      hdistill sample slab.vasp -o new.xyz --recipe my.toml --diverse 50

    Without --driver, moves that need forces are left out. Each structure says in its comment line where it comes from; its group is
    its start's, so that splits hold out whole starts. The same command gives the same file. docs/sampling.md has the moves.
    """
    from ..api.arguments import parse_numbers
    from ..api.sampling import sample as run_sample

    done = run_sample(
        list(files),
        out,
        recipe=recipe,
        n=n,
        temperature=parse_numbers(temperature, "--temperature"),
        pressure=parse_numbers(pressure, "--pressure"),
        driver=driver,
        task=task,
        diverse=diverse,
        seed=seed,
        device=device,
        say=say,
    )
    print_result(done, as_json)
