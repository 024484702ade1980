"""Nobody in a store has more rights than its work needs, or a way to more."""

from __future__ import annotations

import re
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
from codebase.foundation.rights import Login, set_up
from codebase.foundation.settings import STORES
from codebase.operations.migrate import (
    FOR_ORDINARY_OWNERS,
    MIGRATIONS,
    apply_all,
    migrate,
    roll_back,
)
from codebase.operations.roles import set_up_roles, take_over
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


def test_the_command_for_containers_sets_up_both_stores(
    databases: Databases, postgres_server: PostgresUnderTest
) -> None:
    stores = ("write_model", "read_model")
    owners = {store: databases.settings.required(f"{store}_owner_url") for store in stores}
    superusers = {
        f"{store}_superuser_url": postgres_server.superuser_url(Login.of(url).database)
        for store, url in owners.items()
    }
    with as_before(postgres_server) as superuser:
        superuser.execute("ALTER ROLE orderly CREATEROLE")
        (told,) = set_up_roles(databases.settings.model_copy(update=superusers))
    assert told.startswith("orderly of ")
    migrate(databases.settings, SYSTEM.contexts)


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
    assert "CREATE ROLE" in making
    assert "CREATE ROLE" not in rest
    assert end
    assert file.read_text(encoding="utf-8").partition("\n\n")[2] == rest.lstrip()


@pytest.mark.parametrize("store", ROLES)
def test_a_superuser_makes_every_role_that_a_migration_gives_rights_to(store: str) -> None:
    """An owner that may make none would stop at it."""
    text = "".join(path.read_text() for path in (MIGRATIONS / store).glob("*[!k].sql"))
    assert set(re.findall(r"GRANT [^;]* TO (\w+)", text)) - {"PUBLIC"} <= set(ROLES[store])


def test_a_superuser_calls_no_function_of_an_owner(postgres_server: PostgresUnderTest) -> None:
    postgres_server.set_up("rights")
    with psycopg.connect(postgres_server.owner_url("rights"), autocommit=True) as owner:
        owner.execute(TRAP)
    with psycopg.connect(postgres_server.superuser_url("rights"), autocommit=True) as superuser:
        superuser.execute("GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC")
    postgres_server.set_up("rights")
    assert postgres_server.set_up("rights") == []
    postgres_server.drop_database("rights")


@pytest.mark.parametrize("store", ROLES)
def test_an_owner_restores_its_own_dump_and_empties_a_store(
    store: str, postgres_server: PostgresUnderTest, databases: Databases, tmp_path: Path
) -> None:
    migrate(databases.settings, SYSTEM.contexts)
    url = databases.settings.required(f"{store}_owner_url")
    file = tmp_path / "dump"
    dump, restore = (postgres_server.program(name) for name in ("pg_dump", "pg_restore"))
    subprocess.run([dump, "--format=custom", f"--file={file}", url], check=True)
    options = ["--clean", "--if-exists", "--single-transaction", "--dbname", url]
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("DROP OWNED BY CURRENT_USER")
    assert f"{store}/0003_create_roles" in apply_all(store, url)
    subprocess.run([restore, *options, file], check=True)
    assert apply_all(store, url) == []


RIGHTS_ON_TABLES = """
    SELECT relname, pg_get_userbyid(grantee) AS role, privilege_type
    FROM pg_class, aclexplode(relacl)
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
    UNION ALL
    SELECT proname, CASE grantee WHEN 0 THEN '' ELSE pg_get_userbyid(grantee) END, privilege_type
    FROM pg_proc, aclexplode(proacl) WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT defaclobjtype::text, pg_get_userbyid(grantee), privilege_type
    FROM pg_default_acl, aclexplode(defaclacl)
    WHERE defaclrole = (SELECT datdba FROM pg_database WHERE datname = current_database())
"""


def rights_on_tables(url: str, owner: str) -> list[tuple[str, ...]]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(RIGHTS_ON_TABLES).fetchall()
    return sorted(tuple("owner" if part == owner else part for part in row) for row in rows)


@contextmanager
def first_superuser_named(server: PostgresUnderTest, name: str) -> Iterator[str]:
    """The test cluster's first superuser has another name, and that is his password; the URL."""

    def rename(before: str, after: str) -> None:
        with psycopg.connect(helper, autocommit=True) as connection:
            row = connection.execute("SELECT rolname FROM pg_roles WHERE oid = 10").fetchone()
            if row == (before,):
                connection.execute(f"ALTER ROLE {before} RENAME TO {after}".encode())

    helper = server.url("helper", "helper", "postgres")
    with psycopg.connect(server.superuser_url(), autocommit=True) as superuser:
        superuser.execute("CREATE ROLE helper LOGIN SUPERUSER PASSWORD 'helper'")
    rename("postgres", name)
    with psycopg.connect(helper, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {name} PASSWORD '{name}'".encode())
    try:
        yield server.url(name, name, "postgres")
    finally:
        rename(name, "postgres")
    with psycopg.connect(server.superuser_url(), autocommit=True) as superuser:
        superuser.execute("DROP ROLE helper")


@pytest.mark.parametrize("store", ROLES)
def test_an_owner_that_was_the_first_superuser_becomes_an_ordinary_role(
    store: str, postgres_server: PostgresUnderTest, databases: Databases
) -> None:
    name = f"first_{store}"
    superuser_url = postgres_server.superuser_url(name)
    owner_url = postgres_server.url(name, name, name)
    with first_superuser_named(postgres_server, name) as first:
        with psycopg.connect(first, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        apply_all(store, owner_url)
        assert take_over(superuser_url, owner_url) == [f"{name} of {name} is no longer SUPERUSER"]
        assert take_over(superuser_url, owner_url) == []
    set_up(superuser_url, Login.of(owner_url))
    expected = databases.settings.required(f"{store}_owner_url")
    assert rights_on_tables(owner_url, name) == rights_on_tables(expected, "orderly")
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("CREATE TABLE more ()")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            owner.execute("COPY (SELECT 1) TO PROGRAM 'true'")
        owner.execute("DROP TABLE more")
    assert roll_back(store, owner_url)
    assert apply_all(store, owner_url)
    postgres_server.drop_database(name)


def test_a_superuser_that_cannot_connect_is_no_reason_to_take_over(
    postgres_server: PostgresUnderTest,
) -> None:
    wrong = postgres_server.url("postgres", "wrong", "postgres")
    with pytest.raises(psycopg.OperationalError, match="password"):
        take_over(wrong, postgres_server.owner_url("postgres"))
