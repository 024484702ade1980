"""The target that has the broker keep commands, whose outcomes come whenever they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

from pika.adapters.blocking_connection import BlockingChannel
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from codebase.engine.messages.command_message import CommandMessage, MalformedError, Reply
from codebase.engine.messages.command_taker import LONGEST_PAUSE_SECONDS, may_pass
from codebase.engine.messages.dead_letters import dead_letter
from codebase.engine.messages.listener import Arrival
from codebase.engine.messages.outgoing_command import PUBLISH_DEADLINE_SECONDS
from codebase.engine.messages.reply_queues import RESERVED
from codebase.engine.messages.topology import declare_queue
from codebase.engine.reactions.publisher import Message, Publisher
from codebase.engine.reactions.reaction import Answer, Sent
from codebase.engine.reactions.target import Repeatable
from codebase.foundation.background import tell_of_failure
from codebase.foundation.clock import utc_now
from codebase.foundation.failpoints import failpoint
from codebase.foundation.observability import logs

POSTED = "sent"
"""The `outcome` of what the broker has. Its `at` is when that was, in UTC, as ISO 8601."""

Hear = Callable[[UUID, Reply], Awaitable[None]]
"""Takes in what became of a command, for good; raises MalformedError if it is of no use."""


class PostingTarget(Repeatable):
    """Commands by message, without waiting for who carries them out, who may be away for long.

    Outcomes come to one queue, which all processes share and which outlives them. Each is
    acknowledged when it was heard; what nobody can use is put among the dead letters.

    Args:
        url: of the broker.
        name: of the queue, after `reply.`.
        message: what was sent -> routing key and body, with `sent.key` as idempotence key.
        hear: what is done with an outcome.
        body_limit_bytes: of an outcome.
    """

    deadline_seconds = PUBLISH_DEADLINE_SECONDS

    def __init__(
        self, url: str, name: str, message: Message, hear: Hear, *, body_limit_bytes: int
    ) -> None:
        self._hear = hear
        self._body_limit = body_limit_bytes
        self._loop = asyncio.get_running_loop()
        self._queue = f"{RESERVED}{name}"
        self._tasks: set[asyncio.Task[None]] = set()
        # What came in together shares group commits; dead letters keep the order of all.
        self._turn = asyncio.Lock()
        self._closing = False
        self._publisher = Publisher(
            url, self._queue, self._declare, message, take=self._take, confirmed=self._confirmed
        )

    @asynccontextmanager
    async def at_work(self, seconds_to_stop: Callable[[], float]) -> AsyncIterator[None]:
        """Connected, or trying to be, until this is left."""
        async with self._publisher.at_work(seconds_to_stop):
            try:
                yield
            finally:
                self._closing = True
                for task in self._tasks:
                    task.cancel()  # what was not acknowledged is delivered again

    async def send(self, sent: Sent) -> Answer:
        """Have the broker keep the command.

        Raises:
            NotSentError: there is no broker, or nobody takes such commands.
            InDoubtError: the connection broke.
        """
        return await self._publisher.send(sent)

    # The listening thread

    def _declare(self, channel: BlockingChannel) -> None:
        declare_queue(channel, self._queue, single_active_consumer=True)

    def _take(self, arrivals: Sequence[Arrival]) -> None:
        if not self._closing:
            self._loop.call_soon_threadsafe(self._begin, arrivals)

    def _settle(
        self,
        arrival: Arrival,
        reason: str | None,
        channel: BlockingChannel,
        letters: BlockingChannel,
    ) -> None:
        if reason is not None:
            dead_letter(letters, self._queue, arrival.routing_key, arrival.body, reason)
        channel.basic_ack(arrival.tag)
        failpoint("reaction_after_acknowledging")

    # The event loop

    def _confirmed(self, key: str) -> None:
        at = utc_now().isoformat()
        self._publisher.answered(key, Answer(data={"outcome": POSTED, "at": at}))

    def _begin(self, arrivals: Sequence[Arrival]) -> None:
        task = self._loop.create_task(self._take_in(arrivals), name=self._queue)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(tell_of_failure)

    async def _take_in(self, arrivals: Sequence[Arrival]) -> None:
        async with self._turn:
            reasons = await asyncio.gather(*map(self._why_useless, arrivals))
            failpoint("reaction_before_acknowledging")
            for arrival, reason in zip(arrivals, reasons, strict=True):
                settle = partial(self._settle, arrival, reason)
                self._publisher.listener.order(arrival.connection, settle)

    async def _why_useless(self, arrival: Arrival) -> str | None:
        """Why nobody can use a message; None: it was heard."""

        def nobody_waits(_state: RetryCallState) -> bool:
            return not self._publisher.listener.is_current(arrival.connection)

        retrying = AsyncRetrying(
            retry=retry_if_exception(may_pass),
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_PAUSE_SECONDS),
            stop=nobody_waits,
            reraise=True,
        )
        try:
            await retrying(self._hear, *self._read(arrival))
        except MalformedError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - the boundary between neighbours
            # If it may pass, the connection is gone, and the message will be delivered again.
            if not may_pass(error):
                logs.error("reply_failed", error=error, queue=self._queue)
            return f"failed with {type(error).__name__}"
        return None

    def _read(self, arrival: Arrival) -> tuple[UUID, Reply]:
        if len(arrival.body) > self._body_limit:
            raise MalformedError(f"body: must have at most {self._body_limit} bytes")
        try:
            key = UUID(arrival.correlation_id or "")
        except ValueError:
            raise MalformedError("correlation_id: must be a UUID") from None
        return key, CommandMessage(arrival.body, None).read(Reply)
