"""`hdistill labels ...`: look at a label set, check it, put sets together and take them apart, in and out of other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import EXIT_STOPPED, JSON, PATH, Commands, print_result, say
from .sharing import COMMANDS


@click.group(cls=Commands)
def labels() -> None:
    """Look at a label set, check it, share it, merge, cut, export and import."""


for _command in COMMANDS:
    labels.add_command(_command)


@labels.command()
@click.argument("folder", type=PATH)
@JSON
def info(folder: Path, as_json: bool) -> None:
    """Counts, teacher, Hessian labels and size of a label set."""
    from ..api.label_sets import info as read_info

    print_result(read_info(folder), as_json)


@labels.command()
@click.argument("folder", type=PATH)
def verify(folder: Path) -> None:
    """Check every byte, every schema rule and every structure's id; exit code 0 only if all is well."""
    from ..api.label_sets import verify as verify_all

    verified = verify_all(folder)
    click.echo(f"{folder}: {len(verified.shards)} shards, every byte agrees with the manifest.")


@labels.command()
@click.argument("folder", type=PATH)
@JSON
def quarantine(folder: Path, as_json: bool) -> None:
    """The structures that could not be labelled, with reasons."""
    from ..api.label_sets import quarantine as read_quarantine

    print_result(read_quarantine(folder), as_json)


OUT = click.option("-o", "--out", required=True, type=PATH, metavar="DIR", help="The new label set.")
SPLIT = click.option("--split", metavar="NAME", help="train, val or test alone.")


@labels.command()
@click.argument("folders", nargs=-1, required=True, type=PATH)
@OUT
@JSON
def merge(folders: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Put label sets of one teacher and the same settings together; each structure is taken once.

    \b
      hdistill labels merge monday/ tuesday/ -o labels/

    Labels that contradict each other are refused by the structure's name. A group that is in different splits goes where it is
    held out most: test before val before train.
    """
    from ..api.label_sets import merge as run_merge

    print_result(run_merge(folders, out, say=say), as_json)


@labels.command()
@click.argument("folder", type=PATH)
@OUT
@click.option("--where", metavar="EXPR", help="Select, e.g. \"{'H','C','N','O'} >= elements and n_atoms <= 16\".")
@SPLIT
@click.option("--limit", type=int, metavar="N", help="A reproducible sample of N structures.")
@click.option("--seed", default=0, show_default=True, help="Of the sample.")
@JSON
def subset(folder: Path, out: Path, as_json: bool, **chosen: Any) -> None:
    """Take a part of a label set; labels stay as they are stored.

    \b
      hdistill labels subset labels/ -o small/ --where "n_atoms <= 16" --limit 1000
    """
    from ..api.label_sets import subset as cut

    print_result(cut(folder, out, say=say, **chosen), as_json)


@labels.command()
@click.argument("folder", type=PATH)
@click.option("--to", required=True, metavar="FORMAT", help="extxyz, ase-db or parquet.")
@click.option("-o", "--out", required=True, type=PATH, metavar="FILE", help="The file; it must not exist.")
@SPLIT
@JSON
def export(folder: Path, to: str, out: Path, split: str | None, as_json: bool) -> None:
    """Write a label set as one file that other programs read, Hessian products included.

    \b
      hdistill labels export labels/ --to extxyz -o labels.xyz
      hdistill labels export labels/ --to parquet -o test.parquet --split test
    """
    from ..api.label_sets import export_labels

    print_result(export_labels(folder, out, to=to, split=split), as_json)


@labels.command("import")
@click.argument("file", type=PATH)
@OUT
@click.option("--hessian", default="probes:4", show_default=True, metavar="SPEC", help="probes:K, rows:K or full.")
@click.option("--units", metavar="E/L", help="Of the labels: eV/A, hartree/bohr, hartree/A, kcal/mol/A.")
@click.option("--length", metavar="L", help="Of positions in HDF5 and npz: A (default), bohr or nm.")
@click.option("--negate", is_flag=True, help="The file's Hessians have the sign of dF/dR.")
@click.option(
    "--codec", type=click.Choice(["compact", "exact"]), default="compact", show_default=True, help="Of the products."
)
@click.option("--seed", default=0, show_default=True, help="Of the probes and the splits.")
@click.option("--splits", default="0.8,0.1,0.1", show_default=True, metavar="A,B,C", help="Train, val, test; by group.")
@click.option("--level-of-theory", default="", metavar="TEXT", help="Of the data, such as wB97X/6-31G(d).")
@click.option("--licence", default="unknown", metavar="ID", help="Of the data, as an SPDX id.")
@click.option("--citation", default="", metavar="TEXT", help="What to cite.")
@click.option("--group-key", metavar="KEY", help="Key of the molecule's name in extended XYZ, the unit of splits.")
@click.option("--geometry", type=PATH, metavar="FILE", help="Of a Hessian that has none (xTB, Turbomole, ASE).")
@click.option("--energy", type=float, metavar="EV", help="Of a Hessian that has none (ORCA, xTB, phonopy, ASE, ...).")
@click.option("--at-minimum", is_flag=True, help="Such a Hessian is one of a minimum: the forces are 0.")
@click.option("--delta", type=float, metavar="A", help="By which atoms were moved (folders of ASE; its own is 0.01).")
@JSON
def import_(file: Path, out: Path, as_json: bool, **stated: Any) -> None:
    """Make a label set of published energies, forces and full Hessians: extended XYZ, HDF5, npz, .fchk,
    vasprun.xml, ORCA's .hess, outputs of NWChem, Q-Chem and CP2K, xTB's and Turbomole's hessian, phonopy's
    files, folders of ASE's Vibrations and Phonons.

    \b
      hdistill labels import dft.xyz -o labels/ --units eV/A \\
          --level-of-theory "wB97X/6-31G(d)" --licence CC-BY-4.0
      hdistill labels import opt.hess -o labels/ --at-minimum --energy -2079.2
      hdistill labels import vib/ -o labels/ --geometry opt.traj --delta 0.01

    Each Hessian is checked: symmetry, translations, sign. What fails is in quarantine, with a reason.
    """
    from ..api.label_sets import import_labels

    print_result(import_labels(file, out, say=say, **stated), as_json)


@labels.command()
@click.argument("folder", type=PATH)
@click.option("--n", "n", default=20, show_default=True, metavar="N", help="Random structures to label anew.")
@click.option("--seed", type=int, metavar="N", help="Of their choice; drawn anew each time, and printed.")
@click.option("--teacher", metavar="NAME", help="One that does not come with hdistill: a file, ase:module.Class, ...")
@click.option("--argument", "arguments", multiple=True, metavar="NAME=VALUE", help="For ase:module.Class; repeatable.")
@click.option("--teacher-python", type=PATH, metavar="PATH", help="The interpreter that has the teacher.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option("--threads", default=1, show_default=True, help="CPU threads of the teacher.")
@click.option("--deadline", "deadline_s", default=120.0, show_default=True, help="Seconds a small batch may take.")
@JSON
def audit(folder: Path, as_json: bool, **chosen: Any) -> None:
    """Label random structures anew with the set's teacher and compare; exit code 0 only if all agree.

    \b
      hdistill labels audit labels/ --n 50
      hdistill labels audit labels/ --teacher ase:my.Calculator --argument rc=6

    Nothing that the set itself names is run, but teachers that come with hdistill. 50 structures that agree: a set
    with 6 % false labels would have been found out in 95 of 100 audits, one with 1 % in 39.
    """
    from ..api.label_sets import audit as run_audit

    result = run_audit(folder, say=say, **chosen)
    print_result(result, as_json)
    if not result.agrees:
        raise click.exceptions.Exit(EXIT_STOPPED)
