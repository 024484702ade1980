"""The teams: how fast billing catches up with a log, and how fast it charges a month of it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from bench import deciding, people
from bench.filling import insert_copies, settle, templates_of
from bench.lab import PATIENCE_SECONDS, POLL_SECONDS, Lab, as_owner
from bench.measure import BenchError, alternate, seconds
from bench.positions import checkpoint
from bench.report import Result, at_least, below
from codebase.engine.commands.history import History
from codebase.engine.projections.logged_events import read_events
from codebase.engine.projections.projector import projector_team
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.model.accounts.account import ACCOUNT
from codebase.model.accounts.agent import AGENT
from codebase.model.accounts.usage import Month
from codebase.services.billing.kept_months import IS_KEPT
from codebase.services.billing.projections import billing

AGENTS = 10_000
SWITCHES = 40
"""Blocks and unblocks of each agent within the month: twenty pairs."""
EVENTS = 1 + AGENTS * (1 + SWITCHES)
MONTH = Month(2026, 10)
CATCH_UPS = 2
INVOICES = 3
CATCH_UP_SECONDS = 300.0
READ_CHUNK = 1_000

OF_ALL_AGENTS, OF_ALL_ACCOUNTS = 200_000, 2_000
"""As many as use a month whose invoices are asked for all together."""
KEPT_MONTHS = 2

CREATE_AGENTS = """
    CREATE TEMPORARY TABLE agent AS
    SELECT number, gen_random_uuid() AS id FROM generate_series(0, %(agents)s - 1) AS number
"""

# An account is the first event of the log. Agents are switched in turn, all month long, and stand
# in the log in that order.
OPENED = "JOIN (SELECT) AS copy ON template.category = 'account'"
SWITCHED = """
    JOIN (
        SELECT turn, agent.number, agent.id,
               CASE WHEN turn = 0 THEN 1 ELSE 2 + (turn + 1) %% 2 END AS version
        FROM generate_series(0, %(switches)s) AS turn, agent
    ) AS copy ON template.category = 'agent' AND template.version = copy.version
    ORDER BY copy.turn, copy.number
"""
SWITCHED_AT = """
    %(begin)s + (%(end)s::timestamptz - %(begin)s::timestamptz)
        * ((copy.turn * %(agents)s::bigint + copy.number)::float8
            / (%(agents)s::bigint * (%(switches)s + 1)))
"""

BILLING = "billing"
FORGET = """
    TRUNCATE billing_account, billing_agent;
    DELETE FROM projection_attempt;
    DELETE FROM projection_checkpoint
"""


# Straight into billing's tables, for rows that are read and nothing else. Every tenth agent was
# blocked for a while in the month.
FILL_TABLES = (
    "TRUNCATE billing_account, billing_agent, billing_month, billing_month_account",
    """
    INSERT INTO billing_account (id, client, name, region, vip, opened_at)
    SELECT md5('account' || number)::uuid, 'local', 'account ' || number,
           (ARRAY['emea', 'nam', 'apac'])[1 + number %% 3], false, %(before)s
    FROM generate_series(0, %(accounts)s - 1) AS number
    """,
    """
    INSERT INTO billing_agent (id, account_id, name, region, created_at, usage, version)
    SELECT md5('agent' || number)::uuid, account.id, 'agent ' || number, account.region, %(before)s,
           CASE WHEN number %% 10 = 0
                THEN tstzmultirange(tstzrange(%(before)s, NULL))
                     - tstzmultirange(tstzrange(%(begin)s, %(blocked_until)s))
                ELSE tstzmultirange(tstzrange(%(before)s, NULL)) END,
           1
    FROM generate_series(0, %(agents)s - 1) AS number
    JOIN billing_account AS account
        ON account.id = md5('account' || number %% %(accounts)s)::uuid
    """,
    "ANALYZE billing_account, billing_agent",
)


def measure(lab: Lab) -> Iterator[Result]:
    """Catching up with a busy month of ten thousand agents, and their invoice."""
    settings = lab.stores("teams")
    agents = lab.effort.count(AGENTS)
    events = 1 + agents * (1 + SWITCHES)
    account_id = _fill(settings, agents)
    numbers = alternate(
        lab.effort.rounds(CATCH_UPS),
        {
            "catch up": lambda: events / _catch_up(settings, events),
            "read": lambda: events / seconds(lambda: _read(settings, events)),
        },
    )
    yield Result(
        name=f"billing catches up with {EVENTS:,} events of {AGENTS:,} agents",
        value=numbers.median("catch up"),
        unit="events/s",
        target=at_least(20_000),
    )
    yield Result(
        name="  beside it: reading the same events from the log",
        value=numbers.median("read"),
        unit="events/s",
    )
    address = lab.serve(settings, "billing")
    invoice = f"{address}/invoices/{account_id}?month={MONTH}"
    lines = len(_fetch(invoice)["lines"])
    if lines != agents:
        raise BenchError(f"the invoice has {lines} lines")
    invoices = lab.effort.rounds(INVOICES)
    yield Result(
        name=f"invoice of {AGENTS:,} agents over a month with {SWITCHES // 2} blocks each",
        value=max(seconds(lambda: _fetch(invoice)) for _ in range(invoices)),
        unit="s, worst",
        target=below(2),
    )
    yield Result(
        name="  beside it: billing's page, with the month and five before it",
        value=max(seconds(lambda: _get(f"{address}/?month={MONTH}")) for _ in range(invoices)),
        unit="s, worst",
    )
    yield from _measure_all_invoices(lab, settings, address)


def _measure_all_invoices(lab: Lab, settings: Settings, address: str) -> Iterator[Result]:
    """All invoices of a month that is over, and of the running one, which nobody can keep."""
    _fill_tables(settings, lab.effort.count(OF_ALL_AGENTS), lab.effort.count(OF_ALL_ACCOUNTS))
    kept, running = f"{address}/invoices?month={MONTH}", f"{address}/invoices"
    first = seconds(lambda: _fetch(kept))
    if not _is_kept(settings):
        raise BenchError(f"{MONTH} is not kept")
    numbers = alternate(
        lab.effort.rounds(INVOICES),
        {
            "kept": lambda: max(seconds(lambda: _fetch(kept)) for _ in range(KEPT_MONTHS)),
            "running": lambda: seconds(lambda: _fetch(running)),
        },
    )
    whose = f"{OF_ALL_AGENTS:,} agents of {OF_ALL_ACCOUNTS:,} accounts"
    yield Result(
        name=f"invoices of a month that is over, {whose}",
        value=1000 * numbers.median("kept"),
        unit="ms",
        target=below(100),
    )
    yield Result(
        name="  beside it: of the running month, which is added up for every request",
        value=1000 * numbers.median("running"),
        unit="ms",
    )
    yield Result(
        name="  beside it: of the month that is over, for who asks first and has it kept",
        value=1000 * first,
        unit="ms",
    )


def _fill_tables(settings: Settings, agents: int, accounts: int) -> None:
    values = {
        "agents": agents,
        "accounts": accounts,
        "before": MONTH.plus(-1).begin,
        "begin": MONTH.begin,
        "blocked_until": MONTH.begin + timedelta(days=3),
    }
    with as_owner(settings, "read_model") as owner:
        for statement in FILL_TABLES:
            owner.execute(statement, values if "%(" in statement else None)


def _is_kept(settings: Settings) -> bool:
    with as_owner(settings, "read_model") as owner:
        asked = {"month": MONTH.begin.date()}
        return owner.execute(IS_KEPT, asked).fetchone() is not None


def _fill(settings: Settings, agents: int) -> UUID:
    """One account and its agents, who are blocked and unblocked in turn; the account's id."""
    account = people.opening()
    agent = people.creating(account.stream_id)
    histories = {each.stream_id: History() for each in (account, agent)}
    templates = templates_of(
        settings,
        deciding.new_events([account], histories),
        deciding.new_events(
            [agent, people.blocking(agent.stream_id), people.unblocking(agent.stream_id)],
            histories,
        ),
    )
    values = {"agents": agents, "switches": SWITCHES, "begin": MONTH.begin, "end": MONTH.end}
    with as_owner(settings, "write_model") as owner:
        owner.execute(CREATE_AGENTS, {"agents": agents})
        insert_copies(
            owner,
            templates,
            OPENED,
            columns={"position": "1", "recorded_at": "%(begin)s"},
            texts={},
            values=values,
        )
        insert_copies(
            owner,
            templates,
            SWITCHED,
            columns={
                "position": "2 + copy.turn * %(agents)s + copy.number",
                "stream_id": "copy.id",
                "version": "copy.turn + 1",
                # One key stands once in its stream; these commands had none.
                "idempotence_key": "NULL",
                "recorded_at": SWITCHED_AT,
            },
            texts={str(agent.stream_id): "copy.id::text"},
            values=values,
        )
        settle(owner)
    return account.stream_id


def _catch_up(settings: Settings, events: int) -> float:
    """Seconds from the start of a new billing until it has seen everything."""
    with as_owner(settings, "read_model") as owner:
        owner.execute(FORGET)
    team = projector_team(settings, billing(None))
    started = time.perf_counter()
    team.start()
    try:
        with connect(settings.required("read_model_url"), "bench") as store:
            while (reached := checkpoint(store, BILLING)) < events:
                if time.perf_counter() - started > CATCH_UP_SECONDS:
                    raise BenchError(f"billing is at {reached} of {events}")
                time.sleep(POLL_SECONDS)
        return time.perf_counter() - started
    finally:
        team.stop(PATIENCE_SECONDS)


def _read(settings: Settings, count: int) -> None:
    """What catching up cannot be faster than."""
    categories = {ACCOUNT.category, AGENT.category}
    with connect(settings.required("write_model_reader_url"), "bench") as log:
        reached = 0
        while reached < count:
            events = read_events(log, 0, after=reached, limit=READ_CHUNK, categories=categories)
            reached = events[-1].position


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - ours
        content: bytes = answer.read()
        return content


def _fetch(address: str) -> dict[str, list[object]]:
    found: dict[str, list[object]] = json.loads(_get(address))
    return found
