"""What all commands share: one-sentence errors, exit codes, results on standard output and remarks on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hdistill.data.errors import HDistillError

EXIT_STOPPED = 1
EXIT_QUARANTINED = 3


class Commands(click.Group):
    """A group whose errors are one sentence, and which suggests the nearest command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from hdistill.data.errors import nearest

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            known = self.list_commands(ctx)
            raise click.UsageError(
                f"No such command '{args[0]}'.{nearest(args[0], known)} Commands: {', '.join(known)}.", ctx
            ) from error

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.parent is not None:
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except HDistillError as error:
            click.echo(f"error: {error}", err=True)
        except KeyboardInterrupt:
            click.echo("\nStopped. What is finished is kept; run the same command again to continue.", err=True)
        except BrokenPipeError:
            sys.stderr.close()
        except OSError as error:
            click.echo(f"error: {error.strerror or error}: {error.filename or 'no file name'}", err=True)
        raise click.exceptions.Exit(EXIT_STOPPED)


PATH = click.Path(path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output, nothing else.")


def say(message: str) -> None:
    """Progress and remarks go to standard error: standard output is for results."""
    click.echo(message, err=True)


def print_result(result: Any, as_json: bool, show: Callable[[Any], str]) -> None:
    click.echo(json.dumps(result) if as_json else show(result))
