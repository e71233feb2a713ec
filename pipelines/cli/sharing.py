"""`hdistill labels card|push|pull`: label sets as publications."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .command import JSON, PATH, print_result


def cache_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--cache and --cache-size of the commands that read a label set which may lie elsewhere."""
    size = click.option(
        "--cache-size",
        default="10GB",
        show_default=True,
        metavar="SIZE",
        help="At most this much of a remote label set here.",
    )
    folder = click.option("--cache", type=PATH, metavar="DIR", help="Where; default is your cache folder.")
    return folder(size(command))


@click.command()
@click.argument("folder", type=PATH)
@click.option("--title", metavar="TEXT", help="What the set is called.")
@click.option("--author", "authors", multiple=True, metavar="NAME", help="Repeatable; replaces those stated before.")
@click.option("--url", metavar="URL", help="The set's home page.")
@click.option("--date", metavar="DATE", help="Of publication, as 2026-11-22.")
@click.option("--release", metavar="VERSION", help="Of the data set; 1.0.0 if none is given.")
@click.option(
    "--structures-license", metavar="ID", help="Of structures whose licence the manifest does not know (SPDX)."
)
@click.option("--weights-license", metavar="ID", help="Of weights whose licence the manifest does not know (SPDX).")
@JSON
def card(folder: Path, as_json: bool, **stated: Any) -> None:
    """Write README.md and croissant.json of a label set again, with what you state of it.

    \b
      hdistill labels card labels/ --title "Argon clusters" --author "A. Author" --structures-license CC-BY-4.0

    What is stated is kept in publication.json, beside the manifest, and goes along when the set is pushed.
    """
    from ..api.label_sets import card as write_card

    print_result(write_card(folder, **stated), as_json)


@click.command()
@click.argument("folder", type=PATH)
@click.argument("destination")
@click.option(
    "--i-have-permission", is_flag=True, help="Push although the licences do not allow it; recorded beside the set."
)
@click.option("--as", "name", metavar="NAME", help="Who has the permission; your login name if none is given.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@JSON
def push(folder: Path, destination: str, i_have_permission: bool, name: str | None, quiet: bool, as_json: bool) -> None:
    """Copy a label set to a folder, s3://, gs:// or hf://; the same command continues.

    \b
      hdistill labels push labels/ hf://datasets/OWNER/NAME
      hdistill labels push labels/ s3://bucket/labels

    Only shards that are missing there move, and the manifest comes last. s3, gs and hf need `pip install -c constraints.txt ".[remote]"`.
    """
    from ..api.label_sets import push as run_push

    by = (name or login_name()) if i_have_permission else None
    print_result(run_push(folder, destination, permission_by=by, progress=not quiet), as_json)


@click.command()
@click.argument("source")
@click.argument("folder", type=PATH)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@JSON
def pull(source: str, folder: Path, quiet: bool, as_json: bool) -> None:
    """Copy a label set from s3://, gs://, hf://, http(s):// or a folder; the same command continues.

    \b
      hdistill labels pull hf://datasets/OWNER/NAME labels/
      hdistill labels pull https://example.org/labels labels/

    Every shard is hashed before it gets its name; compare the digest that is printed with the one its publisher states.
    """
    from ..api.label_sets import pull as run_pull

    print_result(run_pull(source, folder, progress=not quiet), as_json)


def login_name() -> str:
    import getpass

    from hdistill.data.errors import InputError

    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # a container may have no name for its user
        raise InputError("This user has no login name; say who has the permission with --as NAME.") from None


COMMANDS = (card, push, pull)
