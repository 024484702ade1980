"""Takes in what became of the commands that were sent by message."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from pika.adapters.blocking_connection import BlockingChannel
from psycopg import Connection

from codebase.engine.messages.command_message import CommandMessage, MalformedError, Reply
from codebase.engine.messages.dead_letters import dead_letter
from codebase.engine.messages.listener import Arrival, QueueListener, QueueToListenTo
from codebase.engine.messages.topology import declare_queue
from codebase.foundation.backoff import Pauses
from codebase.foundation.failpoints import failpoint
from codebase.foundation.postgres import connect, trouble
from codebase.foundation.settings import Settings
from codebase.foundation.sql_watch import SqlWatch
from codebase.services.compliance.carriers import REPLIES
from codebase.services.compliance.requests import DURABLE

logger = logging.getLogger(__name__)

PREFETCH = 200

# The first answer counts; the same command sent again is answered again, with the same outcome.
ANSWER = """
    UPDATE compliance_request AS request
    SET state = told.outcome, detail = told.detail, answered_at = clock_timestamp(),
        sent_at = coalesce(request.sent_at, clock_timestamp())
    FROM unnest(%(ids)s::uuid[], %(outcomes)s::text[], %(details)s::text[])
        AS told (id, outcome, detail)
    WHERE request.id = told.id AND request.answered_at IS NULL
"""

READ_KNOWN = "SELECT id FROM compliance_request WHERE id = ANY (%(ids)s)"


class Heard(NamedTuple):
    """An outcome, and the request that it is said to be of."""

    request_id: UUID
    reply: Reply


class Replies:
    """Two threads' work: one listens to the queue, one writes what it heard and acknowledges.

    Args:
        settings: the broker's and the store's address, the size of bodies.
        stop: ends the work.
        begun: called when the queue is there and listened to.
        answered: called when requests have got their answers.
    """

    def __init__(
        self,
        settings: Settings,
        stop: threading.Event,
        *,
        begun: Callable[[], None],
        answered: Callable[[], None],
    ) -> None:
        self._url = settings.required("read_model_projector_url")
        self._body_limit = settings.body_limit_bytes
        self._stop = stop
        self._answered = answered
        self._watch = SqlWatch(settings.database_deadline_seconds, stop)
        self._arrivals: SimpleQueue[Sequence[Arrival]] = SimpleQueue()
        self._listener = QueueListener(
            settings.required("broker_url"),
            # What a reply said is said again when the command is sent again.
            QueueToListenTo(name=REPLIES, declare=_declare, prefetch=PREFETCH, expendable=True),
            self._arrivals.put,
            begun=begun,
        )
        self.listen = self._listener.listen

    def are_taken(self) -> bool:
        """Whether the queue exists and is listened to, as far as anybody knows."""
        return self._listener.is_listening

    def wake(self) -> None:
        """End waits, after the stop event was set."""
        self._arrivals.put(())
        self._listener.interrupt()

    def write(self, _stop: threading.Event) -> None:
        """Write what comes in until stopped, whatever happens to the store."""
        pauses = Pauses(self._stop)
        arrivals: Sequence[Arrival] = ()
        while not self._stop.is_set():
            try:
                with connect(self._url, "compliance replies", options=DURABLE) as store:
                    self._watch.over(store)
                    while not self._stop.is_set():
                        self._take(store, arrivals)
                        pauses.succeeded()
                        arrivals = self._arrivals.get()
            except psycopg.Error as error:
                logger.warning("replies wait for the store: %s", trouble(error))
                pauses.pause()

    def _take(self, store: Connection[Any], arrivals: Sequence[Arrival]) -> None:
        if not arrivals:
            return
        heard = [self._read(arrival) for arrival in arrivals]
        known = _write(store, [each for each in heard if isinstance(each, Heard)])
        failpoint("compliance_before_acknowledging")
        self._settle(arrivals, [_reason(each, known) for each in heard])
        self._answered()

    def _read(self, arrival: Arrival) -> Heard | MalformedError:
        if len(arrival.body) > self._body_limit:
            return MalformedError(f"body: must have at most {self._body_limit} bytes")
        try:
            request_id = UUID(arrival.correlation_id or "")
            return Heard(request_id, CommandMessage(arrival.body, None).read(Reply))
        except ValueError:
            return MalformedError("correlation_id: must be a UUID")
        except MalformedError as error:
            return error

    def _settle(self, arrivals: Sequence[Arrival], reasons: Sequence[str | None]) -> None:
        """Dead-letter what has a reason, and then acknowledge all of it."""

        def settle(channel: BlockingChannel, letters: BlockingChannel) -> None:
            for arrival, reason in zip(arrivals, reasons, strict=True):
                if reason is not None:
                    dead_letter(letters, REPLIES, arrival.routing_key, arrival.body, reason)
            channel.basic_ack(arrivals[-1].tag, multiple=True)

        # They came in together, so by one connection.
        self._listener.order(arrivals[-1].connection, settle)


def _declare(channel: BlockingChannel) -> None:
    declare_queue(channel, REPLIES, single_active_consumer=True)


def _write(store: Connection[Any], heard: Sequence[Heard]) -> set[UUID]:
    """Note the outcomes, and tell which of the requests there are."""
    if not heard:
        return set()
    ids = [each.request_id for each in heard]
    outcomes = {
        "ids": ids,
        "outcomes": [each.reply.outcome for each in heard],
        "details": [each.reply.detail for each in heard],
    }
    store.execute(ANSWER, outcomes)
    return {row[0] for row in store.execute(READ_KNOWN, {"ids": ids}).fetchall()}


def _reason(heard: Heard | MalformedError, known: Collection[UUID]) -> str | None:
    """Why nobody can use a message, or None."""
    if isinstance(heard, MalformedError):
        return str(heard)
    return None if heard.request_id in known else "correlation_id: nobody asked for this"
