"""What stands beside the log, table by table."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql

BESIDE_THE_LOG = {
    "claim": ("kind", "value", "stream_id"),
    "budget": ("name", "limit_value"),
    "budget_share": ("name", "partition", "spent", "granted", "changes"),
    "command_note": (
        "partition",
        "stream_id",
        "client",
        "idempotence_key",
        "fingerprint",
        "version",
        "noted_at",
    ),
    "relay_checkpoint": ("partition", "position"),
    "reaction.projection_checkpoint": (
        "projector",
        "partition",
        "position",
        "event_position",
        "event_id",
        "log_id",
        "remembered_until",
    ),
    "reaction.projection_attempt": (
        "projector",
        "partition",
        "first_position",
        "last_position",
        "attempts",
    ),
    "reaction.parked_stream": (
        "projector",
        "stream_id",
        "partition",
        "category",
        "reason",
        "parked_at",
    ),
    "reaction.parked_event": (
        "projector",
        "partition",
        "position",
        "stream_id",
        "version",
        "type",
    ),
    "reaction.discarded_event": (
        "projector",
        "partition",
        "position",
        "stream_id",
        "version",
        "type",
        "reason",
        "discarded_at",
    ),
    "reaction.subject": ("reaction", "id", "state"),
    "reaction.intent": (
        "number",
        "key",
        "reaction",
        "subject",
        "target",
        "action",
        "data",
        "event_id",
        "partition",
        "position",
        "ordinal",
        "cause",
        "state",
        "is_next",
        "due_at",
        "token",
        "attempts",
        "in_doubt",
        "reason",
        "created_at",
        "ended_at",
        "is_adopted",
    ),
    "reaction.reminder": (
        "reaction",
        "subject",
        "name",
        "key",
        "due_at",
        "data",
        "reason",
        "is_adopted",
    ),
    "reaction.adopted_head": ("partition", "position"),
}
"""Table -> its columns; one that refers to another comes later. Who holds back a kind of claim for
a moment (`claim_hold`) is nobody's memory, and the log's name is taken before anything else. What
reactions know moves along: what is to be done is done there, by the same keys, and here no more,
for nobody acts on a closed log."""

EMPTY = sql.SQL("DELETE FROM {table}")
READ = sql.SQL("COPY {table} ({columns}) TO STDOUT")
WRITE = sql.SQL("COPY {table} ({columns}) FROM STDIN")


def replace_all(source: Connection[Any], target: Connection[Any]) -> None:
    """Have in the target's tables what the source's hold, and nothing else."""
    for table in reversed(BESIDE_THE_LOG):
        _empty(target, table)
    for table in BESIDE_THE_LOG:
        _fill(source, target, table)


def replace_table(source: Connection[Any], target: Connection[Any], table: str) -> None:
    """The same for one table, to which no other refers."""
    _empty(target, table)
    _fill(source, target, table)


def _empty(target: Connection[Any], table: str) -> None:
    target.execute(EMPTY.format(table=sql.Identifier(*table.split("."))))


def _fill(source: Connection[Any], target: Connection[Any], table: str) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, BESIDE_THE_LOG[table]))
    names = {"table": sql.Identifier(*table.split(".")), "columns": columns}
    with (
        source.cursor() as reading,
        target.cursor() as writing,
        reading.copy(READ.format(**names)) as read,
        writing.copy(WRITE.format(**names)) as written,
    ):
        for part in read:
            written.write(part)
