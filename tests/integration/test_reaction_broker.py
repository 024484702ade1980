"""Commands that events cause, by message: sent, answered, and sent again when nobody heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID, uuid4

import pytest

from codebase.engine.reactions import publisher
from codebase.engine.reactions.broker_target import BrokerTarget
from codebase.engine.reactions.reaction import Answer, Send, Sent
from codebase.engine.reactions.target import InDoubtError, NotSentError
from codebase.foundation.settings import Settings
from tests.integration.test_command_taker import taking
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.conftest import RabbitUnderTest

T = TypeVar("T")


def message(sent: Sent) -> tuple[str, bytes]:
    body = {**sent.send.data, "idempotence_key": str(sent.key)}
    return f"agent.{sent.send.action}", json.dumps(body).encode()


def block(agent_id: UUID) -> Sent:
    send = Send("agents", "block", {"agent_id": str(agent_id), "reason": "overdue"})
    return Sent(key=uuid4(), subject=agent_id, send=send)


@asynccontextmanager
async def target_to(settings: Settings) -> AsyncIterator[BrokerTarget]:
    target = BrokerTarget(settings.required("broker_url"), "agents", message)
    async with target.at_work(lambda: PATIENCE_SECONDS):
        yield target


async def persistently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """As a dispatcher does: what was not sent is sent again."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await ask()
            except (NotSentError, InDoubtError):
                await asyncio.sleep(0.01)


def answers(settings: Settings, *sent: Sent) -> list[Answer]:
    async def ask() -> list[Answer]:
        async with target_to(settings) as target:
            return [await persistently(lambda each=each: target.send(each)) for each in sent]  # type: ignore[misc]

    return asyncio.run(ask())


def test_a_command_by_message_is_answered_and_a_repeat_as_it_was(
    with_broker: Settings,
) -> None:
    with taking(with_broker) as taker:
        [agent] = taker.new_agents(1)
        first, second = block(agent), block(agent)
        found = answers(with_broker, first, first, second)
    outcomes = [each.data["outcome"] for each in found]
    assert outcomes == ["done", "done", "unchanged"]
    assert [each.refused for each in found] == [None] * 3


def test_a_command_that_is_refused_is_answered_with_the_reason(with_broker: Settings) -> None:
    with taking(with_broker):
        [found] = answers(with_broker, block(uuid4()))
    assert found.refused is not None
    assert "not found" in found.refused


def test_a_command_that_nobody_takes_was_not_sent(with_broker: Settings) -> None:
    async def why_not() -> str:
        async with target_to(with_broker) as target, asyncio.timeout(PATIENCE_SECONDS):
            while (reason := await refusal(target)) == "the broker is away":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return reason

    assert asyncio.run(why_not()) == "no service takes commands at the moment"


def test_a_broker_that_falls_silent_leaves_in_doubt_what_was_sent_and_a_repeat_settles_it(
    with_broker: Settings, rabbitmq_server: RabbitUnderTest
) -> None:
    with taking(with_broker) as taker:
        known, agent = taker.new_agents(2)
        asyncio.run(fall_silent(with_broker, rabbitmq_server, known, agent))


async def refusal(target: BrokerTarget) -> str:
    with pytest.raises(NotSentError) as refused:
        await target.send(block(uuid4()))
    return str(refused.value)


async def fall_silent(
    settings: Settings, server: RabbitUnderTest, known: UUID, agent: UUID
) -> None:
    sent = block(agent)
    async with target_to(settings) as target:
        await persistently(lambda: target.send(block(known)))  # connected
        with server.paused(), pytest.MonkeyPatch.context() as patch:
            # In sight of an answer that never comes.
            patch.setattr(publisher, "PUBLISH_DEADLINE_SECONDS", 0.5)
            with pytest.raises(InDoubtError):
                await target.send(sent)
        found = await persistently(lambda: target.send(sent))
    assert found.data["outcome"] == "done"
