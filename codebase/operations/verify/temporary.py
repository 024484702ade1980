"""A temporary file of SQLite for what would not fit into memory; it sorts and joins on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from codebase.operations import OperationError


@contextmanager
def temporary_file() -> Iterator[sqlite3.Connection]:
    """An empty one, without a name, that is gone on leaving.

    Raises:
        OperationError: it does not fit where temporary files go.
    """
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as file:
            file.executescript("PRAGMA journal_mode = OFF; BEGIN")
            yield file
    except sqlite3.OperationalError as error:
        raise OperationError(
            f"the temporary file of what streams hold: {error}; SQLITE_TMPDIR says where it is"
        ) from error
