"""The log itself: bulk append beside COPY, a long log beside a short one, rebuild beside COPY."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb

from bench.lab import Lab, as_owner
from bench.measure import alternate, seconds
from bench.orders import fill_log, new_events
from bench.report import Result, at_least
from codebase.engine.log.appender import Appender
from codebase.engine.log.appending import append
from codebase.engine.log.events import NewEvent
from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation.postgres import connect_async
from codebase.foundation.settings import Settings
from codebase.operations.rebuild import rebuild
from codebase.registry import SYSTEM

BULK = 1_000
BULK_ROUNDS = 15

SHORT_LOG = 10_000
LONG_LOG = 1_000_000
GROWTH_BATCH = 64
GROWTH_BATCHES = 16
GROWTH_ROUNDS = 15
GROWTH_ROUNDS_AFTER_CHECKPOINT = 3

REBUILT = 250_000
REBUILD_ROUNDS = 2

CREATE_COPIED = "CREATE TABLE copied (LIKE event INCLUDING ALL)"
COPY_EVENTS = """
    COPY copied (partition, position, stream_id, category, version, type, idempotence_key, data,
                 meta, recorded_at)
    FROM STDIN (FORMAT binary)
"""
COPY_TYPES = (
    *("int2", "int8", "uuid", "text", "int4", "text", "text", "jsonb", "jsonb"),
    "timestamptz",
)

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
    with as_owner(settings, "write_model") as owner, asyncio.Runner() as runner:
        owner.execute(CREATE_COPIED)
        positions = itertools.count(1)
        connection = runner.run(connect_async(settings.required("write_model_url"), "bench"))
        appender = Appender(settings.command_notes_days)

        def append_bulk() -> float:
            events = new_events(BULK)
            return BULK / seconds(lambda: runner.run(appender.append(connection, events)))

        def copy_bulk() -> float:
            rows = [_row(event, next(positions)) for event in new_events(BULK)]
            return BULK / seconds(lambda: _copy(owner, rows))

        append_bulk(), copy_bulk()
        numbers = alternate(BULK_ROUNDS, {"append": append_bulk, "copy": copy_bulk})
        runner.run(connection.close())
    yield Result(name=f"bulk append of {BULK:,}", value=numbers.median("append"), unit="events/s")
    yield Result(
        name=f"  beside it: binary COPY of {BULK:,}", value=numbers.median("copy"), unit="rows/s"
    )
    yield Result(
        name=f"bulk append of {BULK:,} ÷ binary COPY of the same rows",
        value=numbers.ratio("append", "copy"),
        unit="ratio",
        target=at_least(0.6),
    )


def _row(event: NewEvent, position: int) -> tuple[Any, ...]:
    return (
        event.partition,
        position,
        event.stream_id,
        event.category,
        event.version,
        event.type,
        event.idempotence_key,
        _as_it_is(event.data),
        _as_it_is(event.meta),
        datetime.now(UTC),
    )


def _as_it_is(document: str) -> Jsonb:
    """JSON text that is JSON text already."""
    return Jsonb(document, dumps=str.encode)


def _copy(connection: Connection[Any], rows: Sequence[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor, cursor.copy(COPY_EVENTS) as copy:
        copy.set_types(COPY_TYPES)
        for row in rows:
            copy.write_row(row)


# Growth


def measure_growth(lab: Lab) -> Iterator[Result]:
    """Appends to a log of a million events beside appends to one of ten thousand."""
    short, long = lab.stores("short_log"), _long_log(lab)
    fill_log(short, SHORT_LOG)
    with asyncio.Runner() as runner:
        sides = {
            "short": lambda: runner.run(_appends_per_second(short, _batches())),
            "long": lambda: runner.run(_appends_per_second(long, _batches())),
        }
        numbers = alternate(GROWTH_ROUNDS, sides)
        # The first change of a page after a checkpoint writes the whole page to the server's log,
        # and a long log has many pages.
        lab.write.checkpoint()
        after_checkpoint = alternate(GROWTH_ROUNDS_AFTER_CHECKPOINT, sides)
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
        lab.long_log = lab.stores("long_log")
        fill_log(lab.long_log, LONG_LOG)
    return lab.long_log


def _batches() -> list[list[NewEvent]]:
    return [new_events(GROWTH_BATCH) for _ in range(GROWTH_BATCHES + 1)]


async def _appends_per_second(settings: Settings, batches: list[list[NewEvent]]) -> float:
    connection = await connect_async(settings.required("write_model_url"), "bench")
    async with connection:
        # The first call prepares the statement and plans the function.
        await append(connection, batches.pop())
        started = time.perf_counter()
        for batch in batches:
            await append(connection, batch)
        return GROWTH_BATCH * GROWTH_BATCHES / (time.perf_counter() - started)


# Rebuild


def measure_rebuild(lab: Lab) -> Iterator[Result]:
    """A rebuild of the orders, compared and swapped in, beside COPY of the rows it makes."""
    settings = _long_log(lab)
    with as_owner(settings, "read_model") as owner:
        owner.execute(PLACE_CHECKPOINT, {"projector": READ_MODEL, "position": REBUILT})
        owner.execute(CREATE_COPIED_ORDERS)
        # The first rebuild makes what is served, so that the next ones compare row by row.
        _rebuild(settings)
        with owner.cursor() as cursor, cursor.copy(COPY_ORDERS_OUT) as copy:
            content = b"".join(copy)
        numbers = alternate(
            REBUILD_ROUNDS,
            {
                "rebuild": lambda: REBUILT / seconds(lambda: _rebuild(settings)),
                "copy": lambda: REBUILT / seconds(lambda: _copy_orders(owner, content)),
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
    )


def _rebuild(settings: Settings) -> None:
    rebuild(settings, SYSTEM.read_model, "buy_orders", say=lambda _: None)


def _copy_orders(owner: Connection[Any], content: bytes) -> None:
    owner.execute(EMPTY_COPIED_ORDERS)
    with owner.cursor() as cursor, cursor.copy(COPY_ORDERS_IN) as copy:
        copy.write(content)
