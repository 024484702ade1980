"""Commands by message: once, in order, and whatever nobody can use is put aside with the reason."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import httpx
import pika
import psycopg
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from prometheus_client import REGISTRY

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Given, Submission
from codebase.engine.messages.command_taker import IN_FLIGHT_MAX, CommandTaker
from codebase.engine.messages.dead_letters import DEAD_LETTERS, declare_dead_letters
from codebase.engine.messages.topology import COMMANDS
from codebase.foundation.observability import logs
from codebase.foundation.settings import Settings
from codebase.model.accounts.account import ACCOUNT, OpenAccount, Region
from codebase.model.accounts.agent import AGENT, BlockAgent, CreateAgent, UnblockAgent
from codebase.model.actor import Actor
from codebase.services.block_agent.messages import QUEUE, READERS, TOPICS
from tests.integration.flow import channel_to, eventually, messages_in
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.conftest import RabbitUnderTest
    from tests.databases import Databases

ALICE = Actor("alice")
REPLIES = "reply.test"
SECRET = "4111111111111111"  # noqa: S105 - a card number that must not come back

Result = TypeVar("Result")


class Taker:
    """block_agent's queue on an event loop in a thread of its own, with the bus behind it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started: Future[CommandBus] = Future()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._work()])

    def start(self) -> None:
        self._thread.start()
        self._bus = self._started.result(PATIENCE_SECONDS)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "stops within its deadline"
        self._loop.close()

    async def _work(self) -> None:
        async with CommandBus.open(self._settings) as bus:
            queue = CommandTaker(QUEUE, TOPICS, READERS, bus, self._settings)
            async with queue.at_work(lambda: PATIENCE_SECONDS):
                self._started.set_result(bus)
                await self._stop.wait()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    def execute(self, stream_id: UUID, command: object, **more: Any) -> None:  # noqa: ANN401
        is_account = isinstance(command, OpenAccount)
        submission = Submission(
            aggregate=ACCOUNT if is_account else AGENT,
            stream_id=stream_id,
            command=command,
            idempotence_key=None,
            content=Content(b""),
            actor=ALICE,
            command_id=uuid4().hex,
            **more,
        )
        self.run(self._bus.execute(submission))

    def new_agents(self, count: int) -> list[UUID]:
        """Agents of a new account."""
        account_id = uuid4()
        opening = OpenAccount(
            account_id=account_id,
            actor=ALICE,
            name="A",
            email=f"{account_id}@example.org",
            region=Region.EMEA,
            vip=False,
        )
        self.execute(account_id, opening)
        agents = [uuid4() for _ in range(count)]
        for agent_id in agents:
            self._create(agent_id, account_id)
        return agents

    def _create(self, agent_id: UUID, account_id: UUID) -> None:
        self.execute(
            agent_id,
            lambda account: CreateAgent(
                agent_id=agent_id,
                account_id=account_id,
                account=account,
                actor=ALICE,
                name="B",
                email=f"{agent_id}@example.org",
            ),
            given=Given(ACCOUNT, account_id),
        )


@contextmanager
def taking(settings: Settings) -> Iterator[Taker]:
    taker = Taker(settings)
    taker.start()
    try:
        yield taker
    finally:
        taker.stop()


@pytest.fixture
def taker(with_broker: Settings) -> Iterator[Taker]:
    with taking(with_broker) as taker:
        yield taker


@pytest.fixture
def channel(with_broker: Settings, taker: Taker) -> Iterator[Any]:
    """A channel on which the queue exists, and with a queue for replies."""
    assert taker
    with channel_to(with_broker) as channel:
        declare_dead_letters(channel)
        channel.queue_declare(REPLIES)
        eventually(lambda: is_declared(with_broker))
        yield channel


def is_declared(settings: Settings) -> bool:
    try:
        with channel_to(settings) as channel:
            return channel.queue_declare(QUEUE, passive=True).method.consumer_count == 1
    except pika.exceptions.ChannelClosedByBroker:
        return False


def send(channel: BlockingChannel, key: str, body: object, **properties: str) -> None:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = pika.BasicProperties(**properties)
    channel.basic_publish(COMMANDS, key, text, sent, mandatory=True)


def order(agent_id: UUID, key: str | None = None, **more: object) -> dict[str, object]:
    return {"agent_id": str(agent_id), "idempotence_key": key or str(uuid4()), **more}


def replies(channel: BlockingChannel, count: int) -> list[dict[str, Any]]:
    """The outcomes of so many commands, in the order in which they came."""
    found: list[dict[str, Any]] = []

    def all_are_there() -> bool:
        found.extend(json.loads(body) for _, body in messages_in(channel, REPLIES))
        return len(found) >= count

    eventually(all_are_there, f"{count} replies")
    assert len(found) == count
    return found


def outcomes(channel: BlockingChannel, count: int) -> list[str]:
    return [reply["outcome"] for reply in replies(channel, count)]


def outcomes_of(channel: BlockingChannel, ids: set[str]) -> set[str]:
    """What becomes of the commands with these correlation ids, told once at least of each."""
    found: list[tuple[str | None, str]] = []

    def all_are_there() -> bool:
        found.extend(
            (properties.correlation_id, json.loads(body)["outcome"])
            for properties, body in messages_in(channel, REPLIES)
        )
        return ids <= {each for each, _ in found}

    eventually(all_are_there, "replies to all of them")
    return {outcome for _, outcome in found}


def dead_letters(channel: BlockingChannel, count: int) -> list[tuple[dict[str, str], bytes]]:
    """Headers and bodies."""
    found: list[tuple[dict[str, str], bytes]] = []

    def all_are_there() -> bool:
        found.extend((p.headers, body) for p, body in messages_in(channel, DEAD_LETTERS))
        return len(found) >= count

    eventually(all_are_there, f"{count} dead letters")
    assert len(found) == count
    return found


def happened(databases: Databases, agent_id: UUID) -> list[str]:
    """The events of a stream."""
    with databases.as_owner() as log:
        rows = log.execute(
            "SELECT type FROM event WHERE stream_id = %s ORDER BY version", [agent_id]
        ).fetchall()
    return [row[0] for row in rows]


def test_an_agent_is_blocked_and_unblocked_and_the_sender_told(
    databases: Databases, taker: Taker, channel: BlockingChannel
) -> None:
    (agent,) = taker.new_agents(1)
    body = order(agent, reason="late with the papers")
    send(channel, "agent.block", body, reply_to=REPLIES, correlation_id="17")
    ((properties, text),) = until_some(channel, REPLIES)
    assert properties.correlation_id == "17"
    assert json.loads(text) == {"outcome": "done", "detail": None}
    send(channel, "agent.block", order(agent), reply_to=REPLIES)
    send(channel, "agent.unblock", order(agent), reply_to=REPLIES)
    assert outcomes(channel, 2) == ["unchanged", "done"]
    assert happened(databases, agent) == ["AgentCreated", "AgentBlocked", "AgentUnblocked"]
    with databases.as_owner() as log:
        row = log.execute(
            "SELECT data ->> 'reason', meta ->> 'actor' FROM event WHERE type = 'AgentBlocked'"
        ).fetchone()
    assert row == ("late with the papers", "commands")


def until_some(channel: BlockingChannel, queue: str) -> list[tuple[Any, bytes]]:
    found: list[tuple[Any, bytes]] = []
    eventually(lambda: found.extend(messages_in(channel, queue)) or found)
    return found


def test_a_message_that_comes_ten_times_changes_nothing_also_after_its_opposite(
    databases: Databases, taker: Taker, channel: BlockingChannel
) -> None:
    """One that did something, and one that found nothing to do."""
    for is_blocked_before in (False, True):
        (agent,) = taker.new_agents(1)
        if is_blocked_before:
            taker.execute(agent, BlockAgent(agent_id=agent, actor=ALICE))
        body = order(agent, "key-1")
        for _ in range(5):
            send(channel, "agent.block", body, reply_to=REPLIES)
        expected = "unchanged" if is_blocked_before else "done"
        assert outcomes(channel, 5) == [expected] * 5
        taker.execute(agent, UnblockAgent(agent_id=agent, actor=ALICE))
        for _ in range(5):
            send(channel, "agent.block", body, reply_to=REPLIES)
        assert outcomes(channel, 5) == [expected] * 5
        assert happened(databases, agent) == ["AgentCreated", "AgentBlocked", "AgentUnblocked"]


def test_a_bare_id_is_a_command_and_the_message_id_its_key(
    databases: Databases, taker: Taker, channel: BlockingChannel
) -> None:
    plain, quoted = taker.new_agents(2)
    for _ in range(3):
        send(channel, "agent.block", f"{plain}\n".encode(), message_id="1", reply_to=REPLIES)
        send(channel, "agent.block", str(quoted).upper(), reply_to=REPLIES)
    # Without any key each message counts, as it would by HTTP.
    assert sorted(outcomes(channel, 6)) == ["done"] * 4 + ["unchanged"] * 2
    taker.execute(plain, UnblockAgent(agent_id=plain, actor=ALICE))
    send(channel, "agent.block", str(plain).encode(), message_id="1", reply_to=REPLIES)
    assert outcomes(channel, 1) == ["done"]
    assert happened(databases, plain) == ["AgentCreated", "AgentBlocked", "AgentUnblocked"]


AGENT_ID = "3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe"
MALFORMED = {
    "nothing": (b"", "body: "),
    "no JSON": (SECRET.encode() + b"{", "body: "),
    "another JSON": (b"[]", "body: must be a JSON object"),
    "no UTF-8": (b'{"agent_id":"\xff"}', "body: "),
    "no agent": (b'{"idempotence_key":"1"}', "agent_id: is required"),
    "an agent that is none": (f'{{"agent_id":"{SECRET}"}}'.encode(), "agent_id: must be a UUID"),
    "no key": (f'{{"agent_id":"{AGENT_ID}"}}'.encode(), "idempotence_key: is required"),
    "a key with a blank": (
        f'{{"agent_id":"{AGENT_ID}","idempotence_key":"a {SECRET}"}}'.encode(),
        "idempotence_key: does not have the right form",
    ),
    "a key that is too long": (
        f'{{"agent_id":"{AGENT_ID}","idempotence_key":"{"a" * 256}"}}'.encode(),
        "idempotence_key: does not have the right form",
    ),
    "a key that goes on": (
        f'{{"agent_id":"{AGENT_ID}","idempotence_key":"a\\n"}}'.encode(),
        "idempotence_key: does not have the right form",
    ),
    "an unknown field": (
        f'{{"agent_id":"{AGENT_ID}","idempotence_key":"1","colour":"{SECRET}"}}'.encode(),
        "colour: is not a known field",
    ),
    "a NUL in the reason": (
        f'{{"agent_id":"{AGENT_ID}","idempotence_key":"1","reason":"{SECRET}\\u0000"}}'.encode(),
        "reason: must be text without NUL",
    ),
    "too deep": (b"[" * 1000, "body: must be nested"),
    "not quite a UUID": (AGENT_ID.encode()[:-1], "body: "),
    "oversized": (AGENT_ID.encode() + b" " * 70_000, "body: must have at most 65536 bytes"),
}


def test_what_is_no_command_is_put_aside_with_the_reason_and_the_queue_goes_on(
    databases: Databases, taker: Taker, channel: BlockingChannel
) -> None:
    (agent,) = taker.new_agents(1)
    bodies = [body for body, _ in MALFORMED.values()]
    for body in bodies:
        send(channel, "agent.block", body, reply_to=REPLIES)
    send(channel, "agent.block", order(agent), reply_to=REPLIES)
    told = replies(channel, len(bodies) + 1)
    assert sorted(one["outcome"] for one in told) == ["done"] + ["refused"] * len(bodies)
    letters = dead_letters(channel, len(bodies))
    for (body, reason), (headers, letter) in zip(MALFORMED.values(), letters, strict=True):
        assert letter == body
        assert headers["reason"].startswith(reason)
        assert SECRET not in headers["reason"]
        assert (headers["queue"], headers["routing_key"]) == (QUEUE, "agent.block")
    assert happened(databases, agent) == ["AgentCreated", "AgentBlocked"]


@pytest.mark.parametrize("key", ["agent.dance", "agent", "agent.block.now", "nonsense", ""])
def test_an_unknown_command_is_put_aside_with_the_reason(
    taker: Taker, channel: BlockingChannel, key: str
) -> None:
    (agent,) = taker.new_agents(1)
    send(channel, key, order(agent))
    ((headers, _),) = dead_letters(channel, 1)
    assert headers["reason"] == "routing_key: is none of a known command"
    assert headers["routing_key"] == key


def test_properties_that_are_no_text_do_not_stop_the_queue(
    databases: Databases, taker: Taker, channel: BlockingChannel
) -> None:
    """AMQP has octets there, and a client may put in whatever it likes."""
    (agent,) = taker.new_agents(1)
    odd = pika.BasicProperties(message_id=b"\xff", correlation_id=b"\xff", reply_to=b"\xff")
    # pika would not send that. A channel without confirms, as nobody would wait for them.
    raw = channel.connection.channel()
    for routing_key in (b"agent.block", b"\xff"):
        publish = pika.spec.Basic.Publish(exchange=COMMANDS, routing_key=routing_key)
        raw._impl._send_method(publish, (odd, str(agent).encode()))  # noqa: SLF001
    # Answered after both, so that what is sent next is the next in the queue.
    raw.queue_declare(QUEUE, passive=True)
    send(channel, "agent.unblock", order(agent), reply_to=REPLIES)
    assert outcomes(channel, 1) == ["done"]
    ((headers, _),) = dead_letters(channel, 1)
    assert headers["reason"] == "routing_key: is none of a known command"
    assert happened(databases, agent) == ["AgentCreated", "AgentBlocked", "AgentUnblocked"]


def test_a_command_that_is_refused_is_put_aside_with_the_reason(
    databases: Databases, taker: Taker, channel: BlockingChannel
) -> None:
    (agent,) = taker.new_agents(1)
    nobody = uuid4()
    send(channel, "agent.block", order(nobody), reply_to=REPLIES)
    assert replies(channel, 1) == [{"outcome": "refused", "detail": f"Agent {nobody} not found"}]
    send(channel, "agent.block", order(agent, "1"), reply_to=REPLIES)
    send(channel, "agent.unblock", order(agent, "1"), reply_to=REPLIES)
    assert outcomes(channel, 2) == ["done", "refused"]
    reasons = [headers["reason"] for headers, _ in dead_letters(channel, 2)]
    assert reasons == [
        f"Agent {nobody} not found",
        "this idempotence key already stands for another command",
    ]
    assert happened(databases, agent) == ["AgentCreated", "AgentBlocked"]


def test_a_reply_that_nobody_takes_does_not_stop_the_queue(
    databases: Databases, taker: Taker, channel: BlockingChannel
) -> None:
    (agent,) = taker.new_agents(1)
    for reply_to in ("reply.nobody", "amq.rabbitmq.reply-to.x", "reply." + "x" * 249):
        send(channel, "agent.block", order(agent), reply_to=reply_to)
        send(channel, "agent.unblock", order(agent), reply_to=REPLIES)
        assert outcomes(channel, 1) == ["done"]
    assert len(happened(databases, agent)) == 7


def unanswered() -> float:
    name = "orderly_message_commands_unanswered_total"
    return REGISTRY.get_sample_value(name, {"queue": QUEUE}) or 0


@pytest.mark.parametrize("name", ["billing.0", QUEUE, DEAD_LETTERS, "replies", "a.reply.", "reply"])
def test_an_outcome_goes_to_no_queue_that_is_not_for_replies(
    databases: Databases, taker: Taker, channel: BlockingChannel, name: str
) -> None:
    (agent,) = taker.new_agents(1)
    is_new = name not in {QUEUE, DEAD_LETTERS}
    if is_new:
        channel.queue_declare(name, auto_delete=True)
    before = unanswered()
    send(channel, "agent.block", order(agent), reply_to=name)
    send(channel, "agent.unblock", order(agent), reply_to=REPLIES)
    assert outcomes(channel, 1) == ["done"]
    assert happened(databases, agent) == ["AgentCreated", "AgentBlocked", "AgentUnblocked"]
    assert unanswered() == before + 1
    if is_new:
        assert messages_in(channel, name) == []
    # What the command queue cannot read is put there too.
    assert messages_in(channel, DEAD_LETTERS) == []


def test_many_that_cannot_be_answered_are_one_warning(
    taker: Taker, channel: BlockingChannel
) -> None:
    (agent,) = taker.new_agents(1)
    lines = io.StringIO()
    before = unanswered()
    with logs.configured(Settings(), service="test", stream=lines):
        for _ in range(20):
            send(channel, "agent.block", order(agent), reply_to=f"billing.{SECRET}")
        eventually(lambda: unanswered() == before + 20)
    assert lines.getvalue().count("command_not_answered") == 1
    assert SECRET not in lines.getvalue()


def test_a_sender_that_is_still_connected_is_answered_directly(
    taker: Taker, channel: BlockingChannel
) -> None:
    (agent,) = taker.new_agents(1)
    told: list[bytes] = []
    channel.basic_consume(
        "amq.rabbitmq.reply-to", lambda *arrival: told.append(arrival[-1]), auto_ack=True
    )
    send(channel, "agent.block", order(agent), reply_to="amq.rabbitmq.reply-to")

    def is_told() -> list[bytes]:
        channel.connection.process_data_events(0.01)
        return told

    eventually(is_told)
    assert json.loads(told[0])["outcome"] == "done"


def test_commands_for_one_agent_are_carried_out_in_the_order_of_the_queue(
    databases: Databases, taker: Taker, channel: BlockingChannel
) -> None:
    """Many are in flight at once, for two agents at a time."""
    agents = taker.new_agents(2)
    rounds = 100
    for _ in range(rounds):
        for command in ("agent.block", "agent.unblock"):
            for agent in agents:
                send(channel, command, order(agent), reply_to=REPLIES)
    assert set(outcomes(channel, 4 * rounds)) == {"done"}
    for agent in agents:
        expected = ["AgentCreated"] + ["AgentBlocked", "AgentUnblocked"] * rounds
        assert happened(databases, agent) == expected


def test_commands_by_message_share_their_commits(
    databases: Databases, taker: Taker, channel: BlockingChannel
) -> None:
    agents = taker.new_agents(2 * IN_FLIGHT_MAX)
    before = batches()
    waiting = len(agents) - IN_FLIGHT_MAX
    with databases.as_owner() as holder, holder.transaction():
        # Nothing is written before as many as may be in flight at once are.
        holder.execute("SELECT FROM log_head FOR UPDATE")
        for agent in agents:
            send(channel, "agent.block", order(agent), reply_to=REPLIES)
        eventually(
            lambda: channel.queue_declare(QUEUE, passive=True).method.message_count == waiting
        )
    assert outcomes(channel, len(agents)) == ["done"] * len(agents)
    assert len(events_of(databases, "AgentBlocked")) == len(agents)
    assert batches() - before < len(agents)


def batches() -> float:
    return REGISTRY.get_sample_value("orderly_command_batch_size_count") or 0


def events_of(databases: Databases, kind: str) -> Sequence[Any]:
    with databases.as_owner() as log:
        return log.execute("SELECT stream_id FROM event WHERE type = %s", [kind]).fetchall()


@contextmanager
def away(databases: Databases) -> Iterator[None]:
    """The write model takes no connections, and has ended those that it had."""
    name = databases.settings.required("write_model_owner_url").rsplit("/", 1)[1].split("?")[0]
    with psycopg.connect(databases.server.superuser_url(), autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        try:
            yield
        finally:
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def retried() -> float:
    return (
        REGISTRY.get_sample_value("orderly_message_commands_retried_total", {"queue": QUEUE}) or 0
    )


def test_while_the_write_model_is_away_commands_wait(
    databases: Databases, taker: Taker, channel: BlockingChannel
) -> None:
    agents = taker.new_agents(20)
    before = retried()
    with away(databases):
        for agent in agents:
            send(channel, "agent.block", order(agent), reply_to=REPLIES)
        eventually(lambda: retried() > before + 2 * len(agents), "they are tried again")
        assert messages_in(channel, REPLIES) == []
    assert outcomes(channel, len(agents)) == ["done"] * len(agents)
    assert len(events_of(databases, "AgentBlocked")) == len(agents)
    assert messages_in(channel, DEAD_LETTERS) == []


def test_commands_wait_while_nobody_takes_them(
    databases: Databases, with_broker: Settings, rabbitmq_server: RabbitUnderTest
) -> None:
    with taking(with_broker) as taker:
        agents = taker.new_agents(50)
        eventually(lambda: is_declared(with_broker))
    with channel_to(with_broker) as channel:
        channel.queue_declare(REPLIES)
        for agent in agents:
            send(channel, "agent.block", order(agent), reply_to=REPLIES)
        with taking(with_broker):
            assert outcomes(channel, len(agents)) == ["done"] * len(agents)
            # The broker cuts the connection off; the consumer comes back.
            cut_off(rabbitmq_server, QUEUE, with_broker)
            unblocked = [str(uuid4()) for _ in agents]
            for agent, each in zip(agents, unblocked, strict=True):
                told = {"reply_to": REPLIES, "correlation_id": each}
                send(channel, "agent.unblock", order(agent), **told)
            # What was answered and not acknowledged before the cut is answered once more.
            assert outcomes_of(channel, set(unblocked)) == {"done"}
    assert len(events_of(databases, "AgentUnblocked")) == len(agents)


def cut_off(server: RabbitUnderTest, name: str, settings: Settings) -> None:
    """Close the connection of that name, as soon as the management plugin knows of it."""
    vhost = settings.required("broker_url").rsplit("/", 1)[1]

    def is_cut() -> bool:
        connections = server.manage("GET", "connections").json()
        found = [
            one["name"]
            for one in connections
            if one.get("vhost") == vhost
            and one.get("client_properties", {}).get("connection_name") == name
        ]
        return any(closes(server, each) for each in found)

    eventually(is_cut, "the connection shows")


def closes(server: RabbitUnderTest, connection: str) -> bool:
    """Whether there was one: those that were closed just now show for a while."""
    try:
        server.manage("DELETE", f"connections/{connection}")
    except httpx.HTTPStatusError as error:
        if error.response.status_code != HTTPStatus.NOT_FOUND:
            raise
        return False
    return True
