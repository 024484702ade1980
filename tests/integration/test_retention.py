"""What grows for ever is the log and its fold; all else is in the guide, and goes in time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY
from psycopg import Connection

from codebase.engine.projections.projector import projector_team
from codebase.foundation.forgetting import BATCH_ROWS, LEAD, Kept
from codebase.foundation.settings import Settings
from codebase.registry import SYSTEM
from codebase.services.compliance.service import PROJECTOR
from codebase.views.accounts.compliance_requests import FORGET_ANSWERED
from tests.integration.flow import at_work, eventually, until_it_is_alone

if TYPE_CHECKING:
    from tests.databases import Databases

GUIDE = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
SECTION = GUIDE.split("\n## What is kept, and for how long\n")[1].split("\n## ")[0]
ROWS = [
    [cell.strip(" `") for cell in line.strip("|").split("|")]
    for line in SECTION.splitlines()
    if line.startswith("| `")
]
TABLES = {row[0]: row[2] for row in ROWS if row[0].islower()}
VARIABLES = {row[0]: row[1] for row in ROWS if row[0].isupper()}
WITHOUT_A_LIMIT = {"log", "one each", "until decided", "until taken over"}
OF_FILES = {"ALERT_MAIL_DAYS"}

# yoyo's own tables have a row for each migration.
READ_TABLES = """
    SELECT CASE WHEN schemaname = 'public' THEN '' ELSE schemaname || '.' END || tablename
    FROM pg_tables
    WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND tablename NOT LIKE '%yoyo%'
"""


def test_the_guide_says_of_every_table_how_long_it_is_kept(databases: Databases) -> None:
    with databases.as_owner() as write_model, databases.as_read_model_owner() as read_model:
        there = {name for store in (write_model, read_model) for (name,) in tables(store)}
    assert set(TABLES) == there
    assert set(TABLES.values()) - WITHOUT_A_LIMIT == set(VARIABLES) - OF_FILES


def tables(store: Connection[Any]) -> list[tuple[str]]:
    return store.execute(READ_TABLES).fetchall()


def test_the_guide_has_the_variables_and_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [Settings, *SYSTEM.settings]
    known = {name.upper(): kind for kind in kinds for name in kind.model_fields}
    days = {name for name in known if name.endswith("_DAYS")}
    assert set(VARIABLES) == days
    for name, default in VARIABLES.items():
        monkeypatch.delenv(name, raising=False)
        assert str(getattr(known[name](), name.lower())) == default


# Requests of compliance.

FILL = """
    INSERT INTO compliance_asked (id, version, request_id, agent_id, action, requested_by, state,
                                  requested_at, answered_at)
    SELECT gen_random_uuid(), 1, gen_random_uuid(), gen_random_uuid(), 'block', %(by)s, %(state)s,
           now() - make_interval(days => %(days)s),
           CASE WHEN %(state)s NOT IN ('waiting', 'sent')
                THEN now() - make_interval(days => %(days)s) END
    FROM generate_series(1, %(rows)s)
"""
LEFT = "SELECT requested_by, count(*) FROM compliance_asked GROUP BY 1 ORDER BY 1"
A_YEAR = Kept(table="compliance_asked", days=365, remove=FORGET_ANSWERED)


def fill(databases: Databases, by: str, state: str, days: int, rows: int = 1) -> None:
    with databases.as_read_model_owner() as owner:
        owner.execute(FILL, {"by": by, "state": state, "days": days, "rows": rows})


def left(databases: Databases) -> list[tuple[str, int]]:
    with databases.as_read_model_owner() as owner:
        return owner.execute(LEFT).fetchall()


def forgotten() -> float:
    return REGISTRY.get_sample_value("orderly_forgotten_rows_total", {"table": A_YEAR.table}) or 0


@contextmanager
def forgetting(databases: Databases, *kept: Kept) -> Iterator[None]:
    with at_work(projector_team(databases.settings, PROJECTOR, kept)):
        yield


def test_what_was_answered_long_ago_is_forgotten_and_nothing_else(databases: Databases) -> None:
    for state in ("done", "unchanged", "refused"):
        fill(databases, "old", state, days=366, rows=BATCH_ROWS)
        fill(databases, "young", state, days=364)
    for state in ("waiting", "sent"):
        fill(databases, "open", state, days=9_999)
    before = forgotten()
    with forgetting(databases, A_YEAR):
        eventually(lambda: left(databases) == [("open", 2), ("young", 3)])
        eventually(lambda: forgotten() == before + 3 * BATCH_ROWS)


def test_of_several_processes_one_forgets(databases: Databases) -> None:
    fill(databases, "old", "done", days=366)
    another = Kept(
        table="another",
        days=1,
        remove="""
            DELETE FROM compliance_asked
            WHERE requested_by = 'another' AND %(days)s > 0 AND %(rows)s > 0
        """,
    )
    fill(databases, "another", "done", days=2)
    with databases.as_read_model_owner() as leader:
        leader.execute(LEAD, {"table": A_YEAR.table})
        with forgetting(databases, A_YEAR, another):
            # It has passed by the first table when it comes to the second.
            eventually(lambda: left(databases) == [("old", 1)])
    with databases.as_read_model_owner() as owner:
        # Who finds that somebody else leads comes again in an hour.
        until_it_is_alone(owner)
    with forgetting(databases, A_YEAR):
        eventually(lambda: left(databases) == [])
