"""Brings both stores to the schema that this code expects, once, under a lock."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yoyo
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI
from yoyo.migrations import default_migration_table

from codebase.engine.context import Context
from codebase.foundation.errors import ConfigurationError
from codebase.foundation.leadership import wait_to_lead
from codebase.foundation.postgres import connect
from codebase.foundation.rights import set_password
from codebase.foundation.settings import Settings

MIGRATIONS = Path(__file__).parents[2] / "migrations"
FOR_ORDINARY_OWNERS = MIGRATIONS / "for_ordinary_owners"
"""What was released for owners that make roles, as it is for those that may not."""
PATIENT = "-c statement_timeout=0"

# "orde" in ASCII: two `migration` services at once take turns.
MIGRATION_LOCK = 0x6F726465

# Asked again and again: a statement that waits for the lock would hold a snapshot all the while.
LOCK = "SELECT pg_try_advisory_lock(%(lock)s)"
UNLOCK = "SELECT pg_advisory_unlock(%(lock)s)"
COUNT_PARTITIONS = "SELECT count(*) FROM log_head"
CREATE_PARTITIONS = """
    WITH heads AS (
        INSERT INTO log_partition (partition)
        SELECT partition FROM generate_series(0, %(partitions)s - 1) AS partition
        RETURNING partition
    )
    INSERT INTO relay_checkpoint (partition) SELECT partition FROM heads
"""

# A limit below what is already spent means that nothing more may be spent.
SET_BUDGET_LIMIT = "SELECT set_budget_limit(%(name)s, %(limit)s)"

MAY_MAKE_ROLES = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
FORBID_TEMPORARY_TABLES = "REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC, CURRENT_USER"

WRITE_MODEL_ROLES = (
    "write_model_url",
    "write_model_relay_url",
    "write_model_reader_url",
    "write_model_head_url",
    "write_model_reaction_url",
)
READ_MODEL_ROLES = ("read_model_url", "read_model_projector_url")


def migrate(settings: Settings, contexts: Sequence[Context]) -> list[str]:
    """Apply what is missing to both stores; what is there already stays as it is.

    Args:
        settings: the owners' addresses of both stores, and those of every role with a password.
        contexts: whose migrations and budgets the stores get.

    Returns:
        The names of the migrations that were applied, write model first.

    Raises:
        ConfigurationError: an address is missing, or PARTITIONS differs from the store's.
        psycopg.Error: a store cannot be reached or refuses.
    """
    applied = []
    with _locked(settings.required("write_model_owner_url")) as connection:
        url = settings.required("write_model_owner_url")
        applied += apply_all("write_model", url, contexts)
        _settle_partitions(connection, settings.partitions)
        for context in contexts:
            for name, limit in context.budgets(settings).items():
                connection.execute(SET_BUDGET_LIMIT, {"name": name, "limit": limit})
        _settle_rights(connection, settings, WRITE_MODEL_ROLES)
    with _locked(settings.required("read_model_owner_url")) as connection:
        url = settings.required("read_model_owner_url")
        applied += apply_all("read_model", url, contexts)
        _settle_rights(connection, settings, READ_MODEL_ROLES)
    return applied


def apply_all(store: str, url: str, contexts: Sequence[Context] = ()) -> list[str]:
    """Apply the migrations of one store that it does not have yet; the caller holds the lock.

    Args:
        store: `write_model` or `read_model`.
        url: of the role that owns the schema.
        contexts: those with migrations of their own, which come after everybody's.
    """
    backend = _backend(url)
    try:
        # The caller's advisory lock proves that a lock row, if there is one, is a dead run's.
        backend.break_lock()
        with backend.lock():
            migrations = _migrations(store, contexts)
            if not _may_make_roles(backend.connection):
                _for_an_ordinary_owner(migrations)
            missing = backend.to_apply(migrations)
            backend.apply_migrations(missing)
            return [f"{store}/{migration.id}" for migration in missing]
    finally:
        backend.connection.close()


def roll_back(
    store: str, url: str, contexts: Sequence[Context] = (), *, count: int | None = None
) -> list[str]:
    """Take back the newest `count` migrations of one store, or all of them."""
    with _locked(url):
        backend = _backend(url)
        try:
            backend.break_lock()
            with backend.lock():
                applied = backend.to_rollback(_migrations(store, contexts))
                chosen = applied if count is None else applied[:count]
                backend.rollback_migrations(chosen)
                return [f"{store}/{migration.id}" for migration in chosen]
        finally:
            backend.connection.close()


def _migrations(store: str, contexts: Sequence[Context]) -> yoyo.migrations.MigrationList:
    folders = [MIGRATIONS / store]
    folders += [context.migrations[store] for context in contexts if store in context.migrations]
    return yoyo.read_migrations(*map(str, folders))


@contextmanager
def _locked(url: str) -> Iterator[Connection]:
    with connect(url, "migration", options=PATIENT) as connection:
        wait_to_lead(connection, LOCK, {"lock": MIGRATION_LOCK}, threading.Event())
        yield connection
        connection.execute(UNLOCK, {"lock": MIGRATION_LOCK})


def _settle_partitions(connection: Connection, wanted: int) -> None:
    row = connection.execute(COUNT_PARTITIONS).fetchone()
    present = row[0] if row else 0
    if present == 0:
        connection.execute(CREATE_PARTITIONS, {"partitions": wanted})
    elif present != wanted:
        raise ConfigurationError(
            f"PARTITIONS: this log was made with {present} and cannot be changed to {wanted}"
        )


def _may_make_roles(connection: Connection) -> bool:
    row = connection.execute(MAY_MAKE_ROLES).fetchone()
    return row == (True,)


def _for_an_ordinary_owner(migrations: Iterable[yoyo.migrations.Migration]) -> None:
    """Have read what is there for owners that may make no roles, instead of what was released."""
    for migration in migrations:
        path = Path(migration.path)
        if path.is_relative_to(MIGRATIONS):
            instead = FOR_ORDINARY_OWNERS / path.relative_to(MIGRATIONS)
            migration.path = str(instead if instead.exists() else path)


def _settle_rights(connection: Connection, settings: Settings, fields: tuple[str, ...]) -> None:
    """Set the roles' passwords, where the owner may: else a superuser has; no temporary tables.

    A dump says nothing of the rights of a database, and neither does a copy of one.
    """
    forbid = sql.SQL(FORBID_TEMPORARY_TABLES)
    connection.execute(forbid.format(database=sql.Identifier(connection.info.dbname)))
    if _may_make_roles(connection):
        for field in fields:
            url = getattr(settings, field)
            said = conninfo_to_dict(url) if url else {}
            if said.get("user") and said.get("password"):
                set_password(connection, str(said["user"]), str(said["password"]))


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc] # yoyo has no types
    """Yoyo, connected as everybody else: by what libpq makes of the address, with all pinned."""

    def connect(self, dburi: DatabaseURI) -> Connection:
        """A connection by the address that `_backend` hides in a DatabaseURI."""
        return connect(dburi.args["url"], "migration", options=PATIENT)


def _backend(url: str) -> _Backend:
    # Yoyo reads URLs only, and not all that libpq does: what it does not know it takes for absent,
    # and then libpq's defaults connect to some other place.
    everything = DatabaseURI("postgresql", None, None, None, None, None, {"url": url})
    backend = _Backend(everything, default_migration_table)
    backend.init_database()
    return backend
