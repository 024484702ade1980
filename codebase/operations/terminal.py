"""How results are shown: tables and bars to people, plain lines and JSON to programs.

What is no terminal is given plain text only, and rich is loaded when there is something to draw.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from json import dumps
from typing import TypeVar

T = TypeVar("T")

Advance = Callable[[int], object]
"""Told how many more are done."""
Progress = Callable[[int], AbstractContextManager[Advance]]
"""Given how many there are to do, shows how far it has come while the context lasts."""

STEPS = 500
"""No more than so many times is a bar drawn anew."""


def no_progress(_total: int) -> AbstractContextManager[Advance]:
    """Shows nothing."""
    return nullcontext(lambda _count: None)


@contextmanager
def progress_bar(total: int) -> Iterator[Advance]:
    """A bar that counts events on standard error; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console  # noqa: PLC0415 - takes as long as a command does
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("events"), TimeRemainingColumn())
    # What is printed meanwhile goes above the bar, unless it goes elsewhere altogether.
    console = Console(stderr=True)
    with Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=total)
        done = drawn = 0

        def advance(count: int) -> None:
            nonlocal done, drawn
            done += count
            if done - drawn >= total / STEPS:
                bar.update(task, completed=done)
                drawn = done

        yield advance
        bar.update(task, completed=done)


def show_list(
    items: Sequence[T],
    *,
    json: bool,
    record: Callable[[T], Mapping[str, object]],
    line: Callable[[T], str],
    cells: Callable[[T], Mapping[str, object]],
) -> None:
    """Print a list: as JSON if that was asked for, a table on a terminal, and lines elsewhere.

    Args:
        items: to be listed.
        json: whether it was asked for.
        record: what an item is in JSON.
        line: what it is in plain text.
        cells: what it is in a table: column -> text.
    """
    if json:
        for item in items:
            print(as_json(record(item)))
    elif items and sys.stdout.isatty():
        _show_table([cells(item) for item in items])
    else:
        for item in items:
            print(line(item))


def _show_table(rows: Sequence[Mapping[str, object]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - takes as long as a command does
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(rows[0]):
        # The first is what one copies from here into the next command.
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        # As text, because square brackets in a string would be taken for markup.
        table.add_row(*(Text(str(cell)) for cell in row.values()))
    Console().print(table)


def as_json(value: Mapping[str, object]) -> str:
    """A result as one line of JSON; times are ISO 8601, and what JSON does not know is text."""
    return dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def to_stderr(sentence: str) -> None:
    """Say something that is not the result."""
    print(sentence, file=sys.stderr)
