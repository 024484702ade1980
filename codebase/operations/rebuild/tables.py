"""The new tables of a rebuild, in a schema of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psycopg import Connection, sql

# LIKE copies everything but these.
STORAGE_OPTIONS = """
    SELECT option_name, option_value
    FROM pg_class, pg_options_to_table(reloptions)
    WHERE oid = %(table)s::regclass
"""

KEY_COLUMNS = """
    SELECT attribute.attname
    FROM pg_index AS key
    JOIN pg_attribute AS attribute
        ON attribute.attrelid = key.indrelid AND attribute.attnum = ANY (key.indkey)
    WHERE key.indrelid = %(table)s::regclass AND key.indisprimary
    ORDER BY array_position(key.indkey::smallint[], attribute.attnum)
"""

# As text, because numeric 1.0 and 1.00 are equal and yet not the same answer to a client. Rows with
# the same image (`*=`) have the same text, which is looked at only where the image differs.
COMPARE = """
    SELECT coalesce(served::text, 'missing'), coalesce(rebuilt::text, 'missing')
    FROM public.{table} AS served
    FULL JOIN {schema}.{table} AS rebuilt USING ({key})
    WHERE (served *= rebuilt) IS NOT TRUE AND served::text IS DISTINCT FROM rebuilt::text
"""

# Rows are found by their keys while they are written; what only queries need can wait.
SECONDARY_INDEXES = """
    SELECT relname, pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class ON oid = indexrelid
    WHERE indrelid = %(table)s::regclass AND NOT indisunique AND NOT indisexclusion
    ORDER BY relname
"""
KEYS = """
    SELECT conname, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE conrelid = %(table)s::regclass AND contype IN ('p', 'u')
    ORDER BY conname
"""


class NewTables:
    """Copies of tables, empty at first, in whose place they are put in the end.

    Args:
        store: in autocommit mode; finds no other tables than these from `create` to `drop`.
        schema: where they are made.
        names: of the tables.
        kept: tables of what was added up of them, which are emptied when these take the place.
        finds_rows: whether rows are found by their keys while the tables are filled.
    """

    def __init__(
        self,
        store: Connection[Any],
        schema: str,
        names: tuple[str, ...],
        kept: tuple[str, ...] = (),
        *,
        finds_rows: bool = True,
    ) -> None:
        self._store = store
        self._schema = sql.Identifier(schema)
        self._names = names
        self._kept = kept
        self._finds_rows = finds_rows
        self._to_index: list[sql.SQL | sql.Composed] = []

    def create(self) -> None:
        """Make them, without the indexes that nothing needs while they are filled."""
        # What is there was left behind by a rebuild that was killed.
        self._execute("DROP SCHEMA IF EXISTS {schema} CASCADE")
        self._execute("CREATE SCHEMA {schema}")
        # Those of what is kept stay empty; they are there to be deleted from.
        for table in (*self._names, *self._kept):
            self._execute(
                "CREATE TABLE {schema}.{table} (LIKE public.{table} INCLUDING ALL)",
                table=sql.Identifier(table),
            )
            self._copy_storage_options(table)
        # Only there: a table that the projection does not name is not found, instead of written.
        self._execute("SET search_path = {schema}")
        for table in self._names:
            self._put_indexes_off(table)
            if not self._finds_rows:
                self._put_keys_off(table)

    def _copy_storage_options(self, table: str) -> None:
        parameters = {"table": f"public.{table}"}
        for name, value in self._store.execute(STORAGE_OPTIONS, parameters).fetchall():
            self._execute(
                "ALTER TABLE {schema}.{table} SET ({name} = {value})",
                table=sql.Identifier(table),
                name=sql.Identifier(name),
                value=sql.Literal(value),
            )

    def _put_indexes_off(self, table: str) -> None:
        for name, definition in self._store.execute(SECONDARY_INDEXES, {"table": table}).fetchall():
            self._to_index.append(sql.SQL(definition))
            self._execute("DROP INDEX {schema}.{name}", name=sql.Identifier(name))

    def _put_keys_off(self, table: str) -> None:
        for name, definition in self._store.execute(KEYS, {"table": table}).fetchall():
            key = {"table": sql.Identifier(table), "name": sql.Identifier(name)}
            self._to_index.append(
                sql.SQL("ALTER TABLE {table} ADD CONSTRAINT {name} {definition}").format(
                    **key, definition=sql.SQL(definition)
                )
            )
            self._execute("ALTER TABLE {table} DROP CONSTRAINT {name}", **key)

    def index(self) -> None:
        """Make the indexes that were put off, which sorts rows once instead of placing each."""
        for definition in self._to_index:
            self._store.execute(definition)
        self._to_index.clear()

    def analyze(self) -> None:
        """Have the comparison, and the queries afterwards, planned for what the tables hold."""
        for table in self._names:
            self._execute("ANALYZE {table}", table=sql.Identifier(table))

    def differences(self) -> Iterator[tuple[str, str, str]]:
        """(table, the row that is served, the row that was rebuilt) of each row that differs."""
        for table in self._names:
            parameters = {"table": f"public.{table}"}
            columns = [row[0] for row in self._store.execute(KEY_COLUMNS, parameters).fetchall()]
            key = sql.SQL(", ").join(sql.Identifier(column) for column in columns)
            query = sql.SQL(COMPARE).format(
                schema=self._schema, table=sql.Identifier(table), key=key
            )
            with self._store.cursor(name="differences") as cursor:
                cursor.execute(query)
                for served, rebuilt in cursor:
                    yield table, served, rebuilt

    def take_the_place(self) -> None:
        """Drop those that serve, and put these where they were."""
        # First: who reads what is kept comes from it to the tables that are dropped below.
        for table in self._kept:
            self._execute("TRUNCATE public.{table}", table=sql.Identifier(table))
        for table in self._names:
            identifier = sql.Identifier(table)
            self._execute("DROP TABLE public.{table}", table=identifier)
            self._execute("ALTER TABLE {schema}.{table} SET SCHEMA public", table=identifier)

    def drop(self) -> None:
        """Leave nothing of a rebuild behind, whether it succeeded or not."""
        if not self._store.closed:
            self._execute("SET search_path = public")
            self._execute("DROP SCHEMA IF EXISTS {schema} CASCADE")

    def _execute(self, statement: str, **names: sql.Composable) -> None:
        self._store.execute(sql.SQL(statement).format(schema=self._schema, **names))
