"""Connections to Postgres that never wait for ever."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict

CONNECT_DEADLINE_SECONDS = 3

# A peer that vanished is noticed within seconds, also while nothing is being sent.
LIVELINESS: dict[str, str | int] = {
    "connect_timeout": CONNECT_DEADLINE_SECONDS,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5_000,
}

# The server's own deadline is the second fence; callers keep their own in the application.
DEFAULT_OPTIONS = "-c statement_timeout=30s -c jit=off -c timezone=UTC"


def _arguments(url: str, application: str, options: str = "") -> dict[str, Any]:
    server = f"-c statement_timeout=30s -c jit=off {options}"
    return {
        **conninfo_to_dict(url),
        **LIVELINESS,
        "application_name": application,
        "options": server,
    }


def connect(
    url: str, application: str, *, autocommit: bool = True, options: str = ""
) -> Connection[Any]:
    """A connection for a worker thread or a command.

    Args:
        url: libpq URL.
        application: shown in pg_stat_activity.
        autocommit: each statement its own transaction.
        options: further server settings as `-c name=value`; they win over the defaults.

    Raises:
        psycopg.OperationalError: no connection within the deadline.
    """
    return psycopg.connect(**_arguments(url, application, options), autocommit=autocommit)


async def connect_async(url: str, application: str, *, options: str = "") -> AsyncConnection[Any]:
    """A connection in autocommit mode for an event loop.

    Raises:
        psycopg.OperationalError: no connection within the deadline.
    """
    return await AsyncConnection.connect(**_arguments(url, application, options), autocommit=True)
