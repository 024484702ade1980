"""Nobody in a store has more rights than its work needs, or a way to more."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from codebase.embedded.databases import ROLES
from codebase.foundation.settings import STORES
from codebase.operations.migrate import FOR_ORDINARY_OWNERS, MIGRATIONS, apply_all, migrate
from codebase.registry import SYSTEM

if TYPE_CHECKING:
    from tests.conftest import PostgresUnderTest
    from tests.databases import Databases

REFUSED = (
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/mine'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'mine')",
    "CREATE TEMPORARY TABLE mine ()",
    "CREATE DATABASE mine",
    "CREATE ROLE mine",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE CURRENT_USER CREATEROLE",
    "GRANT pg_execute_server_program TO CURRENT_USER",
    "SET SESSION AUTHORIZATION postgres",
)
EVERYBODY = {"postgres", "orderly", *chain.from_iterable(ROLES.values())}
# What a function of the owner's would do if a superuser took it for one of Postgres.
TRAP = """
    CREATE FUNCTION public.format(text, regprocedure) RETURNS text
    RETURN 'ALTER ROLE orderly SUPERUSER'
"""


@pytest.mark.parametrize("field", STORES)
def test_no_role_reaches_the_machine_or_another_role(
    field: str, new_databases: Callable[[], Databases]
) -> None:
    settings = new_databases().settings
    migrate(settings, SYSTEM.contexts)
    url = settings.required(field)
    others = sorted(EVERYBODY - {str(conninfo_to_dict(url)["user"])})
    become = [f"SET ROLE {role}" for role in others]
    let_in = [f"ALTER ROLE {role} PASSWORD 'mine'" for role in others]
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (*REFUSED, *become, *let_in):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


@contextmanager
def as_before(server: PostgresUnderTest) -> Iterator[psycopg.Connection]:
    """A superuser's connection; whatever it gives away is taken back at the end."""
    try:
        with psycopg.connect(server.superuser_url(), autocommit=True) as superuser:
            yield superuser
    finally:
        server.set_up("rights")


def test_what_was_given_is_taken_back_and_told(postgres_server: PostgresUnderTest) -> None:
    assert postgres_server.set_up("rights") == []
    with as_before(postgres_server) as superuser:
        superuser.execute("ALTER ROLE orderly SUPERUSER CREATEROLE")
        superuser.execute("GRANT pg_execute_server_program TO orderly WITH ADMIN OPTION")
        superuser.execute("GRANT command_service TO log_reader")
        assert postgres_server.set_up("rights") == [
            "orderly of rights is no longer SUPERUSER",
            "orderly of rights is no longer CREATEROLE",
            "orderly of rights is no longer a member of pg_execute_server_program",
            "log_reader of rights is no longer a member of command_service",
        ]
    assert postgres_server.set_up("rights") == []
    with (
        psycopg.connect(postgres_server.owner_url("rights")) as owner,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        owner.execute("COPY (SELECT 1) TO PROGRAM 'true'")


def test_an_owner_that_could_make_roles_goes_on_with_a_store_that_it_migrated(
    postgres_server: PostgresUnderTest,
) -> None:
    postgres_server.set_up("rights")
    url = postgres_server.owner_url("rights")
    with as_before(postgres_server) as superuser:
        superuser.execute("ALTER ROLE orderly CREATEROLE")
        applied = apply_all("write_model", url)
        assert "write_model/0003_create_roles" in applied
        assert postgres_server.set_up("rights") == ["orderly of rights is no longer CREATEROLE"]
    assert apply_all("write_model", url) == []
    postgres_server.drop_database("rights")


@pytest.mark.parametrize("store", ROLES)
def test_what_ordinary_owners_migrate_is_what_was_released_without_the_making_of_roles(
    store: str,
) -> None:
    (file,) = (FOR_ORDINARY_OWNERS / store).iterdir()
    released = (MIGRATIONS / store / file.name).read_text(encoding="utf-8")
    making, end, rest = released.partition("$$;\n")
    assert all(f"'{role}'" in making for role in ROLES[store])
    assert end
    assert file.read_text(encoding="utf-8").partition("\n\n")[2] == rest.lstrip()


def test_a_superuser_calls_no_function_of_an_owner(postgres_server: PostgresUnderTest) -> None:
    postgres_server.set_up("rights")
    with psycopg.connect(postgres_server.owner_url("rights"), autocommit=True) as owner:
        owner.execute(TRAP)
    with psycopg.connect(postgres_server.superuser_url("rights"), autocommit=True) as superuser:
        superuser.execute("GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC")
    postgres_server.set_up("rights")
    assert postgres_server.set_up("rights") == []
    postgres_server.drop_database("rights")


def test_an_owner_restores_its_own_dump(
    postgres_server: PostgresUnderTest, databases: Databases, tmp_path: Path
) -> None:
    url = databases.settings.required("write_model_owner_url")
    file = tmp_path / "dump"
    dump, restore = (postgres_server.program(name) for name in ("pg_dump", "pg_restore"))
    subprocess.run([dump, "--format=custom", f"--file={file}", url], check=True)
    options = ["--clean", "--if-exists", "--single-transaction", "--dbname", url]
    subprocess.run([restore, *options, file], check=True)
