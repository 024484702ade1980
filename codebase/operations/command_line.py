"""What every command of `orderly` has: an example in its help, sentences for errors, a status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec

import psycopg
import typer

from codebase.foundation.errors import ConfigurationError
from codebase.foundation.postgres import trouble
from codebase.foundation.settings import Settings
from codebase.operations import OperationError
from codebase.operations.terminal import to_stderr

DONE = 0
FAILED = 1
MISUSED = 2

FOR_OPERATORS = (ConfigurationError, OperationError, psycopg.Error)
"""What they can mend themselves."""

P = ParamSpec("P")


def group(summary: str) -> typer.Typer:
    """A command that consists of commands."""
    return typer.Typer(
        help=summary,
        add_completion=False,
        # An unexpected error is for whoever mends it, and values of variables are for nobody.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def command(
    of: typer.Typer, name: str, *, example: str
) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Make a function a command.

    The function returns the exit status, and its docstring is the help. What operators can mend
    themselves is told in a sentence: `OperationError` and trouble with Postgres are FAILED,
    `ConfigurationError` is MISUSED.

    Args:
        of: the group that it belongs to.
        name: of the command.
        example: a line that can be typed as it stands, but for words in capitals.
    """

    def add(function: Callable[P, int]) -> Callable[P, int]:
        @wraps(function)
        def told(*arguments: P.args, **options: P.kwargs) -> int:
            try:
                return function(*arguments, **options)
            except FOR_OPERATORS as error:
                return complain(error)
            except KeyboardInterrupt:
                return FAILED

        return of.command(name, epilog=f"Example: {example}")(told)

    return add


def complain(error: Exception) -> int:
    """Tell a person one of `FOR_OPERATORS` in a sentence; the exit status."""
    to_stderr(f"orderly: {_sentence(error)}")
    return _status(error)


@contextmanager
def errors_logged(service: str) -> Iterator[None]:
    """Have what an operator can mend be a record of the log, unless a person reads it.

    Args:
        service: that was to be started.

    Raises:
        typer.Exit: it is in the log, on standard error.
    """
    from codebase.foundation.observability import logs  # noqa: PLC0415 - other commands have none

    try:
        yield
    except FOR_OPERATORS as error:
        if sys.stderr.isatty():
            raise
        # What is configured may be what is wrong.
        with logs.configured(Settings.model_construct(), service=service, stream=sys.stderr):
            logs.error("not_started", problem=_sentence(error))
        raise typer.Exit(_status(error)) from error


def _sentence(error: Exception) -> str:
    return f"Postgres: {trouble(error)}" if isinstance(error, psycopg.Error) else str(error)


def _status(error: Exception) -> int:
    return MISUSED if isinstance(error, ConfigurationError) else FAILED


def run(app: typer.Typer, arguments: Sequence[str] | None) -> int:
    """Run the command that the arguments name (None: those of this process).

    Returns:
        The exit status: 0 done, 1 differs or failed, 2 misconfigured or misused.
    """
    app.rich_markup_mode = "rich" if sys.stdout.isatty() else None
    program = typer.main.get_command(app)
    try:
        status: int = program.main(arguments, prog_name="orderly", standalone_mode=False)
    except typer.TyperException as error:
        to_stderr(f"orderly: {error.format_message()} (--help says how it is used)")
        return MISUSED
    return status
