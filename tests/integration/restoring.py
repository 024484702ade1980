"""Databases that were restored beside those that their dump was taken from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from psycopg.errors import ObjectInUse

from tests.databases import Databases, settings_for
from tests.integration.flow import eventually, until_it_is_alone

if TYPE_CHECKING:
    from psycopg import Connection

    from tests.conftest import PostgresUnderTest


@contextmanager
def restored(original: Databases) -> Iterator[Databases]:
    """What a dump of now gives: the log with what reactions have noted, and the read model."""
    server = original.server
    with ExitStack() as stack:
        copies = [
            stack.enter_context(_copy(original, owner))
            for owner in (original.as_owner(), original.as_read_model_owner())
        ]
        yield Databases(server, settings_for(server, *copies))


@contextmanager
def _copy(original: Databases, owner: Connection) -> Iterator[str]:
    with owner:
        until_it_is_alone(owner)
        name = owner.info.dbname
    copy = f"{name}_r"
    eventually(lambda: _is_made(original.server, copy, name), "there is a copy")
    try:
        yield copy
    finally:
        original.server.drop_database(copy)


def _is_made(server: PostgresUnderTest, copy: str, name: str) -> bool:
    """Make the copy; False when somebody has not yet left, for whom Postgres waits five seconds."""
    try:
        server.create_database(copy, name)
    except ObjectInUse:
        return False
    return True
