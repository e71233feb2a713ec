"""What all commands share: one-sentence errors, exit codes, results on standard output and remarks on standard error."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from hdistill.data.errors import HDistillError, PackageMissing

from .elsewhere import go_on_elsewhere

EXIT_STOPPED = 1
EXIT_QUARANTINED = 3
EXIT_PHYSICS = 4


class Commands(click.Group):
    """A group whose errors are one sentence, which suggests the nearest command and lists commands in the order of their use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

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
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _stop)
        try:
            return super().invoke(ctx)
        except PackageMissing as error:
            go_on_elsewhere(error.family)
            click.echo(f"error: {error}", err=True)
        except HDistillError as error:
            click.echo(f"error: {error}", err=True)
        except KeyboardInterrupt:
            click.echo("\nStopped. What is finished is kept; run the same command again to continue.", err=True)
        except BrokenPipeError:
            sys.stderr.close()
        except OSError as error:
            click.echo(f"error: {error.strerror or error}: {error.filename or 'no file name'}", err=True)
        raise click.exceptions.Exit(EXIT_STOPPED)


class Sectioned(click.Command):
    """A command whose help has its options in sections: title to names of parameters; what is in none comes last.

    defaults: of options that have none for click, by name; looked up when the help is shown.
    """

    def __init__(
        self,
        *arguments: Any,
        sections: Mapping[str, Sequence[str]],
        defaults: Callable[[], Mapping[str, Any]] = dict,
        **rest: Any,
    ):
        super().__init__(*arguments, **rest)
        self.sections, self.defaults = sections, defaults

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        defaults = {name: value for name, value in self.defaults().items() if value not in (None, "", [], ())}
        helps = {
            p.name: (
                record[0],
                f"{record[1]}  [default: {_shown(p, defaults[p.name])}]" if p.name in defaults else record[1],
            )
            for p in options
            if (record := p.get_help_record(ctx)) is not None
        }
        named = {name for names in self.sections.values() for name in names}
        rest = tuple(name for name in helps if name not in named)
        for title, names in {**self.sections, "Other": rest}.items():
            with formatter.section(title):
                formatter.write_dl([helps[name] for name in names])


def _shown(option: click.Option, default: Any) -> str:
    if isinstance(default, bool):
        return (option.opts if default else option.secondary_opts)[0].lstrip("-")
    return f"{default:g}" if isinstance(default, float) else str(default)


def _stop(*_: Any) -> None:
    """A batch system at wall time says SIGTERM and waits a little: stop as with Ctrl-C."""
    raise KeyboardInterrupt


PATH = click.Path(path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output, nothing else.")


def say(message: str) -> None:
    """Progress and remarks go to standard error: standard output is for results."""
    click.echo(message, err=True)


def print_result(result: Any, as_json: bool) -> None:
    """The result on standard output; of the processes that torchrun starts, the first one talks for all."""
    if os.environ.get("RANK", "0") == "0":
        click.echo(json.dumps(result.as_json()) if as_json else str(result))
