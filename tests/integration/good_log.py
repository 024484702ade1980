"""A log in which everything has happened to every aggregate, as the command bus writes it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Outcome as Answered
from codebase.engine.commands.submission import Submission
from codebase.engine.log.identifiers import creation_stream_id
from codebase.model.accounts.account import Region
from codebase.model.accounts.agent import AGENT, RemoveAgent
from codebase.model.accounts.compliance_case import (
    COMPLIANCE_CASE,
    Action,
    MakeRequest,
    NoteAnswer,
    NoteSent,
    Outcome,
    RequestTakenOver,
    TakeOver,
    case_of,
)
from codebase.model.accounts.price_list import PRICE_LIST, PRICE_LIST_ID, SetPrice
from codebase.model.aggregate import Aggregate
from codebase.model.payments.alert import (
    ALERT,
    RaiseAlert,
    RecordDeath,
    RecordDelay,
    RecordFinish,
    RecordSent,
    RecordSilence,
    RetryAlert,
)
from codebase.model.payments.card_check import CARD_CHECK, Assess, id_of_card
from codebase.model.payments.cards import CardNumber, CardReducer
from codebase.model.payments.fraud_features import Features, Payment
from codebase.model.payments.fraud_label import FRAUD_LABEL, Label, LabelTransaction, id_of_label
from codebase.model.payments.fraud_listing import (
    FRAUD_LISTING,
    Listable,
    ListName,
    PutOnList,
    TakeOffList,
    id_of_listing,
)
from codebase.model.payments.fraud_rule_history import FRAUD_RULES, AdoptRuleSet, id_of_rule_set
from codebase.model.payments.fraud_rule_set import parse_rules
from codebase.model.payments.silence import (
    SILENCE,
    BeginSilence,
    EndSilence,
    Matcher,
    SilenceBegun,
)
from codebase.model.payments.transaction import TRANSACTION, RequestTransaction
from tests.integration.test_command_bus import order
from tests.integration.test_spanning_commands import (
    ALICE,
    blocking,
    closing,
    creating,
    opening,
    submission,
    together,
    unblocking,
    with_bus,
)
from tests.unit import test_transaction as transactions
from tests.unit.test_alert_rules import ABOUT

if TYPE_CHECKING:
    from tests.databases import Databases

AGENTS = 5
"""Of each account, at first."""
LUHN = parse_rules('threshold = 100\n[rules.luhn]\nkind = "luhn"\nweight = 100')
NOON = datetime(2029, 12, 31, 12, tzinfo=UTC)


@dataclass
class Office:
    """What is done, in batches whose order is drawn."""

    bus: CommandBus
    draw: random.Random

    async def all_of(self, submissions: Sequence[Submission]) -> list[UUID]:
        """Send each twice, as clients do that are not sure; the streams, in the order given."""
        mixed = [*submissions, *submissions]
        self.draw.shuffle(mixed)
        outcomes = await together(self.bus, mixed)
        failed = [each for each in outcomes if not isinstance(each, Answered)]
        assert failed == []
        return [each.stream_id for each in submissions]


def removing(account_id: UUID, agent_id: UUID, key: str | None = None) -> Submission:
    return submission(AGENT, agent_id, RemoveAgent(account_id=account_id, actor=ALICE), key)


def pricing(region: Region, day: int, key: str) -> Submission:
    command = SetPrice(
        region=region,
        from_day=date(2030, 1, day),
        per_hour=Decimal("1.2500"),
        today=date(2029, 12, 31),
    )
    return submission(PRICE_LIST, PRICE_LIST_ID, command, key)


def asking(agent_id: UUID) -> list[Submission]:
    """A request about an agent that is answered, and one that is taken over, step by step."""
    made = MakeRequest(
        request_id=creation_stream_id("boss", "compliance_request", f"made {agent_id}"),
        agent_id=agent_id,
        action=Action.BLOCK,
        reason="a check",
        requested_by="boss",
    )
    taken_over = RequestTakenOver(
        request_id=creation_stream_id("boss", "compliance_request", f"taken over {agent_id}"),
        agent_id=agent_id,
        action=Action.UNBLOCK,
        reason=None,
        requested_by="boss",
        requested_at=datetime(2025, 1, 1, tzinfo=UTC),
        sent_at=None,
        answered_at=None,
        outcome=None,
        detail=None,
    )
    sent = NoteSent(request_id=made.request_id)
    answer = NoteAnswer(request_id=made.request_id, outcome=Outcome.DONE)
    steps = (TakeOver(taken_over=taken_over), made, sent, answer)
    case = case_of(agent_id)
    return [
        submission(COMPLIANCE_CASE, case, step, f"{type(step).__name__} {agent_id}")
        for step in steps
    ]


MINE = replace(transactions.REQUESTED, client=ALICE.name)
WANTED = RequestTransaction(requested=MINE)
PAYMENTS = {"paid": transactions.PAID, "not paid": transactions.NOT_PAID}
DELAY, DEATH = RecordDelay(reason="450"), RecordDeath(reason="550")


async def _transact_and_tell(office: Office, name: str) -> None:
    """Transactions that end in every way, and what people are told of those that were flagged."""
    for end, paid in PAYMENTS.items():
        steps = (WANTED, transactions.CLEAR, transactions.INITIATE, paid)
        await _steps(office, TRANSACTION, f"{name} {end}", *steps)
    silence_id = await _silence(office, name)
    flagged = (WANTED, transactions.FLAG)
    told = await _steps(office, TRANSACTION, f"{name} told", *flagged, transactions.ALERT)
    for_later, at_last = RecordSent(refused=("recipient 2: 451",)), RecordFinish(refused=())
    await _alert(office, told, DELAY, for_later, at_last)
    dead = await _steps(office, TRANSACTION, f"{name} dead", *flagged)
    await _alert(office, dead, DELAY, DEATH, RetryAlert(by="boss"), DEATH)
    silenced = await _steps(office, TRANSACTION, f"{name} silenced", *flagged)
    await _alert(office, silenced, RecordSilence(silence_id=silence_id))


async def _alert(office: Office, transaction_id: UUID, *ends: Any) -> None:  # noqa: ANN401
    """What becomes of the alert of a transaction."""
    alert = replace(ABOUT, transaction_id=transaction_id, client=MINE.client)
    for nth, step in enumerate((RaiseAlert(alert=alert), *ends)):
        await office.all_of([submission(ALERT, alert.id, step, f"{alert.id} {nth}")])


async def _silence(office: Office, name: str) -> UUID:
    """One that begins, and is ended before its time."""
    begun = SilenceBegun(
        matcher=Matcher(client=MINE.client),
        ends_at=datetime(2999, 1, 1, tzinfo=UTC),
        reason="a test",
        author="boss",
    )
    begin = BeginSilence(begun=begun, asked_at=datetime(2026, 1, 1, tzinfo=UTC))
    return await _steps(office, SILENCE, f"{name} silence", begin, EndSilence(by="boss"))


async def _steps(
    office: Office,
    aggregate: Aggregate[Any, Any, Any],
    key: str,
    *commands: Any,  # noqa: ANN401
) -> UUID:
    """One stream, step by step; which one it is."""
    stream_id = creation_stream_id("boss", aggregate.category, key)
    for nth, command in enumerate(commands):
        await office.all_of([submission(aggregate, stream_id, command, f"{key} {nth}")])
    return stream_id


def assessing(transaction_id: UUID, card: str) -> Submission:
    payment = Payment(
        client="alice",
        method="paytm",
        kind="wallet",
        card=CardReducer({"only": bytes(32)}).reduce(CardNumber.read(card)),
        amount=Decimal("1.00"),
        currency="INR",
        cost=Decimal("1.00"),
        cost_currency="INR",
    )
    command = Assess(
        transaction_id=str(transaction_id),
        payment=payment,
        as_of=NOON,
        features=Features(),
        positions={0: 1},
        rules=LUHN,
    )
    return submission(CARD_CHECK, id_of_card(payment.card), command, f"alice:{transaction_id}")


def labelling(transaction_id: UUID, label: Label) -> Submission:
    command = LabelTransaction(
        transaction_id=str(transaction_id), label=label, reason="looked at it"
    )
    return submission(FRAUD_LABEL, id_of_label(str(transaction_id)), command)


def listing(name: ListName, client: str) -> Submission:
    command = PutOnList(
        list=name,
        kind=Listable.CLIENT,
        value=client,
        ends_at=datetime(2030, 1, 1, tzinfo=UTC),
        reason="a complaint",
        now=NOON,
    )
    return submission(FRAUD_LISTING, id_of_listing(name, Listable.CLIENT, client), command)


def unlisting(name: ListName, client: str) -> Submission:
    listing_id = id_of_listing(name, Listable.CLIENT, client)
    return submission(FRAUD_LISTING, listing_id, TakeOffList())


def write_good_log(
    databases: Databases, accounts: int = 12, orders: int = 100, name: str = ""
) -> None:
    """Orders; accounts and agents that come, change, and go; prices; addresses that come again;
    transactions and alerts.

    Args:
        databases: whose log it is.
        accounts: how many are opened.
        orders: how many are placed.
        name: tells what is written from what another call has written.
    """

    async def story(bus: CommandBus) -> None:
        office = Office(bus, random.Random(7))  # noqa: S311 - the same log every time
        await office.all_of([order(f"{name} order {n}", "10.00") for n in range(orders)])
        opened = await office.all_of(
            [opening(f"{name} account {n}", f"{name}{n}@office.example") for n in range(accounts)]
        )
        team = {
            each: await office.all_of([creating(each, f"{name}{n}.{m}") for m in range(AGENTS)])
            for n, each in enumerate(opened)
        }
        await office.all_of(
            [
                pricing(region, day, f"{name} price {region} {day}")
                for region in Region
                for day in (1, 2)
            ]
        )
        agents = [agent for each in team.values() for agent in each]
        for agent in agents[::7]:
            for step in asking(agent):
                await office.all_of([step])
        await _transact_and_tell(office, name)
        await _work(office, agents)
        await _leave(office, team)
        await _police(office, name)
        await office.all_of(
            [
                opening(f"{name} again {n}", f"{name}{n}@office.example")
                for n in range(0, accounts, 3)
            ]
        )

    # How fast the machine is decides nothing here.
    patient = {"database_deadline_seconds": 600.0, "command_deadline_seconds": 600.0}
    with_bus(databases.settings.model_copy(update=patient), story)


async def _work(office: Office, agents: Sequence[UUID]) -> None:
    await office.all_of([blocking(each, f"block {each}") for each in agents[::2]])
    # Those who are blocked already are noted.
    await office.all_of([blocking(each, f"block again {each}") for each in agents[::3]])
    await office.all_of([unblocking(each, f"unblock {each}") for each in agents[::4]])


async def _police(office: Office, name: str) -> None:
    """Payments are judged, right cards and wrong ones, labelled; clients come and go on lists."""
    adopted = AdoptRuleSet(hash=LUHN.hash, text=LUHN.text)
    await office.all_of([submission(FRAUD_RULES, id_of_rule_set(LUHN.hash), adopted)])
    judged = [creation_stream_id("alice", "transaction", f"{name} {n}") for n in range(12)]
    cards = ("4111111111111111", "1234567887654321")
    await office.all_of([assessing(each, cards[n % 2]) for n, each in enumerate(judged)])
    await office.all_of([labelling(each, Label.CONFIRMED) for each in judged[::2]])
    await office.all_of([labelling(each, Label.FALSE_POSITIVE) for each in judged[::4]])
    clients = [f"{name} client {n}" for n in range(6)]
    await office.all_of([listing(ListName.ALLOW, each) for each in clients])
    await office.all_of([listing(ListName.BLOCK, each) for each in clients])
    await office.all_of([unlisting(ListName.BLOCK, each) for each in clients[::2]])
    await office.all_of([listing(ListName.BLOCK, each) for each in clients[::4]])


async def _leave(office: Office, team: dict[UUID, list[UUID]]) -> None:
    """The second agent of each account goes; every third account closes, with its agents."""
    await office.all_of(
        [
            removing(account_id, agents[1], f"remove {agents[1]}")
            for account_id, agents in team.items()
        ]
    )
    ending = list(team)[::3]
    await office.all_of([closing(each, f"close {each}") for each in ending[::2]])
    for each in ending[1::2]:
        await office.all_of([closing(each)])
