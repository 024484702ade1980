"""Brings both stores to the schema that this code expects, once, under a lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import yoyo
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict

from codebase.engine.context import Context
from codebase.foundation.errors import ConfigurationError
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings

MIGRATIONS = Path(__file__).parents[2] / "migrations"

# "orde" in ASCII: two `migration` services at once take turns.
MIGRATION_LOCK = 0x6F726465

LOCK = "SELECT pg_advisory_lock(%(lock)s)"
UNLOCK = "SELECT pg_advisory_unlock(%(lock)s)"
COUNT_PARTITIONS = "SELECT count(*) FROM log_head"
CREATE_PARTITIONS = """
    WITH heads AS (
        INSERT INTO log_head (partition)
        SELECT partition FROM generate_series(0, %(partitions)s - 1) AS partition
        RETURNING partition
    )
    INSERT INTO relay_checkpoint (partition) SELECT partition FROM heads
"""

# A limit below what is already spent means that nothing more may be spent.
SET_BUDGET_LIMIT = "SELECT set_budget_limit(%(name)s, %(limit)s)"

WRITE_MODEL_ROLES = (
    "write_model_url",
    "write_model_relay_url",
    "write_model_reader_url",
    "write_model_head_url",
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
        _set_passwords(connection, settings, WRITE_MODEL_ROLES)
    with _locked(settings.required("read_model_owner_url")) as connection:
        url = settings.required("read_model_owner_url")
        applied += apply_all("read_model", url, contexts)
        _set_passwords(connection, settings, READ_MODEL_ROLES)
    return applied


def apply_all(store: str, url: str, contexts: Sequence[Context] = ()) -> list[str]:
    """Apply the migrations of one store that it does not have yet; the caller holds the lock.

    Args:
        store: `write_model` or `read_model`.
        url: of the role that owns the schema.
        contexts: those with migrations of their own, which come after everybody's.
    """
    backend = yoyo.get_backend(_yoyo_url(url))
    try:
        # The caller's advisory lock proves that a lock row, if there is one, is a dead run's.
        backend.break_lock()
        with backend.lock():
            missing = backend.to_apply(_migrations(store, contexts))
            backend.apply_migrations(missing)
            return [f"{store}/{migration.id}" for migration in missing]
    finally:
        backend.connection.close()


def roll_back(
    store: str, url: str, contexts: Sequence[Context] = (), *, count: int | None = None
) -> list[str]:
    """Take back the newest `count` migrations of one store, or all of them."""
    with _locked(url):
        backend = yoyo.get_backend(_yoyo_url(url))
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
    with connect(url, "migration", options="-c statement_timeout=0") as connection:
        connection.execute(LOCK, {"lock": MIGRATION_LOCK})
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


def _set_passwords(connection: Connection, settings: Settings, fields: tuple[str, ...]) -> None:
    for field in fields:
        url = getattr(settings, field)
        target = conninfo_to_dict(url) if url else {}
        if target.get("user") and target.get("password"):
            role, password = str(target["user"]), str(target["password"])
            # Hashed here, so that no log of statements ever holds it.
            hashed = connection.pgconn.encrypt_password(
                password.encode(), role.encode(), b"scram-sha-256"
            )
            connection.execute(
                sql.SQL("ALTER ROLE {role} PASSWORD {password}").format(
                    role=sql.Identifier(role), password=sql.Literal(hashed.decode())
                )
            )


def _yoyo_url(url: str) -> str:
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql+psycopg"))
