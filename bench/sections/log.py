"""The log itself: bulk append beside COPY, a long log beside a short one, rebuild beside COPY."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from psycopg import AsyncConnection, Connection, sql
from psycopg.types.json import Jsonb

from bench.filling import Column, columns_of
from bench.lab import Lab, as_owner
from bench.measure import alternate, joined, seconds
from bench.orders import fill_log, new_events
from bench.report import Result, at_least
from codebase.engine.log.appender import Appender
from codebase.engine.log.appending import append
from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation.postgres import connect_async
from codebase.foundation.settings import Settings
from codebase.operations.rebuild import rebuild
from codebase.registry import SYSTEM

BULK = 1_000
BULK_ROUNDS = 101
BULK_CHART = "a thousand rows in one commit"

SHORT_LOG = 10_000
SHORT_LOG_AT_FIRST = 3_400
"""It has grown to about that when half of the rounds are over."""
LONG_LOG = 1_000_000
GROWTH_BATCH = 64
GROWTH_BATCHES = 8
GROWTH_WARM_UP_RUNS = {"short": 4, "long": 64}
"""Services keep their connections, and a new one pays for every page that it meets; of those of a
long log it meets another with nearly every event."""
GROWTH_SHORT_LOGS = 5
GROWTH_ROUNDS = 15
"""For each of the short logs, which would not be short after many more."""
GROWTH_ROUNDS_AFTER_CHECKPOINT = 3

REBUILT = 250_000
REBUILD_ROUNDS = 6

CREATE_COPIED = "CREATE TABLE copied (LIKE event INCLUDING ALL)"
READ_LAST_ROWS = "SELECT {columns} FROM event ORDER BY position DESC LIMIT %(rows)s"
COPY_ROWS = "COPY copied ({columns}) FROM STDIN (FORMAT binary)"
JSON_TYPES = ("json", "jsonb")

PLACE_CHECKPOINT = """
    INSERT INTO projection_checkpoint (projector, partition, position)
    VALUES (%(projector)s, 0, %(position)s)
"""
CREATE_COPIED_ORDERS = "CREATE TABLE copied (LIKE buy_order INCLUDING ALL)"
EMPTY_COPIED_ORDERS = "TRUNCATE copied"
COPY_ORDERS_OUT = "COPY buy_order TO STDOUT (FORMAT binary)"
COPY_ORDERS_IN = "COPY copied FROM STDIN (FORMAT binary)"


# Bulk append


def measure_bulk(lab: Lab) -> Iterator[Result]:
    """append() of 1,000 orders, guards included, beside COPY of 1,000 rows like them."""
    settings = lab.stores("bulk")
    bulk = lab.effort.count(BULK)
    with as_owner(settings, "write_model") as owner, asyncio.Runner() as runner:
        owner.execute(CREATE_COPIED)
        columns = columns_of(owner, "event")
        connection = runner.run(connect_async(settings.required("write_model_url"), "bench"))
        appender = Appender(settings.command_notes_days)

        def append_bulk() -> float:
            events = new_events(bulk)
            return bulk / seconds(lambda: runner.run(appender.append(connection, events)))

        def copy_bulk() -> float:
            # Others each time: of the same ones there can be no second copy.
            append_bulk()
            rows = _last_rows(owner, columns, bulk)
            return bulk / seconds(lambda: _copy(owner, columns, rows))

        copy_bulk()
        rounds = lab.effort.rounds(BULK_ROUNDS)
        numbers = alternate(rounds, {"append": append_bulk, "copy": copy_bulk})
        runner.run(connection.close())
    yield Result(
        name=f"bulk append of {BULK:,}",
        value=numbers.median("append"),
        unit="events/s",
        chart=BULK_CHART,
    )
    yield Result(
        name=f"  beside it: binary COPY of {BULK:,}",
        value=numbers.median("copy"),
        unit="rows/s",
        chart=BULK_CHART,
    )
    yield Result(
        name=f"bulk append of {BULK:,} ÷ binary COPY of the same rows",
        value=numbers.ratio("append", "copy"),
        unit="ratio",
        target=at_least(0.7),
    )


def _last_rows(
    owner: Connection[Any], columns: Sequence[Column], rows: int
) -> list[tuple[Any, ...]]:
    # JSON stays the text that it is on both sides.
    names = sql.SQL(", ").join(
        sql.SQL("{}::text" if column.type in JSON_TYPES else "{}").format(
            sql.Identifier(column.name)
        )
        for column in columns
    )
    found = owner.execute(sql.SQL(READ_LAST_ROWS).format(columns=names), {"rows": rows}).fetchall()
    json = [column.type in JSON_TYPES for column in columns]
    return [
        tuple(
            _as_it_is(value) if is_json else value for value, is_json in zip(row, json, strict=True)
        )
        for row in reversed(found)
    ]


def _as_it_is(document: str) -> Jsonb:
    """JSON text that is JSON text already."""
    return Jsonb(document, dumps=str.encode)


def _copy(
    owner: Connection[Any], columns: Sequence[Column], rows: Sequence[tuple[Any, ...]]
) -> None:
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    statement = sql.SQL(COPY_ROWS).format(columns=names)
    with owner.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([column.type for column in columns])
        for row in rows:
            copy.write_row(row)


# Growth


def measure_growth(lab: Lab) -> Iterator[Result]:
    """Appends to a log of a million events beside appends to one of ten thousand."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())

        def appending_to(name: str, settings: Settings) -> Callable[[], float]:
            url = settings.required("write_model_url")
            connection = runner.run(connect_async(url, "bench"))
            stack.callback(lambda: runner.run(connection.close()))
            append_some = partial(_appends_per_second, runner, connection)
            for _ in range(lab.effort.rounds(GROWTH_WARM_UP_RUNS[name])):
                append_some()
            return append_some

        filled = _long_log(lab)
        # What was filled is written out before, and not while anything is measured.
        lab.write.checkpoint()
        long = appending_to("long", filled)
        compared = []
        for number in range(lab.effort.rounds(GROWTH_SHORT_LOGS)):
            settings = lab.stores(f"short_log_{number}")
            fill_log(settings, lab.effort.count(SHORT_LOG_AT_FIRST))
            sides = {"short": appending_to("short", settings), "long": long}
            compared.append(alternate(lab.effort.rounds(GROWTH_ROUNDS), sides))
        numbers = joined(compared)
        # The first change of a page after a checkpoint writes the whole page to the server's log,
        # and a long log has many pages.
        lab.write.checkpoint()
        after_checkpoint = alternate(lab.effort.rounds(GROWTH_ROUNDS_AFTER_CHECKPOINT), sides)
    for side, length in (("short", SHORT_LOG), ("long", LONG_LOG)):
        yield Result(
            name=f"append in batches of {GROWTH_BATCH} at {length:,} events",
            value=numbers.median(side),
            unit="events/s",
        )
    yield Result(
        name=f"append at {LONG_LOG:,} events ÷ at {SHORT_LOG:,}",
        value=numbers.ratio("long", "short"),
        unit="ratio",
        target=at_least(0.9),
    )
    yield Result(
        name="  beside it: the same in the first moments after a checkpoint",
        value=after_checkpoint.ratio("long", "short"),
        unit="ratio",
    )


def _long_log(lab: Lab) -> Settings:
    """The log of a million events, filled when it is first needed."""
    if lab.long_log is None:
        settings = lab.stores("long_log", keep=True)
        fill_log(settings, lab.effort.count(LONG_LOG))
        lab.long_log = settings
    return lab.long_log


def _appends_per_second(runner: asyncio.Runner, connection: AsyncConnection[Any]) -> float:
    batches = [new_events(GROWTH_BATCH) for _ in range(GROWTH_BATCHES + 1)]
    # The first call prepares the statement and plans the function.
    runner.run(append(connection, batches.pop()))

    async def append_all() -> None:
        for batch in batches:
            await append(connection, batch)

    return GROWTH_BATCH * GROWTH_BATCHES / seconds(lambda: runner.run(append_all()))


# Rebuild


def measure_rebuild(lab: Lab) -> Iterator[Result]:
    """A rebuild of the orders, compared and swapped in, beside COPY of the rows it makes."""
    settings = _long_log(lab)
    rebuilt = lab.effort.count(REBUILT)
    with as_owner(settings, "read_model") as owner:
        owner.execute(PLACE_CHECKPOINT, {"projector": READ_MODEL, "position": rebuilt})
        owner.execute(CREATE_COPIED_ORDERS)
        # The first rebuild makes what is served, so that the next ones compare row by row.
        _rebuild(settings)
        with owner.cursor() as cursor, cursor.copy(COPY_ORDERS_OUT) as copy:
            content = b"".join(copy)
        numbers = alternate(
            lab.effort.rounds(REBUILD_ROUNDS),
            {
                "rebuild": lambda: rebuilt / seconds(lambda: _rebuild(settings)),
                "copy": lambda: rebuilt / seconds(lambda: _copy_orders(owner, content)),
            },
        )
    yield Result(
        name=f"rebuild of {REBUILT:,} orders: fill, compare, swap",
        value=numbers.median("rebuild"),
        unit="events/s",
        target=at_least(30_000),
    )
    yield Result(
        name="  beside it: binary COPY of the same rows",
        value=numbers.median("copy"),
        unit="rows/s",
    )
    yield Result(
        name="rebuild ÷ COPY of the same rows",
        value=numbers.ratio("rebuild", "copy"),
        unit="ratio",
        target=at_least(0.4),
    )


def _rebuild(settings: Settings) -> None:
    rebuild(settings, SYSTEM.read_model, "buy_orders", say=lambda _: None)


def _copy_orders(owner: Connection[Any], content: bytes) -> None:
    owner.execute(EMPTY_COPIED_ORDERS)
    with owner.cursor() as cursor, cursor.copy(COPY_ORDERS_IN) as copy:
        copy.write(content)
