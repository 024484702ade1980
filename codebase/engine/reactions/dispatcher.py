"""The half that acts: takes what is to be done, has it done, and writes down what became of it.

Any number of processes do it for the same reaction. What one has taken the others leave alone until
the lease ends; who comes back after that changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import Connection

from codebase.engine.projections.blame import describe
from codebase.engine.reactions.attempt import Attempt
from codebase.engine.reactions.breaker import Breaker
from codebase.engine.reactions.desk import Desk, Returned, Taken
from codebase.engine.reactions.errands import Errands
from codebase.engine.reactions.figures import ReactionFigures
from codebase.engine.reactions.reaction import Reaction
from codebase.engine.reactions.reminders import fire_due
from codebase.engine.reactions.store import REACTION_STORE, ForbiddenError, check_may_act
from codebase.engine.reactions.target import Target
from codebase.foundation.backoff import Pauses, Rests
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.foundation.sql_watch import SqlWatch

logger = logging.getLogger(__name__)

SETTLED_TOGETHER = 100
FORGOTTEN_TOGETHER = 1_000
FORGET_INTERVAL_SECONDS = 60.0
LONGEST_REST_SECONDS = 0.5
"""While nothing is due: other processes, and operators, may have left something to do."""
LAST_CALLS_SECONDS = 0.7
"""What calls on their way have to come back in once the worker is asked to stop. The others are in
doubt, and are found out about after the end of their leases."""


class Dispatcher:
    """One thread's work for one reaction.

    Args:
        reaction: whose intents and reminders.
        targets: the targets that it sends to, by name.
        settings: the store's address, bounds.
        loop: what calls are made on.
        stop: ends the work.
        breakers: target -> what leaves it alone, where that is not what others have.
    """

    def __init__(
        self,
        reaction: Reaction,
        targets: Mapping[str, Target],
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        stop: threading.Event,
        *,
        breakers: Mapping[str, Breaker] | None = None,
    ) -> None:
        self._reaction = reaction
        self._settings = settings
        self._stop = stop
        self._wake = threading.Event()
        self._ended: deque[tuple[Taken, Attempt]] = deque()
        self._returned: list[Returned] = []
        self._desk = Desk(reaction, settings.reaction_attempts_max)
        self._errands = {
            name: Errands(
                reaction.name,
                name,
                target,
                most=settings.reaction_in_flight,
                loop=loop,
                returned=self._take_back,
                breaker=(breakers or {}).get(name),
            )
            for name, target in targets.items()
        }
        self._figures = ReactionFigures(reaction.name, targets)
        self._watch = SqlWatch(settings.database_deadline_seconds, stop)
        self._pauses = Pauses(stop)
        self._rests = Rests(settings.idle_poll_seconds)
        self._check_at = self._forget_at = 0.0
        self._waiting_for: str | None = "not connected yet"

    def what_is_missing(self) -> str | None:
        """What keeps the worker from working, or None; called by other threads."""
        return self._watch.what_is_late() or self._waiting_for or self._figures.what_is_unopened()

    def wake(self) -> None:
        """There may be something to do, or to stop for; from any thread."""
        self._wake.set()

    def run(self, _stop: threading.Event) -> None:
        """Work until stopped; whatever happens to the store, try again."""
        name = f"{self._reaction.name} dispatcher"
        url = self._settings.required(REACTION_STORE.worker_url)
        while not self._stop.is_set():
            try:
                with connect(url, name, options=REACTION_STORE.options) as store:
                    self._work(self._watch.over(store))
            except (psycopg.Error, ForbiddenError) as error:
                self._waiting_for = describe(error)
                logger.warning("%s pauses: %s", name, self._waiting_for)
                self._pauses.pause()

    def _work(self, store: Connection[Any]) -> None:
        self._check_at = 0.0
        while not self._stop.is_set():
            self._wake.clear()
            self._check(store)
            # Reminders first: what they cause is taken in the same turn.
            found = bool(fire_due(store, self._reaction))
            found |= self._settle(store)
            found |= self._send(store)
            self._waiting_for = None
            self._pauses.succeeded()
            self._rest(store, found=found)
        self._end(store)

    def _rest(self, store: Connection[Any], *, found: bool) -> None:
        rest = self._rests.after(found=found)
        if rest >= self._settings.idle_poll_seconds:
            # What is due and cannot be sent, because its target is left alone, is looked at again.
            until_due = self._desk.seconds_until_due(store, self._errands)
            rest = max(rest, min(until_due, LONGEST_REST_SECONDS))
        if rest and not self._stop.is_set() and self._wake.wait(rest):
            self._rests.after(found=True)

    def _check(self, store: Connection[Any]) -> None:
        """Now and then: is this still the place, how much is there, what may be forgotten."""
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + self._settings.read_model_check_seconds
        check_may_act(store)
        self._figures.show(store)
        if now >= self._forget_at:
            days = self._settings.reaction_done_days
            if self._desk.forget_done(store, days, FORGOTTEN_TOGETHER) < FORGOTTEN_TOGETHER:
                self._forget_at = now + FORGET_INTERVAL_SECONDS

    def _settle(self, store: Connection[Any]) -> bool:
        """Write down how attempts ended; what cannot be written now is kept."""
        while self._ended:
            taken, ended = self._ended.popleft()
            errands = self._errands[taken.sent.send.target]
            self._returned.append(errands.note(taken, ended))
        found = bool(self._returned)
        while self._returned:
            self._desk.settle(store, self._returned[:SETTLED_TOGETHER])
            del self._returned[:SETTLED_TOGETHER]
        for errands in self._errands.values():
            if errands.answers_again():
                self._desk.hurry(store, errands.name)
        return found

    def _send(self, store: Connection[Any]) -> bool:
        found = False
        for errands in self._errands.values():
            room = errands.room()
            if room > 0:
                taken = self._desk.take(store, errands.name, room, errands.lease_seconds)
                if taken:
                    errands.start(taken)
                    found = True
        return found

    def _take_back(self, taken: Taken, ended: Attempt) -> None:
        self._ended.append((taken, ended))
        self._wake.set()

    def _end(self, store: Connection[Any]) -> None:
        ends_at = time.monotonic() + LAST_CALLS_SECONDS
        while any(each.on_their_way for each in self._errands.values()):
            self._wake.clear()
            self._settle(store)
            left = ends_at - time.monotonic()
            if left <= 0:
                break
            self._wake.wait(left)
        self._settle(store)
