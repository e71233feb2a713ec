"""`hdistill labels card|push|pull`: label sets as publications."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .command import JSON, PATH, print_result


class Labels(click.ParamType):  # type: ignore[type-arg]
    """A label set: a folder as a Path, an address (s3://..., https://...) as it is."""

    name = "labels"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, Path) or "://" in value else Path(value)


LABELS = Labels()


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


def shard_cache(labels: Path | str, folder: Path | None, size: str) -> Any:
    """The cache that the options describe; None for a label set that is here, which needs none."""
    from .command import parse_size

    if isinstance(labels, Path):
        return None
    from hdistill.data.sharing.cache import ShardCache, default_folder

    return ShardCache(folder or default_folder(), parse_size(size, "--cache-size"))


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
    from dataclasses import asdict

    from hdistill.data.publication.documents import state

    found = asdict(state(folder, **stated))
    print_result(found, as_json, lambda _: f"{folder}: README.md and croissant.json are written.")


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

    Only shards that are missing there move, and the manifest comes last. Needs `pip install 'hdistill[remote]'` for s3, gs, hf.
    """
    from hdistill.data.sharing.push_pull import as_json as as_dict, push as run_push

    by = (name or _login_name()) if i_have_permission else None
    done = run_push(folder, destination, by, progress=not quiet)
    print_result(as_dict(done), as_json, lambda found: _moved(found, "pushed to"))


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
    from hdistill.data.sharing.push_pull import as_json as as_dict, pull as run_pull

    done = run_pull(source, folder, progress=not quiet)
    print_result(as_dict(done), as_json, lambda found: _moved(found, "pulled from"))


def _login_name() -> str:
    import getpass

    from hdistill.data.errors import InputError

    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # a container may have no name for its user
        raise InputError("Nobody is logged in by name; say who has the permission with --as NAME.") from None


def _moved(found: dict[str, Any], what: str) -> str:
    from ..report.tables import size

    return (
        f"{found['folder']} {what} {found['address']}: {found['n_moved']} of {found['n_shards']} shards moved "
        f"({size(found['bytes'])} of {size(found['total_bytes'])}); licence of the labels: {found['license']}.\n"
        f"digest {found['label_set']}"
    )


COMMANDS = (card, push, pull)
