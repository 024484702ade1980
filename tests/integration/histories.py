"""Histories of accounts and agents with times of their own, and what they cost by another way."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from codebase.engine.log.codec import encode
from codebase.engine.log.identifiers import new_event_id, partition_of
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.model.accounts import account as accounts
from codebase.model.accounts import agent as agents
from codebase.model.accounts import price_list
from codebase.model.accounts.account import (
    Account,
    AccountOpened,
    CloseAccount,
    OpenAccount,
    Region,
)
from codebase.model.accounts.agent import (
    Agent,
    AgentBlocked,
    AgentCreated,
    AgentRemoved,
    AgentUnblocked,
    Because,
    BlockAgent,
    CreateAgent,
    RemoveAgent,
    UnblockAgent,
)
from codebase.model.accounts.price_list import PRICE_LIST_ID, PriceList, PriceSet, SetPrice
from codebase.model.accounts.usage import Month
from codebase.model.actor import Actor
from codebase.model.aggregate import Claim, Release, no_guards

if TYPE_CHECKING:
    from tests.databases import Databases

MICROSECOND = timedelta(microseconds=1)
ADMIN = Actor("local", is_admin=True)

INSERT_EVENT = """
    INSERT INTO event (partition, position, stream_id, category, version, type, data, meta,
                       recorded_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s)
"""
READ_HEADS = "SELECT partition, position FROM log_head"
INSERT_CLAIM = "INSERT INTO claim (kind, value, stream_id) VALUES (%s, %s, %s)"
DELETE_CLAIM = "DELETE FROM claim WHERE kind = %s AND value = %s AND stream_id = %s"


class Happened(NamedTuple):
    """An event with its time and its place in its stream."""

    at: datetime
    stream_id: UUID
    version: int
    event: Any

    @property
    def category(self) -> str:
        kinds = {"Account": "account", "Agent": "agent", "Price": "price_list"}
        name = type(self.event).__name__
        return next(category for kind, category in kinds.items() if name.startswith(kind))

    @property
    def model(self) -> Any:  # noqa: ANN401 - a module
        """Where its rules are."""
        return {"account": accounts, "agent": agents, "price_list": price_list}[self.category]


@dataclass
class World:
    """Accounts and agents to which things happen, by the model's own rules, one after another."""

    happened: list[Happened] = field(default_factory=list)
    accounts: dict[UUID, Account] = field(default_factory=dict)
    agents: dict[UUID, Agent] = field(default_factory=dict)
    prices: PriceList | None = None
    _versions: defaultdict[UUID, int] = field(default_factory=lambda: defaultdict(int))
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000_000)))

    def new_id(self) -> UUID:
        # Spread, so that the streams of a world fall into several partitions.
        return UUID(int=next(self._numbers) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)

    def open(self, at: datetime, region: Region, *, vip: bool) -> UUID:
        account_id = self.new_id()
        command = OpenAccount(
            account_id=account_id,
            actor=ADMIN,
            name=f"account {account_id.hex[:4]}",
            email=f"{account_id}@example.com",
            region=region,
            vip=vip,
        )
        for event in accounts.decide(command, None):
            self._note(at, account_id, event)
            self.accounts[account_id] = accounts.evolve(None, event)
        return account_id

    def create(self, at: datetime, account_id: UUID) -> UUID:
        agent_id = self.new_id()
        command = CreateAgent(
            agent_id=agent_id,
            account_id=account_id,
            account=self.accounts[account_id],
            actor=ADMIN,
            name=f"agent {agent_id.hex[:4]}",
            email=f"{agent_id}@example.com",
        )
        self._tell(at, agent_id, command)
        return agent_id

    def block(self, at: datetime, agent_id: UUID) -> None:
        self._tell(at, agent_id, BlockAgent(agent_id=agent_id, actor=ADMIN))

    def unblock(self, at: datetime, agent_id: UUID) -> None:
        self._tell(at, agent_id, UnblockAgent(agent_id=agent_id, actor=ADMIN))

    def remove(self, at: datetime, agent_id: UUID, because: Because = Because.REMOVED) -> None:
        account_id = self.agents[agent_id].created.account_id
        self._tell(at, agent_id, RemoveAgent(account_id=account_id, actor=ADMIN, because=because))

    def close(self, at: datetime, account_id: UUID) -> None:
        for agent_id in self.agents_of(account_id):
            self.remove(at, agent_id, Because.ACCOUNT_CLOSED)
        for event in accounts.decide(CloseAccount(actor=ADMIN), self.accounts[account_id]):
            self._note(at, account_id, event)
            state = accounts.evolve(self.accounts[account_id], event)
            self.accounts[account_id] = state

    def set_price(self, at: datetime, region: Region, from_day: date, per_hour: str) -> None:
        command = SetPrice(
            region=region, from_day=from_day, per_hour=Decimal(per_hour), today=at.date()
        )
        for event in price_list.decide(command, self.prices):
            self._note(at, PRICE_LIST_ID, event)
            self.prices = price_list.evolve(self.prices, event)

    def agents_of(self, account_id: UUID) -> list[UUID]:
        """Those that have not been removed."""
        return [
            agent_id
            for agent_id, agent in self.agents.items()
            if agent.created.account_id == account_id and not agent.is_removed
        ]

    @property
    def open_accounts(self) -> list[UUID]:
        return [each for each, account in self.accounts.items() if not account.is_closed]

    @property
    def present_agents(self) -> list[UUID]:
        return [each for each, agent in self.agents.items() if not agent.is_removed]

    def _tell(self, at: datetime, agent_id: UUID, command: agents.Command) -> None:
        for event in agents.decide(command, self.agents.get(agent_id)):
            self._note(at, agent_id, event)
            self.agents[agent_id] = agents.evolve(self.agents.get(agent_id), event)

    def _note(self, at: datetime, stream_id: UUID, event: object) -> None:
        if self.happened:
            at = max(at, self.happened[-1].at + MICROSECOND)
        self._versions[stream_id] += 1
        self.happened.append(Happened(at, stream_id, self._versions[stream_id], event))


# Where mistakes are made: ends of months, of years, leap days, and nights when clocks change.
EDGES = [
    datetime(*parts, tzinfo=UTC)
    for parts in (
        (2023, 12, 1),
        (2024, 1, 1),
        (2024, 2, 1),
        (2024, 2, 29),
        (2024, 3, 1),
        (2024, 3, 10, 10),
        (2024, 3, 31, 1),
        (2024, 4, 1),
        (2024, 4, 30, 12),
        (2024, 5, 1),
    )
]
moments = st.builds(
    lambda edge, microseconds: edge + microseconds * MICROSECOND,
    st.sampled_from(EDGES),
    st.sampled_from([-3_600_000_000, -1, 0, 1, 999_999, 86_400_000_000]),
)


@st.composite
def worlds(draw: Callable[[Any], Any]) -> World:
    """Anything that can happen, at moments around the edges of months."""
    world = World()
    for at in sorted(draw(st.lists(moments, min_size=1, max_size=25))):
        actions: list[Callable[[], object]] = [
            lambda at=at: world.open(at, draw(st.sampled_from(Region)), vip=draw(st.booleans()))
        ]
        actions += [
            lambda at=at: world.set_price(
                at,
                draw(st.sampled_from(Region)),
                at.date() + timedelta(days=draw(st.sampled_from([1, 2, 20, 45]))),
                draw(st.sampled_from(["0.0001", "0.3333", "1.1850", "2.0000"])),
            )
        ] * 2
        for account_id in world.open_accounts:
            actions.append(lambda at=at, one=account_id: world.close(at, one))
            actions += [lambda at=at, one=account_id: world.create(at, one)] * 3
        for agent_id in world.present_agents:
            switch = world.unblock if world.agents[agent_id].is_blocked else world.block
            actions += [lambda at=at, one=agent_id, switch=switch: switch(at, one)] * 2
            actions.append(lambda at=at, one=agent_id: world.remove(at, one))
        draw(st.sampled_from(actions))()
    return world


def logged(happened: Iterable[Happened], partitions: int = 1) -> list[LoggedEvent]:
    """Events as a projection gets them."""
    positions: defaultdict[int, int] = defaultdict(int)
    result = []
    for at, stream_id, version, event in happened:
        partition = partition_of(stream_id, partitions)
        positions[partition] += 1
        result.append(
            LoggedEvent(
                partition=partition,
                position=positions[partition],
                stream_id=stream_id,
                category=Happened(at, stream_id, version, event).category,
                version=version,
                type=type(event).__name__,
                recorded_at=at,
                data=encode(event),
                event_id=new_event_id(),
            )
        )
    return result


def write_history(databases: Databases, happened: Sequence[Happened]) -> None:
    """Put events into the log at times of their own, which only its owner can."""
    with databases.as_owner() as log, log.transaction():
        heads = dict(log.execute(READ_HEADS).fetchall())
        rows = []
        for one in happened:
            partition = partition_of(one.stream_id, databases.settings.partitions)
            heads[partition] += 1
            rows.append(
                (
                    partition,
                    heads[partition],
                    one.stream_id,
                    one.category,
                    one.version,
                    type(one.event).__name__,
                    encode(one.event),
                    Jsonb(_meta(one)),
                    one.at,
                )
            )
            for guard in _guards(one):
                if isinstance(guard, Claim | Release):
                    statement = INSERT_CLAIM if isinstance(guard, Claim) else DELETE_CLAIM
                    log.execute(statement, [guard.kind, guard.value, one.stream_id])
        with log.cursor() as cursor:
            cursor.executemany(INSERT_EVENT, rows)


def _meta(one: Happened) -> Mapping[str, object]:
    command_id = uuid4().hex
    return {
        "event_id": new_event_id(),
        "correlation_id": command_id,
        "causation_id": command_id,
        "actor": "local",
        "schema": 1,
        "topic": one.model.topic(one.event),
        "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01",
    }


def _guards(one: Happened) -> Sequence[object]:
    guards = getattr(one.model, "guards", no_guards)
    return list(guards(one.event))


# The other way: straight from the contract, in fractions, without the code under test.

PER_HOUR = {"emea": Fraction("1.1850"), "nam": Fraction("1.2925"), "apac": Fraction("0.9760")}
CURRENCY = {"emea": "EUR", "nam": "USD", "apac": "USD"}
HOUR = timedelta(hours=1)


class Charged(NamedTuple):
    """An agent's line in a month's invoice."""

    account_id: UUID
    agent_id: UUID
    region: str
    vip: bool
    used: timedelta
    amount: Decimal


def charged(happened: Sequence[Happened], since: datetime, until: datetime) -> list[Charged]:
    """What each agent costs between two moments, clipping each step from event to event."""
    histories: defaultdict[UUID, list[Happened]] = defaultdict(list)
    for one in happened:
        if one.category == "agent":
            histories[one.stream_id].append(one)
    prices = [one.event for one in happened if isinstance(one.event, PriceSet)]
    midnights = {midnight(price.from_day) for price in prices}
    cuts = sorted({since, until, *(each for each in midnights if since < each < until)})
    lines = []
    for agent_id, history in histories.items():
        used, exact = timedelta(0), Fraction(0)
        steps = [*(one.at for one in history), until]
        event = history[0].event
        for nth, one in enumerate(history):
            if not isinstance(one.event, AgentCreated | AgentUnblocked):
                assert isinstance(one.event, AgentBlocked | AgentRemoved)
                continue
            for begin, end in pairwise(cuts):
                piece = max(timedelta(0), min(steps[nth + 1], end) - max(one.at, begin))
                used += piece
                exact += piece // MICROSECOND * price_at(prices, event.region, begin)
        if used:
            amount = cents(exact / (HOUR // MICROSECOND))
            lines.append(Charged(event.account_id, agent_id, event.region, event.vip, used, amount))
    return lines


def price_at(prices: Iterable[PriceSet], region: str, moment: datetime) -> Fraction:
    """What an hour costs at a moment: the price of the latest day, and of that the one set last."""
    day, per_hour = date.min, PER_HOUR[region]
    for price in prices:
        if price.region == region and day <= price.from_day and midnight(price.from_day) <= moment:
            day, per_hour = price.from_day, Fraction(price.per_hour)
    return per_hour


def midnight(day: date) -> datetime:
    """The first moment of a day in UTC."""
    return datetime.combine(day, time(), UTC)


def cents(exact: Fraction) -> Decimal:
    """Half up, as people do it: the cents, and one more when the rest is half a cent or more."""
    whole, rest = divmod(exact * 100, 1)
    return Decimal(int(whole) + (1 if rest >= Fraction(1, 2) else 0)) / 100


def hours(used: timedelta) -> str:
    """As hours:minutes:seconds, with microseconds."""
    seconds = used // timedelta(seconds=1)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{used.microseconds:06d}"


def opened(happened: Iterable[Happened]) -> dict[UUID, AccountOpened]:
    """Every account that ever was."""
    return {one.stream_id: one.event for one in happened if isinstance(one.event, AccountOpened)}


# For tests of whole processes, which are too slow for hypothesis.

MONTHS = [Month(2023, 12).plus(number) for number in range(6)]
LATER = datetime(2024, 5, 20, 12, tzinfo=UTC)
"""When histories are looked at: December to April are over, May is running."""


def busy(seed: int, *, agents: int = 12, steps: int = 150) -> World:
    """A history with much blocking, from December to May, and now and then another price."""
    chance = random.Random(seed)  # noqa: S311 - repeatable
    of_prices = random.Random(seed)  # noqa: S311 - repeatable
    world = World()
    step = (LATER - EDGES[0]) / (steps + 2)
    for number in range(steps):
        at = EDGES[0] + step * number + chance.random() * step
        if number < 4 or (chance.random() < 0.03):
            world.open(at, chance.choice(list(Region)), vip=chance.random() < 0.5)
        elif len(world.agents) < agents and chance.random() < 0.3:
            world.create(at, chance.choice(world.open_accounts))
        elif len(world.open_accounts) > 3 and chance.random() < 0.02:
            world.close(at, chance.choice(world.open_accounts))
        elif world.present_agents:
            agent = chance.choice(world.present_agents)
            (world.unblock if world.agents[agent].is_blocked else world.block)(at, agent)
        if of_prices.random() < 10 / steps:
            day = at.date() + timedelta(days=of_prices.choice([1, 10, 40]))
            price = of_prices.choice(["0.5000", "1.0101", "3.3333"])
            world.set_price(at, of_prices.choice(list(Region)), day, price)
    return world
