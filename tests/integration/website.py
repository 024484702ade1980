"""Every page of ours on real ports, with a past to show, for tests that look at them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI

from codebase.engine.commands.bus import CommandBus
from codebase.engine.projections.projector import projector_team
from codebase.engine.projections.read_model import READ_MODEL
from codebase.engine.reactions.waiting import Waiting
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.settings import Settings, extended
from codebase.model.accounts.account import AccountOpened
from codebase.model.accounts.agent import AgentCreated
from codebase.registry import SYSTEM
from codebase.services.alertman.mailbox import Mailbox
from codebase.services.alertman.service import create_app as alert_app
from codebase.services.billing.projections import billing
from codebase.services.billing.service import create_app as billing_app
from codebase.services.compliance.desk import Desk
from codebase.services.compliance.service import PROJECTOR as COMPLIANCE
from codebase.services.compliance.service import REACTIONS
from codebase.services.compliance.service import create_app as compliance_app
from codebase.services.compliance.targets import details
from codebase.services.fraud_police.police import Police
from codebase.services.fraud_police.projections import FRAUD_POLICE
from codebase.services.fraud_police.rule_watch import RuleWatch
from codebase.services.fraud_police.service import create_app as fraud_app
from codebase.services.transact.service import create_app as transact_app
from codebase.services.transact.taking import Taking
from codebase.services.transact.waiting import Waiting as EndsHeard
from codebase.services.vip_customers.projections import VIP_CUSTOMERS
from codebase.services.vip_customers.service import create_app as vip_app
from codebase.views.accounts.compliance_agents import Agents
from codebase.views.accounts.compliance_requests import Requests
from codebase.views.accounts.settings import AccountSettings
from codebase.views.payments.fraud_rules_file import read_rules_file
from codebase.views.payments.settings import PaymentSettings, card_reducer
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.shell import assemble, service_app, serving
from tests.integration.flow import at_work, eventually, is_projected
from tests.integration.histories import LATER, Happened, busy, write_history
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

BILLING = billing(None)
FOLLOWERS = (BILLING, VIP_CUSTOMERS, COMPLIANCE)
PEOPLE = ("Ada Lovelace", "Grace Hopper", "Katherine Johnson", "Maximiliane Schwarzenegger-Ohm")
COMPANIES = ("Aurora Logistics", "Brightwater & Sons", "Česká přeprava", "Delta")
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
"""A name with nowhere to break it."""
TOKEN_OF_A_CLIENT = "of a client of these tests"  # noqa: S105

# One request in each state.
FILL_REQUESTS = """
    INSERT INTO compliance_asked (id, version, request_id, agent_id, action, reason, requested_by,
                                  requested_at, state, detail, sent_at, answered_at)
    SELECT gen_random_uuid(), 1, gen_random_uuid(), agent.id, 'block',
           'papers are missing, for the third time', 'local', %(at)s, state.name, state.detail,
           CASE WHEN state.name <> 'waiting' THEN %(at)s END,
           CASE WHEN state.name NOT IN ('waiting', 'sent') THEN %(at)s END
    FROM (SELECT id FROM compliance_agent ORDER BY id LIMIT 1) AS agent
    CROSS JOIN (
        VALUES ('waiting', NULL), ('sent', NULL), ('done', NULL), ('unchanged', NULL),
               ('refused', 'Agent ' || gen_random_uuid() || ' not found')
    ) AS state (name, detail)
"""


# Cleared and denied, labelled and not, by lists and by rules; and somebody on each list.
FILL_FRAUD = (
    """
    INSERT INTO fraud_decision (id, version, transaction_id, client, as_of, denied, decided_by,
                                score, rules, payment, features, findings, hits, partition,
                                position)
    SELECT gen_random_uuid(), 1, md5(number::text)::uuid,
           CASE WHEN number = 1 THEN %(long)s ELSE 'shop' END, %(at)s - number * interval '1 hour',
           number %% 3 = 0, CASE number WHEN 6 THEN 'block_list' ELSE 'rules' END, number * 30, '',
           '{"amount": "1234567.89", "currency": "INR", "card": {"brand": "mastercard",
             "last_four": "4444"}}',
           '{}', '[]', ARRAY['luhn', 'card_payments_in_a_minute', 'amount_above_history'], 0, number
    FROM generate_series(1, 8) AS number
    """,
    """
    INSERT INTO fraud_label (id, transaction_id, label, reason, labelled_at)
    SELECT gen_random_uuid(), md5(number::text)::uuid,
           CASE number %% 2 WHEN 0 THEN 'confirmed' ELSE 'false_positive' END, 'looked at', %(at)s
    FROM generate_series(1, 5) AS number
    """,
    """
    INSERT INTO fraud_listing (id, version, list, kind, value, ends_at, reason, listed_at,
                               position, partition)
    VALUES (gen_random_uuid(), 1, 'block', 'card', 'k1:AAAAAAAAAAAAAAAAAAAAAA',
            %(at)s + interval '1 day', 'stolen, says the issuer', %(at)s, 1, 0),
           (gen_random_uuid(), 1, 'allow', 'client', %(long)s, %(at)s + interval '1 year', 'ours',
            %(at)s, 2, 0)
    """,
)

# One in each state and some in four currencies, over the last day and before; one for a client with
# a long name, and one with two reasons.
FILL_TRANSACTIONS = (
    """
    INSERT INTO card_transaction (id, client, requested_at, status, status_at, order_id, order_name,
                                  order_cost, order_currency, payment_method, payment_type, amount,
                                  currency, card_brand, card_last_four)
    SELECT md5(number::text)::uuid, CASE number WHEN 6 THEN %(long)s ELSE 'shop' END,
           %(at)s - number * interval '50 minutes', state, %(at)s, number::text,
           'A lamp that can be dimmed', 1234567.89, currency, 'amazonpay', 'wallet', 1234567.89,
           currency, 'mastercard', '4444'
    FROM generate_series(1, 35) AS number,
        LATERAL (
            SELECT (ARRAY['PENDING', 'CLEARED', 'FRAUDULENT', 'ALERTED', 'PAYMENT_INITIATED',
                          'PAYMENT_COMPLETE', 'PAYMENT_FAILED'])[1 + number %% 7] AS state,
                   (ARRAY['INR', 'INR', 'INR', 'EUR', 'EUR', 'USD', 'JPY'])[1 + number / 5 %% 7]
                       AS currency
        ) AS one
    """,
    """
    INSERT INTO card_transition (id, version, status, at, score, findings, reason)
    SELECT id, 1, 'PENDING', requested_at, NULL, NULL, NULL FROM card_transaction
    UNION ALL
    SELECT id, 2, 'FRAUDULENT', requested_at, '120', jsonb_build_array(finding, finding), NULL
    FROM card_transaction,
        jsonb_build_object(
            'rule', 'card_payments_in_a_minute', 'version', '1', 'weight', '60', 'observed', '31',
            'limit', '30', 'window', '60',
            'sentence', '31 payments of this card in 1 minute, 30 are allowed'
        ) AS finding
    WHERE card_transaction.status IN ('FRAUDULENT', 'ALERTED')
    UNION ALL
    SELECT id, 2, 'PAYMENT_FAILED', requested_at, NULL, NULL, 'there is not enough money'
    FROM card_transaction WHERE card_transaction.status = 'PAYMENT_FAILED'
    """,
)


# One in each state, and some that somebody has refused; one for a client with a long name.
FILL_ALERTS = (
    """
    INSERT INTO alert (id, transaction_id, channel, client, raised_at, state, state_at, amount,
                       currency, card_brand, card_last_four, score, rules, reason, refused)
    SELECT md5('alert' || number)::uuid, md5(number::text)::uuid, 'email',
           CASE number WHEN 6 THEN %(long)s ELSE 'shop' END,
           %(at)s - number * interval '50 minutes', state, %(at)s, 1234567.89, 'INR', 'mastercard',
           '4444', '120', '["card_payments_in_a_minute", "luhn"]',
           CASE state WHEN 'dead' THEN '550 no such user here' END,
           CASE state WHEN 'sent' THEN '["recipient 2: 452 full"]'::jsonb ELSE '[]' END
    FROM generate_series(1, 30) AS number,
        LATERAL (
            SELECT (ARRAY['pending', 'retrying', 'sent', 'dead', 'silenced'])[1 + number %% 5]
                AS state
        ) AS one
    """,
    """
    INSERT INTO alert_silence (id, begun_at, client, rule, ends_at, reason, author)
    VALUES (gen_random_uuid(), %(at)s, %(long)s, 'luhn', %(at)s + interval '1 day',
            'they are moving house', 'root')
    """,
)
MAIL = "6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11"


def history() -> list[Happened]:
    """What happened to people and companies with names of all lengths."""
    names = {AccountOpened: cycle([*COMPANIES, LONG]), AgentCreated: cycle([*PEOPLE, LONG])}
    return [
        one._replace(event=_named(one.event, next(names[type(one.event)])))
        if type(one.event) in names
        else one
        for one in busy(14, agents=24, steps=300).happened
    ]


def _named(event: AccountOpened | AgentCreated, name: str) -> AccountOpened | AgentCreated:
    # What is before the @ is one's own.
    return replace(event, name=name, email=f"{event.email}.{'a-long-domain-name.' * 2}example")


@dataclass(frozen=True, slots=True)
class Website:
    """The address of each service with a page.

    `guarded` is billing for those who have a token, and `away` has a database that is away.
    """

    billing: str
    vip_customers: str
    compliance: str
    fraud_police: str
    transact: str
    alertman: str
    guarded: str
    away: str


@contextmanager
def website(databases: Databases, free_port: Callable[[], int]) -> Iterator[Website]:
    """All of it, seen from `LATER`."""
    write_history(databases, history())
    with ExitStack() as teams:
        for projector in FOLLOWERS:
            teams.enter_context(at_work(projector_team(databases.settings, projector)))
        for projector in FOLLOWERS:
            eventually(lambda name=projector.name: is_projected(databases, name))
    with databases.as_read_model_owner() as owner:
        owner.execute(FILL_REQUESTS, {"at": LATER})
        for statement in (*FILL_FRAUD, *FILL_TRANSACTIONS, *FILL_ALERTS):
            owner.execute(statement, {"at": LATER, "long": LONG})
    with (
        TemporaryDirectory() as mails,
        at_work(projector_team(databases.settings, SYSTEM.read_model)),
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_listening(databases.settings, free_port, mails)) as site,
    ):
        Path(mails, f"{MAIL}.email.eml").write_text("Subject: Fraud: 1 transaction of shop\n\n")
        yield site


@asynccontextmanager
async def _listening(
    plain: Settings, free_port: Callable[[], int], mail_folder: str
) -> AsyncIterator[Website]:
    settings = extended(plain, AccountSettings)
    entry = f"ann:client:{sha256(TOKEN_OF_A_CLIENT.encode()).hexdigest()}"
    guarded = settings.model_copy(update={"api_tokens": (entry,)})
    async with AsyncExitStack() as stack:

        async def reads(name: str) -> ConsistentReads:
            return await stack.enter_async_context(ConsistentReads.open(settings, name))

        async def listen(app: FastAPI, configured: Settings = settings) -> str:
            serve = serving(assemble([app], configured), configured, free_port())
            return f"http://127.0.0.1:{await stack.enter_async_context(serve)}"

        desk = await stack.enter_async_context(desk_of(settings, await reads(COMPLIANCE.name)))
        invoices = billing_app(await reads(BILLING.name), settings, {}, lambda: LATER)
        vips = vip_app(await reads(VIP_CUSTOMERS.name), settings, {}, lambda: LATER)
        bus = await stack.enter_async_context(CommandBus.open(settings))
        police_reads = await reads(FRAUD_POLICE.name)
        watch = stack.enter_context(RuleWatch.at_work(read_rules_file(None)))
        police = Police(bus, police_reads, watch, lambda: LATER)
        payments = extended(plain, PaymentSettings)
        reducer = card_reducer(payments)
        mails = Mailbox(Path(mail_folder), keep_days=1, now=lambda: LATER)
        taking = Taking(bus, reducer, EndsHeard(), max_age_seconds=NEVER_SECONDS)
        yield Website(
            billing=await listen(invoices),
            vip_customers=await listen(vips),
            compliance=await listen(compliance_app(desk, settings, {}, lambda: LATER)),
            fraud_police=await listen(
                fraud_app(bus, police_reads, police, card_reducer(settings), {})
            ),
            transact=await listen(
                transact_app(bus, await reads(READ_MODEL), settings, taking, {}, now=lambda: LATER)
            ),
            alertman=await listen(
                alert_app(bus, await reads(READ_MODEL), payments, mails, {}, now=lambda: LATER)
            ),
            guarded=await listen(invoices, guarded),
            away=await listen(_away()),
        )


@asynccontextmanager
async def desk_of(settings: Settings, reads: ConsistentReads) -> AsyncIterator[Desk]:
    """What compliance shows and takes requests to, with nobody who carries them out."""
    async with (
        Waiting.open(settings, REACTIONS[0]) as waiting,
        CommandBus.open(settings) as bus,
        projector_team(settings, COMPLIANCE).at_work(lambda: PATIENCE_SECONDS),
    ):
        requests = Requests(reads, partial(details, waiting))
        yield Desk(Agents(reads), requests, bus, lambda: "block_agent is away", lambda: None)


def _away() -> FastAPI:
    """A service whose database is away."""
    app = service_app("away", checks={})

    @app.get("/")
    async def get_page() -> None:
        raise ServiceUnavailable("read_model", "is away")

    return app
