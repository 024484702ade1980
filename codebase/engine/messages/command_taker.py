"""Commands by message: what the HTTP shell is for requests, this is for the exchange `commands`.

A listening thread takes messages in; the event loop submits them to the command bus, many at once,
so that they share its group commits; the thread acknowledges each when its outcome is known.
What no repeat would make right (a message that cannot be read, a command that a rule refuses) is
put among the dead letters with the reason. While the write model is away a message waits.
A sender is answered where replies are taken, see `reply_queues.py`, and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import pika
import psycopg
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import NackError
from prometheus_client import Counter, Gauge
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Outcome, Submission
from codebase.engine.messages.command_message import (
    Became,
    CommandMessage,
    MalformedError,
    Reader,
    Reply,
)
from codebase.engine.messages.dead_letters import dead_letter
from codebase.engine.messages.listener import Arrival, QueueListener, QueueToListenTo
from codebase.engine.messages.reply_queues import takes_replies
from codebase.engine.messages.topology import declare_command_queue
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.observability import logs, telemetry
from codebase.foundation.observability.figures import not_summed
from codebase.foundation.observability.seldom import SeldomWarning
from codebase.foundation.postgres import is_about_values
from codebase.foundation.settings import Settings
from codebase.foundation.worker import Team, Worker
from codebase.model.refusals import Rejected, Unavailable

IN_FLIGHT_MAX = 256
"""Enough for the command bus to make good batches of."""
LONGEST_PAUSE_SECONDS = 5.0

HANDLED = Counter(
    "orderly_message_commands_total",
    "Commands by message whose outcome is known: done, unchanged or refused.",
    ["queue", "outcome"],
)
DEAD_LETTERED = Counter(
    "orderly_message_commands_dead_lettered_total",
    "Messages that were no command, and commands that were refused.",
    ["queue"],
)
RETRIED = Counter(
    "orderly_message_commands_retried_total",
    "How often a command by message had to wait for the write model.",
    ["queue"],
)
UNANSWERED = Counter(
    "orderly_message_commands_unanswered_total",
    "Outcomes that were not sent, because `reply_to` named no queue for replies.",
    ["queue"],
)
LISTENING = Gauge(
    "orderly_message_commands_listening",
    "1 while there is a connection to the broker.",
    ["queue"],
)
not_summed("orderly_message_commands_listening", max)


@dataclass(frozen=True, slots=True)
class Settled:
    """A message that is done with; one with a `detail` is put among the dead letters."""

    arrival: Arrival
    outcome: Became
    detail: str | None = None

    @property
    def reply(self) -> bytes:
        """What the sender is told."""
        return Reply(outcome=self.outcome, detail=self.detail).model_dump_json().encode()


Task = asyncio.Task[bool]


class CommandTaker:
    """Carries out the commands of one queue.

    Messages are acknowledged in any order, each when its own outcome is known. Those for one stream
    are carried out one after the other, in the order in which they were sent: of a queue only one
    process is the consumer at a time.

    Args:
        name: of the queue.
        topics: binding patterns on routing keys.
        readers: how to read the messages of a routing key; others are dead-lettered.
        bus: running.
        settings: the broker's address, the size of bodies.
    """

    def __init__(
        self,
        name: str,
        topics: tuple[str, ...],
        readers: Mapping[str, Reader],
        bus: CommandBus,
        settings: Settings,
    ) -> None:
        self._name = name
        self._readers = readers
        self._bus = bus
        self._body_limit = settings.body_limit_bytes
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._tasks: set[Task] = set()
        self._last_of_stream: dict[UUID, Task] = {}
        self._settled: list[Settled] = []
        self._traces = telemetry.current()
        self._unanswered = SeldomWarning("command_not_answered")
        listening = LISTENING.labels(name)
        self._listener = QueueListener(
            settings.required("broker_url"),
            QueueToListenTo(
                name=name,
                declare=lambda channel: declare_command_queue(channel, name, topics),
                prefetch=IN_FLIGHT_MAX,
            ),
            self._take_in,
            begun=lambda: listening.set(1),
            ended=lambda: listening.set(0),
        )

    @asynccontextmanager
    async def at_work(self, seconds_to_stop: Callable[[], float]) -> AsyncIterator[None]:
        """Listening on entering; on leaving, what was begun is finished if there is time.

        Args:
            seconds_to_stop: how long stopping may take, asked when it begins.
        """
        worker = Worker(self._name, self._listener.listen, wake=self._listener.interrupt)
        async with Team([worker], []).at_work(seconds_to_stop):
            try:
                yield
            finally:
                await self._finish(seconds_to_stop() / 2)

    async def _finish(self, seconds: float) -> None:
        """Take nothing more in; what is not finished in time is delivered again, to another."""
        self._closing = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
        self._settle()

    # The listening thread

    def _take_in(self, arrivals: list[Arrival]) -> None:
        if not self._closing:
            self._loop.call_soon_threadsafe(self._begin_all, arrivals)

    # The event loop

    def _begin_all(self, arrivals: list[Arrival]) -> None:
        for arrival in arrivals:
            try:
                submission = self._read(arrival)
            except MalformedError as error:
                self._note(Settled(arrival, Became.REFUSED, str(error)))
            except Exception as bug:  # noqa: BLE001 - the boundary between neighbours
                self._note(self._failed(arrival, bug))
            else:
                self._begin(arrival, submission)

    def _read(self, arrival: Arrival) -> Submission:
        reader = self._readers.get(arrival.routing_key)
        if reader is None:
            raise MalformedError("routing_key: is none of a known command")
        if len(arrival.body) > self._body_limit:
            raise MalformedError(f"body: must have at most {self._body_limit} bytes")
        return reader(CommandMessage(arrival.body, arrival.message_id))

    def _begin(self, arrival: Arrival, submission: Submission) -> None:
        stream_id = submission.stream_id
        before = self._last_of_stream.get(stream_id)
        end_span = self._begin_span(arrival, submission)
        task = self._loop.create_task(self._carry_out(arrival, submission, before))
        self._last_of_stream[stream_id] = task
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._forget(stream_id, done))
        task.add_done_callback(lambda _: end_span())

    def _begin_span(self, arrival: Arrival, submission: Submission) -> Callable[[], None]:
        """Have the command belong to its sender's trace; returns what to call at its end."""
        sent = arrival.traceparent
        if self._traces is None:
            submission.traceparent = telemetry.known_traceparent(sent)
            return lambda: None
        span = self._traces.taking_in(sent, self._name, arrival.routing_key)
        submission.traceparent = self._traces.traceparent(span)
        return span.end

    def _forget(self, stream_id: UUID, task: Task) -> None:
        self._tasks.discard(task)
        if self._last_of_stream.get(stream_id) is task:
            del self._last_of_stream[stream_id]

    async def _carry_out(
        self, arrival: Arrival, submission: Submission, before: Task | None
    ) -> bool:
        """Whether the message is settled; one that is not will be delivered again."""
        if before is not None:
            await asyncio.wait({before})
            if self._closing and (before.cancelled() or not before.result()):
                # What comes after it must not be done first.
                return False
        if not self._listener.is_current(arrival.connection):
            return False
        try:
            outcome = await self._execute(arrival, submission)
        except Rejected as refusal:
            self._note(Settled(arrival, Became.REFUSED, refusal.detail))
        except Exception as error:  # noqa: BLE001 - the boundary between neighbours
            if may_pass(error):
                return False
            self._note(self._failed(arrival, error))
        else:
            became = Became.DONE if outcome.changed else Became.UNCHANGED
            self._note(Settled(arrival, became))
        return True

    async def _execute(self, arrival: Arrival, submission: Submission) -> Outcome:
        """Submit until there is an outcome, or until nobody waits for it any more."""

        def nobody_waits(_state: RetryCallState) -> bool:
            return self._closing or not self._listener.is_current(arrival.connection)

        retrying = AsyncRetrying(
            retry=retry_if_exception(may_pass),
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_PAUSE_SECONDS),
            stop=nobody_waits,
            before_sleep=lambda _state: RETRIED.labels(self._name).inc(),
            reraise=True,
        )
        return await retrying(self._bus.execute, submission)

    def _failed(self, arrival: Arrival, error: Exception) -> Settled:
        logs.error("message_command_failed", error=error, queue=self._name)
        return Settled(arrival, Became.REFUSED, f"failed with {type(error).__name__}")

    def _note(self, settled: Settled) -> None:
        """Settle together whatever is settled in one turn of the loop."""
        HANDLED.labels(self._name, settled.outcome).inc()
        if not self._settled:
            self._loop.call_soon(self._settle)
        self._settled.append(settled)

    def _settle(self) -> None:
        by_connection: dict[int, list[Settled]] = {}
        for each in self._settled:
            by_connection.setdefault(each.arrival.connection, []).append(each)
        self._settled = []
        for connection, settled in by_connection.items():
            self._listener.order(connection, partial(self._answer, settled))

    # The listening thread again

    def _answer(
        self, settled: list[Settled], channel: BlockingChannel, letters: BlockingChannel
    ) -> None:
        """Reply and dead-letter, and only then acknowledge."""
        for each in settled:
            arrival = each.arrival
            if each.detail is not None:
                dead_letter(letters, self._name, arrival.routing_key, arrival.body, each.detail)
                DEAD_LETTERED.labels(self._name).inc()
            if arrival.reply_to:
                self._reply(letters, each, arrival.reply_to)
            channel.basic_ack(arrival.tag)

    def _reply(self, letters: BlockingChannel, settled: Settled, queue: str) -> None:
        if takes_replies(queue):
            _send_reply(letters, settled, queue)
        else:
            UNANSWERED.labels(self._name).inc()
            # Without the name, which is whatever the sender put there.
            self._unanswered.note(queue=self._name, problem="reply_to is no queue for replies")


def may_pass(error: BaseException) -> bool:
    """Whether the same command may well be carried out later."""
    match error:
        case ServiceUnavailable() | Unavailable():
            return True
        case psycopg.Error():
            # A store that is not migrated yet, or refuses its user, will be put right.
            return not is_about_values(error)
        case _:
            return False


def _send_reply(letters: BlockingChannel, settled: Settled, queue: str) -> None:
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        correlation_id=settled.arrival.correlation_id,
    )
    # Whoever does not take replies any more need not get them.
    with suppress(NackError):
        letters.basic_publish("", queue, settled.reply, properties)
