"""The teams: how fast billing catches up with a log, and how fast it charges a month of it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from uuid import UUID, uuid4

from bench.lab import PATIENCE_SECONDS, POLL_SECONDS, Lab, as_owner
from bench.measure import BenchError, alternate, seconds
from bench.report import Result, at_least, below
from codebase.engine.log.codec import encode
from codebase.engine.projections.logged_events import read_events
from codebase.engine.projections.projector import projector_team
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.model.accounts.account import ACCOUNT, AccountOpened, Region
from codebase.model.accounts.agent import AGENT, AgentBlocked, AgentCreated, AgentUnblocked
from codebase.model.accounts.usage import Month
from codebase.services.billing.projections import billing

AGENTS = 10_000
SWITCHES = 40
"""Blocks and unblocks of each agent within the month: twenty pairs."""
EVENTS = 1 + AGENTS * (1 + SWITCHES)
MONTH = Month(2026, 10)
CATCH_UPS = 3
INVOICES = 5
CATCH_UP_SECONDS = 300.0
READ_CHUNK = 1_000

CREATE_AGENTS = """
    CREATE TEMPORARY TABLE agent AS
    SELECT number, gen_random_uuid() AS id FROM generate_series(0, %(agents)s - 1) AS number
"""

FILL_LOG = """
    INSERT INTO event (partition, position, stream_id, category, version, type, data, meta,
                       recorded_at)
    SELECT 0, 2 + turn * %(agents)s + number, id, 'agent', turn + 1, (%(types)s::text[])[kind],
           (%(data)s::jsonb[])[kind] || jsonb_build_object('agent_id', id),
           jsonb_build_object('event_id', gen_random_uuid()),
           %(begin)s + (%(end)s::timestamptz - %(begin)s::timestamptz)
               * ((turn * %(agents)s::bigint + number)::float8
                   / (%(agents)s::bigint * (%(switches)s + 1)))
    FROM generate_series(0, %(switches)s) AS turn, agent,
        LATERAL (SELECT CASE WHEN turn = 0 THEN 1 ELSE 2 + (turn + 1) %% 2 END AS kind) AS chosen
    ORDER BY turn, number
"""

FILL_ACCOUNT = """
    INSERT INTO event (partition, position, stream_id, category, version, type, data, meta,
                       recorded_at)
    VALUES (0, 1, %(id)s, 'account', 1, 'AccountOpened', %(data)s::jsonb,
            jsonb_build_object('event_id', gen_random_uuid()), %(begin)s)
"""

MOVE_HEAD = "UPDATE log_head SET position = %(events)s, recorded_at = %(end)s"
READ_CHECKPOINT = "SELECT position FROM projection_checkpoint WHERE projector = 'billing'"
FORGET = """
    TRUNCATE billing_account, billing_agent;
    DELETE FROM projection_attempt;
    DELETE FROM projection_checkpoint
"""


def measure(lab: Lab) -> Iterator[Result]:
    """Catching up with a busy month of ten thousand agents, and their invoice."""
    settings = lab.stores("teams")
    account_id = uuid4()
    _fill(settings, account_id)
    numbers = alternate(
        CATCH_UPS,
        {
            "catch up": lambda: EVENTS / _catch_up(settings),
            "read": lambda: EVENTS / seconds(lambda: _read(settings)),
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
    if lines != AGENTS:
        raise BenchError(f"the invoice has {lines} lines")
    yield Result(
        name=f"invoice of {AGENTS:,} agents over a month with {SWITCHES // 2} blocks each",
        value=max(seconds(lambda: _fetch(invoice)) for _ in range(INVOICES)),
        unit="s, worst",
        target=below(2),
    )
    yield Result(
        name="  beside it: billing's page, with the month and five before it",
        value=max(seconds(lambda: _get(f"{address}/?month={MONTH}")) for _ in range(INVOICES)),
        unit="s, worst",
    )


def _fill(settings: Settings, account_id: UUID) -> None:
    """One account and its agents, who are blocked and unblocked in turn all month long."""
    whose = {"account_id": account_id, "client": "local", "region": Region.EMEA, "vip": True}
    # The agents' own ids are filled in by the database.
    agent = {**whose, "agent_id": account_id}
    events = (
        AgentCreated(**agent, name="Ann Agent", email="ann@example.com"),
        AgentBlocked(**agent, reason=None),
        AgentUnblocked(**agent, reason=None),
    )
    opened = AccountOpened(**whose, name="Busy", email="busy@example.com")
    values = {
        "agents": AGENTS,
        "switches": SWITCHES,
        "types": [type(event).__name__ for event in events],
        "data": [encode(event) for event in events],
        "begin": MONTH.begin,
        "end": MONTH.end,
    }
    with as_owner(settings, "write_model") as owner:
        opening = {"id": account_id, "data": encode(opened), "begin": MONTH.begin}
        owner.execute(FILL_ACCOUNT, opening)
        owner.execute(CREATE_AGENTS, {"agents": AGENTS})
        owner.execute(FILL_LOG, values)
        owner.execute(MOVE_HEAD, {"events": EVENTS, "end": MONTH.end})
        owner.execute("VACUUM (ANALYZE) event")


def _catch_up(settings: Settings) -> float:
    """Seconds from the start of a new billing until it has seen everything."""
    with as_owner(settings, "read_model") as owner:
        owner.execute(FORGET)
    team = projector_team(settings, billing(None))
    started = time.perf_counter()
    team.start()
    try:
        with connect(settings.required("read_model_url"), "bench") as store:
            while (row := store.execute(READ_CHECKPOINT).fetchone()) is None or row[0] < EVENTS:
                if time.perf_counter() - started > CATCH_UP_SECONDS:
                    raise BenchError(f"billing is at {row} of {EVENTS}")
                time.sleep(POLL_SECONDS)
        return time.perf_counter() - started
    finally:
        team.stop(PATIENCE_SECONDS)


def _read(settings: Settings) -> None:
    """What catching up cannot be faster than."""
    categories = {ACCOUNT.category, AGENT.category}
    with connect(settings.required("write_model_reader_url"), "bench") as log:
        reached = 0
        while reached < EVENTS:
            events = read_events(log, 0, after=reached, limit=READ_CHUNK, categories=categories)
            reached = events[-1].position


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - ours
        content: bytes = answer.read()
        return content


def _fetch(address: str) -> dict[str, list[object]]:
    found: dict[str, list[object]] = json.loads(_get(address))
    return found
