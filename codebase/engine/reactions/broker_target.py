"""The target that sends commands by the exchange `commands`, and hears what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from pika.adapters.blocking_connection import BlockingChannel

from codebase.engine.messages.command_message import Became, CommandMessage, MalformedError, Reply
from codebase.engine.messages.listener import Arrival
from codebase.engine.messages.reply_queues import RESERVED
from codebase.engine.reactions.publisher import Message, Publisher
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import InDoubtError, Repeatable

REPLY_DEADLINE_SECONDS = 30.0
UNUSED_MS = 600_000
"""How long a queue for replies outlives the process that it was for."""


class BrokerTarget(Repeatable):
    """Commands by message. Their taker does each key once, and answers a repeat as it answered.

    Replies come to a queue of this process; those that come when it is gone are answered again,
    when the command is sent again.

    Args:
        url: of the broker.
        name: of the target, seen in names of queues.
        message: what was sent -> routing key and body, with `sent.key` as idempotence key.
        deadline_seconds: for the reply.
    """

    def __init__(
        self,
        url: str,
        name: str,
        message: Message,
        *,
        deadline_seconds: float = REPLY_DEADLINE_SECONDS,
    ) -> None:
        self.deadline_seconds = deadline_seconds
        self._loop = asyncio.get_running_loop()
        self._queue = f"{RESERVED}{name}.{uuid4().hex}"
        self._publisher = Publisher(url, self._queue, self._declare, message, take=self._take)
        self.at_work = self._publisher.at_work

    async def send(self, sent: Sent) -> Answer:
        """Send the command, and wait for its outcome.

        Raises:
            NotSentError: there is no broker, or nobody takes such commands.
            InDoubtError: the connection broke.
        """
        return await self._publisher.send(sent)

    # The listening thread

    def _declare(self, channel: BlockingChannel) -> None:
        channel.queue_declare(self._queue, durable=True, arguments={"x-expires": UNUSED_MS})

    def _take(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self._loop.call_soon_threadsafe(self._hear, arrival)
        last = arrivals[-1]
        self._publisher.listener.order(
            last.connection, lambda channel, _: channel.basic_ack(last.tag, multiple=True)
        )

    # The event loop

    def _hear(self, arrival: Arrival) -> None:
        """What nobody waits for any more is heard again when the command is sent again."""
        key = arrival.correlation_id or ""
        try:
            reply = CommandMessage(arrival.body, None).read(Reply)
        except MalformedError as error:
            self._publisher.failed(key, InDoubtError(f"the reply is none: {error}"))
            return
        refused = (reply.detail or "refused") if reply.outcome is Became.REFUSED else None
        self._publisher.answered(
            key, Answer(refused=refused, data={"outcome": reply.outcome.value})
        )
