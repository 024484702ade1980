"""What clients are told while streams are parked: of one 503, in a list that there are some."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from psycopg import Connection

from codebase.engine.commands.bus import CommandBus
from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation.clock import utc_now
from codebase.foundation.settings import Settings, extended
from codebase.services.alertman import service as alertman
from codebase.services.billing import service as billing
from codebase.services.compliance import service as compliance
from codebase.services.fetch_accounts import service as fetch_accounts
from codebase.services.fetch_agents import service as fetch_agents
from codebase.services.fetch_buy_orders import service as fetch_buy_orders
from codebase.services.fraud_police import service as fraud_police
from codebase.services.fraud_police.police import Police
from codebase.services.fraud_police.rule_watch import RuleWatch
from codebase.services.transact import service as transact
from codebase.services.transact.taking import Taking
from codebase.services.transact.waiting import Waiting
from codebase.services.vip_customers import service as vip_customers
from codebase.views.accounts.settings import AccountSettings
from codebase.views.payments.fraud_rules_file import read_rules_file
from codebase.views.payments.settings import PaymentSettings, card_reducer
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.shell import assemble
from tests.integration.flow import eventually
from tests.integration.website import desk_of

if TYPE_CHECKING:
    from tests.databases import Databases

ORDER, ACCOUNT, AGENT, OTHER, ABSENT, CASE, REQUEST = (UUID(int=number) for number in range(1, 8))
TRANSACTION, SILENCE, LISTING = (UUID(int=number) for number in range(8, 11))
EMAIL = "agent@x.example"
TEAMS = ("billing", "vip_customers", "compliance", "fraud_police")
FILL = """
    INSERT INTO projection_checkpoint (projector, partition, position)
    SELECT projector, partition, 7
    FROM unnest(ARRAY['read_model_sync', 'billing', 'vip_customers', 'compliance', 'fraud_police'])
             AS projector,
         generate_series(0, 1) AS partition;
    INSERT INTO buy_order VALUES ('{order}', 'alice', now(), 'USD', 1, 1, 1, 'test');
    INSERT INTO account (id, client, name, email, region, vip)
    VALUES ('{account}', 'alice', 'Blue', 'a@x.example', 'emea', true),
           ('{other}', 'alice', 'Red', 'b@x.example', 'emea', true);
    INSERT INTO agent (id, account_id, client, name, email, blocked)
    VALUES ('{agent}', '{account}', 'alice', 'Ann', '{email}', false);
    INSERT INTO billing_account (id, client, name, region, vip, opened_at)
    SELECT id, client, name, region, vip, '2026-01-01' FROM account;
    INSERT INTO billing_agent (id, account_id, name, region, created_at, usage, version)
    SELECT id, account_id, name, 'emea', '2026-01-01', '{{}}', 1 FROM agent;
    INSERT INTO compliance_agent
        (id, account_id, name, email, region, is_blocked, created_at, version)
    SELECT id, account_id, name, email, 'emea', false, '2026-01-01', 1 FROM agent;
    INSERT INTO compliance_asked (id, version, request_id, agent_id, action, requested_by,
                                  requested_at, state)
    VALUES ('{case}', 1, '{request}', '{agent}', 'block', 'alice', '2026-01-01', 'sent');
    INSERT INTO card_transaction
    VALUES ('{transaction}', 'alice', '2026-01-01', 'PENDING', '2026-01-01', '7', 'A lamp', 1,
            'INR', 'paytm', 'wallet', 1, 'INR', 'visa', '1111');
    INSERT INTO card_transition (id, version, status, at)
    VALUES ('{transaction}', 1, 'PENDING', '2026-01-01');
    INSERT INTO alert_silence (id, begun_at, ends_at, reason, author)
    VALUES ('{silence}', '2026-01-01', '2026-01-02', 'a test', 'alice');
    INSERT INTO fraud_listing
    VALUES ('{listing}', 1, 'block', 'client', 'alice', '2099-01-01', 'a test', '2026-01-01', 1, 0)
"""
PARK = """
    INSERT INTO parked_stream (projector, stream_id, partition, category, reason)
    VALUES (%(projector)s, %(stream_id)s, %(partition)s, %(category)s, 'a test')
"""
PARK_MANY = """
    INSERT INTO parked_stream (projector, stream_id, partition, category, reason)
    SELECT projector, gen_random_uuid(), 0, 'buy_order', 'a test'
    FROM unnest(%s::text[]) AS projector, generate_series(1, 2000)
"""
READERS = """
    SELECT pid FROM pg_stat_activity
    WHERE application_name = 'query_service' AND datname = current_database()
"""
HIRE_MANY = """
    WITH hired AS (
        INSERT INTO agent (id, account_id, client, name, email, blocked)
        SELECT gen_random_uuid(), gen_random_uuid(), 'alice', 'Bea', number || '@x.example', false
        FROM generate_series(1, 2000) AS number
        RETURNING id, account_id, name
    )
    INSERT INTO billing_agent (id, account_id, name, region, created_at, usage, version)
    SELECT id, account_id, name, 'emea', '2026-01-01', '{}', 1 FROM hired
"""
READS_OF_PARKED = """
    SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)),
           sum(seq_scan + idx_scan) FILTER (WHERE relname = 'parked_stream')
    FROM pg_stat_user_tables
    WHERE relname IN ('parked_stream', 'buy_order', 'account', 'agent', 'billing_agent',
                      'card_transaction', 'alert_silence', 'fraud_listing')
"""


class Store:
    """A read model that the test fills, and every service that reads from it."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases
        self.tokens: dict[str, str] = {}
        names = {"order": ORDER, "account": ACCOUNT, "agent": AGENT, "other": OTHER, "email": EMAIL}
        names |= {"case": CASE, "request": REQUEST}
        names |= {"transaction": TRANSACTION, "silence": SILENCE, "listing": LISTING}
        with databases.as_read_model_owner() as owner:
            owner.execute(FILL.format(**names))

    def park(
        self, stream_id: UUID, category: str, projector: str = READ_MODEL, partition: int = 0
    ) -> None:
        values = {"projector": projector, "stream_id": stream_id, "category": category}
        with self.databases.as_read_model_owner() as owner:
            owner.execute(PARK, {**values, "partition": partition})

    def park_everywhere(self, stream_id: UUID, category: str) -> None:
        for projector in (READ_MODEL, *TEAMS):
            self.park(stream_id, category, projector)

    def ask(self, service: str, path: str, method: str = "GET", token: str = "") -> httpx.Response:
        async def answer() -> httpx.Response:
            async with self._client(service) as client:
                return await client.request(
                    method, path, headers={"Authorization": f"Bearer {token}"} if token else {}
                )

        return asyncio.run(answer())

    @asynccontextmanager
    async def _client(self, service: str) -> AsyncIterator[httpx.AsyncClient]:
        entries = tuple(
            f"{name}:client:{hashlib.sha256(token.encode()).hexdigest()}"
            for name, token in self.tokens.items()
        )
        settings = self.databases.settings.model_copy(update={"api_tokens": entries})
        async with AsyncExitStack() as stack:
            app = await opened(service, settings, stack)
            transport = httpx.ASGITransport(assemble([app], settings))
            client = httpx.AsyncClient(transport=transport, base_url="http://x")
            yield await stack.enter_async_context(client)


async def opened(service: str, settings: Settings, stack: AsyncExitStack) -> FastAPI:
    projector = service if service in TEAMS else READ_MODEL
    reads = await stack.enter_async_context(ConsistentReads.open(settings, projector))
    match service:
        case "orders":
            return fetch_buy_orders.create_app(reads)
        case "accounts":
            return fetch_accounts.create_app(reads)
        case "agents":
            return fetch_agents.create_app(reads)
        case "billing" | "vip_customers" | "compliance":
            return await opened_team(service, settings, reads, stack)
        case _:
            return await opened_payments(service, settings, reads, stack)


async def opened_team(
    service: str, settings: Settings, reads: ConsistentReads, stack: AsyncExitStack
) -> FastAPI:
    of_accounts = extended(settings, AccountSettings)
    match service:
        case "billing":
            return billing.create_app(reads, of_accounts, {})
        case "vip_customers":
            return vip_customers.create_app(reads, settings, {})
        case _:
            desk = await stack.enter_async_context(desk_of(settings, reads))
            return compliance.create_app(desk, of_accounts, {})


async def opened_payments(
    service: str, settings: Settings, reads: ConsistentReads, stack: AsyncExitStack
) -> FastAPI:
    bus = await stack.enter_async_context(CommandBus.open(settings))
    of_payments, reducer = extended(settings, PaymentSettings), card_reducer(settings)
    match service:
        case "transact":
            taking = Taking(bus, reducer, Waiting(), max_age_seconds=60.0)
            return transact.create_app(bus, reads, of_payments, taking, {})
        case "alertman":
            return alertman.create_app(bus, reads, of_payments, None, {})
        case _:
            watch = stack.enter_context(RuleWatch.at_work(read_rules_file(None)))
            police = Police(bus, reads, watch, utc_now)
            return fraud_police.create_app(bus, reads, police, reducer, {})


@pytest.fixture(scope="module")
def filled(new_databases: Callable[[], Databases]) -> Store:
    return Store(new_databases())


@pytest.fixture
def store(filled: Store) -> Store:
    """Nothing is parked, and everybody may see everything."""
    filled.tokens = {}
    with filled.databases.as_read_model_owner() as owner:
        owner.execute("DELETE FROM parked_stream")
    return filled


class Read(NamedTuple):
    service: str
    path: str
    method: str = "GET"


NAMING = {
    "an order": (ORDER, "buy_order", Read("orders", f"/buy_orders/{ORDER}")),
    "an account": (ACCOUNT, "account", Read("accounts", f"/accounts/{ACCOUNT}")),
    "the report of an account": (
        ACCOUNT,
        "account",
        Read("accounts", f"/accounts/generate_company_report/{ACCOUNT}", "POST"),
    ),
    "the report of an agent's account": (
        AGENT,
        "agent",
        Read("accounts", f"/accounts/generate_company_report/{ACCOUNT}", "POST"),
    ),
    "an account's agents": (ACCOUNT, "account", Read("agents", f"/accounts/{ACCOUNT}/agents")),
    "an agent": (AGENT, "agent", Read("agents", f"/accounts/{ACCOUNT}/agents/{AGENT}")),
    "an agent by e-mail": (AGENT, "agent", Read("agents", f"/agents/find_agent/{EMAIL}", "POST")),
    "an invoice": (ACCOUNT, "account", Read("billing", f"/invoices/{ACCOUNT}")),
    "an invoice to read": (ACCOUNT, "account", Read("billing", f"/invoices/{ACCOUNT}/page")),
    "the invoice of an agent's account": (AGENT, "agent", Read("billing", f"/invoices/{ACCOUNT}")),
    "an agent that compliance looks for": (
        AGENT,
        "agent",
        Read("compliance", f"/agents?search={AGENT}"),
    ),
    "the page of that agent": (AGENT, "agent", Read("compliance", f"/?search={AGENT}")),
    "a request": (CASE, "compliance_case", Read("compliance", f"/requests/{REQUEST}")),
    "a transaction": (TRANSACTION, "transaction", Read("transact", f"/transactions/{TRANSACTION}")),
    "the page of a transaction": (
        TRANSACTION,
        "transaction",
        Read("transact", f"/transactions/{TRANSACTION}/page"),
    ),
    "a silence": (SILENCE, "silence", Read("alertman", f"/silences/{SILENCE}")),
    "a listing": (LISTING, "fraud_listing", Read("fraud_police", f"/listings/{LISTING}")),
    "a transaction without a row": (
        ABSENT,
        "transaction",
        Read("transact", f"/transactions/{ABSENT}"),
    ),
    "a silence without a row": (ABSENT, "silence", Read("alertman", f"/silences/{ABSENT}")),
    "a listing without a row": (
        ABSENT,
        "fraud_listing",
        Read("fraud_police", f"/listings/{ABSENT}"),
    ),
    "an order without a row": (ABSENT, "buy_order", Read("orders", f"/buy_orders/{ABSENT}")),
    "an account without a row": (ABSENT, "account", Read("accounts", f"/accounts/{ABSENT}")),
    "agents of an account without a row": (
        ABSENT,
        "account",
        Read("agents", f"/accounts/{ABSENT}/agents"),
    ),
    "an agent without a row": (
        ABSENT,
        "agent",
        Read("agents", f"/accounts/{ACCOUNT}/agents/{ABSENT}"),
    ),
    "an invoice without a row": (ABSENT, "account", Read("billing", f"/invoices/{ABSENT}")),
}


@pytest.mark.parametrize(("stream", "category", "read"), NAMING.values(), ids=NAMING.keys())
def test_a_read_that_names_a_parked_stream_is_refused(
    store: Store, stream: UUID, category: str, read: Read
) -> None:
    before = store.ask(*read)
    assert before.status_code == (404 if stream == ABSENT else 200)
    assert "Parked-Streams" not in before.headers
    store.park_everywhere(stream, category)
    refused = store.ask(*read)
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/stream-parked")
    assert int(refused.headers["Retry-After"]) > 0


OF_OTHERS = {
    "an order": (ABSENT, "buy_order", Read("orders", f"/buy_orders/{ORDER}")),
    "an account": (AGENT, "agent", Read("accounts", f"/accounts/{ACCOUNT}")),
    "an agent of a parked account": (
        ACCOUNT,
        "account",
        Read("agents", f"/accounts/{ACCOUNT}/agents/{AGENT}"),
    ),
}


@pytest.mark.parametrize(("stream", "category", "read"), OF_OTHERS.values(), ids=OF_OTHERS.keys())
def test_a_read_that_names_another_stream_is_answered(
    store: Store, stream: UUID, category: str, read: Read
) -> None:
    store.park_everywhere(stream, category)
    answer = store.ask(*read)
    assert answer.status_code == 200
    assert "Parked-Streams" not in answer.headers


LISTS = {
    "orders": ("buy_order", Read("orders", "/buy_orders")),
    "accounts": ("account", Read("accounts", "/accounts")),
    "agents": ("agent", Read("agents", "/agents")),
    "an account's agents": ("agent", Read("agents", f"/accounts/{OTHER}/agents")),
    "a report": ("agent", Read("accounts", f"/accounts/generate_company_report/{OTHER}", "POST")),
    "an invoice": ("agent", Read("billing", f"/invoices/{OTHER}")),
    "regions": ("agent", Read("billing", "/regions")),
    "invoices": ("account", Read("billing", "/invoices")),
    "months": ("agent", Read("vip_customers", "/months")),
    "agents that compliance finds": ("agent", Read("compliance", "/agents")),
    "requests": ("compliance_case", Read("compliance", "/requests")),
    "transactions": ("transaction", Read("transact", "/transactions")),
    "alerts": ("alert", Read("alertman", "/alerts")),
    "silences": ("silence", Read("alertman", "/silences")),
    "decisions": ("card_check", Read("fraud_police", "/decisions")),
    "listings": ("fraud_listing", Read("fraud_police", "/listings")),
    "rules": ("card_check", Read("fraud_police", "/rules")),
    "the agent with an address": ("agent", Read("compliance", f"/agents?search={EMAIL}")),
}
NAMING_ONE_TOO = frozenset({"an account's agents", "a report", "an invoice"})


@pytest.mark.parametrize(("category", "read"), LISTS.values(), ids=LISTS.keys())
def test_a_list_says_how_many_are_parked_that_it_may_lack(
    store: Store, category: str, read: Read
) -> None:
    assert "Parked-Streams" not in store.ask(*read).headers
    store.park_everywhere(ABSENT, category)
    projector = read.service if read.service in TEAMS else READ_MODEL
    store.park(UUID(int=77), category, projector, partition=1)
    answer = store.ask(*read)
    assert (answer.status_code, answer.headers["Parked-Streams"]) == (200, "2")


@pytest.mark.parametrize("read", [LISTS["orders"][1], LISTS["accounts"][1], LISTS["agents"][1]])
def test_a_list_says_nothing_of_what_is_parked_elsewhere(store: Store, read: Read) -> None:
    others = {"buy_order", "account", "agent"} - {read.path.strip("/").rstrip("s").split("/")[0]}
    for number, category in enumerate(sorted(others)):
        store.park(UUID(int=100 + number), category)
    store.park(UUID(int=99), read.service.rstrip("s"), "billing")
    assert "Parked-Streams" not in store.ask(*read).headers


@pytest.mark.parametrize("team", TEAMS)
def test_a_page_says_it_to_people(store: Store, team: str) -> None:
    assert "parked" not in store.ask(team, "/").text
    store.park_everywhere(ABSENT, "agent")
    assert "1 stream is parked" in store.ask(team, "/").text


def test_who_looks_for_an_address_in_vain_hears_that_some_are_parked(store: Store) -> None:
    store.park(ABSENT, "agent")
    answer = store.ask("agents", "/agents/find_agent/nobody@x.example", "POST")
    assert (answer.status_code, answer.headers["Parked-Streams"]) == (404, "1")


@pytest.mark.parametrize(
    "name", ["an order", "an account", "an agent", "an agent by e-mail", "a transaction"]
)
def test_who_may_not_see_a_stream_is_not_told_that_it_is_parked(store: Store, name: str) -> None:
    store.tokens = {"alice": "a" * 40, "bob": "b" * 40}
    stream, category, read = NAMING[name]
    store.park(stream, category)
    assert store.ask(*read, token="a" * 40).status_code == 503
    assert store.ask(*read, token="b" * 40).status_code == 404


def test_what_is_read_of_parked_streams_does_not_grow_with_them(store: Store) -> None:
    """Nothing while none is parked, and then what is asked for, of however many there are."""
    with store.databases.as_read_model_owner() as owner:
        owner.execute("ANALYZE parked_stream")
        owner.execute("ALTER TABLE parked_stream SET (autovacuum_enabled = off)")

        def read_for(read: Read) -> tuple[int, int]:
            before, after = looked_up(owner), store.ask(*read) and looked_up(owner)
            return after[0] - before[0], after[1] - before[1]

        owner.execute(HIRE_MANY)
        read_before = {}
        for what, (*_, read) in NAMING.items():
            read_before[what], scans = read_for(read)
            assert scans == 0, what
        owner.execute(PARK_MANY, [[READ_MODEL, *TEAMS]])
        owner.execute("SELECT pg_stat_force_next_flush()")
        for what, (*_, read) in NAMING.items():
            rows, scans = read_for(read)
            assert (rows - read_before[what] <= 3, scans > 0) == (True, True), what
        for what, (_, read) in LISTS.items():
            assert what in NAMING_ONE_TOO or read_for(read)[1] == 0, what
        assert store.ask(*LISTS["orders"][1]).headers["Parked-Streams"] == "2000"


def looked_up(owner: Connection[Any]) -> tuple[int, int]:
    """Rows that were read of what is shown or parked, and how often what is parked was looked for.

    A connection's figures count once it has ended.
    """
    eventually(lambda: owner.execute(READERS).fetchall() == [])
    row = owner.execute(READS_OF_PARKED).fetchone()
    assert row
    return int(row[0]), int(row[1])
