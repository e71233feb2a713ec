"""`hdistill labels ...`: look at a label set, and verify it."""

from __future__ import annotations

from pathlib import Path

import click

from .command import JSON, PATH, Commands, print_result


@click.group(cls=Commands)
def labels() -> None:
    """Look at a label set, and verify it."""


@labels.command()
@click.argument("folder", type=PATH)
@JSON
def info(folder: Path, as_json: bool) -> None:
    """Counts, teacher, Hessian labels and size of a label set."""
    from hdistill.data.labelset import info as read_info

    from .report import label_set_table

    print_result(read_info(folder), as_json, label_set_table)


@labels.command()
@click.argument("folder", type=PATH)
def verify(folder: Path) -> None:
    """Check every byte, every schema rule and every structure's id; exit code 0 only if all is well."""
    from hdistill.data.labelset import verify as verify_all

    verified = verify_all(folder)
    click.echo(f"{folder}: {len(verified.shards)} shards, every byte as the manifest says.")


@labels.command()
@click.argument("folder", type=PATH)
@JSON
def quarantine(folder: Path, as_json: bool) -> None:
    """The structures that could not be labelled, with reasons."""
    from hdistill.data.labelset import read_manifest

    from .report import quarantine_table

    print_result(read_manifest(folder)["quarantine"], as_json, quarantine_table)
