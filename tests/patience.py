"""How long tests wait: until it happens, on whatever machine. Only what never happens is given up.

No test is about these numbers. What is about a deadline sets that one deadline itself, waits in
sight of what never comes, or moves the clock (tests/clocks.py).
"""

from __future__ import annotations

from codebase.foundation import http_session, postgres

PATIENCE_SECONDS = 300.0
"""Ten times what the slowest thing takes on two idle cores; pytest's own --timeout comes later."""

NEVER_SECONDS = 2 * PATIENCE_SECONDS
"""For what must not happen by itself while a test waits."""

UNHURRIED: dict[str, float] = {
    "database_deadline_seconds": NEVER_SECONDS,
    "command_deadline_seconds": NEVER_SECONDS,
    "client_deadline_seconds": NEVER_SECONDS,
    "consistency_wait_ms": 60_000,
}
"""Settings with deadlines that pass in no test: an answer within a test's patience owes nothing to
them, and what is said to be away was not found out by waiting."""


def be_patient() -> None:
    """Connections to Postgres and to services take as long as they take: no settings say that."""
    postgres.LIVELINESS["connect_timeout"] = int(PATIENCE_SECONDS)
    http_session.CONNECT_DEADLINE_SECONDS = PATIENCE_SECONDS
