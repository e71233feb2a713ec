"""`hdistill students push|pull`: bundles of `hdistill export --to bundle`, to and from where label sets go."""

from __future__ import annotations

from pathlib import Path

import click

from .command import JSON, PATH, print_result
from .sharing import login_name


@click.command()
@click.argument("bundle", type=PATH)
@click.argument("destination")
@click.option("--replace", is_flag=True, help="Although another bundle is there.")
@click.option(
    "--i-have-permission", is_flag=True, help="Push although the licences do not allow it; recorded beside the bundle."
)
@click.option("--as", "name", metavar="NAME", help="Who has the permission; your login name if none is given.")
@JSON
def push(
    bundle: Path, destination: str, replace: bool, i_have_permission: bool, name: str | None, as_json: bool
) -> None:
    """Copy a bundle to hf://, s3://, gs:// or a folder, where anybody can run it by its address.

    \b
      hdistill export run/ --to bundle -o bundle/
      hdistill students push bundle/ hf://OWNER/NAME
      hdistill md hf://OWNER/NAME start.xyz -o md/

    The index comes last. s3, gs and hf need `pip install -c constraints.txt ".[remote]"`.
    """
    from ..api.bundles import push_bundle

    by = (name or login_name()) if i_have_permission else None
    print_result(push_bundle(bundle, destination, permission_by=by, replace=replace), as_json)


@click.command()
@click.argument("source")
@click.argument("folder", type=PATH)
@JSON
def pull(source: str, folder: Path, as_json: bool) -> None:
    """Copy a bundle from hf://, s3://, gs://, http(s):// or a folder into a new folder.

    \b
      hdistill students pull hf://OWNER/NAME bundle/

    Every file is hashed before it gets its name, and nothing in a bundle is run; compare the digest that is printed with the one its
    publisher states.
    """
    from ..api.bundles import pull_bundle

    print_result(pull_bundle(source, folder), as_json)


COMMANDS = (push, pull)
