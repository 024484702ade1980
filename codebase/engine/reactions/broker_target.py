"""The target that sends commands by the exchange `commands`, and hears what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import UnroutableError

from codebase.engine.messages.command_message import Became, CommandMessage, MalformedError, Reply
from codebase.engine.messages.command_sender import (
    PUBLISH_DEADLINE_SECONDS,
    OutgoingCommand,
    properties_of,
)
from codebase.engine.messages.connection import deadline
from codebase.engine.messages.listener import Arrival, QueueListener, QueueToListenTo
from codebase.engine.messages.reply_queues import RESERVED
from codebase.engine.messages.topology import COMMANDS, declare_commands
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import InDoubtError, NotSentError
from codebase.foundation.worker import Worker

PREFETCH = 200
REPLY_DEADLINE_SECONDS = 30.0
UNUSED_MS = 600_000
"""How long a queue for replies outlives the process that it was for."""


class BrokerTarget:
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
        message: Callable[[Sent], tuple[str, bytes]],
        *,
        deadline_seconds: float = REPLY_DEADLINE_SECONDS,
    ) -> None:
        self.deadline_seconds = deadline_seconds
        self._message = message
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._queue = f"{RESERVED}{name}.{uuid4().hex}"
        queue = QueueToListenTo(
            name=self._queue, declare=self._declare, prefetch=PREFETCH, expendable=True
        )
        self._listener = QueueListener(url, queue, self._take, ended=self._lose)

    @asynccontextmanager
    async def at_work(self, seconds_to_stop: Callable[[], float]) -> AsyncIterator[None]:
        """Connected, or trying to be, until this is left."""
        worker = Worker(self._queue, self._listener.listen, wake=self._listener.interrupt)
        worker.start()
        try:
            yield
        finally:
            await asyncio.to_thread(worker.stop, seconds_to_stop())

    async def send(self, sent: Sent) -> Answer:
        """Send the command, and wait for its outcome.

        Raises:
            NotSentError: there is no broker, or nobody takes such commands.
            InDoubtError: the connection broke.
        """
        connection = self._listener.connection
        if connection is None:
            raise NotSentError("the broker is away")
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[str(sent.key)] = answer
        routing_key, body = self._message(sent)
        command = OutgoingCommand(
            routing_key=routing_key,
            body=body,
            message_id=str(sent.key),
            reply_to=self._queue,
        )
        self._listener.order(connection, lambda _, letters: self._publish(letters, command))
        try:
            return await answer
        finally:
            if self._waiting.get(str(sent.key)) is answer:
                del self._waiting[str(sent.key)]

    async def inquire(self, sent: Sent) -> Answer | None:  # noqa: ARG002 - as every target
        """Nothing to ask: a repeat of the command is answered as the command was."""
        return None

    # The listening thread

    def _declare(self, channel: BlockingChannel) -> None:
        declare_commands(channel)
        channel.queue_declare(self._queue, durable=True, arguments={"x-expires": UNUSED_MS})

    def _publish(self, channel: BlockingChannel, command: OutgoingCommand) -> None:
        properties = properties_of(command)
        try:
            with deadline(channel.connection, PUBLISH_DEADLINE_SECONDS):
                channel.basic_publish(
                    COMMANDS, command.routing_key, command.body, properties, mandatory=True
                )
        except UnroutableError:
            error = NotSentError("no service takes this command")
            self._loop.call_soon_threadsafe(self._fail, command.message_id, error)

    def _take(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self._loop.call_soon_threadsafe(self._hear, arrival)
        last = arrivals[-1]
        self._listener.order(
            last.connection, lambda channel, _: channel.basic_ack(last.tag, multiple=True)
        )

    def _lose(self) -> None:
        self._loop.call_soon_threadsafe(self._fail_all)

    # The event loop

    def _hear(self, arrival: Arrival) -> None:
        """What nobody waits for any more is heard again when the command is sent again."""
        waiting = self._waiting.get(arrival.correlation_id or "")
        if waiting is None or waiting.done():
            return
        try:
            reply = CommandMessage(arrival.body, None).read(Reply)
        except MalformedError as error:
            waiting.set_exception(InDoubtError(f"the reply is none: {error}"))
            return
        refused = (reply.detail or "refused") if reply.outcome is Became.REFUSED else None
        waiting.set_result(Answer(refused=refused, data={"outcome": reply.outcome.value}))

    def _fail(self, key: str, error: Exception) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    def _fail_all(self) -> None:
        for key in list(self._waiting):
            self._fail(key, InDoubtError("the connection to the broker broke"))
