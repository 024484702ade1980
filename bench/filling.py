"""Logs that take long to fill, filled by SQL with copies of rows that append() made.

Nobody does that in operation: only the owner can, and budgets are set to fit by hand.
Which columns a row of the log has is asked of the database, so that nothing of it stands here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, Connection, sql

from bench.measure import BenchError
from codebase.engine.log.appending import append
from codebase.engine.log.events import NewEvent
from codebase.foundation.postgres import connect_async
from codebase.foundation.settings import Settings

READ_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    ORDER BY attnum
"""
READ_LAST_ROWS = """
    SELECT jsonb_agg(to_jsonb(last) ORDER BY position)::text
    FROM (
        SELECT * FROM event WHERE partition = 0 ORDER BY position DESC LIMIT %(events)s
    ) AS last
"""
INSERT_COPIES = """
    INSERT INTO event ({columns})
    SELECT {values}
    FROM jsonb_populate_recordset(NULL::event, %(templates)s::jsonb) AS template
    {copies}
"""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One of a table's columns, and its type as SQL has it."""

    name: str
    type: str


def columns_of(connection: Connection[Any], table: str) -> list[Column]:
    """A table's columns in their order, without those that the database computes."""
    rows = connection.execute(READ_COLUMNS, {"table": table}).fetchall()
    return [Column(name=name, type=of_type) for name, of_type in rows]


def append_pages(settings: Settings, pages: Iterable[Sequence[NewEvent]]) -> None:
    """Append events, a page at a time.

    Raises:
        BenchError: some were refused.
    """
    asyncio.run(_append_to(settings, pages))


async def _append_to(settings: Settings, pages: Iterable[Sequence[NewEvent]]) -> None:
    async with await connect_async(settings.required("write_model_url"), "bench") as log:
        await _append_all(log, pages)


async def _append_all(log: AsyncConnection[Any], pages: Iterable[Sequence[NewEvent]]) -> int:
    count = 0
    for page in pages:
        appended = await append(log, page)
        if appended.refused:
            raise BenchError(f"a log refused what it was filled with: {appended.refused}")
        count += len(page)
    return count


def templates_of(settings: Settings, *pages: Sequence[NewEvent]) -> str:
    """The rows that append() makes of the events, as a JSON array; nothing of them stays.

    Args:
        settings: of a log.
        pages: of events of its first partition; what a page claims the next may require.
    """
    return asyncio.run(_templates_of(settings, pages))


async def _templates_of(settings: Settings, pages: Iterable[Sequence[NewEvent]]) -> str:
    async with (
        await connect_async(settings.required("write_model_url"), "bench") as log,
        log.transaction(force_rollback=True),
    ):
        count = await _append_all(log, pages)
        cursor = await log.execute(READ_LAST_ROWS, {"events": count})
        row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate has a row
    return str(row[0])


def insert_copies(
    owner: Connection[Any],
    templates: str,
    copies: str,
    *,
    columns: Mapping[str, str],
    texts: Mapping[str, str],
    values: Mapping[str, Any],
) -> None:
    """Insert rows that are like the templates, but for what differs.

    Args:
        owner: of the log.
        templates: from `templates_of`; the row is called `template`.
        copies: what is joined to them, as SQL.
        columns: name -> its value, as SQL.
        texts: what stands in the templates -> the SQL of the text that stands there instead, in
            whichever column.
        values: the parameters of all that SQL.
    """
    rows: list[dict[str, Any]] = json.loads(templates)
    chosen = columns_of(owner, "event")
    statement = sql.SQL(INSERT_COPIES).format(
        columns=sql.SQL(", ").join(sql.Identifier(column.name) for column in chosen),
        values=sql.SQL(", ").join(_value(column, rows, columns, texts) for column in chosen),
        # What is joined is written in this folder, and its values are parameters.
        copies=sql.SQL(copies),
    )
    owner.execute(statement, {**values, "templates": templates})


def _value(
    column: Column,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    texts: Mapping[str, str],
) -> sql.Composable:
    if column.name in columns:
        return sql.SQL(columns[column.name])
    own = sql.SQL("template.{}").format(sql.Identifier(column.name))
    stored = json.dumps([row[column.name] for row in rows])
    differs = [text for text in texts if text in stored]
    if not differs:
        return own
    value: sql.Composable = sql.SQL("{}::text").format(own)
    for text in differs:
        new = sql.SQL(texts[text])
        value = sql.SQL("replace({}, {}, {})").format(value, sql.Literal(text), new)
    return sql.SQL("{}::{}").format(value, sql.SQL(column.type))


def settle(owner: Connection[Any]) -> None:
    """Have Postgres know how much the log holds now."""
    owner.execute("VACUUM (ANALYZE) event")
