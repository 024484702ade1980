"""What targets by message share: a connection that publishes commands and hears of outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import UnroutableError

from codebase.engine.messages.connection import deadline
from codebase.engine.messages.listener import Arrival, QueueListener, QueueToListenTo
from codebase.engine.messages.outgoing_command import (
    PUBLISH_DEADLINE_SECONDS,
    OutgoingCommand,
    properties_of,
)
from codebase.engine.messages.topology import COMMANDS, declare_commands
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import AwayError, InDoubtError, NotSentError
from codebase.foundation.worker import Worker

PREFETCH = 200

Message = Callable[[Sent], tuple[str, bytes]]
"""What was sent -> routing key and body, with `sent.key` as idempotence key."""


class Publisher:
    """Publishes commands, and waits for what decides that each is done with.

    Args:
        url: of the broker.
        queue: for outcomes.
        declare: makes it.
        message: what is published.
        take: called in the listening thread with the outcomes that came in together.
        confirmed: called on the loop with the key of a command that the broker has.
    """

    def __init__(
        self,
        url: str,
        queue: str,
        declare: Callable[[BlockingChannel], None],
        message: Message,
        *,
        take: Callable[[Sequence[Arrival]], None],
        confirmed: Callable[[str], None] = lambda _key: None,
    ) -> None:
        self._queue = queue
        self._declare_queue = declare
        self._message = message
        self._confirmed = confirmed
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        # What an outcome said is said again when the command is sent again.
        listened = QueueToListenTo(
            name=queue, declare=self._declare, prefetch=PREFETCH, expendable=True
        )
        self.listener = QueueListener(url, listened, take, ended=self._lose)

    @asynccontextmanager
    async def at_work(self, seconds_to_stop: Callable[[], float]) -> AsyncIterator[None]:
        """Connected, or trying to be, until this is left."""
        worker = Worker(self._queue, self.listener.listen, wake=self.listener.interrupt)
        worker.start()
        try:
            yield
        finally:
            await asyncio.to_thread(worker.stop, seconds_to_stop())

    async def send(self, sent: Sent) -> Answer:
        """Publish the command, and wait until somebody has `answered`.

        Raises:
            NotSentError: there is no broker, or nobody takes such commands.
            InDoubtError: the connection broke.
        """
        connection = self.listener.connection
        if connection is None:
            raise AwayError("the broker is away")
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[str(sent.key)] = answer
        routing_key, body = self._message(sent)
        command = OutgoingCommand(
            routing_key=routing_key,
            body=body,
            message_id=str(sent.key),
            reply_to=self._queue,
        )
        self.listener.order(connection, lambda _, letters: self._publish(letters, command))
        try:
            return await answer
        finally:
            if self._waiting.get(str(sent.key)) is answer:
                del self._waiting[str(sent.key)]
            # What is raised knows this frame: with the future that would be a circle.
            del answer

    def answered(self, key: str, answer: Answer) -> None:
        """A command is done with; on the loop. Nobody may wait for it any more."""
        waiting = self._waiting.get(key)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def failed(self, key: str, error: Exception) -> None:
        """A command is not done with, that is sure, or in doubt; on the loop."""
        waiting = self._waiting.get(key)
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    # The listening thread

    def _declare(self, channel: BlockingChannel) -> None:
        declare_commands(channel)
        self._declare_queue(channel)

    def _publish(self, channel: BlockingChannel, command: OutgoingCommand) -> None:
        properties = properties_of(command)
        try:
            with deadline(channel.connection, PUBLISH_DEADLINE_SECONDS):
                channel.basic_publish(
                    COMMANDS, command.routing_key, command.body, properties, mandatory=True
                )
        except UnroutableError:
            error = NotSentError("no service takes commands at the moment")
            self._loop.call_soon_threadsafe(self.failed, command.message_id, error)
        else:
            self._loop.call_soon_threadsafe(self._confirmed, command.message_id)

    def _lose(self) -> None:
        self._loop.call_soon_threadsafe(self._fail_all)

    # The event loop

    def _fail_all(self) -> None:
        for key in list(self._waiting):
            self.failed(key, InDoubtError("the connection to the broker broke"))
