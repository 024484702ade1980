"""message-db, an event store in SQL functions, from the package `@eventide/message-db` of npm.

https://github.com/message-db/message-db
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from psycopg import sql

from bench import pgbench
from bench.lab import PROJECT, Lab
from bench.orders import new_events
from codebase.embedded.databases import OWNER

PACKAGE = PROJECT / "requirements" / "message_db" / "node_modules" / "@eventide" / "message-db"
# In the order of its install.sh. Roles and privileges are left out: the owner of the database does
# everything here. So is pgcrypto: the one function that it was for is part of Postgres.
FILES = (
    "schema/message-store.sql",
    "tables/messages.sql",
    "types/message.sql",
    *(
        f"functions/{name}.sql"
        for name in (
            "message-store-version",
            "hash-64",
            "acquire-lock",
            "category",
            "is-category",
            "id",
            "cardinal-id",
            "stream-version",
            "write-message",
            "get-stream-messages",
            "get-category-messages",
            "get-last-stream-message",
        )
    ),
    "indexes/messages-id.sql",
    "indexes/messages-stream.sql",
    "indexes/messages-category.sql",
)
SET_PATH = "ALTER DATABASE {} SET search_path TO message_store, public"
WRITE = """\
\\set category random(1, {categories})
SELECT message_store.write_message(
    gen_random_uuid()::varchar, 'buyOrder' || :category || '-' || gen_random_uuid(), {type},
    {data}, {meta}, -1);
"""


def is_installed() -> bool:
    """Whether ./bench.sh could install it: it takes npm."""
    return PACKAGE.exists()


def install(lab: Lab, database: str) -> None:
    """Make a database of the cluster of write models, and message-db in it."""
    lab.write.create(database)
    with psycopg.connect(lab.write.url(OWNER, database), autocommit=True) as owner:
        owner.execute(sql.SQL(SET_PATH).format(sql.Identifier(database)))
    with psycopg.connect(lab.write.url(OWNER, database), autocommit=True) as owner:
        for file in FILES:
            owner.execute((PACKAGE / "database" / file).read_bytes())


def writes_per_second(
    lab: Lab, database: str, categories: int, seconds: float
) -> Callable[[], float]:
    """A run of pgbench that writes an order by `write_message` each time, to a stream of its own.

    Args:
        lab: whose cluster it is.
        database: with message-db in it.
        categories: of the streams; message-db writes to one category at a time.
        seconds: how long a run takes.
    """
    [event] = new_events(1)
    script = lab.folder / f"write_message_{categories}.sql"
    script.write_text(
        WRITE.format(
            categories=categories,
            type=pgbench.quoted(event.type),
            data=pgbench.quoted(event.data),
            meta=pgbench.quoted(event.meta),
        ),
        encoding="utf-8",
    )
    return pgbench.per_second(lab, database, script, seconds)
