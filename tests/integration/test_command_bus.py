"""The command bus on a real log: once per key, whatever else happens."""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from prometheus_client import REGISTRY

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.lane import WRITERS_PER_LANE
from codebase.engine.commands.submission import Outcome, Submission
from codebase.engine.log.identifiers import creation_stream_id
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.observability import logs
from codebase.foundation.settings import Settings
from codebase.model.actor import Actor
from codebase.model.buy_orders.buy_order import BUY_ORDER, OrderBookLimit, PlaceBuyOrder, Price
from codebase.model.money import Currency
from codebase.model.refusals import KeyReused, Rejected, Unavailable
from tests.clocks import on_a_jumping_clock, on_a_pushed_clock, push_the_clock
from tests.collector import left_by_each
from tests.integration.flow import waits_for_a_lock
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

ALICE = Actor("alice")
USD = Currency.USD
PRICE = Price(currency=USD, rate=Decimal(50_000), source="demo")


def order(key: str, amount: str = "500", price: Price | None = PRICE) -> Submission:
    return Submission(
        aggregate=BUY_ORDER,
        stream_id=creation_stream_id("alice", "buy_order", key),
        command=PlaceBuyOrder(
            client="alice",
            idempotence_key=key,
            currency=USD,
            currency_amount=Decimal(amount),
            price=price,
        ),
        idempotence_key=key,
        content=Content(amount.encode()),
        actor=ALICE,
        command_id=str(uuid4()),
        creates=True,
    )


REFUSED: dict[str, Callable[[], Submission]] = {
    "by what is left of a budget": lambda: order(str(uuid4())),
    "by a rule": lambda: order(str(uuid4()), price=None),
    "by the key of another command": lambda: order("a", amount="1"),
}


def with_bus(settings: Settings, story: Callable[[CommandBus], Awaitable[Any]]) -> Any:  # noqa: ANN401
    async def opened() -> Any:  # noqa: ANN401
        async with CommandBus.open(settings) as bus:
            return await story(bus)

    return asyncio.run(opened())


async def together(bus: CommandBus, submissions: list[Submission]) -> list[Outcome | Exception]:
    return await asyncio.gather(*map(bus.execute, submissions), return_exceptions=True)  # type: ignore[return-value]


def limit(databases: Databases, btc: str) -> None:
    with databases.as_owner() as connection:
        connection.execute("SELECT set_budget_limit(name, %s) FROM budget", [Decimal(btc)])


def events(databases: Databases) -> int:
    with databases.as_owner() as connection:
        row = connection.execute("SELECT count(*) FROM event").fetchone()
        return int(row[0]) if row else 0


def test_a_hundred_concurrent_repeats_are_one_order(databases: Databases) -> None:
    key = str(uuid4())
    answers = with_bus(databases.settings, lambda bus: together(bus, [order(key)] * 100))
    assert (
        len({(str(answer.positions), answer.recorded_at, answer.version) for answer in answers})
        == 1
    )
    assert events(databases) == 1


def test_a_repeat_needs_neither_a_price_nor_room_in_the_book(databases: Databases) -> None:
    limit(databases, "0.01")

    async def story(bus: CommandBus) -> None:
        first = await bus.execute(order("a"))
        assert not first.replayed
        without_price = await bus.execute(order("a", price=None))
        assert without_price == replace(first, replayed=True)
        with pytest.raises(OrderBookLimit):
            await bus.execute(order("b"))
        with pytest.raises(Unavailable):
            await bus.execute(order("c", price=None))
        assert await bus.execute(order("a")) == replace(first, replayed=True)

    with_bus(databases.settings, story)


def test_where_others_repeat_a_repeat_is_decided_once(databases: Databases) -> None:
    """A writer that has met one reads what its next batch would create before it decides."""

    def decided_again() -> float:
        return REGISTRY.get_sample_value("orderly_commands_decided_again_total") or 0

    async def story(bus: CommandBus) -> None:
        first = await bus.execute(order("a"))
        before = decided_again()
        for _ in range(10 * WRITERS_PER_LANE):
            assert await bus.execute(order("a")) == replace(first, replayed=True)
        assert decided_again() - before <= WRITERS_PER_LANE, "each writer finds out once"
        new = await bus.execute(order("b"))
        assert not new.replayed

    with_bus(databases.settings, story)
    assert events(databases) == 2


def test_a_key_with_other_content_is_refused_and_changes_nothing(databases: Databases) -> None:
    async def story(bus: CommandBus) -> None:
        await bus.execute(order("a", "500"))
        with pytest.raises(KeyReused):
            await bus.execute(order("a", "501"))

    with_bus(databases.settings, story)
    assert events(databases) == 1


def test_what_fits_gets_in_beside_what_does_not(databases: Databases) -> None:
    limit(databases, "0.03")

    async def story(bus: CommandBus) -> list[Outcome | Exception]:
        big = [order(f"big {n}", "5000") for n in range(30)]
        small = [order(f"small {n}", "500") for n in range(3)]
        return await together(bus, big[:15] + small + big[15:])

    answers = with_bus(databases.settings, story)
    placed = [answer for answer in answers if isinstance(answer, Outcome)]
    assert len(placed) == 3
    assert sum(isinstance(answer, OrderBookLimit) for answer in answers) == 30
    assert {answer.facts["left_btc"] for answer in answers if isinstance(answer, OrderBookLimit)}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_leaves_nothing_behind_for_the_collector(
    databases: Databases, refused: Callable[[], Submission]
) -> None:
    limit(databases, "0.01")

    async def story(bus: CommandBus) -> None:
        await bus.execute(order("a"))
        assert await left_by_each_refusal(bus, refused, Rejected) < 1

    with_bus(databases.settings, story)


def test_a_log_that_takes_nothing_leaves_no_commands_behind_for_the_collector(
    databases: Databases,
) -> None:
    async def story(bus: CommandBus) -> None:
        await bus.execute(order("before"))
        with databases.as_owner() as owner:
            owner.execute(DISK_IS_FULL)
        assert await left_by_each_refusal(bus, lambda: order(str(uuid4())), ServiceUnavailable) < 1

    with_bus(databases.settings, story)


async def left_by_each_refusal(
    bus: CommandBus, refused: Callable[[], Submission], why: type[Exception]
) -> float:
    """What is raised knows the frames that it came through, and what they knew."""

    async def refuse() -> None:
        with pytest.raises(why):
            await bus.execute(refused())

    # Every writer has met one.
    for _ in range(10 * WRITERS_PER_LANE):
        await refuse()
    return await left_by_each(refuse)


def test_a_command_that_postgres_cannot_take_fails_alone(databases: Databases) -> None:
    good = [order(f"good {n}") for n in range(20)]
    evil = order("evil\x00")

    answers = with_bus(
        databases.settings, lambda bus: together(bus, [*good[:10], evil, *good[10:]])
    )
    assert sum(isinstance(answer, Outcome) for answer in answers) == 20
    assert isinstance(answers[10], Exception)
    assert events(databases) == 20


def _place_in_process(settings: Settings, keys: list[str], amount: str, answers: Any) -> None:  # noqa: ANN401
    outcomes = with_bus(settings, lambda bus: together(bus, [order(key, amount) for key in keys]))
    answers.put(
        [(type(outcome).__name__, str(getattr(outcome, "positions", None))) for outcome in outcomes]
    )


def in_processes(settings: Settings, keys: list[list[str]], amount: str) -> list[tuple[str, str]]:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=_place_in_process, args=(settings, chunk, amount, answers))
        for chunk in keys
    ]
    for process in processes:
        process.start()
    collected = [answer for _ in processes for answer in answers.get(timeout=PATIENCE_SECONDS)]
    for process in processes:
        process.join()
    return collected


def test_the_limit_holds_under_fifty_writers_in_several_processes(databases: Databases) -> None:
    limit(databases, "0.5")
    keys = [[f"{process} {n}" for n in range(50)] for process in range(3)]
    answers = in_processes(databases.settings, keys, "500")
    names = [name for name, _ in answers]
    assert names.count("Outcome") == 50
    assert names.count("OrderBookLimit") == 100, Counter(names)
    with databases.as_owner() as connection:
        assert connection.execute("SELECT sum(spent) FROM budget_share").fetchone() == (
            Decimal("0.5"),
        )


def test_one_key_in_several_processes_is_one_order(databases: Databases) -> None:
    answers = in_processes(databases.settings, [["same"] * 50] * 3, "500")
    assert {name for name, _ in answers} == {"Outcome"}
    assert len({position for _, position in answers}) == 1
    assert events(databases) == 1


def test_a_write_model_that_is_away_is_said_at_once_and_comes_back_unaided(
    databases: Databases,
) -> None:
    async def story(bus: CommandBus) -> None:
        await bus.execute(order("before"))
        await asyncio.to_thread(databases.server.stop)
        try:
            with pytest.raises(ServiceUnavailable):
                await bus.execute(order("during"))
            assert await bus.ready()
        finally:
            await asyncio.to_thread(databases.server.start)
        assert await bus.ready() is None
        assert not (await bus.execute(order("during"))).replayed

    with_bus(databases.settings, story)
    assert events(databases) == 2


def test_however_many_wait_for_a_log_that_is_away_none_waits_long() -> None:
    """A server that takes connections, and then says nothing at all."""

    async def story(settings: Settings) -> None:
        now = asyncio.get_running_loop().time
        async with CommandBus.open(settings) as bus:
            begun = now()
            answers = await together(bus, [order(str(number)) for number in range(300)])
            assert now() - begun <= settings.command_deadline_seconds
        assert all(isinstance(answer, ServiceUnavailable) for answer in answers)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/log"
        on_a_jumping_clock(story(Settings(write_model_url=address, development=True)))


def test_whoever_stands_in_line_waits_for_one_deadline_and_not_for_those_before(
    databases: Databases,
) -> None:
    settings = databases.settings.model_copy(update={"command_batch_max": 1})

    async def story() -> None:
        async with CommandBus.open(settings) as bus:
            await bus.execute(order("before"))
            with databases.as_owner() as holder, holder.transaction():
                holder.execute("SELECT FROM log_head FOR UPDATE")
                in_line = asyncio.gather(
                    *(bus.execute(order(str(number))) for number in range(20)),
                    return_exceptions=True,
                )
                await until_an_append_waits(databases)
                push_the_clock(settings.command_deadline_seconds)
                answers = await in_line
        assert all(isinstance(answer, ServiceUnavailable) for answer in answers)

    on_a_pushed_clock(story())


async def until_an_append_waits(databases: Databases) -> None:
    while not waits_for_a_lock(databases.server, "command_bus"):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)


def test_a_log_that_does_not_answer_in_time_is_a_doubt_that_a_repeat_resolves(
    databases: Databases,
) -> None:
    """Somebody holds the head: the append waits on the server, and the client must not."""
    settings = databases.settings

    async def story() -> None:
        async with CommandBus.open(settings) as bus:
            await bus.execute(order("before"))
            with databases.as_owner() as holder, holder.transaction():
                holder.execute("SELECT FROM log_head FOR UPDATE")
                held_up = asyncio.create_task(bus.execute(order("held up")))
                await until_an_append_waits(databases)
                push_the_clock(settings.database_deadline_seconds)
                with pytest.raises(ServiceUnavailable):
                    await held_up
            again = await bus.execute(order("held up"))
            assert again.version == 1

    on_a_pushed_clock(story())
    assert events(databases) == 2


def test_closing_the_bus_writes_what_was_accepted(databases: Databases) -> None:
    async def story() -> list[Outcome | Exception]:
        async with CommandBus.open(databases.settings) as bus:
            await bus.execute(order("first"))
            waiting = [asyncio.create_task(bus.execute(order(str(n)))) for n in range(50)]
            await asyncio.sleep(0)
        return await asyncio.gather(*waiting, return_exceptions=True)  # type: ignore[return-value]

    outcomes = asyncio.run(story())
    assert all(isinstance(outcome, Outcome) for outcome in outcomes)
    assert events(databases) == 51


REVOKE_APPEND = """
    DO $$ DECLARE each regprocedure; BEGIN
        FOR each IN SELECT oid::regprocedure FROM pg_proc
                    WHERE proname IN ('append', 'append_creations') LOOP
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM command_service', each);
        END LOOP;
    END $$
"""
DISK_IS_FULL = """
    CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER full_disk BEFORE INSERT ON event EXECUTE FUNCTION disk_is_full();
"""


def test_a_log_that_refuses_is_not_said_to_be_away_and_the_cause_is_logged_once(
    databases: Databases,
) -> None:
    """A full disk, as Postgres tells of it: everything can be read, and nothing be written."""

    async def story(bus: CommandBus) -> None:
        await bus.execute(order("before"))
        with databases.as_owner() as owner:
            owner.execute(DISK_IS_FULL)
        for key in ("one", "two", "three"):
            with pytest.raises(ServiceUnavailable, match=r"refuses .DiskFull 53100"):
                await bus.execute(order(key))
        assert await bus.ready() == "write_model: refuses (DiskFull 53100)"
        with databases.as_owner() as owner:
            owner.execute("DROP TRIGGER full_disk ON event")
        assert await bus.ready() is None
        await bus.execute(order("after"))

    lines = io.StringIO()
    with logs.configured(databases.settings, service="test", stream=lines):
        with_bus(databases.settings, story)
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    failed = [line for line in said if line["event"] == "dependency_failed"]
    assert [(line["work"], line["sqlstate"]) for line in failed] == [("append", "53100")]
    assert [line["event"] for line in said].count("dependency_recovered") == 1
    assert events(databases) == 2


def test_a_log_whose_privilege_to_append_is_gone_is_not_ready(databases: Databases) -> None:
    async def story(bus: CommandBus) -> None:
        with databases.as_owner() as owner:
            owner.execute(REVOKE_APPEND)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await bus.execute(order("refused"))
        assert await bus.ready() == "InsufficientPrivilege 42501"

    with_bus(databases.settings, story)
