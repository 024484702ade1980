"""How far a log goes, and how far a read model has come."""

from __future__ import annotations

import time
from typing import Any

from psycopg import Connection

from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings

LOOK_SECONDS = 0.02

READ_CHECKPOINT = """
    SELECT position FROM projection_checkpoint WHERE projector = %(projector)s AND partition = 0
"""
READ_HEAD = "SELECT position FROM log_head WHERE partition = 0"


def checkpoint(store: Connection[Any], projector: str = READ_MODEL) -> int:
    """Up to where a projector has come in the first partition."""
    row = store.execute(READ_CHECKPOINT, {"projector": projector}, prepare=True).fetchone()
    return int(row[0]) if row else 0


def head(log: Connection[Any]) -> int:
    """The last position of the first partition."""
    row = log.execute(READ_HEAD).fetchone()
    return int(row[0]) if row else 0


def wait_until_level(settings: Settings) -> None:
    """Return when the read model holds what the log holds."""
    with (
        connect(settings.required("read_model_url"), "bench") as store,
        connect(settings.required("write_model_reader_url"), "bench") as log,
    ):
        while checkpoint(store) < head(log):
            time.sleep(LOOK_SECONDS)
