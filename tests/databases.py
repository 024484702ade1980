"""Databases of one's own for every test, cloned from templates that are migrated once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import Connection

from codebase.foundation.keys import new_key
from codebase.foundation.settings import Settings
from codebase.operations.migrate import migrate
from codebase.registry import SYSTEM
from tests.patience import UNHURRIED

if TYPE_CHECKING:
    from tests.conftest import PostgresUnderTest

PARTITIONS = int(os.environ.get("PARTITIONS", "1"))
CARD_KEYS = (new_key("c1"),)


def settings_for(server: PostgresUnderTest, write_model: str, read_model: str) -> Settings:
    """Settings whose every address points at two databases of the test server; in no hurry."""

    def url(role: str, database: str) -> str:
        return server.url(role, server.role_password, database)

    return Settings(
        write_model_owner_url=server.owner_url(write_model),
        write_model_url=url("command_service", write_model),
        write_model_relay_url=url("event_relay", write_model),
        write_model_reader_url=url("log_reader", write_model),
        write_model_head_url=url("log_head_reader", write_model),
        write_model_reaction_url=url("reaction_worker", write_model),
        read_model_owner_url=server.owner_url(read_model),
        read_model_url=url("query_service", read_model),
        read_model_projector_url=url("projector", read_model),
        card_keys=CARD_KEYS,
        partitions=PARTITIONS,
        development=True,
        **UNHURRIED,  # type: ignore[arg-type] # pydantic takes them as they are
    )


@dataclass(frozen=True)
class Databases:
    """A migrated write model and read model of this test's own."""

    server: PostgresUnderTest
    settings: Settings

    def as_owner(self) -> Connection:
        """A connection to the write model for the role that owns it."""
        return psycopg.connect(self.settings.required("write_model_owner_url"), autocommit=True)

    def as_read_model_owner(self) -> Connection:
        """A connection to the read model for the role that owns it."""
        return psycopg.connect(self.settings.required("read_model_owner_url"), autocommit=True)


@pytest.fixture(scope="session")
def templates(postgres_server: PostgresUnderTest) -> tuple[str, str]:
    """Two migrated databases to clone."""
    names = ("template_write_model", "template_read_model")
    for name in names:
        postgres_server.create_database(name)
    migrate(settings_for(postgres_server, *names), SYSTEM.contexts)
    return names


@pytest.fixture(scope="session")
def new_databases(
    postgres_server: PostgresUnderTest, templates: tuple[str, str]
) -> Callable[[], Databases]:
    """Call it for one more pair of databases."""
    numbers = count(1)

    def clone() -> Databases:
        number = next(numbers)
        names = (f"write_model_{number}", f"read_model_{number}")
        for name, template in zip(names, templates, strict=True):
            postgres_server.create_database(name, template)
        return Databases(postgres_server, settings_for(postgres_server, *names))

    return clone


@pytest.fixture
def databases(new_databases: Callable[[], Databases]) -> Iterator[Databases]:
    """This test's own databases."""
    made = new_databases()
    yield made
    for url in ("write_model_owner_url", "read_model_owner_url"):
        made.server.drop_database(made.settings.required(url).rsplit("/", 1)[1].split("?")[0])
