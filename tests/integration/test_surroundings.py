"""What a shell, a database or a role has of its own changes no answer and stops nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from codebase.foundation.postgres import connect
from codebase.operations.migrate import apply_all, roll_back
from tests import processes
from tests.integration.flow import place_orders

if TYPE_CHECKING:
    from tests.databases import Databases

SHELL = {
    "PGTZ": "Asia/Tokyo",
    "PGDATESTYLE": "SQL, DMY",
    "PGCLIENTENCODING": "LATIN1",
    "PGSSLMODE": "verify-full",
    "PGHOSTADDR": "192.0.2.1",
    "PGSERVICE": "nowhere",
    "PGTARGETSESSIONATTRS": "read-only",
    "PGOPTIONS": "-c search_path=nowhere",
}
DEFAULTS = {
    "timezone": "Asia/Tokyo",
    "datestyle": "SQL, DMY",
    "intervalstyle": "iso_8601",
    "client_encoding": "LATIN1",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "search_path": "nowhere",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
}


def environment(databases: Databases) -> dict[str, str]:
    fields = databases.settings.model_dump(exclude_defaults=True).items()
    return {"PATH": os.environ["PATH"], **{name.upper(): str(value) for name, value in fields}}


def test_variables_of_libpq_stop_nothing_and_change_nothing(databases: Databases) -> None:
    place_orders(databases, 3)
    plain = environment(databases)
    for command in (["verify"], ["log", "show"]):
        without = processes.run(command, plain)
        among = processes.run(command, {**plain, **SHELL})
        assert (among.returncode, among.stdout) == (0, without.stdout), among.stderr


def test_defaults_of_a_database_change_no_session(databases: Databases) -> None:
    url = databases.settings.required("read_model_url")
    with connect(url, "test") as before:
        expected = {name: shown(before, name) for name in DEFAULTS}
    with databases.as_read_model_owner() as owner:
        database = sql.Identifier(owner.info.dbname)
        for name, value in DEFAULTS.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            values = sql.SQL(", ").join(map(sql.Literal, value.split(", ")))
            owner.execute(statement.format(database, sql.Identifier(name), values))
    with psycopg.connect(url, autocommit=True) as plain:
        assert shown(plain, "timezone") == "Asia/Tokyo", "the defaults are in force"
    with connect(url, "test") as after:
        assert {name: shown(after, name) for name in DEFAULTS} == expected


def test_a_migration_runs_in_a_session_like_any_other(databases: Databases) -> None:
    url = databases.settings.required("write_model_owner_url")
    with databases.as_owner() as owner:
        for name in ("timezone", "search_path", "default_transaction_read_only"):
            statement = sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} SET {} = {}")
            parts = map(sql.Identifier, (owner.info.dbname, name))
            owner.execute(statement.format(*parts, sql.Literal(DEFAULTS[name])))
    roll_back("write_model", url)
    assert apply_all("write_model", url)
    with connect(url, "test") as after:
        assert after.execute("SELECT to_regclass('public.event') IS NULL").fetchone() == (False,)


def test_migrations_connect_by_any_address_that_libpq_takes(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where a connection without an address would go.
    monkeypatch.setenv("PGHOST", "192.0.2.1")
    monkeypatch.setenv("PGDATABASE", "elsewhere")
    url = databases.settings.required("write_model_owner_url")
    pairs = make_conninfo(**conninfo_to_dict(url))
    assert "://" not in pairs
    several = url.replace("@", "@127.0.0.1:1,")
    for address in (pairs, several):
        assert roll_back("write_model", address, count=1)
        (applied,) = apply_all("write_model", address)
        assert applied.startswith("write_model/")


def shown(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone()
    assert row is not None
    return str(row[0])
