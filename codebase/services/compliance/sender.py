"""Sends what was asked for, again and again until there is an answer; one sender in all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.rows import class_row

from codebase.foundation.backoff import Pauses
from codebase.foundation.failpoints import failpoint
from codebase.foundation.leadership import wait_to_lead
from codebase.foundation.postgres import connect, trouble
from codebase.foundation.settings import Settings
from codebase.foundation.sql_watch import SqlWatch
from codebase.services.compliance.carriers import AwayError, Carried, Carrier, Due
from codebase.services.compliance.requests import DURABLE

logger = logging.getLogger(__name__)

BATCH_MAX = 100
REST_SECONDS = 0.5
"""How long a request that another process has taken in may lie here unseen."""

# Of several processes one sends. Two would do no harm, as every command has its key.
LEAD = "SELECT pg_try_advisory_lock(hashtext('compliance sender'))"

# For one agent one after the other: only when the earlier has its answer is it certain that it
# does not come again, after the later.
READ_DUE = """
    SELECT request.id, request.agent_id, request.action, request.reason, request.attempts
    FROM compliance_request AS request
    LEFT JOIN LATERAL (
        SELECT number
        FROM compliance_request
        WHERE agent_id = request.agent_id AND answered_at IS NULL AND number < request.number
        LIMIT 1
    ) AS earlier ON true
    WHERE request.answered_at IS NULL AND request.due_at <= now() AND earlier.number IS NULL
    ORDER BY request.due_at, request.number
    LIMIT %(limit)s
"""

# Not if the reply was faster. What may be on its way already does not go back to waiting.
NOTE = """
    UPDATE compliance_request AS request
    SET state = CASE WHEN carried.state = 'waiting' THEN request.state ELSE carried.state END,
        detail = carried.detail,
        attempts = request.attempts + 1,
        due_at = clock_timestamp() + make_interval(secs => carried.pause_seconds),
        sent_at = CASE WHEN carried.state = 'waiting' THEN request.sent_at
                       ELSE coalesce(request.sent_at, clock_timestamp()) END,
        answered_at = CASE WHEN carried.state IN ('done', 'unchanged', 'refused')
                           THEN clock_timestamp() END
    FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(details)s::text[], %(pauses)s::float8[])
        AS carried (id, state, detail, pause_seconds)
    WHERE request.id = carried.id AND request.answered_at IS NULL
"""


class Sender:
    """One thread's work.

    Args:
        settings: the store's address.
        carrier: the way to block_agent.
        stop: ends the work.
    """

    def __init__(self, settings: Settings, carrier: Carrier, stop: threading.Event) -> None:
        self._url = settings.required("read_model_projector_url")
        self._carrier = carrier
        self._stop = stop
        self._wake = threading.Event()
        self._watch = SqlWatch(settings.database_deadline_seconds, stop)
        self._pauses = Pauses(self._wake)
        self._away: str | None = None

    @property
    def away(self) -> str | None:
        """What keeps requests from being sent, or None; for other threads."""
        return self._away

    def wake(self) -> None:
        """There may be something to send, or to stop for."""
        self._wake.set()

    def run(self, _stop: threading.Event) -> None:
        """Work until stopped, whatever happens to the store and to the way."""
        while not self._stop.is_set():
            try:
                with connect(self._url, "compliance sender", options=DURABLE) as store:
                    self._work(self._watch.over(store))
            except psycopg.Error as error:
                logger.warning("the sender pauses: %s", trouble(error))
                self._pause()

    def _work(self, store: Connection[Any]) -> None:
        if not wait_to_lead(store, LEAD, {}, self._stop):
            return
        while not self._stop.is_set():
            self._wake.clear()
            if self._stop.is_set():
                return
            due = self._due(store)
            if not due:
                self._rest()
                continue
            try:
                self._send(store, due)
            except AwayError as error:
                self._note_away(str(error))
                self._pause()
            else:
                self._away = None
                self._pauses.succeeded()

    def _due(self, store: Connection[Any]) -> Sequence[Due]:
        with store.cursor(row_factory=class_row(Due)) as cursor:
            return cursor.execute(READ_DUE, {"limit": BATCH_MAX}).fetchall()

    def _send(self, store: Connection[Any], due: Sequence[Due]) -> None:
        carried: list[Carried] = []
        try:
            carried.extend(self._carrier.carry(due))
        finally:
            self._note(store, carried)

    def _note(self, store: Connection[Any], carried: Sequence[Carried]) -> None:
        if not carried:
            return
        failpoint("compliance_after_sending")
        columns = {
            "ids": [each.id for each in carried],
            "states": [each.state for each in carried],
            "details": [each.detail for each in carried],
            "pauses": [each.pause_seconds for each in carried],
        }
        store.execute(NOTE, columns)

    def _note_away(self, what: str) -> None:
        if what != self._away:
            logger.warning("requests wait: %s", what)
        self._away = what

    def _rest(self) -> None:
        self._wake.wait(REST_SECONDS)

    def _pause(self) -> None:
        self._wake.clear()
        if not self._stop.is_set():
            self._pauses.pause()
